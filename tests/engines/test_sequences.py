"""Sequences, where they are cut, and where two answers part."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.engines.llama_cpp.teacher_forcing import calls
from quantexp.engines.sequences import TokenSequence, first_divergence, hash_sequences
from quantexp.evaluation.kl_divergence.reference import predicted_bytes


@pytest.mark.parametrize(
    ("a", "b", "index"),
    [
        ((1, 2, 3), (1, 2, 3), None),
        ((), (), None),
        ((1, 2, 3), (1, 5, 3), 1),
        ((4,), (5,), 0),
        ((1, 2), (1, 2, 3), 2),
        ((1, 2, 3), (), 0),
    ],
)
def test_first_divergence(a: tuple[int, ...], b: tuple[int, ...], index: int | None) -> None:
    assert first_divergence(a, b) == first_divergence(b, a) == index


@pytest.mark.parametrize("first", [-1, 0, 3, 4])
def test_a_sequence_scores_something_that_is_predicted(first: int) -> None:
    with pytest.raises(ValueError, match=r"first must be in 1 \.\.\. 2"):
        TokenSequence((5, 6, 7), first)


def test_sequences_are_told_apart() -> None:
    one, other = TokenSequence((1, 2, 3), 1), TokenSequence((1, 2, 3), 2)
    assert hash_sequences([one]) == hash_sequences([TokenSequence((1, 2, 3), 1)])
    assert len({hash_sequences(each) for each in ([one], [other], [one, other], [other, one])}) == 4


@given(length=st.integers(2, 3000), first_row=st.integers(0, 2999), most=st.integers(3, 512))
def test_calls_hold_what_they_may(length: int, first_row: int, most: int) -> None:
    first_row = min(first_row, length - 2)
    found = calls(length, first_row, most)
    assert [token for start, end in found for token in range(start, end)] == list(range(length))
    for start, end in found:
        assert 1 < end - start <= 512
        assert max(0, end - max(start, first_row)) <= most


def test_bytes_are_predicted_from_tokens() -> None:
    assert predicted_bytes(2000) == 2 * predicted_bytes(1000)
