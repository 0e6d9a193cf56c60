"""`python -m quantexp.plan`: the published table, what it takes from a sweep, what it refuses, and what it leaves."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose
from tests.support.composing import initialize_hydra
from tests.support.forking import Ended, Forker

from quantexp.config import PlanConfig, TrackingConfig
from quantexp.config.validation import validated
from quantexp.plan import plan
from quantexp.stats import required_items, required_items_within
from quantexp.stats.gaffke import bounded_mean_share
from quantexp.stats.planning import Spread
from quantexp.tracking.store import Store
from quantexp.util.errors import UserError

DETECTABLE = {
    100: ("-", "-", "8.24"),
    200: ("-", "4.13", "6.05"),
    300: ("-", "3.45", "5.04"),
    400: ("1.83", "3.03", "4.36"),
    500: ("1.66", "2.74", "3.90"),
    600: ("1.53", "2.52", "3.57"),
    800: ("1.34", "2.18", "3.11"),
    1000: ("1.21", "1.95", "2.78"),
    1319: ("1.07", "1.71", "2.43"),
    1500: ("1.01", "1.61", "2.28"),
    2000: ("0.87", "1.39", "1.97"),
}
"""The smallest drop in points that n items find if 2%, 5% or 10% of them change; 80% power, 5% two-sided."""

MEASURE = "The cost is measured by: python -m quantexp -m quant=Q8_0,Q4_K_M task=gsm8k\n"

Printed = Callable[..., str]


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """What a plan prints in an empty folder, or in that of a store."""
    monkeypatch.setenv("COLUMNS", "80")

    def of(*overrides: str, folder: Path = tmp_path) -> str:
        with initialize_hydra():
            composed = compose("plan", [*overrides, f"tracking.folder={folder / 'mlruns'}"])
        plan(validated(composed, PlanConfig))
        out = capsys.readouterr().out
        assert max(len(line) for line in out.splitlines()) <= 80
        return out

    return of


@pytest.fixture
def typed(forker: Forker, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ended]:
    """Run `python -m quantexp.plan ARGUMENTS...` in an empty folder."""
    files = tmp_path_factory.mktemp("files")
    return partial(forker.run, tmp_path, "quantexp.plan", environment={"COLUMNS": "80"}, files=files)


def numbers_in(out: str) -> dict[str, list[str]]:
    """The cells of each row after its first word."""
    rows = [line.split() for line in out.splitlines()]
    return {cells[0]: cells[1:] for cells in rows if cells}


def assert_is_the_table(out: str, column: int) -> None:
    rows = numbers_in(out)
    for n, expected in DETECTABLE.items():
        found = rows[f"{n:,}"][0]
        if expected[column] == "-":
            assert found == "-"
        else:
            assert float(found) == pytest.approx(float(expected[column]), abs=0.0101)  # both are rounded
            assert re.fullmatch(r"\d\.\d\d", found)


def test_the_command_prints_the_published_table_and_leaves_nothing(tmp_path: Path, typed: Callable[..., Ended]) -> None:
    ended = typed("changed=0.05")
    assert (ended.status, ended.err) == (0, "")
    assert_is_the_table(ended.out, 1)
    assert "find a drop of 2.0     950" in ended.out
    assert "show less than 2.0     810" in ended.out
    assert ended.out.endswith(MEASURE)
    assert "\x1b" not in ended.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "column", "find", "show"), [("0.02", 0, "335", "401"), ("0.1", 2, "1,949", "1,565")]
)
def test_the_published_table(printed: Printed, changed: str, column: int, find: str, show: str) -> None:
    out = printed(f"changed={changed}")
    assert_is_the_table(out, column)
    assert re.search(rf"find a drop of 2\.0 +{find} ", out)
    assert re.search(rf"show less than 2\.0 +{show} ", out)
    assert ("- under smallest drop: none" in out) == (changed == "0.02")


def test_a_number_of_items_in_mind(printed: Printed, tmp_path: Path) -> None:
    out = printed("changed=0.05", "items=600", "sweep=null")
    assert numbers_in(out)["600"] == ["2.52", "68%"]
    assert "1,319" not in out
    assert list(tmp_path.iterdir()) == []


def test_a_family_and_a_level_and_a_power_and_a_margin(printed: Printed) -> None:
    out = printed("changed=0.05", "family=9", "alpha=0.1", "power=0.9", "margin=0.015")
    find = required_items(0.015, 0.05, power=0.9, alpha=0.1 / 9)
    show = required_items_within(0.015, 0.05, power=0.9, alpha=0.1)
    assert re.search(rf"find a drop of 1\.5 +{find:,} ", out)
    assert re.search(rf"show less than 1\.5 +{show:,} ", out)
    assert out.startswith("A margin of 1.5 points, 90% power, alpha 0.1, one of 9 comparisons\n")
    assert "two-sided at 0.1 / 9." in " ".join(out.split())


def test_a_drop_that_cannot_be_is_a_dash(printed: Printed) -> None:
    out = printed("changed=0.01", "items=600")
    assert re.search(r"find a drop of 2\.0 +- ", out)
    assert "- under items: less than 2.0% of the items change" in out
    assert "- under items" not in printed("changed=0.02", "items=600")


def test_millions_of_items_take_no_time(printed: Printed) -> None:
    out = printed("changed=0.05", "margin=0.00001", "items=1000000000")
    [found] = re.findall(r"find a drop of 0\.001 +([\d,]+) ", out)
    assert int(found.replace(",", "")) == required_items(0.00001, 0.05, exact=False)
    # 2.80 * sqrt(0.05 / 1e9) = 0.00002 = 0.002 points
    assert numbers_in(out)["1,000,000,000"][0] == "0.00"


def test_graded_scores_are_planned_by_their_bound() -> None:
    spread = Spread(0.09, graded=True)
    # The normal law says 1,766 and 1,392; what may be unseen takes some 2 / 0.02 more.
    assert spread.items_to_find(0.02, power=0.8, alpha=0.05) == pytest.approx(1766 + 100, abs=20)
    assert spread.items_to_show(0.02, power=0.8, alpha=0.05) == pytest.approx(1392 + 100, abs=20)
    for n in (150, 1392):
        assert spread.items_to_find(spread.smallest_drop(n, power=0.8, alpha=0.05) or 0, power=0.8, alpha=0.05) == (
            pytest.approx(n, abs=2)
        )
    assert spread.chance_to_show(spread.items_to_show(0.02, power=0.8, alpha=0.05), 0.02, alpha=0.05) == pytest.approx(
        0.8, abs=1e-3
    )
    assert spread.smallest_drop(1, power=0.8, alpha=0.05) is None
    # What changes next to nothing still takes the items that can show the margin at all.
    assert Spread(1e-9, graded=True).items_to_show(0.02, power=0.8, alpha=0.05) == pytest.approx(149, abs=2)


@pytest.mark.parametrize("sizes", [[1.0] * 10, [1 / 3] * 30 + [1.0] * 3, [0.05] * 200])
def test_the_planned_items_of_a_graded_pilot_have_their_power(sizes: list[float]) -> None:
    before, after = np.full(400, 0.5), np.full(400, 0.5)
    changes = np.array(sizes) * np.where(np.arange(len(sizes)) % 2, 1, -1)
    before[: changes.size] = 0.5 + changes / 2
    after[: changes.size] = 0.5 - changes / 2
    spread = Spread.seen(before, after)
    n = spread.items_to_show(0.03, power=0.8, alpha=0.05)
    law, counts = np.unique(np.abs(changes), return_counts=True)
    shares = counts * spread.variance / float(counts @ law**2) / 2
    values = np.array([-1.0, *-law[::-1], 0.0, *law, 1.0]) if law[-1] < 1 else np.array([*-law[::-1], 0.0, *law])
    ends = [0.0] if law[-1] < 1 else []
    probabilities = [*ends, *shares[::-1], 1 - 2 * shares.sum(), *shares, *ends]
    drawn = np.random.default_rng(0).multinomial(n, probabilities, 1000)
    assert 0.74 < (bounded_mean_share(values, drawn, 0.03) < 0.05).mean() < 0.93


def test_what_is_seen_is_guarded_against_few_items() -> None:
    one, two = np.ones(38), np.zeros(2)
    right_or_wrong = Spread.seen([*one, *two], np.ones(40))
    assert right_or_wrong == Spread(3 / 42, False, changed=2, n=40)
    assert Spread.seen(one, one).variance == 1 / 40
    # Differences 0.5, 0.5, 0, 0 about 0.25: 4 * 0.0625, and one more change of 0.5² = 0.25.
    assert Spread.seen([0.5, 1.0, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0]) == Spread((0.25 + 0.25) / 6, True, changed=2, n=4)
    assert Spread.seen([0.5, 0.5], [0.5, 0.5]) == Spread(1 / 4, True, changed=0, n=2)
    assert Spread.seen([0.1 + 0.2, 1], [0.3, 1]).changed == 0


def job(
    store: Store,
    sweep: str,
    quant: str,
    scores: Sequence[float],
    *,
    task: str = "t",
    seed: int = 0,
    tokens: int = 100,
    seconds: float = 36,
    generated: int | None = None,
    shots: int = 0,
    samples: int = 1,
) -> None:
    """A finished job that answered items 0, 1, ... of its seed; without `generated` it generated all of them.

    With several samples, the scores are those of the first item's answers, then the second's.
    """
    new = len(scores) if generated is None else generated
    identity: Mapping[str, Mapping[str, object]] = {
        "model": {"name": "m"},
        "prompt": {"shots": shots},
        "grader": {"id": "g-v1"},
    }
    tags = {"model": "m", "quant": quant, "task": task, "data": "d", "seed": str(seed), "engine.system": "x"}
    tags |= {f"identity.{key}": json.dumps(value) for key, value in identity.items()}
    with store.start(f"{quant} {task} seed {seed}", "job", sweep, tags) as run:
        run.log(
            params={"file.sha256": quant},
            metrics={
                "score": 0.5,
                "items": len(scores) // samples,
                "items_not_asked": 0,
                "items_cut_at_max_tokens": 0,
                "completion_tokens": tokens,
                "bits_per_weight": 8.0,
                "model_bytes": 8,
                "run.tokens_per_second": 1,
                "run.wall_seconds": seconds,
                "run.completions_generated": new,
                "run.completions_from_store": len(scores) - new,
            },
        )
        items = [f"{task}-{number // samples}" for number in range(len(scores))]
        sample = [number % samples for number in range(len(scores))]
        run.log_items(pd.DataFrame({"item_id": items, "cluster": items, "sample": sample, "score": scores}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(TrackingConfig(str(tmp_path / "mlruns")))


def opened(store: Store) -> str:
    with store.start("sweep", "sweep", None, {}) as sweep:
        return sweep.id


def test_what_changed_and_what_it_cost_in_made_up_runs(store: Store, printed: Printed) -> None:
    sweep = opened(store)
    right = [1.0] * 8
    # Baseline: 10 tokens and 36 s an item. Seed 1 was in the store: its tokens count, its time does not.
    job(store, sweep, "Q8_0", right, tokens=60, seconds=8 * 36)
    job(store, sweep, "Q8_0", right, seed=1, tokens=100, seconds=1, generated=0)
    # Quant: 20 tokens an item. Half of them were generated, in 4 * 18 s.
    job(store, sweep, "Q4_K_M", [0.0, *right[1:]], tokens=160, seconds=4 * 18, generated=4)
    # Nothing generated: no speed.
    job(store, sweep, "Q3_K_M", right, tokens=80, seconds=1, generated=0)
    out = printed("items=1000", "stats=published")  # the unit is the item, whatever the report counts
    rows = out.splitlines()
    # 1 of 8 changed: (1 + 1) / (8 + 2). 30 tokens and 54 s an item for both quants.
    find, show = required_items(0.02, 0.2), required_items_within(0.02, 0.2)

    def cells(of: str, after: int = 0) -> list[str]:
        [at] = [number for number, row in enumerate(rows) if row.split()[:2] == of.split()]
        return rows[at + after].split()

    expected = ["1", "of", "8", "find", "a", "drop", "of", "2.0", f"{find:,}"]
    assert cells("Q4_K_M 1") == ["Q4_K_M", *expected, f"{30 * find / 1e3:.1f}k", f"{54 * find / 3600:.1f}"]
    expected = ["20.0%", "show", "less", "than", "2.0", f"{show:,}"]
    assert cells("Q4_K_M 1", 1) == [*expected, f"{30 * show / 1e3:.1f}k", f"{54 * show / 3600:.1f}"]
    assert cells("Q4_K_M 1,000")[-2:] == ["30.0k", "15.0"]
    assert cells("Q3_K_M 0")[1:4] == ["0", "of", "8"]
    assert cells("Q3_K_M 0", 1)[0] == "10.0%"
    assert cells("Q3_K_M 1,000")[-2:] == ["20.0k", "-"]
    assert "- under hours: all answers came from the completion store" in out
    assert "measured by" not in out


def test_an_item_under_several_seeds_counts_once(store: Store, printed: Printed) -> None:
    sweep = opened(store)
    for seed in (0, 1):
        job(store, sweep, "Q8_0", [1.0, 1.0, 0.0], seed=seed)
        job(store, sweep, "Q4_K_M", [0.0, 1.0, 0.0], seed=seed)
    assert re.search(r"Q4_K_M +1 of 3 ", printed())


def test_more_items_or_more_answers_to_each(store: Store, printed: Printed) -> None:
    with store.start("a sweep", "sweep", None, {}) as run:
        pass
    noisy = [float(number % 2) for number in range(80)]
    job(store, run.id, "Q8_0", noisy, samples=2)
    job(store, run.id, "Q4_K_M", noisy[::-1], samples=2)
    out = printed("margin=0.05")
    found = re.findall(r"^ +(?:Q4_K_M +)?(\d+) +([\d,]+) +[\d,]+ +\S+k +\S+ *$", out, re.MULTILINE)
    rows = {int(answers): int(items.replace(",", "")) for answers, items in found}
    assert list(rows) == [1, 2, 4, 8, 16]
    # Each item has one right and one wrong answer on both sides: all that differs is what was drawn.
    assert rows[1] > 1.8 * rows[2] > 3 * rows[4]
    assert "answers to an item: what shows less than 5" in out


def test_graded_scores_are_marked_and_one_that_was_not_asked_does_not_count(store: Store, printed: Printed) -> None:
    sweep = opened(store)
    job(store, sweep, "Q8_0", [0.5, 1.0, 0.5, 0.0, float("nan")])
    job(store, sweep, "Q4_K_M", [0.0, 0.5, 0.5, 0.0, 1.0])
    out = printed()
    # sd = sqrt(0.5 / 6), see above
    spread = Spread(0.5 / 6, graded=True)
    find, show = (each(0.02, power=0.8, alpha=0.05) for each in (spread.items_to_find, spread.items_to_show))
    assert re.search(rf"Q4_K_M +2 of 4 +find a drop of 2\.0 +{find:,} ", out)
    assert re.search(rf" sd 0\.29\* +show less than 2\.0 +{show:,} ", out)
    assert "* Graded scores: what Gaffke's bound takes" in out
    assert "* Graded" not in printed("changed=0.05")


def test_a_guess_replaces_what_was_seen_and_keeps_the_cost(store: Store, printed: Printed) -> None:
    sweep = opened(store)
    job(store, sweep, "Q8_0", [1.0] * 10, tokens=100, seconds=18)
    job(store, sweep, "Q4_K_M", [1.0] * 10, tokens=100, seconds=18)
    out = printed("changed=0.05")
    # 20 tokens and 3.6 s an item, 950 items
    assert re.search(r"Q4_K_M +given +find a drop of 2\.0 +950 +19\.0k +0\.9 *\n +5\.0% ", out)
    assert_is_the_table(out, 1)
    assert printed("changed=0.05", "sweep=null").endswith(MEASURE)


def test_what_does_not_count_is_named(store: Store, printed: Printed) -> None:
    sweep = opened(store)
    job(store, sweep, "Q8_0", [1.0, 1.0])
    job(store, sweep, "Q4_K_M", [1.0, 0.0])
    job(store, sweep, "Q3_K_M", [1.0, 0.0], shots=2)
    with (
        pytest.raises(UserError),
        store.start("Q2_K t seed 0", "job", sweep, {}),
    ):
        raise UserError("broke.")
    out = " ".join(printed().split())
    assert "Left out: Q3_K_M of m on t" in out
    assert "prompt.shots is 2 here and 0 there" in out
    assert "Left out: Q2_K t seed 0: broke." in out


def test_the_latest_sweep_is_taken_unless_another_is_named(store: Store, printed: Printed) -> None:
    first, second = opened(store), opened(store)
    for sweep, quant in ((first, "Q5_K_M"), (second, "Q4_K_M")):
        job(store, sweep, "Q8_0", [1.0])
        job(store, sweep, quant, [1.0])
    assert "Q4_K_M" in printed()
    assert "Q5_K_M" in printed(f"sweep={first}")
    assert re.search(r"  Q8_0 +0 of 1", printed(f"sweep={first}", "stats.baseline=Q5_K_M"))


def test_the_estimate_from_a_real_sweep(swept: Path, printed: Printed) -> None:
    artifacts = swept / "mlruns" / "artifacts"
    before = sorted(artifacts.rglob("*"))
    out = printed(folder=swept)
    found = Store(TrackingConfig(str(swept / "mlruns")))
    records = {(record.tags["task"], record.tags["quant"]): record for record in found.jobs_of(found.latest_sweep())[0]}
    for task in ("triviaqa", "extraction"):
        high, low = records[task, "Q8_0"], records[task, "Q3_K_M"]
        changed = int((high.scores != low.scores).sum())
        block = out.partition(f" {task} ")[2].split("find", 1)
        assert block[0].split() == ["Q3_K_M", str(changed), "of", "3"]
        items, tokens, hours = block[1].split()[4:7]
        if task == "triviaqa":
            assert items == f"{required_items(0.02, (changed + 1) / 5):,}"
        count = int(items.replace(",", ""))
        each = sum(record.metrics["completion_tokens"] / 3 for record in (high, low))
        seconds = sum(
            record.metrics["run.wall_seconds"] / record.metrics["run.completions_generated"] for record in (high, low)
        )
        assert tokens == f"{count * each / 1e3:,.1f}k"
        assert hours == f"{count * seconds / 3600:,.1f}"
    assert " sd 0." in out
    assert sorted(artifacts.rglob("*")) == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("margin=0", "margin=0.0 must be above 0 and below 1, such as 0.02 for 2 points."),
        ("margin=2", "margin=2.0 must be above 0 and below 1, such as 0.02 for 2 points."),
        ("margin=nan", "margin=nan must be above 0 and below 1, such as 0.02 for 2 points."),
        ("alpha=0", "alpha=0.0 must be above 0 and at most 0.5, such as 0.05."),
        ("alpha=0.6", "alpha=0.6 must be above 0 and at most 0.5, such as 0.05."),
        ("power=0.05", "power=0.05 must be above alpha=0.05 and below 1, such as 0.8."),
        ("power=1", "power=1.0 must be above alpha=0.05 and below 1, such as 0.8."),
        ("changed=2", "changed=2.0 must be above 0 and at most 1, such as 0.05 for 5% of the items."),
        ("changed=0", "changed=0.0 must be above 0 and at most 1, such as 0.05 for 5% of the items."),
        ("items=0", "items=0 is too small; it must be at least 1."),
        ("family=0", "family=0 is too small; it must be at least 1."),
        ("sweep=null", "sweep=null leaves changed to be guessed; add changed=0.05, or name a sweep."),
        ("sweep=abc", "sweep=abc: there are no runs in {folder}/mlruns; set tracking.folder, or sweep=null."),
        (
            "sweep=latest",
            "There is no sweep in {folder}/mlruns; run one first, for example python -m quantexp -m quant=Q8_0,Q4_K_M "
            "task=gsm8k, or guess the share of items that change, for example changed=0.05.",
        ),
    ],
)
def test_a_wrong_value_gets_one_sentence(printed: Printed, tmp_path: Path, override: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        printed(override)
    assert str(error.value) == said.replace("{folder}", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_command_ends_with_status_2(tmp_path: Path, typed: Callable[..., Ended]) -> None:
    ended = typed("items=0")
    assert ended.err == "quantexp: items=0 is too small; it must be at least 1.\n"
    assert (ended.status, ended.out) == (2, "")
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_that_says_nothing_gets_one_sentence(store: Store, printed: Printed, tmp_path: Path) -> None:
    def refused(*overrides: str) -> str:
        with pytest.raises(UserError) as error:
            printed(*overrides)
        return str(error.value)

    assert refused().startswith(f"There is no sweep in {tmp_path}/mlruns; ")
    assert printed("changed=0.05").endswith(MEASURE)
    assert refused("sweep=abc", "changed=0.05") == (
        f"There is no run abc in {tmp_path}/mlruns/mlflow.db; copy an id from the MLflow UI."
    )
    sweep = opened(store)
    assert refused() == f"No finished job to plan from in sweep {sweep}: it has no jobs."
    job(store, sweep, "Q4_K_M", [1.0])
    job(store, sweep, "Q3_K_M", [1.0])
    assert refused("changed=0.05") == (
        f"sweep={sweep} has no finished run of the baseline Q8_0; set stats.baseline to one of its quants (Q4_K_M, "
        "Q3_K_M), or plan without it: sweep=null changed=0.05."
    )
    alone = opened(store)
    job(store, alone, "Q8_0", [1.0])
    assert refused() == f"sweep={alone} has no quant to pair with the baseline: it has only the baseline Q8_0."
    job(store, alone, "Q4_K_M", [1.0], shots=2)
    assert refused().startswith(f"sweep={alone} has no quant to pair with the baseline: Q4_K_M of m on t")


def test_looking_for_an_experiment_does_not_make_one(store: Store, printed: Printed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no sweep in"):
        printed("tracking.experiment=other")
    assert Store.open_existing(TrackingConfig(str(tmp_path / "mlruns"), "other")) is None
    assert Store.open_existing(TrackingConfig(str(tmp_path / "mlruns"))) is not None
