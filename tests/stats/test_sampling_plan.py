"""Plans where answers are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.stats.sampling_plan import SamplingSpread


def draw(items: int, samples: int, seed: int, loss: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong, by a chance of each item's own, from which the quant's differs by `loss` to either side."""
    generator = np.random.default_rng(seed)
    chance = generator.uniform(0.2, 0.8, (items, 1))
    other = chance + loss * generator.choice([-1.0, 1.0], (items, 1))
    return tuple((generator.random((items, samples)) < each).astype(float) for each in (chance, other))  # type: ignore[return-value]


def test_the_two_variances_are_found() -> None:
    # Of a chance p, drawing has the variance p (1 - p): 0.22 on average on either side, less what the loss moves.
    found = SamplingSpread.seen(*draw(40_000, 4, 1, loss=0.2))
    assert found.between == pytest.approx(0.04, abs=0.004)
    assert found.within == pytest.approx(2 * 0.22 - 0.04, abs=0.01)
    same = SamplingSpread.seen(*draw(40_000, 4, 2))
    assert same.between == pytest.approx(0, abs=0.004)
    assert same.within == pytest.approx(0.44, abs=0.01)


def test_draws_with_the_same_random_numbers_differ_less_than_others() -> None:
    generator = np.random.default_rng(3)
    chance, drawn = generator.uniform(0.2, 0.8, (40_000, 1)), generator.random((40_000, 4))
    found = SamplingSpread.seen((drawn < chance).astype(float), (drawn < chance + 0.1).astype(float))
    # Every difference is one that the 0.1 makes.
    assert found.within == pytest.approx(0.09, abs=0.005)
    assert found.between == pytest.approx(0, abs=0.005)


@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 1000))
def test_what_is_planned_for_the_answers_that_were_seen_is_what_was_seen(items: int, samples: int, seed: int) -> None:
    before, after = draw(items, samples, seed)
    found = SamplingSpread.seen(before, after)
    seen = (before.mean(axis=1) - after.mean(axis=1)).var(ddof=1)
    assert found.between + found.within / samples == pytest.approx(max(seen, found.within / samples))
    variances = [found.at(k).variance for k in (1, 2, 4, 8)]
    assert variances == sorted(variances, reverse=True)
    needed = [found.at(k).items_to_show(0.05, power=0.8, alpha=0.05) for k in (1, 4, 16)]
    assert needed == sorted(needed, reverse=True)


def test_one_answer_or_one_item_says_nothing_of_both() -> None:
    for shape in ((5, 1), (1, 5)):
        with pytest.raises(ValueError, match="items by answers"):
            SamplingSpread.seen(np.zeros(shape), np.zeros(shape))
    with pytest.raises(ValueError, match="items by answers"):
        SamplingSpread.seen(np.zeros((3, 2)), np.zeros((3, 4)))
