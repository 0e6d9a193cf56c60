"""Reasoning before an answer, by a real model: where it ends, what stops it, and what may be forced."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.reasoning_models import COMMA, HARMONY, HARMONY_NAMES, THINK_NAMES, THINKING, write_renamed

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines.base import Decoding, Prompt, Thinking
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile
from quantexp.store.completion import Completion
from quantexp.tasks.reasoning import Split, split_output
from quantexp.util.errors import UserError

QUESTIONS = (
    "Tom has 3 apples and buys 4 more apples at the shop. How many apples does he have",
    "What is the capital of France and why is it known",
    "Name two colours of the sky and say when it has them",
)


@pytest.fixture(scope="module")
def thinking(q8_0: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template knows <think>, and which writes </think> for a comma."""
    return write_renamed(q8_0.path, tmp_path_factory.mktemp("think") / "think.gguf", THINK_NAMES, THINKING)


@contextmanager
def opened(path: Path, template: Mapping[str, Any], lanes: int = 1, **model: Any) -> Iterator[LlamaCpp]:
    config = ModelConfig(name="m", source="path", path=str(path), template=dict(template), **model)
    file, _ = models.resolve(config, QuantConfig("Q8_0", "MOSTLY_Q8_0"))
    engine = LlamaCpp(file, config, EngineConfig("llama_cpp", context=512, threads=1, lanes=lanes))
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def thinking_anything(make_small: Callable[[str], ModelFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with the same template that writes anything, for what does not depend on it."""
    path = tmp_path_factory.mktemp("anything") / "think.gguf"
    return write_renamed(make_small("Q8_0").path, path, THINK_NAMES, THINKING)


@pytest.fixture(scope="module")
def reasoner(thinking: Path) -> Iterator[LlamaCpp]:
    """The model, with reasoning that its template opens."""
    with opened(thinking, {"opened": True}, lanes=4, reasoning_tokens=60) as engine:
        yield engine


@pytest.fixture(scope="module")
def rambler(thinking_anything: Path) -> Iterator[LlamaCpp]:
    """The one that writes anything, likewise."""
    with opened(thinking_anything, {"opened": True}, lanes=4, reasoning_tokens=60) as engine:
        yield engine


def prompt(engine: LlamaCpp, question: str = QUESTIONS[0]) -> Prompt:
    messages = ({"role": "user", "content": question},)
    text, tokens = engine.encode_chat(messages)
    start = engine.reasoning.find_start(text.rpartition(question)[2])
    return Prompt(question, text, tokens, 0, messages=messages, start=start)


def answer(engine: LlamaCpp, decoding: Decoding, asked: Prompt | None = None) -> tuple[Completion, Split]:
    asked = asked or prompt(engine)
    [(_, completion)] = engine.complete([asked], decoding)
    return completion, split_output(engine.read_output(asked, completion), engine.reasoning)


def limits(engine: LlamaCpp, tokens: int, *, force: bool = False) -> Thinking:
    return Thinking(engine.reasoning.name, tokens, engine.reasoning.forced if force else "")


def test_reasoning_ends_at_its_mark_and_the_answer_has_its_own_limit(reasoner: LlamaCpp) -> None:
    assert reasoner.reasoning.name == "think"
    assert reasoner.settings["context"] == "604", "room for reasoning comes on top"
    plain, split = answer(reasoner, Decoding(6, thinking=limits(reasoner, 60)))
    assert plain.finish_reason == "length"
    assert COMMA in plain.tokens
    place = plain.tokens.index(COMMA) + 1
    assert split.reasoning_tokens == place
    assert len(plain.tokens) == place + 6
    assert split.reasoning
    assert split.answer
    assert "</think>" not in split.reasoning + split.answer.partition("</think>")[0]


def test_a_stop_string_ends_the_answer_and_not_the_reasoning(reasoner: LlamaCpp) -> None:
    whole, split = answer(reasoner, Decoding(12, thinking=limits(reasoner, 60)))
    word = next(word for word in split.answer.split()[1:] if word in split.reasoning.split())
    stopped, shorter = answer(reasoner, Decoding(12, stop=(word,), thinking=limits(reasoner, 60)))
    assert stopped.finish_reason == "stop"
    assert shorter.reasoning == split.reasoning
    assert word not in shorter.answer
    assert split.answer.startswith(shorter.answer)
    assert whole.tokens[: len(stopped.tokens)] == stopped.tokens


def test_reasoning_that_is_too_long_has_no_answer_or_is_forced_to_one(rambler: LlamaCpp) -> None:
    cut, split = answer(rambler, Decoding(6, thinking=limits(rambler, 5)))
    assert (cut.finish_reason, len(cut.tokens), split.ended_in_reasoning) == ("length", 5, True)
    forced, split = answer(rambler, Decoding(6, thinking=limits(rambler, 5, force=True)))
    assert forced.tokens[:5] == cut.tokens
    ending = rambler.tokenize("\n</think>\n\n")
    assert forced.tokens[5 : 5 + len(ending)] == ending
    assert not split.ended_in_reasoning
    # The mark counts as reasoning, the white space after it as a part of the answer's tokens.
    assert split.reasoning_tokens == 5 + ending.index(COMMA) + 1
    assert split.answer
    assert len(forced.logprobs) == len(forced.tokens)


def test_the_answer_does_not_depend_on_neighbours_or_on_where_they_stand_in_their_reasoning(rambler: LlamaCpp) -> None:
    decoding = Decoding(5, temperature=0.7, thinking=limits(rambler, 7, force=True))
    asked = [replace(prompt(rambler, QUESTIONS[each]), sample=sample) for each, sample in ((0, 0), (0, 1), (1, 0))]
    together = {(one.item_id, one.sample): each for one, each in rambler.complete(asked, decoding)}
    backwards = {(one.item_id, one.sample): each for one, each in rambler.complete(asked[::-1], decoding)}
    for one in asked:
        alone, _ = answer(rambler, decoding, one)
        for other in (together[one.item_id, one.sample], backwards[one.item_id, one.sample]):
            assert (alone.tokens, alone.logprobs, alone.text) == (other.tokens, other.logprobs, other.text)


def test_a_template_that_closes_reasoning_leaves_an_answer_alone(thinking_anything: Path) -> None:
    with opened(thinking_anything, {"enable_thinking": False}, reasoning_tokens=60) as engine:
        asked = prompt(engine)
        assert asked.text.endswith("<think>\n\n</think>\n\n")
        completion, split = answer(engine, Decoding(8, thinking=limits(engine, 3)))
        assert len(completion.tokens) > 3, "nothing of it is reasoning"
        assert (split.reasoning, split.answer) == ("", completion.text)


def test_marks_that_the_vocabulary_writes_as_words(q8_0: ModelFile, tmp_path: Path) -> None:
    template = THINKING.replace("<think>", "<reason>")
    path = write_renamed(q8_0.path, tmp_path / "words.gguf", {}, template)
    with opened(path, {"opened": True}, reasoning="<reason>...4", reasoning_tokens=60) as engine:
        completion, split = answer(engine, Decoding(5, stop=("3 apples",), thinking=limits(engine, 60)))
        assert "3 apples" in split.reasoning
        assert completion.text.startswith(split.reasoning)
        assert split.reasoning_tokens is not None
        assert split.reasoning_tokens < len(completion.tokens) <= split.reasoning_tokens + 5
        assert "4" not in split.reasoning


def test_harmony_channels(q8_0: ModelFile, tmp_path: Path) -> None:
    path = write_renamed(q8_0.path, tmp_path / "harmony.gguf", HARMONY_NAMES, HARMONY)
    with opened(path, {}, reasoning_tokens=60) as engine:
        assert engine.reasoning.name == "harmony"
        assert prompt(engine).start == "open"
        completion, split = answer(engine, Decoding(8, thinking=limits(engine, 7, force=True)))
        assert split.reasoning
        assert split.answer
        assert completion.text.startswith(split.reasoning)
        assert completion.text.endswith(split.answer)
        for mark in ("<|", "assistant", "final"):
            assert mark not in split.reasoning + split.answer
        _, split = answer(engine, Decoding(8, thinking=limits(engine, 7)))
        assert (split.answer, split.ended_in_reasoning) == ("", True)


def test_an_output_never_grows_beyond_its_room(thinking: Path) -> None:
    # The model is free to reason, and what it writes turns out to have been reasoning only at its end.
    with opened(thinking, {}, reasoning_tokens=1) as engine:
        asked = replace(prompt(engine), start="free")
        decoding = Decoding(60, thinking=limits(engine, 1))
        completion, split = answer(engine, decoding, asked)
        assert split.reasoning
        assert len(completion.tokens) <= decoding.longest + len(engine.tokenize(engine.reasoning.forced))


def test_arguments_of_the_template_are_those_that_it_reads(thinking_anything: Path) -> None:
    known = r"model\.template has thinkng, .* never reads; it reads enable_thinking, opened"
    with pytest.raises(UserError, match=known), opened(thinking_anything, {"thinkng": False}):
        pass
