"""llama.cpp's own llama-server, built from the source that llama-cpp-python carries, with the embedded model."""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from common import llama_tool
from running import free_port, llama_server
from tests.support.predictions import alike, both, prompts_of

from quantexp import models
from quantexp.config import EngineConfig, ExamplePlace, ModelConfig, PromptForm, QuantConfig
from quantexp.config.choices import FlashAttention, KVType
from quantexp.engines import Decoding
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.footprint import measure_footprints
from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.engines.openai.engine import OpenAIServer
from quantexp.models import ModelFile
from quantexp.util.errors import UserError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def address(q8_0: ModelFile) -> Iterator[str]:
    with llama_server(q8_0.path, context=1024, threads=1) as address:
        yield address


@pytest.mark.parametrize("form", list(PromptForm), ids=lambda form: form.value)
def test_its_answers_are_those_of_the_engine_in_this_process(
    form: PromptForm, address: str, engine: LlamaCpp, q8_0: ModelFile, demo: ModelConfig
) -> None:
    found = both(address, form, engine, q8_0, demo, items=8, concurrency=1)
    assert alike(found) >= 6
    for _, ours, theirs in found:
        if ours.text == theirs.text and ours.finish_reason == "length":
            assert theirs.logprobs == pytest.approx(ours.logprobs, abs=0.3)  # the same quantity, rounded otherwise


def test_server_version_and_template_are_known(address: str, q8_0: ModelFile, demo: ModelConfig) -> None:
    there = OpenAIServer(q8_0, demo, EngineConfig("openai", url=address))
    assert there.identity.kind == "llama-server"
    assert there.identity.version
    assert len(there.identity.template_sha256) == 64
    assert there.machine["logprobs"] == "yes"
    assert there.machine["fingerprints"]
    there.close()


def test_penalties_are_those_of_the_engine_in_this_process(
    address: str, engine: LlamaCpp, q8_0: ModelFile, demo: ModelConfig
) -> None:
    changes: dict[str, float] = {"presence_penalty": 1.5, "frequency_penalty": 0.5, "repetition_penalty": 1.3}
    changes |= {"max_tokens": 24}
    found = both(address, PromptForm.tokens, engine, q8_0, demo, items=4, changes=changes)
    assert alike(found) >= 3
    plain = both(address, PromptForm.tokens, engine, q8_0, demo, items=4, changes={"max_tokens": 24})
    assert [ours.text for _, ours, _ in found] != [ours.text for _, ours, _ in plain]


def test_another_file_than_the_reports_is_refused(address: str, demo: ModelConfig) -> None:
    other, _ = models.resolve(demo, QuantConfig("Q3_K_M", "MOSTLY_Q3_K_M"))
    with pytest.raises(UserError, match="start the server with this file, or name the one that it has"):
        OpenAIServer(other, demo, EngineConfig("openai", url=address))


@pytest.mark.parametrize("form", list(PromptForm), ids=lambda form: form.value)
def test_a_prompt_that_does_not_fit_is_not_asked(
    form: PromptForm, address: str, q8_0: ModelFile, demo: ModelConfig
) -> None:
    there = OpenAIServer(q8_0, demo, EngineConfig("openai", url=address, prompt=form))
    chat = ({"role": "user", "content": "word " * 3000},)
    text = there.render(chat)
    [prompt] = prompts_of(there, replace(demo, examples=ExamplePlace.turns), 1)[1]
    long = replace(prompt, item_id="long", text=text, tokens=there.tokenize(text), messages=chat)
    found = {asked.item_id: each for asked, each in there.complete([long, prompt], Decoding(4))}
    assert (found["long"].finish_reason, found["long"].text) == ("context", "")
    assert found[prompt.item_id].text
    there.close()


def test_the_same_seed_draws_the_same_answer(address: str, q8_0: ModelFile, demo: ModelConfig) -> None:
    there = OpenAIServer(q8_0, demo, EngineConfig("openai", url=address, concurrency=1))
    [prompt] = prompts_of(there, replace(demo, examples=ExamplePlace.turns), 1)[1]
    drawn = Decoding(12, temperature=1.5, seed=1)
    samples = [replace(prompt, sample=sample) for sample in range(4)]
    first, again = ([each.text for _, each in there.complete(samples, drawn)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 1
    there.close()


def test_a_sweep_of_two_quants_on_two_servers(
    address: str, demo: ModelConfig, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    other, _ = models.resolve(demo, QuantConfig("Q3_K_M", "MOSTLY_Q3_K_M"))
    with llama_server(other.path, context=1024, threads=1) as second:
        status, _, said = command(
            tmp_path, "quantexp", "-m", "quant=Q8_0,Q3_K_M", "task=triviaqa", "task.limit=3", "task.max_tokens=8",
            "engine=openai", "engine.prompt=tokens", f"engine.urls={{Q8_0: '{address}', Q3_K_M: '{second}'}}",
            f"model.cache={demo.cache}", "stats.resamples=50",
        )  # fmt: skip
    assert status == 0, said
    [report] = tmp_path.glob("multirun/*/*/report/report.md")
    assert "Noise floor: Q8_0 on triviaqa" in report.read_text()
    assert "Different servers" not in report.read_text()


def project_memory(path: str, *options: str) -> int:
    """The MiB in all that llama-server expects to take, by its own table, before it takes them."""
    command = [
        str(llama_tool("llama-server")),
        "--model",
        path,
        "--port",
        str(free_port()),
        "-np",
        "1",
        "-t",
        "1",
        "-v",
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        sizes = []
        for line in server.stdout:
            # | - Host | 292 = 91 + 180 + 21 |: in all, weights, context, buffers.
            if found := re.search(r"memory_breakdown_print: .*\| +(?:.*\()?(\d+) = +\d+ \+ +\d+ \+ +\d+", line):
                sizes.append(int(found[1]))
            elif sizes:
                break
        server.kill()
    return sum(sizes)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (KVCache(), ()),
        (KVCache(KVType.q8_0, KVType.q4_0), ("-ctk", "q8_0", "-ctv", "q4_0")),
        (KVCache(attention=FlashAttention.off), ("-fa", "off")),
    ],
)
def test_the_memory_of_a_pick_is_what_it_projects(settings: KVCache, options: tuple[str, ...], q8_0: ModelFile) -> None:
    contexts = (2048, 8192, 32768)
    for context, found in zip(contexts, measure_footprints(q8_0.path, contexts, settings), strict=True):
        total = q8_0.bytes + found.cache + found.buffers
        assert total == pytest.approx(project_memory(q8_0.path, "-c", str(context), *options) * 2**20, rel=0.03)
