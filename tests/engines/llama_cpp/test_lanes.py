"""Answers from the real engine: exact, independent of what surrounds them, ended for the right reason."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from llama_cpp import Llama, llama_cpp

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines import Completion, Decoding, Prompt
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.lanes import BATCH, Lanes
from quantexp.models import ModelFile

ONE_THREAD = EngineConfig("llama_cpp", context=1024, threads=1, lanes=8)
SHORT = Decoding(9)

QUESTIONS = (
    "What is the capital of France?",
    "List the numbers from 1 to 10.",
    "Repeat: 🎉🎉🎉 café naïve",
    "Say yes.",
)
BEGINNINGS = ("The capital of France is", "Count: 1, 2, 3,", "Once upon a time", "def add(a, b):")


def asked(engine: LlamaCpp, question: str, shared: int = 0) -> Prompt:
    text = engine.render([{"role": "user", "content": question}])
    return Prompt(question, text, engine.tokenize(text), shared)


def raw(engine: LlamaCpp, text: str) -> Prompt:
    """A prompt without a chat around it, which the model goes on with."""
    return Prompt(text, text, engine.tokenize(text), 0)


def answers(engine: LlamaCpp, prompts: list[Prompt], decoding: Decoding = SHORT) -> dict[str, Completion]:
    """By item, without the times."""
    return {
        prompt.item_id: replace(completion, prompt_seconds=0.0, generation_seconds=0.0)
        for prompt, completion in engine.complete(prompts, decoding)
    }


def answer(engine: LlamaCpp, prompt: Prompt, decoding: Decoding = SHORT) -> Completion:
    return answers(engine, [prompt], decoding)[prompt.item_id]


def opened_reference(file: ModelFile) -> Llama:
    """The library's own high-level interface with the same settings."""
    return Llama(
        file.path, n_ctx=1024, n_batch=BATCH, n_ubatch=BATCH, n_threads=1, n_threads_batch=1, flash_attn=True,
        verbose=False,
    )  # fmt: skip


# Exactness


@pytest.fixture(scope="module")
def single(q8_0: ModelFile, demo: ModelConfig) -> Iterator[LlamaCpp]:
    """One lane: the plain reference."""
    with closing(LlamaCpp(q8_0, demo, replace(ONE_THREAD, lanes=1))) as engine:
        yield engine


@pytest.fixture(scope="module")
def plain(tiny_q8_0: tuple[ModelFile, ModelConfig]) -> Iterator[LlamaCpp]:
    """One lane of a model to which it does not matter what it writes."""
    with closing(LlamaCpp(*tiny_q8_0, replace(ONE_THREAD, lanes=1))) as engine:
        yield engine


def test_one_lane_answers_like_the_high_level_interface(
    plain: LlamaCpp, tiny_q8_0: tuple[ModelFile, ModelConfig]
) -> None:
    long = raw(plain, "The sun rises. " * (BATCH // 3))
    long = replace(long, tokens=long.tokens[: BATCH + 8])  # read in two batches
    prompts = [asked(plain, QUESTIONS[2]), *(raw(plain, beginning) for beginning in BEGINNINGS[:2]), long]
    with closing(opened_reference(tiny_q8_0[0])) as reference:
        for prompt in prompts:
            ours = answer(plain, prompt)
            reference.reset()
            theirs = reference.create_completion(list(prompt.tokens), max_tokens=SHORT.max_tokens, temperature=0.0)
            assert ours.text == theirs["choices"][0]["text"]
            assert ours.finish_reason == theirs["choices"][0]["finish_reason"]
            # All but the last token, which the reference chose but had no need to evaluate.
            evaluated = reference.input_ids[len(prompt.tokens) : reference.n_tokens]
            assert tuple(evaluated) == ours.tokens[: len(evaluated)]
            assert len(ours.tokens) - len(evaluated) in (0, 1)


@pytest.mark.parametrize("last_n", [64, 5])
def test_one_lane_penalizes_like_llama_cpps_server(tiny: tuple[ModelFile, ModelConfig], last_n: int) -> None:
    decoding = Decoding(12, presence_penalty=1.0, frequency_penalty=0.5, repetition_penalty=1.3, penalty_last_n=last_n)
    changed = 0
    with (
        closing(opened_reference(tiny[0])) as reference,
        closing(LlamaCpp(*tiny, replace(ONE_THREAD, lanes=1))) as single,
    ):
        for beginning in BEGINNINGS:
            prompt = raw(single, beginning)
            # As its server does: penalties over the whole vocabulary, in a sampler that has seen the prompt.
            chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
            penalties = llama_cpp.llama_sampler_init_penalties(reference.n_vocab(), last_n, 1.3, 0.5, 1.0)
            for link in (penalties, llama_cpp.llama_sampler_init_greedy()):
                llama_cpp.llama_sampler_chain_add(chain, link)
            for token in prompt.tokens:
                llama_cpp.llama_sampler_accept(chain, token)
            reference.reset()
            reference.eval(list(prompt.tokens))
            written = []
            for _ in range(decoding.max_tokens):
                written.append(llama_cpp.llama_sampler_sample(chain, reference.ctx, -1))
                reference.eval(written[-1:])
            llama_cpp.llama_sampler_free(chain)
            ours = answer(single, prompt, decoding)
            assert ours.tokens == tuple(written[: len(ours.tokens)])
            changed += ours.tokens != answer(single, prompt, Decoding(12)).tokens
    assert changed > 1


def test_answers_do_not_depend_on_the_number_of_threads(engine: LlamaCpp, q8_0: ModelFile, demo: ModelConfig) -> None:
    # What identifies an answer leaves the threads out, so that machines with more cores can be compared.
    prompt = raw(engine, BEGINNINGS[0])
    two = LlamaCpp(q8_0, demo, replace(ONE_THREAD, threads=2))
    try:
        assert answer(two, prompt, Decoding(6)) == answer(engine, prompt, Decoding(6))
        assert two.key(prompt, SHORT) == engine.key(prompt, SHORT)
    finally:
        two.close()


# Where an answer ends


def test_every_end_of_generation_token_ends_an_answer(plain: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = plain._lanes._vocabulary
    ends = [
        token
        for token in range(llama_cpp.llama_vocab_n_tokens(vocabulary))
        if llama_cpp.llama_vocab_is_eog(vocabulary, token)
    ]
    assert len(ends) > 1
    prompt = raw(plain, BEGINNINGS[0])
    usual = answer(plain, prompt, Decoding(5))
    chosen = Lanes._chosen
    for end in ends:
        # The model seldom ends on any but its usual one; here it does, after three tokens.
        count = iter(range(100))

        def ending(*arguments: Any, count: Iterator[int] = count, end: int = end) -> tuple[int, float]:
            return (end, -1.0) if next(count) == 3 else chosen(*arguments)

        monkeypatch.setattr(Lanes, "_chosen", ending)
        ended = answer(plain, prompt, Decoding(5))
        assert (ended.finish_reason, ended.tokens) == ("stop", (*usual.tokens[:3], end))
        assert ended.logprobs == (*usual.logprobs[:3], -1.0)
        assert usual.text.startswith(ended.text)


def test_the_model_ends_its_answer(single: LlamaCpp) -> None:
    ended = answer(single, asked(single, "Say hello."), Decoding(100))
    assert ended.finish_reason == "stop"
    assert 0 < len(ended.tokens) < 100
    ends = [bool(llama_cpp.llama_vocab_is_eog(single._lanes._vocabulary, token)) for token in ended.tokens]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert "<|" not in ended.text
    # As many tokens as the words have: the end comes one too late to be seen.
    assert answer(single, asked(single, "Say hello."), Decoding(len(ended.tokens) - 1)).finish_reason == "length"


def test_max_tokens(plain: LlamaCpp) -> None:
    prompt = raw(plain, BEGINNINGS[0])
    longest = answer(plain, prompt, Decoding(12))
    for limit in (1, 5, 12):
        cut = answer(plain, prompt, Decoding(limit))
        assert (cut.finish_reason, cut.tokens) == ("length", longest.tokens[:limit])


def test_stop_strings(single: LlamaCpp) -> None:
    prompt = raw(single, "Count: 1, 2, 3,")
    counting = Decoding(12)
    whole = answer(single, prompt, counting)
    assert whole.text.startswith(" 4, 5, 6, 7")

    def stopped(*stop: str) -> Completion:
        return answer(single, prompt, replace(counting, stop=stop))

    # Each of the digits, commas and spaces is a token of its own, so these span several.
    assert stopped("never", ", 6, 7").text == " 4, 5"
    cut = stopped(", 6")
    assert (cut.text, cut.finish_reason) == (" 4, 5", "stop")
    assert cut.tokens == whole.tokens[: len(cut.tokens)]  # those of the stop string included
    assert len(cut.tokens) == len(", 6 4, 5")
    # The first in the text, whatever the order in the configuration.
    assert stopped(", 7", ", 5").text == stopped(", 5", ", 7").text == " 4"
    # Two that end with the same token: the one that begins first.
    assert stopped("6", "5, 6").text == stopped("5, 6", "6").text == " 4, "
    assert stopped(" ").text == ""
    assert stopped("never", ", 6 ") == whole


def test_stop_string_within_a_token(plain: LlamaCpp) -> None:
    prompt = raw(plain, BEGINNINGS[2])
    whole = answer(plain, prompt)
    word = next(word for word in whole.text.split() if len(word) > 3)
    middle = word[1:3]
    cut = answer(plain, prompt, replace(SHORT, stop=(middle,)))
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text.partition(middle)[0]


def test_characters_of_several_tokens_are_whole(single: LlamaCpp) -> None:
    prompt = asked(single, QUESTIONS[2])
    said = answer(single, prompt, Decoding(14))
    assert said.text.startswith("🎉🎉🎉 café naïve")
    assert "\N{REPLACEMENT CHARACTER}" not in said.text
    assert len(single.tokenize("🎉")) == 3
    assert answer(single, prompt, Decoding(14, ("🎉 ",))).text == "🎉🎉"
    # One token of three is no character.
    assert answer(single, prompt, Decoding(1)).text == "\N{REPLACEMENT CHARACTER}"


def test_prompt_that_does_not_fit(tiny_engine: LlamaCpp) -> None:
    fits = asked(tiny_engine, QUESTIONS[3])
    room = ONE_THREAD.context - len(fits.tokens)
    assert answer(tiny_engine, fits, Decoding(room, (" ",))).finish_reason == "stop"
    refused = answer(tiny_engine, fits, Decoding(room + 1))
    assert (refused.finish_reason, refused.text, refused.tokens) == ("context", "", ())
    # The others are answered.
    large = raw(tiny_engine, "word " * ONE_THREAD.context)
    both = answers(tiny_engine, [large, fits], Decoding(4))
    assert both[large.item_id].finish_reason == "context"
    assert both[fits.item_id] == answer(tiny_engine, fits, Decoding(4))


def test_the_last_place_in_the_context_is_used(tiny: tuple[ModelFile, ModelConfig]) -> None:
    engine = LlamaCpp(*tiny, replace(ONE_THREAD, context=256))
    try:
        prompt = raw(engine, "one two three " * 100)
        prompt = replace(prompt, tokens=prompt.tokens[: 256 - 4])
        filled = answer(engine, prompt, Decoding(4))
        assert (filled.finish_reason, len(filled.tokens)) == ("length", 4)
        assert answer(engine, prompt, Decoding(5)).finish_reason == "context"
    finally:
        engine.close()
