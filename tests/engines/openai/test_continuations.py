"""Scores of choices from a server's log-probabilities of prompts, held to those of the same model in this process."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tests.support.openai_server import Asked, OpenAIServer, Reply, continuation
from tests.support.openai_server import models as listed
from tests.support.stores import client_of, runs_of
from tests.support.vllm_server import answer_by

from quantexp.config import ModelConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile

Command = Callable[..., tuple[int, str, str]]
CHOICES = ("task=choice", "task.limit=3", "task.shots=1", "stats.resamples=50")
SERVED = ("engine=openai", "model=server", "model.name=served", "quant=awq", "quant.bits_per_weight=4",
          "engine.retries=0", "engine.concurrency=3")  # fmt: skip


def read_scores(folder: Path) -> dict[str, list[dict[str, float]]]:
    [run] = [run for run in runs_of(folder, "job") if run.info.status == "FINISHED"]
    table = pd.read_parquet(client_of(folder).download_artifacts(run.info.run_id, "items.parquet"))
    return {str(row["item_id"]): json.loads(str(row["output"])) for row in table.to_dict("records")}


def test_a_server_scores_choices_as_the_model_here_and_goes_on_from_what_is_stored(
    command: Command, tiny_q8_0: tuple[ModelFile, ModelConfig], tiny_engine: LlamaCpp, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    local = ("model=local", f"model.path={tiny_q8_0[0].path}", "quant=Q8_0", "engine.threads=1", "engine.context=1024")
    status, _, err = command(here, "quantexp", *local, *CHOICES)
    assert status == 0, err
    by_model = answer_by(tiny_engine)
    asked: list[Asked] = []

    def answer(request: Asked) -> Reply:
        if request.get("prompt_logprobs"):
            asked.append(request)
            if len(asked) == 6:
                return Reply(status=500, body={})
        return by_model(request)

    with OpenAIServer(answer, pages=listed("served")) as server:
        for expected in (1, 0):  # what was scored before the server failed is kept
            status, _, err = command(there, "quantexp", *SERVED, *CHOICES, f"engine.url={server.address}")
            assert (status != 0) == bool(expected), err
            assert "Traceback" not in err
    assert len({tuple(each["prompt"]) for each in asked}) == 12
    assert len(asked) < 12 + 6
    ours, theirs = read_scores(here), read_scores(there)
    assert ours.keys() == theirs.keys()
    for item, scores in ours.items():
        assert [each["likeliest"] for each in scores] == [each["likeliest"] for each in theirs[item]]
        # The stand-in reads context and choice in one call, by other kernels than two calls take.
        logprobs = [each["logprob"] for each in scores]
        assert [each["logprob"] for each in theirs[item]] == pytest.approx(logprobs, rel=0.03)


def test_a_server_without_them_is_told(command: Command, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        if "add_special_tokens" in asked:
            return Reply(body={"tokens": list(asked["prompt"].encode())})
        return continuation()

    with OpenAIServer(answer, pages=listed("served")) as server:
        status, _, err = command(tmp_path, "quantexp", *SERVED, *CHOICES, f"engine.url={server.address}")
    assert status != 0
    assert "gives no log-probabilities of a prompt's tokens" in " ".join(err.split())
    assert "Traceback" not in err
