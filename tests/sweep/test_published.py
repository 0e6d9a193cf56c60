"""`stats=published` gives the published table of paired differences, on counts reconstructed from it.

Each task and quant has 600 pooled answers (200 items under each of the seeds 0, 1 and 2). b answers are right under
Q8_0 alone, c under the quant alone; the pairs (b, c) are the ones whose bootstrap law gives the published intervals.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hydra import compose
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console
from tests.support.composing import initialize_hydra
from tests.support.published import ITEMS, PUBLISHED, SEEDS, WITH_TIES, Cell, N, format_p, published_answers

from quantexp.comparison.pairing import summarise
from quantexp.comparison.summary import Summary
from quantexp.config import AggregateConfig, Method, StatsConfig, TrackingConfig, Unit
from quantexp.config.validation import validated
from quantexp.report.markdown import report_markdown
from quantexp.report.tables import comparisons_table, conditions_table
from quantexp.report.terminal import comparison_table
from quantexp.stats import PairedComparison
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import IDENTITY

METRICS = {
    "completion_tokens": 30.0, "run.tokens_per_second": 10.0, "model_bytes": 1000.0, "items": 200.0,
    "items_not_asked": 0.0, "items_cut_at_max_tokens": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def published() -> Iterator[StatsConfig]:
    """What `stats=published` composes to."""
    with initialize_hydra():
        yield validated(compose("aggregate", ["stats=published"]), AggregateConfig).stats


def record(quant: str, scores: Mapping[str, float], *, seed: int = 0, task: str = "t") -> JobRecord:
    tags = dict.fromkeys(("quantexp.version", "quantexp.commit", "quantexp.dirty", "host.processor"), "x")
    tags |= {"model": "m", "quant": quant, "task": task, "data": "set", "seed": str(seed), "engine.system": "x"}
    name = f"{quant} {task} seed {seed}"
    bits = {"Q8_0": 8.5, "Q5_K_M": 5.7, "Q4_K_M": 4.9}.get(quant, 3.9)
    return JobRecord(
        run_id=name,
        name=name,
        started=0,
        tags=tags,
        params={"file.sha256": f"sha of {quant}", "model.note": ""},
        metrics=METRICS | {"bits_per_weight": bits},
        identity={"model": {"name": "m"}, "data": {"name": "set"}, "grader": {"id": "g-v1"}, "settings": {}},
        scores=pd.Series(dict(scores), dtype=float),
    )


@pytest.fixture(scope="module")
def records() -> list[JobRecord]:
    """4 quants x 2 tasks x 3 seeds, the changed answers shuffled among the 600."""
    jobs = []
    for task, answers in published_answers().items():
        for quant_name, correct in answers.items():
            for seed in range(SEEDS):
                scores = {f"i{item:03}": float(correct[SEEDS * item + seed]) for item in range(ITEMS)}
                jobs.append(record(quant_name, scores, seed=seed, task=task))
    return jobs


@pytest.fixture(scope="module")
def summary(records: list[JobRecord], published: StatsConfig) -> Summary:
    return summarise(records, [], published, "title")


def differences(summary: Summary) -> dict[tuple[str, str], PairedComparison]:
    return {(each.task, each.quant): each.difference for each in summary.comparisons}


def exact_law(b: int, c: int) -> NDArray[np.float64]:
    """P(sum of 600 resampled differences = s), s = -600..600: one draw's generating function to the power 600."""
    one = np.zeros(2 * N + 1)
    one[[0, 1, -1]] = (N - b - c) / N, b / N, c / N
    return np.roll(np.fft.ifft(np.fft.fft(one) ** N).real, N)


SUMS = np.arange(-N, N + 1)


def exact_ends(law: NDArray[np.float64]) -> tuple[int, int]:
    """The 95% percentile interval of the sum."""
    low, high = SUMS[np.searchsorted(np.cumsum(law), [0.025, 0.975])].tolist()
    return low, high


def exact_p(law: NDArray[np.float64], ties: float = 1.0) -> float:
    """The two-sided p with this share of the ties on both sides."""
    tied = ties * law[SUMS == 0].sum()
    return float(min(1.0, 2 * min(law[SUMS < 0].sum() + tied, law[SUMS > 0].sum() + tied)))


def monte_carlo(p: float) -> float:
    """Standard deviation of a two-sided p from 10,000 resamples."""
    return float(2 * np.sqrt(p / 2 * (1 - p / 2) / 10_000))


@pytest.mark.parametrize("cell", PUBLISHED, ids=lambda cell: f"{cell.task}-{cell.quant}")
def test_the_published_table_to_its_printed_digits(cell: Cell, summary: Summary) -> None:
    found = differences(summary)[cell.task, cell.quant]
    assert (found.n, found.changed) == (N, cell.b + cell.c)
    assert found.difference == pytest.approx((cell.b - cell.c) / N, abs=1e-15)
    assert (f"{found.low:.3f}", f"{found.high:.3f}") == (cell.low, cell.high)
    assert format_p(found.p_value) == WITH_TIES.get((cell.task, cell.quant), cell.p)


@pytest.mark.parametrize("cell", PUBLISHED, ids=lambda cell: f"{cell.task}-{cell.quant}")
def test_the_exact_law_gives_the_same_table(cell: Cell, summary: Summary) -> None:
    law = exact_law(cell.b, cell.c)
    low, high = exact_ends(law)
    assert (f"{low / N:.3f}", f"{high / N:.3f}") == (cell.low, cell.high)
    assert format_p(exact_p(law)) == WITH_TIES.get((cell.task, cell.quant), cell.p)
    found = differences(summary)[cell.task, cell.quant]
    assert abs(found.p_value - exact_p(law)) <= 5 * monte_carlo(exact_p(law))
    assert abs(found.low * N - low) <= 1.001
    assert abs(found.high * N - high) <= 1.001


def test_no_definition_of_p_gives_the_whole_table() -> None:
    def missed(p_of: Callable[[NDArray[np.float64], Cell], float]) -> set[tuple[str, str]]:
        """The cells whose printed p lies more than three standard deviations of the Monte Carlo from the exact one."""
        cells = set()
        for cell in PUBLISHED:
            p = p_of(exact_law(cell.b, cell.c), cell)
            rounding = 0.0005 if float(cell.p) < 0.05 else 0.005
            if abs(p - float(cell.p)) > rounding + 3 * monte_carlo(p):
                cells.add((cell.task, cell.quant))
        return cells

    def shifted(law: NDArray[np.float64], cell: Cell) -> float:
        """As far from the observed difference as 0 is, or further."""
        observed = cell.b - cell.c
        return float(law[np.abs(SUMS - observed) >= abs(observed)].sum())

    assert missed(lambda law, _: exact_p(law)) == {("triviaqa", "Q4_K_M")}
    assert missed(shifted) == {("triviaqa", "Q4_K_M")}
    assert missed(lambda law, _: exact_p(law, ties=0.5)) == {("gsm8k", "Q5_K_M"), ("triviaqa", "Q5_K_M")}
    assert len(missed(lambda law, _: exact_p(law, ties=0.0))) > 1


def test_scores_are_pooled_over_the_same_600_answers(summary: Summary) -> None:
    of_quant = {(each.task, each.quant): each for each in summary.conditions}
    for (task, _), each in of_quant.items():
        assert (each.estimate.n, each.items, each.repeats) == (N, ITEMS, SEEDS), task
    # At 600 answers near a half the percentile interval is Wilson's to within an answer or two.
    for quant, right, low, high in (("Q8_0", 292, 0.447, 0.527), ("Q3_K_M", 273, 0.416, 0.495)):
        estimate = of_quant["triviaqa", quant].estimate
        assert estimate.mean == right / N
        assert estimate.low == pytest.approx(low, abs=0.004)
        assert estimate.high == pytest.approx(high, abs=0.004)


def test_a_reader_is_told_what_n_is_and_what_is_wrong_with_it(summary: Summary, records: list[JobRecord]) -> None:
    def printed(of: Summary) -> str:
        file = io.StringIO()
        Console(file=file, width=160).print(comparison_table(of, 160))
        return " ".join(file.getvalue().split())

    default = summarise(records, [], StatsConfig(resamples=100), "title")
    [note] = summary.notes
    assert note == (
        "n is the number of answers, each answer counted as independent (stats.unit=answer): 600 answers to 200 items "
        "on gsm8k, 600 answers to 200 items on triviaqa.\nWhere items repeat, the intervals are too narrow and p is "
        "too small; stats.unit=item counts an item once."
    )
    independent = "each answer counted as independent"
    for text in (printed(summary), report_markdown(summary), summary.protocol["statistics"]):
        assert independent in text
        assert "over answers" in text
        assert "over items" not in text
        assert "counts once, with its mean score" not in text
    assert "n=600 answers" in printed(summary)
    assert "Lost: answers on which the baseline scores higher" in report_markdown(summary)
    for text in (printed(default), report_markdown(default), default.protocol["statistics"]):
        assert independent not in text
        assert "over items" in text
        assert "over answers" not in text
    assert "n=200 " in printed(default)
    for write in (comparisons_table, conditions_table):
        for of, unit, n in ((summary, "answer", "600"), (default, "item", "200")):
            rows = list(csv.DictReader(io.StringIO(write(of).format_csv())))
            assert {(row["unit"], row["n"]) for row in rows} == {(unit, n)}


def test_the_command_gives_the_same_numbers_from_a_real_store(
    records: list[JobRecord], summary: Summary, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    store = Store(TrackingConfig(str(tmp_path / "mlruns")))
    with store.start("a sweep", "sweep", None, {}) as sweep:
        for each in records:
            identity = {IDENTITY + aspect: json.dumps(entries) for aspect, entries in each.identity.items()}
            kept = ("model", "quant", "task", "data", "seed", "engine.system")
            tags = {key: each.tags[key] for key in kept} | identity
            with store.start(each.name, "job", sweep.id, tags) as run:
                run.log(params=each.params, metrics={**each.metrics, "score": float(each.scores.mean())})
                ids = each.scores.index
                told = dict.fromkeys(("prompt", "output", "reference", "extracted", "grading_error"), "x")
                answers = {"item_id": ids, "cluster": ids, "sample": 0, "score": each.scores.to_numpy()} | told
                run.log_items(pd.DataFrame(answers))
    status, out, err = command(tmp_path, "quantexp.aggregate", "stats=published")
    assert status == 0, err
    assert "n=600 answers" in out
    [written] = (tmp_path / "multirun").glob("*/*-aggregate/report/comparisons.csv")
    flips = ("answers_lost", "answers_gained", "both_wrong_different", "churn")  # of answers, which a summary has not
    found, expected = (
        [{key: cell for key, cell in row.items() if key not in flips} for row in csv.DictReader(io.StringIO(text))]
        for text in (written.read_text(), comparisons_table(summary).format_csv())
    )
    assert sorted(found, key=str) == sorted(expected, key=str)
    counts = {(row["task"], row["quant"]): row for row in csv.DictReader(io.StringIO(written.read_text()))}
    for cell in PUBLISHED:
        row = counts[cell.task, cell.quant]
        assert (int(row["answers_lost"]), int(row["answers_gained"])) == (cell.b, cell.c)


def compared(unit: Unit, *jobs: JobRecord, resamples: int = 200, method: Method = Method.default) -> Summary:
    return summarise(jobs, [], StatsConfig(resamples=resamples, unit=unit, method=method), "title")


def split(rows: Mapping[str, tuple[int, float, float]]) -> list[JobRecord]:
    """A job a quant and seed, of items with their one seed, score under Q8_0 and score under Q4."""
    jobs = []
    for seed in sorted({seed for seed, _, _ in rows.values()}):
        for quant, position in (("Q8_0", 1), ("Q4", 2)):
            scores = {item: float(row[position]) for item, row in rows.items() if row[0] == seed}
            jobs.append(record(quant, scores, seed=seed))
    return jobs


once_answered = st.tuples(st.integers(0, 11), st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=40)
@given(st.dictionaries(st.text(min_size=1), once_answered, min_size=1))
def test_without_repeats_the_unit_makes_no_difference(rows: dict[str, tuple[int, float, float]]) -> None:
    jobs = split(rows)
    by_item, by_answer = compared(Unit.item, *jobs), compared(Unit.answer, *jobs)
    assert by_answer.comparisons == by_item.comparisons
    assert by_answer.conditions == by_item.conditions


@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(60, 200))
def test_three_copies_of_each_item_make_the_interval_narrower_by_the_root_of_three(random: int, items: int) -> None:
    rng = np.random.default_rng(random)
    jobs = []
    for quant in ("Q8_0", "Q4"):
        scores = {f"i{item:03}": float(score) for item, score in enumerate(rng.random(items))}
        jobs += [record(quant, scores, seed=seed) for seed in range(SEEDS)]
    options: Any = {"resamples": 10_000, "method": Method.bootstrap}
    [by_item] = compared(Unit.item, *jobs, **options).comparisons
    [by_answer] = compared(Unit.answer, *jobs, **options).comparisons
    one, other = by_item.difference, by_answer.difference
    assert (one.n, other.n) == (items, 3 * items)
    assert other.difference == pytest.approx(one.difference, abs=1e-12)
    assert (one.high - one.low) / (other.high - other.low) == pytest.approx(np.sqrt(3), rel=0.08)
    assert other.p_value <= one.p_value + 5 * monte_carlo(one.p_value)


def test_an_answer_is_paired_with_the_one_to_the_same_item_under_the_same_seed() -> None:
    def of(quant: str, *seeds: Sequence[float]) -> list[JobRecord]:
        return [record(quant, dict(zip("ab", scores, strict=True)), seed=seed) for seed, scores in enumerate(seeds)]

    summary = compared(Unit.answer, *of("Q8_0", (1, 0), (0, 1)), *of("Q4", (0, 0)))
    [comparison] = summary.comparisons
    assert (comparison.difference.n, comparison.difference.difference) == (2, 0.5)
    assert "Compared on the answers given under both quants, which are not all: Q4 on t on 2 of 4." in summary.notes
    apart = compared(Unit.answer, record("Q8_0", {"a": 1.0}, seed=0), record("Q4", {"a": 1.0}, seed=1))
    assert apart.comparisons == ()
    assert "have no answer in common: run both with the same seed" in apart.refusals[0]
    assert len(compared(Unit.item, record("Q8_0", {"a": 1.0}), record("Q4", {"a": 1.0}, seed=1)).comparisons) == 1
