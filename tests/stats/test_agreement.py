"""Agreement of verdicts with labels against statsmodels, and thresholds against every other one."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from quantexp.stats import agreement, choose_threshold, wilson_interval

PAIRS = st.lists(st.tuples(st.sampled_from([True, False, None]), st.booleans()), min_size=2, max_size=60)


@given(PAIRS)
def test_kappa_and_its_error_are_those_of_statsmodels(pairs: list[tuple[bool | None, bool]]) -> None:
    verdicts, labels = [verdict for verdict, _ in pairs], [label for _, label in pairs]
    found = agreement(verdicts, labels)
    right = sum(verdict == label for verdict, label in pairs)
    assert found.accuracy == right / len(pairs)
    assert (found.accuracy_low, found.accuracy_high) == wilson_interval(right, len(pairs))
    assume(len(set(verdicts)) > 1 and len(set(labels)) > 1 and 0 < right < len(pairs))
    names = [True, False, None]
    table = np.array([[sum(pair == (one, other) for pair in pairs) for other in names] for one in names])
    known = cohens_kappa(table)
    assert found.kappa == pytest.approx(known.kappa, abs=1e-12)
    half = 1.959963984540054 * known.std_kappa
    assert found.kappa_low == pytest.approx(max(-1, known.kappa - half), abs=1e-9)
    assert found.kappa_high == pytest.approx(min(1, known.kappa + half), abs=1e-9)
    assert found.kappa_low <= found.kappa <= found.kappa_high


def test_labels_that_are_all_the_same_leave_nothing_to_chance() -> None:
    found = agreement([True] * 4, [True] * 4)
    assert (found.accuracy, math.isnan(found.kappa)) == (1, True)


@given(st.lists(st.tuples(st.floats(-1, 1, width=16), st.booleans()), min_size=1, max_size=30))
def test_no_threshold_meets_more_labels(pairs: list[tuple[float, bool]]) -> None:
    scores, labels = (np.array(column) for column in zip(*pairs, strict=True))
    chosen = choose_threshold(scores, labels)
    met = ((scores >= chosen) == labels).sum()
    assert all(met >= ((scores >= other) == labels).sum() for other in [*scores, -2.0, 2.0])


def test_a_threshold_lies_between_the_two_kinds() -> None:
    assert choose_threshold([0.1, 0.2, 0.8, 0.9], [False, False, True, True]) == 0.5


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 verdicts and 2 labels"):
        agreement([True], [True, False])
    with pytest.raises(ValueError, match="1 scores and 2 labels"):
        choose_threshold([0.5], [True, False])
