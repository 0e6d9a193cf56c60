"""The choice of the next token, against llama.cpp's own samplers in the order of its server, over the same logits."""

import ctypes
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantexp.engines import Decoding, Prompt
from quantexp.engines.base import decisive
from quantexp.engines.llama_cpp.sampling import Penalties, new_penalties, new_sampler
from quantexp.util.llama_library import llama_cpp

WORDS = 24
"""Tokens of the vocabulary."""

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama.cpp's llama_token_data."""

Chain = Sequence[Any]


def applied(links: Chain, logits: NDArray[np.float32]) -> tuple[NDArray[Any], int]:
    """What samplers leave of all tokens, and which of them they select: its token, -1 for none."""
    held = np.zeros(len(logits), CANDIDATE)
    held["id"], held["logit"] = np.arange(len(logits)), logits
    candidates = llama_cpp.llama_token_data_array()
    candidates.data = held.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
    candidates.size, candidates.selected, candidates.sorted = len(held), -1, False
    for link in links:
        llama_cpp.llama_sampler_apply(link, ctypes.byref(candidates))
    left = held[: candidates.size]
    return left, int(left["id"][candidates.selected]) if candidates.selected >= 0 else -1


def their_penalties(decoding: Decoding, tokens: Iterable[int]) -> Any:
    last_n = 10**6 if decoding.penalty_last_n == -1 else decoding.penalty_last_n
    sampler = llama_cpp.llama_sampler_init_penalties(
        WORDS, last_n, decoding.repetition_penalty, decoding.frequency_penalty, decoding.presence_penalty
    )
    for token in tokens:
        llama_cpp.llama_sampler_accept(sampler, token)
    return sampler


def their_chain(decoding: Decoding, tokens: Iterable[int], seed: int) -> Chain:
    return (
        their_penalties(decoding, tokens),
        llama_cpp.llama_sampler_init_top_k(decoding.top_k),
        llama_cpp.llama_sampler_init_top_p(decoding.top_p, 1),
        llama_cpp.llama_sampler_init_min_p(decoding.min_p, 1),
        llama_cpp.llama_sampler_init_temp(decoding.temperature),
        llama_cpp.llama_sampler_init_dist(seed),
    )


def penalized(decoding: Decoding, read: Sequence[int], written: Sequence[int], logits: NDArray[Any]) -> NDArray[Any]:
    """The logits after our penalties, for a prompt and an answer of these tokens."""
    changed = logits.copy()
    if (ours := new_penalties(Prompt("", "", tuple(read), 0), decoding)) is not None:
        for token in written:
            ours.add((token,))
        ours.apply(changed)
    return changed


# Quarters make ties, and are exact in float32 whichever way a compiler contracts the arithmetic.
QUARTERS = st.integers(-40, 40).map(lambda quarters: quarters / 4)
LOGITS = st.lists(QUARTERS, min_size=WORDS, max_size=WORDS).map(lambda values: np.array(values, np.float32))
TOKENS = st.lists(st.integers(0, WORDS - 1), max_size=30)
DECODINGS = st.builds(
    Decoding,
    max_tokens=st.just(30),
    temperature=st.sampled_from([0.25, 0.7, 1.0, 3.0]),
    top_k=st.sampled_from([0, 0, 1, 3, 20, 1000]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.5, -0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.25, -0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 2.0, 0.5]),
    penalty_last_n=st.sampled_from([64, 5, 1, 0, -1]),
)


@given(decoding=DECODINGS, logits=LOGITS, read=TOKENS.filter(bool), written=TOKENS, seed=st.integers(0, 3))
def test_what_is_drawn_from_is_what_llama_cpp_would_draw_from(
    decoding: Decoding, logits: NDArray[np.float32], read: list[int], written: list[int], seed: int
) -> None:
    theirs, _ = applied(their_chain(decoding, [*read, *written], 0), logits)
    decoding = replace(decoding, seed=seed)
    ours, token = applied(
        [new_sampler(Prompt("", "", tuple(read), 0), decoding)], penalized(decoding, read, written, logits)
    )
    assert ours.tolist() == theirs.tolist()
    assert token in theirs["id"]


@given(
    logits=st.lists(st.floats(-50, 50, width=32), min_size=WORDS, max_size=WORDS),
    read=TOKENS.filter(bool),
    written=TOKENS,
    repetition=st.floats(0.1, 3),
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
    last_n=st.integers(-1, 40),
)
def test_any_penalty_changes_logits_as_llama_cpps_do(
    logits: list[float],
    read: list[int],
    written: list[int],
    repetition: float,
    frequency: float,
    presence: float,
    last_n: int,
) -> None:
    given_logits = np.array(logits, np.float32)
    decoding = Decoding(30, (), 0.0, 1.0, 0.0, 0, 0, presence, frequency, repetition, last_n)
    theirs, _ = applied([their_penalties(decoding, [*read, *written])], given_logits)
    ours = penalized(decoding, read, written, given_logits)
    np.testing.assert_allclose(ours, theirs["logit"], rtol=1e-6, atol=1e-5)
    untouched = set(range(WORDS)).difference([*read, *written][-last_n:] if last_n > 0 else [*read, *written])
    assert all(ours[token] == given_logits[token] for token in untouched)


@given(read=TOKENS.filter(bool), written=TOKENS, last_n=st.integers(1, 40))
def test_the_window_holds_the_last_tokens_of_prompt_and_answer(
    read: list[int], written: list[int], last_n: int
) -> None:
    decoding = Decoding(30, frequency_penalty=1.0, penalty_last_n=last_n)
    counts = Counter([*read, *written][-last_n:])
    changed = penalized(decoding, read, written, np.zeros(WORDS, np.float32))
    assert {token: -value for token, value in enumerate(changed.tolist()) if value} == counts


@pytest.mark.parametrize(
    "neutral",
    [
        Decoding(8),
        Decoding(8, penalty_last_n=5),
        Decoding(8, presence_penalty=1.0, frequency_penalty=1.0, repetition_penalty=2.0, penalty_last_n=0),
    ],
)
def test_neutral_penalties_are_none(neutral: Decoding) -> None:
    assert new_penalties(Prompt("", "", (1, 2), 0), neutral) is None
    assert decisive(Prompt("", "", (1, 2), 0), neutral) == {"max_tokens": 8, "stop": (), "temperature": 0.0}


def test_a_draw_without_the_newer_keys_has_the_key_of_earlier_versions() -> None:
    drawn = Decoding(8, ("x",), 0.7, 0.9, 0.1, 3, penalty_last_n=5)
    old = {"sample": 2, "max_tokens": 8, "stop": ("x",), "temperature": 0.7, "top_p": 0.9, "min_p": 0.1, "seed": 3}
    assert decisive(Prompt("", "", (1, 2), 0, 2), drawn) == old
    assert decisive(Prompt("", "", (1, 2), 0, 2), replace(drawn, top_k=4)) == old | {"top_k": 4}


def test_a_long_answer_leaves_no_trace_of_what_has_left_the_window() -> None:
    decoding = Decoding(5000, presence_penalty=1.0, penalty_last_n=3)
    window = Penalties(Prompt("", "", (0,), 0), decoding)
    for step in range(5000):
        window.add((step % 20,))
    changed = np.zeros(WORDS, np.float32)
    window.apply(changed)
    assert np.flatnonzero(changed).tolist() == [17, 18, 19]
