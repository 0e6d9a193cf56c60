"""Jobs and sweeps whose answers come from OpenAI-compatible servers, from the command to the report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.comparison.test_pairing import record, summary_of
from tests.support.openai_server import Asked, OpenAIServer, Reply, chat, error, models, of_item, probing
from tests.support.stores import runs_of

from quantexp.tracking.reader import JobRecord

QUICK = ("task=triviaqa", "task.limit=3", "task.shots=1", "stats.resamples=50", "engine=openai", "model=server")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """One layer in 16 bits, and the same in AWQ's 4."""
    folder = tmp_path / "models"
    awq = {
        "l.qweight": np.zeros((64, 8), np.int32),
        "l.qzeros": np.zeros((2, 8), np.int32),
        "l.scales": np.zeros((2, 64), np.float16),
    }
    tensors: dict[str, Any] = {
        "m-F16": {"l.weight": np.zeros((64, 64), np.float16)},
        "m-awq": awq,
    }
    for name, content in tensors.items():
        (folder / name).mkdir(parents=True)
        save_file(content, folder / name / "model.safetensors")
        described = {"quantization_config": {"quant_method": "awq"}} if name == "m-awq" else {}
        (folder / name / "config.json").write_text(json.dumps({"model_type": "llama"} | described))
    return folder


def items_asked(server: OpenAIServer) -> list[Asked]:
    return [asked for asked in server.asked if not probing(asked)]


def test_formats_that_llama_cpp_has_not_enter_one_sweep(command: Command, tmp_path: Path, checkpoints: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return chat("Paris") if asked["model"] == "m-F16" else chat("London")

    sweep = (
        *("-m", *QUICK, "model.name=m", "quant=F16,awq", "stats.baseline=F16", "engine.model=m-${quant.name}"),
        f"model.checkpoint={checkpoints}/m-${{quant.name}}",
        f"model.cache={tmp_path}",
    )
    with OpenAIServer(answer, pages=models("m-F16", "m-awq")) as server:
        status, _, said = command(tmp_path, "quantexp", *sweep, f"engine.url={server.address}")
        assert status == 0, said
        assert len(items_asked(server)) == 3 + 3 + 3  # the baseline's twice: the noise floor is on
    found = {run.data.tags["quant"]: run.data for run in runs_of(tmp_path, "job")}
    assert found["F16"].metrics["bits_per_weight"] == 16
    assert found["awq"].metrics["bits_per_weight"] == 4.625
    assert found["awq"].metrics["parameters"] == 4096
    assert "floor.answers" not in found["awq"].metrics
    assert found["awq"].tags["engine.system"] == "vLLM 0.9.1"
    assert (found["F16"].metrics["floor.answers"], found["F16"].metrics["floor.churn"]) == (3, 0)
    [report] = sorted(tmp_path.glob("multirun/*/*/report/report.md"))[-1:]
    text = report.read_text()
    assert "Noise floor: F16 on triviaqa, answered a second time" in text
    assert "vLLM 0.9.1" in text


def test_a_job_that_a_server_fails_keeps_what_was_answered(command: Command, tmp_path: Path) -> None:
    served: list[str] = []

    def failing(asked: Asked) -> Reply:
        if probing(asked) or len(served) < 2:
            served.extend([] if probing(asked) else [of_item(asked)])
            return chat()
        return error(500, "out of memory")

    one = ("model.name=m", "quant=awq", "quant.bits_per_weight=4.25", "engine.concurrency=1", "engine.retries=0")
    job = (*QUICK, *one)
    with OpenAIServer(failing, pages=models("m")) as server:
        status, _, said = command(tmp_path, "quantexp", *job, f"engine.url={server.address}")
        assert status == 2
        assert said.splitlines()[-1].startswith(f"quantexp: {server.address} gave no answer to ")
        assert said.endswith(
            ", 0 retries included (500: out of memory); what it has answered is kept: see to the server, and run the "
            "same command again.\n"
        )
        assert "Traceback" not in said
        [failed] = runs_of(tmp_path, "job")
        assert failed.info.status == "FAILED"
        server.answer = lambda asked: chat()
        before = len(items_asked(server))
        status, _, said = command(tmp_path, "quantexp", *job, f"engine.url={server.address}")
        assert status == 0, said
        assert len(items_asked(server)) == before + 1
    finished = next(run for run in runs_of(tmp_path, "job") if run.info.status == "FINISHED")
    assert finished.data.metrics["run.completions_from_store"] == 2
    assert finished.data.metrics["completion_tokens"] == 3 * 2
    assert "model_bytes" not in finished.data.metrics
    assert finished.data.params["file.sha256"] == "not known: awq of m"


REMOTE = {"settings.engine": "openai"}


def served(quant: str, system: str = "vLLM 1", template: str = "", fingerprints: str = "") -> JobRecord:
    one = record(quant, {"a": 1.0, "b": 0.0}, change=REMOTE)
    tags = {"engine.system": system, "engine.template": template, "engine.fingerprints": fingerprints}
    return replace(one, tags={**one.tags, **tags})


def test_what_differs_between_servers_is_said() -> None:
    plain = summary_of(served("Q8_0"), served("awq"))
    assert len(plain.comparisons) == 1
    assert not any("server" in note for note in plain.notes)
    summary = summary_of(served("Q8_0", "llama-server b1", "x", "one"), served("awq", "vLLM 1", "y", "one, two"))
    assert len(summary.comparisons) == 1
    notes = "\n".join(summary.notes)
    assert "Different servers answered (Q8_0 by llama-server b1, awq by vLLM 1), so a difference between" in notes
    assert "The servers applied different chat templates" in notes
    assert "awq on t: the server's set-up changed while it answered (system_fingerprint one, two)." in notes


def test_bits_per_weight_that_were_given_are_marked_as_such() -> None:
    known = served("awq")
    given = replace(known, metrics={name: value for name, value in known.metrics.items() if name != "model_bytes"})
    summary = summary_of(served("Q8_0"), given)
    assert "Bits per weight of awq are as given (quant.bits_per_weight), not measured." in summary.notes
    assert [condition.file_bytes for condition in summary.conditions] == [1000, None]


def test_a_server_is_not_compared_with_the_engine_in_this_process() -> None:
    here = record("Q8_0", {"a": 1.0, "b": 0.0}, change={"settings.engine": "llama_cpp"})
    summary = summary_of(here, served("awq"))
    assert summary.comparisons == ()
    [refusal] = summary.refusals
    assert "settings.engine is openai here and llama_cpp there" in refusal


def test_a_server_that_counts_nothing_and_lists_nothing_is_measured(command: Command, tmp_path: Path) -> None:
    job = (*QUICK, "model.name=m", "quant=awq", "quant.bits_per_weight=4.25", "engine.model=m", "stats.baseline=awq")
    with OpenAIServer(lambda asked: chat("Paris", None, usage=None), pages={}) as server:
        status, _, said = command(tmp_path, "quantexp", *job, f"engine.url={server.address}")
    assert status == 0, said
    assert "tokens/s" not in said
    [run] = runs_of(tmp_path, "job")
    assert (run.data.metrics["completion_tokens"], run.data.metrics["run.tokens_per_second"]) == (0, 0)
    assert run.data.tags["engine.system"] == "an unknown server"


def test_nonsense_that_was_stored_does_not_outlive_the_server_that_sent_it(command: Command, tmp_path: Path) -> None:
    job = (*QUICK, "model.name=m", "quant=awq", "quant.bits_per_weight=4.25", "engine.retries=0", "engine.floor=false")
    nonsense = {"prompt_tokens": 9, "completion_tokens": 10**40}
    with OpenAIServer(lambda asked: chat("Paris", usage=nonsense), pages=models("m")) as server:
        status, _, said = command(tmp_path, "quantexp", *job, f"engine.url={server.address}")
        assert status == 2
        assert "(nonsense in usage.completion_tokens)" in said
        server.answer = lambda asked: chat("Paris")
        status, _, said = command(tmp_path, "quantexp", *job, f"engine.url={server.address}")
    assert status == 0, said
