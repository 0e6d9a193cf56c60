"""Exactness on architectures other than attention alone: experts, sliding windows, recurrent and hybrid models."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.architectures import ARCHITECTURES, write_architecture

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines.base import Continuation, Decoding, Prompt
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile
from quantexp.store.completion import Completion

QUESTIONS = (
    "What is it?",
    "Name a colour and say why you like it so much that nobody can understand it.",
    "Count from one to ten",
    "Say in three sentences, each longer than the one before, what a window is for, and for whom, and since when.",
    "Why?",
)
INSTRUCTIONS = "Answer the question below as briefly as you can, in plain words that a child would understand.\n\n"
"""The beginning that all prompts share; longer than the sliding window of 32 tokens, with what follows."""


@pytest.fixture(scope="module", params=ARCHITECTURES)
def engine(
    request: pytest.FixtureRequest, q8_0: ModelFile, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaCpp]:
    path = write_architecture(request.param, q8_0.path, tmp_path_factory.mktemp("architecture") / "model.gguf")
    config = ModelConfig(name=request.param, source="path", path=str(path))
    file, _ = models.resolve(config, QuantConfig("F32", None))
    opened = LlamaCpp(file, config, EngineConfig("llama_cpp", context=256, threads=1, lanes=4))
    yield opened
    opened.close()


def prompts(engine: LlamaCpp) -> list[Prompt]:
    """One for each question, with what they have in common marked as shared."""
    encoded = [engine.encode_chat([{"role": "user", "content": INSTRUCTIONS + each}]) for each in QUESTIONS]
    shortest = min(len(tokens) for _, tokens in encoded)
    shared = next(n for n in range(shortest) if len({tokens[: n + 1] for _, tokens in encoded}) > 1)
    return [Prompt(text[-40:], text, tokens, shared) for text, tokens in encoded]


def answers(engine: LlamaCpp, asked: list[Prompt], decoding: Decoding) -> dict[tuple[str, int], Completion]:
    return {
        (prompt.item_id, prompt.sample): replace(each, prompt_seconds=0.0, generation_seconds=0.0)
        for prompt, each in engine.complete(asked, decoding)
    }


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(8),
        Decoding(16, temperature=1.0, top_k=40, top_p=0.9, presence_penalty=0.5, repetition_penalty=1.1),
    ],
    ids=["greedy", "drawn with penalties"],
)
def test_an_answer_depends_on_nothing_around_it(engine: LlamaCpp, decoding: Decoding) -> None:
    asked = prompts(engine)
    assert asked[0].shared > 10
    if decoding.temperature:
        asked = [replace(each, sample=sample) for each in asked for sample in (0, 1)]
    together = answers(engine, asked, decoding)
    assert len({each.logprobs for each in together.values()}) == len(asked), "each depends on its prompt"
    assert answers(engine, asked[::-1], decoding) == together
    for each in (asked[0], asked[-1], asked[1]):
        assert answers(engine, [each], decoding).items() <= together.items()
    # As when a run goes on after it was interrupted: with other neighbours, and nothing read before.
    assert answers(engine, asked[2:5], decoding).items() <= together.items()


def scores(engine: LlamaCpp, asked: list[Continuation]) -> dict[tuple[str, int], tuple[float, ...]]:
    return {(prompt.item_id, prompt.sample): completion.logprobs for prompt, completion in engine.score(asked)}


def test_a_score_depends_on_nothing_around_it(engine: LlamaCpp) -> None:
    words = engine.tokenize_plain(" ".join(QUESTIONS))
    asked = [
        Continuation(each.item_id, "", each.tokens, each.shared, sample=size, continuation=words[size : 2 * size])
        for each in prompts(engine)[:3]
        for size in (1, 2, 3, 20)
    ]
    together = scores(engine, asked)
    assert len(set(together.values())) == len(asked), "each depends on its context and continuation"
    assert scores(engine, asked[::-1]) == together
    # Contexts in turn, so that none is kept for its next continuation.
    assert scores(engine, sorted(asked, key=lambda each: each.sample)) == together
    for each in (asked[0], asked[-1], asked[6]):
        assert scores(engine, [each]).items() <= together.items()
