"""Scores of continuations: those that the library's own interface gives, to the last bit independent of neighbours."""

import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llama_cpp import Llama

from quantexp import models
from quantexp.config import DataConfig, EngineConfig, ModelConfig, QuantConfig
from quantexp.config.choices import KVType
from quantexp.engines.base import Continuation
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.lanes import BATCH
from quantexp.models import ModelFile
from quantexp.tasks import get_task
from quantexp.tasks.data import load

EXAMPLES = int(os.environ.get("QUANTEXP_EXACTNESS_EXAMPLES", "3"))
"""Of the property test, for each quant; `make exactness` runs many."""

MOST = 3000
"""Tokens of the longest context."""

SHARED = 100
QUANTS = [
    "tiny",
    *(pytest.param(quant, marks=pytest.mark.slow) for quant in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M", "F16")),
]
"""Of the embedded model, but for the first."""

Scores = dict[tuple[str, int], tuple[float, ...]]


def text_tokens(engine: LlamaCpp, most: int) -> tuple[int, ...]:
    items = load(DataConfig("bundled"), get_task("extraction")).items
    tokens = engine.tokenize_plain(" ".join(item.fields["email"] for item in items))
    assert len(tokens) > most
    return tokens[:most]


def scores(engine: LlamaCpp, prompts: Iterable[Continuation]) -> Scores:
    found = {}
    for prompt, completion in engine.score(prompts):
        assert completion.tokens == prompt.continuation
        assert len(completion.logprobs) == len(prompt.continuation)
        found[prompt.item_id, prompt.sample] = completion.logprobs
    return found


@pytest.fixture(scope="module", params=QUANTS)
def scorer(
    request: pytest.FixtureRequest, demo: ModelConfig, tiny_q8_0: tuple[ModelFile, ModelConfig]
) -> Iterator[LlamaCpp]:
    model = tiny_q8_0
    if request.param != "tiny":
        model = models.resolve(demo, QuantConfig(request.param, f"MOSTLY_{request.param}"))[0], demo
    engine = LlamaCpp(*model, EngineConfig("llama_cpp", context=MOST + 256, threads=1, lanes=1))
    yield engine
    engine.close()


@st.composite
def items(draw: st.DrawFn, longest: int) -> list[tuple[int, bool, list[int]]]:
    """Items: the length of each context, whether it begins as the others do, and the lengths of its choices."""
    few = longest <= BATCH + 1
    lengths = st.one_of(st.integers(5, 150 if few else 300), st.just(longest) if few else st.integers(5, longest))
    sizes = st.one_of(st.integers(1, 9), st.integers(1, 9), st.integers(1, 50 if few else 200))
    choices = st.lists(sizes, min_size=1, max_size=3 if few else 12)
    return draw(st.lists(st.tuples(lengths, st.booleans(), choices), min_size=1, max_size=2 if few else 3))


def check_independence(scorer: LlamaCpp, data: st.DataObject, longest: int) -> None:
    text = text_tokens(scorer, 3 * MOST)
    prompts = []
    for number, (length, shares, choices) in enumerate(data.draw(items(longest), "items")):
        own = text[400 + 97 * number :]
        shares = shares and length > SHARED
        tokens = (text[:SHARED] + own)[:length] if shares else own[:length]
        base = Continuation(f"{number}", "", tokens, SHARED if shares else 0)
        prompts += [
            replace(base, sample=choice, continuation=text[7000 + 13 * choice :][:size])
            for choice, size in enumerate(choices)
        ]
    together = scores(scorer, prompts)
    shuffled = data.draw(st.permutations(prompts), "order")
    assert scores(scorer, shuffled) == together
    chosen = data.draw(st.sampled_from(prompts), "one alone")
    assert scores(scorer, [chosen]).items() <= together.items()
    # As after an interruption: what had been finished is not asked again.
    rest = prompts[data.draw(st.integers(0, len(prompts) - 1), "the first after it") :]
    assert scores(scorer, rest).items() <= together.items()


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_score_depends_on_nothing_around_it(scorer: LlamaCpp, data: st.DataObject) -> None:
    check_independence(scorer, data, MOST if EXAMPLES > 3 else BATCH + 1)


@pytest.fixture(scope="module")
def long_scorer(tiny: tuple[ModelFile, ModelConfig]) -> Iterator[LlamaCpp]:
    """A model of random weights: what a long context adds is in the attention, which no type of weights touches."""
    with closing(LlamaCpp(*tiny, EngineConfig("llama_cpp", context=MOST + 256, threads=1, lanes=1))) as engine:
        yield engine


@pytest.mark.slow
@settings(max_examples=4 * EXAMPLES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_score_after_a_long_context_depends_on_nothing_around_it(long_scorer: LlamaCpp, data: st.DataObject) -> None:
    check_independence(long_scorer, data, MOST)


def test_scores_are_those_of_the_high_level_interface(engine: LlamaCpp, q8_0: ModelFile) -> None:
    llama = Llama(q8_0.path, n_ctx=1024, n_batch=BATCH, n_threads=1, logits_all=True, flash_attn=True, verbose=False)
    try:
        for context, choice in (
            ("Question: What is the capital of France?\nAnswer:", " Paris"),
            ("The sun rises. The sun", " sets."),
            ("Question: What is the capital of France?\nAnswer:", " the old city of Lyon, on the river Rhône"),
        ):
            tokens = engine.tokenize_plain(context)
            after = engine.tokenize_plain(context + choice)[len(tokens) :]
            [(_, completion)] = engine.score([Continuation("", "", tokens, 0, continuation=after)])
            llama.reset()
            llama.eval([*tokens, *after])
            logits = llama.scores[len(tokens) - 1 : len(tokens) + len(after) - 1].astype(np.float64)
            shares = logits - logits.max(axis=1, keepdims=True)
            shares -= np.log(np.exp(shares).sum(axis=1, keepdims=True))
            expected = shares[np.arange(len(after)), after]
            np.testing.assert_allclose(completion.logprobs, expected, atol=1e-3)
    finally:
        llama.close()


def test_scores_do_not_depend_on_the_number_of_threads(
    tiny_engine: LlamaCpp, tiny_q8_0: tuple[ModelFile, ModelConfig]
) -> None:
    tokens = text_tokens(tiny_engine, 100)
    prompts = [
        Continuation("", "", tokens[:80], 0, sample=size, continuation=tokens[80 : 80 + size]) for size in (1, 2, 9)
    ]
    two = LlamaCpp(*tiny_q8_0, EngineConfig("llama_cpp", context=1024, threads=2, lanes=8))
    try:
        assert scores(two, prompts) == scores(tiny_engine, prompts)
        assert two.score_key(prompts[0]) == tiny_engine.score_key(prompts[0])
    finally:
        two.close()


def test_what_does_not_fit_is_not_scored(tiny: tuple[ModelFile, ModelConfig]) -> None:
    with closing(LlamaCpp(*tiny, EngineConfig("llama_cpp", context=1024, threads=1, lanes=8))) as engine:
        tokens = text_tokens(engine, 1025)
        fitting = Continuation("fits", "", tokens[:1020], 0, continuation=tokens[1020:1024])
        long = replace(fitting, item_id="does not", continuation=tokens[1020:])
        found = {prompt.item_id: completion for prompt, completion in engine.score([long, fitting])}
    assert found["does not"].finish_reason == "context"
    assert found["does not"].tokens == ()
    assert found["fits"].finish_reason == "stop"


def test_the_key_is_of_all_that_a_score_depends_on(engine: LlamaCpp) -> None:
    prompt = Continuation("a", "text", tuple(range(40)), 20, continuation=(5, 6))
    key = engine.score_key(prompt)
    assert len(key) == 32
    assert engine.score_key(replace(prompt, item_id="b", text="other", sample=3, written="x")) == key
    others = [
        replace(prompt, tokens=tuple(range(1, 41))),
        replace(prompt, shared=19),
        replace(prompt, continuation=(5,)),
        replace(prompt, continuation=(6, 5)),
        replace(prompt, tokens=(*range(40), 5), continuation=(6,)),
    ]
    assert len({key, *(engine.score_key(each) for each in others)}) == len(others) + 1


def test_scores_are_of_the_types_of_the_cache(tiny_engine: LlamaCpp, tiny_q8_0: tuple[ModelFile, ModelConfig]) -> None:
    tokens = text_tokens(tiny_engine, 100)
    prompts = [
        Continuation("", "", tokens[:80], 50, sample=size, continuation=tokens[80 : 80 + size]) for size in (1, 2, 9)
    ]
    config = EngineConfig("llama_cpp", context=1024, threads=1, lanes=8, kv_key=KVType.q4_0, kv_value=KVType.q4_0)
    small = LlamaCpp(*tiny_q8_0, config)
    try:
        found = scores(small, prompts)
        assert scores(small, prompts[::-1]) == found
        assert scores(small, prompts[1:2]).items() <= found.items()
        assert all(found[key] != logprobs for key, logprobs in scores(tiny_engine, prompts).items())
        assert small.score_key(prompts[0]) != tiny_engine.score_key(prompts[0])
    finally:
        small.close()
