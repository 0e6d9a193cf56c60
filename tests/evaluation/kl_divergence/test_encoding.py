"""Encoded distributions against whole ones, on made-up logits of every shape."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantexp.evaluation.kl_divergence.encoding import STEP, TAU, ReferenceRows, encode
from quantexp.evaluation.kl_divergence.measures import measure
from quantexp.util.errors import UserError

Floats = NDArray[np.float32]


def logits(seed: int, rows: int, columns: int, spread: float) -> Floats:
    """Like a model's: a few likely tokens and a long tail."""
    rng = np.random.default_rng(seed)
    return (rng.gumbel(0.0, spread, (rows, columns)) + rng.normal(0.0, 5.0, (rows, 1))).astype(np.float32)


def changed(baseline: Floats, seed: int, size: float) -> Floats:
    """As a quant changes them."""
    return baseline + np.random.default_rng(seed + 1).normal(0.0, size, baseline.shape).astype(np.float32)


def log_softmax(values: Floats) -> NDArray[np.float64]:
    shifted = values.astype(np.float64) - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def full_divergence(baseline: Floats, quant: Floats) -> NDArray[np.float64]:
    p, q = log_softmax(baseline), log_softmax(quant)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=1))


def tokens(seed: int, rows: int, columns: int) -> NDArray[np.int32]:
    return np.random.default_rng(seed + 2).integers(0, columns, rows).astype(np.int32)


shapes = {
    "seed": st.integers(0, 2**32),
    "rows": st.integers(1, 9),
    "columns": st.integers(2, 700),
    "spread": st.floats(0.0, 12.0),
}


@given(**shapes)
def test_a_model_does_not_differ_from_itself(seed: int, rows: int, columns: int, spread: float) -> None:
    values = logits(seed, rows, columns, spread)
    actual = tokens(seed, rows, columns)
    found = measure(encode(values, actual), values)
    np.testing.assert_allclose(found.divergence, 0.0, atol=1e-5)
    assert found.same_top.all()
    np.testing.assert_allclose(found.baseline_logprob, found.quant_logprob, atol=1e-4, rtol=1e-6)


@given(**shapes, size=st.floats(0.0, 20.0))
def test_a_divergence_is_never_negative_and_a_log_probability_is_the_tokens_own(
    seed: int, rows: int, columns: int, spread: float, size: float
) -> None:
    values = logits(seed, rows, columns, spread)
    quant, actual = changed(values, seed, size), tokens(seed, rows, columns)
    found = measure(encode(values, actual), quant)
    assert np.isfinite(found.divergence).all()
    assert found.divergence.min() >= -1e-6
    places = np.arange(rows)
    np.testing.assert_allclose(found.baseline_logprob, log_softmax(values)[places, actual], atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(found.quant_logprob, log_softmax(quant)[places, actual], atol=1e-4, rtol=1e-5)
    np.testing.assert_array_equal(found.same_top, values.argmax(axis=1) == quant.argmax(axis=1))


@given(**shapes)
def test_where_every_token_is_kept_only_rounding_is_lost(seed: int, rows: int, columns: int, spread: float) -> None:
    values = logits(seed, rows, columns, spread)
    quant = changed(values, seed, 0.3)
    found = measure(encode(values, tokens(seed, rows, columns), tau=127.0), quant).divergence
    # A log-probability is off by half a step at most, and what that weighs is how much the two differ.
    np.testing.assert_allclose(found, full_divergence(values, quant), atol=2 * STEP, rtol=0.01)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32), spread=st.floats(0.8, 2.5), size=st.floats(0.05, 1.0))
def test_the_sample_makes_up_for_what_is_not_kept(seed: int, spread: float, size: float) -> None:
    values = logits(seed, 250, 3000, spread)
    quant = changed(values, seed, size)
    full = full_divergence(values, quant)
    found = measure(encode(values, tokens(seed, 250, 3000)), quant).divergence
    assert found.mean() == pytest.approx(full.mean(), rel=0.02)
    assert np.corrcoef(found, full)[0, 1] > 0.9 or np.ptp(full) < 0.2 * full.mean()


def test_without_the_sample_much_would_be_missing() -> None:
    """So the test above shows something."""
    values = logits(0, 250, 3000, 1.2)
    quant = changed(values, 0, 0.5)
    reference = encode(values, tokens(0, 250, 3000))
    p, q = log_softmax(values), log_softmax(quant)
    kept = p > p.max(axis=1, keepdims=True) - TAU
    assert np.diff(reference.offsets) == pytest.approx(kept.sum(axis=1), abs=2)
    r, s = (np.where(kept, 0, np.exp(each)).sum(axis=1) for each in (p, q))
    bucket = np.where(kept, np.exp(p) * (p - q), 0).sum(axis=1) + r * np.log(r / s)
    full = full_divergence(values, quant)
    assert bucket.mean() < 0.9 * full.mean()
    assert measure(reference, quant).divergence.mean() == pytest.approx(full.mean(), rel=0.02)


@given(**shapes)
@example(seed=24862, rows=6, columns=2, spread=6.0)  # a stride that ended on the kept token
def test_a_place_is_encoded_and_measured_as_if_it_were_alone(seed: int, rows: int, columns: int, spread: float) -> None:
    values, actual = logits(seed, rows, columns, spread), tokens(seed, rows, columns)
    quant = changed(values, seed, 0.5)
    together = encode(values, actual)
    alone = ReferenceRows.join([encode(values[i : i + 1], actual[i : i + 1]) for i in range(rows)])
    for name in ("ids", "steps", "offsets", "top", "logprob", "rest"):
        np.testing.assert_array_equal(getattr(together, name), getattr(alone, name))
    np.testing.assert_allclose(
        measure(together, quant).divergence, measure(alone, quant).divergence, rtol=1e-3, atol=1e-6
    )


def test_tokens_that_are_impossible_are_no_obstacle() -> None:
    values = np.full((2, 100), -np.inf, np.float32)
    values[:, 3:6] = (0.0, -1.0, -7.0)
    quant = values.copy()
    quant[1, 5] = -np.inf  # the baseline's unlikely token
    found = measure(encode(values, np.array([4, 5], np.int32)), quant)
    assert found.divergence[0] == pytest.approx(0.0, abs=1e-6)
    assert 0.1 < found.divergence[1] < 1.0  # probability .0007 times 708 nats
    assert np.isfinite(found.quant_logprob).all()


def test_logits_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="not numbers"):
        encode(np.full((1, 5), np.nan, np.float32), np.zeros(1, np.int32))


def test_parts_are_views_of_the_whole() -> None:
    values = logits(0, 6, 50, 2.0)
    whole = encode(values, tokens(0, 6, 50))
    again = ReferenceRows.join([whole.part(slice(0, 2)), whole.part(slice(2, 3)), whole.part(slice(3, 6))])
    for name in whole.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(again, name))
