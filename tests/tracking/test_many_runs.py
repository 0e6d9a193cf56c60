"""Sweeps of many jobs: what is read of them, from where, and what is said of what cannot be read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tracking_servers import TrackingServer
from tests.support.variants import mark_slow

from quantexp.aggregate import aggregate
from quantexp.comparison.changed_answers import add_changed_answers
from quantexp.comparison.flips import flip_rows, flips
from quantexp.comparison.groups import _merged
from quantexp.comparison.pairing import summarise
from quantexp.config import StatsConfig, TrackingConfig
from quantexp.tracking import reader
from quantexp.tracking.backend import Server
from quantexp.tracking.reader import JobRecord, Reader
from quantexp.tracking.run import Run
from quantexp.tracking.scores import SCORES, ScoreTables, answer_frame, read_scores, write_scores
from quantexp.tracking.store import Store
from quantexp.tracking.tags import CONFIG, IDENTITY, ITEMS, JOBS

QUANTS, SEEDS, N = ("Q8_0", "Q4_K_M"), (0, 1), 12
ASPECTS = ("model", "data", "prompt", "grader", "settings")


def items_of(quant: str, seed: int) -> pd.DataFrame:
    """A per-item table as a job writes it."""
    random = np.random.default_rng((QUANTS.index(quant), seed))
    order = np.random.default_rng(seed).permutation(N)
    right = random.random(N) < 0.5
    return pd.DataFrame(
        {
            "item_id": [f"i{each:02d}" for each in order],
            "cluster": [f"c{each // 2}" for each in order],
            "sample": 0,
            "difficulty": order % 2 + 1,
            "prompt": [f"What is {each}?" for each in order],
            "output": [f"It is {each}." for each in random.integers(0, 3, N)],
            "reference": [str(each) for each in order],
            "extracted": [None if each == 3 else str(each) for each in random.integers(0, 4, N)],
            "score": right.astype(float),
            "score_a": right.astype(float),
            "grading_error": None,
            "finish_reason": "stop",
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "mean_logprob": -0.5,
        }
    )


def begin(store: Store, sweep: str, quant: str, seed: int) -> Run:
    tags = {"model": "m", "quant": quant, "task": "t", "data": "d", "seed": str(seed), CONFIG: f"{quant} {seed}"}
    tags |= {IDENTITY + aspect: '{"id": "g-v1"}' for aspect in ASPECTS}
    tags |= {"quantexp.version": "0", "engine.system": "none", "host.processor": "none"}
    return store.start(f"{quant} {seed}", "job", sweep, tags)


def job(store: Store, sweep: str, quant: str, seed: int, *, earlier: bool = False) -> str:
    """Record a finished job; an earlier version left no file of scores."""
    with begin(store, sweep, quant, seed) as run:
        table = items_of(quant, seed)
        run.log(
            params={"file.sha256": quant},
            metrics={
                **{
                    "score": 0.5,
                    "items": N,
                    "items_not_asked": 0,
                    "items_cut_at_max_tokens": 0,
                    "completion_tokens": 4 * N,
                },
                **{"bits_per_weight": 8.5 - QUANTS.index(quant), "run.tokens_per_second": 10.0},
            },
        )
        run.log_items(table)
        if not earlier:
            run.log_scores(table)
    return run.id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(TrackingConfig(str(tmp_path / "mlruns")))


@pytest.fixture
def sweep(store: Store) -> str:
    with store.start("a sweep", "sweep", None, {}) as run:
        for quant in QUANTS:
            for seed in SEEDS:
                job(store, run.id, quant, seed)
    return run.id


def told(found: tuple[list[JobRecord], list[str]]) -> tuple[list[Any], list[str]]:
    """What a comparison sees of jobs."""
    own = (SCORES, "mlflow.loggedArtifacts")
    return [
        (
            *(each.run_id, each.name, each.started, each.params, each.metrics, each.identity, each.clusters),
            {key: value for key, value in each.tags.items() if key not in own},
            each.scores.to_dict(),
        )
        for each in found[0]
    ], found[1]


def test_runs_of_all_kinds_and_versions_are_read(store: Store, sweep: str) -> None:
    job(store, sweep, "Q4_K_M", 2, earlier=True)
    begin(store, sweep, "Q8_0", 2).close("KILLED")
    begin(store, sweep, "Q8_0", 1).close("FAILED")  # another run of the same job has finished
    records, failures = store.jobs_of(sweep)
    assert [record.name for record in records] == [
        f"{quant} t seed {seed}" for quant, seed in (*((q, s) for q in QUANTS for s in SEEDS), ("Q4_K_M", 2))
    ]
    assert failures == ["Q8_0 t seed 2 is KILLED: no reason was recorded"]


def test_a_deleted_run_does_not_count(store: Store, sweep: str) -> None:
    gone = store.jobs_of(sweep)[0][0].run_id
    store.client.delete_run(gone)
    records, [sentence] = store.jobs_of(sweep)
    assert gone not in {record.run_id for record in records}
    assert len(records) == 3
    assert sentence.startswith(f"Q8_0 t seed 0 (run {gone}) was deleted in MLflow")


@pytest.mark.parametrize("content", [b"ARROW1 and nothing", b""])
def test_a_damaged_copy_costs_nothing(store: Store, sweep: str, content: bytes) -> None:
    expected = told(store.jobs_of(sweep))
    with store.file(sweep, JOBS) as folder:
        sorted(folder.iterdir())[0].write_bytes(content)
    assert told(store.jobs_of(sweep)) == expected


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "no table"])
@pytest.mark.parametrize("earlier", mark_slow([False, True], after=1))
def test_a_table_that_cannot_be_read_is_told_and_the_rest_is_compared(
    store: Store, tmp_path: Path, damage: str, earlier: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with store.start("a sweep", "sweep", None, {}) as sweep:
        ids = [job(store, sweep.id, quant, seed, earlier=earlier) for quant in QUANTS for seed in SEEDS]
    name = f"{ITEMS}.parquet" if earlier else SCORES
    with store.file(ids[-1], name) as path:
        whole = path.read_bytes()
        if damage == "missing":
            path.unlink()
        else:
            path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "no table": b"<html>"}[damage])
    found, failures = store.jobs_of(sweep.id)
    assert [record.run_id for record in found] == ids[:-1]
    [sentence] = failures
    assert sentence.startswith(f"Q4_K_M t seed 1 (run {ids[-1]}) does not count, for its table {name} ")
    assert sentence.endswith("; put that back, or let the same command run its job again.")
    assert not aggregate(StatsConfig(resamples=20), store, sweep.id, [], tmp_path / "report").complete
    assert ids[-1] in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Q4_K_M" in capsys.readouterr().out


def test_of_many_changes_the_page_says_how_many_there_are(
    store: Store, sweep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = store.jobs_of(sweep)
    stats = StatsConfig(resamples=20)
    summary = summarise(found, [], stats, "title")
    whole, all_rows = add_changed_answers(summary, found, store, stats)
    before, after = (pd.concat([items_of(quant, seed).assign(seed=seed) for seed in SEEDS]) for quant in QUANTS)
    expected = flip_rows(before, after, task="t", name="Q4_K_M")
    pd.testing.assert_frame_equal(all_rows, expected)
    assert whole.comparisons[0].flips == flips(before, after)
    monkeypatch.setattr("quantexp.comparison.changed_answers.MOST_CHANGES", 5)
    fewer, rows = add_changed_answers(summary, found, store, stats)
    assert fewer == whole
    assert 5 <= len(rows) <= 8 < len(expected)
    merged = rows.merge(expected, how="left", on=[*rows.columns[:8]], indicator=True)
    assert set(merged["_merge"]) == {"both"}
    aggregate(stats, store, sweep, [], tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert f"lost: {whole.comparisons[0].flips.lost}" in page


SCORE = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1), st.none())
TEXT = st.one_of(st.none(), st.text(max_size=3))
ROWS = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=2), SCORE, TEXT, TEXT), min_size=1, max_size=12)


@given(ROWS)
def test_scores_come_back_as_the_whole_table_has_them(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    table = pd.DataFrame(rows, columns=["item_id", "cluster", "score", "extracted", "grading_error"])
    table["score"] = table["score"].astype(float)
    table["sample"] = range(len(table))
    folder = tmp_path_factory.mktemp("scores")
    write_scores(table, folder / SCORES)
    table.to_parquet(folder / "items.parquet", index=False)
    for name in (SCORES, "items.parquet"):
        answers = ScoreTables().answers(read_scores((folder / name).read_bytes(), name))
        expected = table["score"].groupby(table["item_id"], sort=False).mean()
        assert answers.item_scores.index.tolist() == expected.index.tolist()
        np.testing.assert_array_equal(answers.item_scores.to_numpy(), expected.to_numpy())
        assert answers.asked.of_item == dict(zip(table["item_id"], table["cluster"], strict=True))
        [frame] = answer_frame({"Q": [(0, answers)]})
        # Counted from hashes and categories, or from the texts themselves: the same.
        assert flips(frame, frame.iloc[::-1]) == flips(table.assign(seed=0), table.assign(seed=0).iloc[::-1])
        other = table.assign(extracted=table["grading_error"], score=1.0)
        write_scores(other, folder / "other.arrow")
        both = ScoreTables()
        left = both.answers(read_scores((folder / name).read_bytes(), name))
        right = both.answers(read_scores((folder / "other.arrow").read_bytes(), "other.arrow"))
        before, after = answer_frame({"Q": [(0, left)], "R": [(0, right)]})
        assert flips(before, after) == flips(table.assign(seed=0), other.assign(seed=0))


@given(st.dictionaries(st.sampled_from("0123"), st.dictionaries(st.text(max_size=3), SCORE, min_size=1), min_size=1))
def test_runs_are_merged_as_pandas_would(by_seed: Any) -> None:
    scores = {
        seed: pd.Series([*of.values()], index=pd.Index([*of], dtype="str", name="item_id"), dtype=float)
        for seed, of in by_seed.items()
    }
    expected = pd.concat({seed: of.dropna() for seed, of in scores.items()}, names=["seed", "item"])
    expected = expected.swaplevel().sort_index()
    found = _merged(scores)
    assert found.index.tolist() == expected.index.tolist()
    assert found.tolist() == expected.tolist()


@pytest.mark.slow  # test_tracking_server.py aggregates from one
def test_a_server_s_runs_are_read_like_those_of_a_folder(
    server: TrackingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = server.client
    backend = Server(server.url, tmp_path, tmp_path.name)
    store = Store(TrackingConfig(str(tmp_path), tmp_path.name, uri=server.url))
    monkeypatch.setattr(reader, "RUNS", 2)
    with store.start("a sweep", "sweep", None, {"note": "a \u2028 note"}) as sweep:
        ids = [job(store, sweep.id, quant, seed, earlier=seed > 1) for quant in QUANTS for seed in (0, 2)]
    found = list(Reader(backend).search(f"tags.sweep = '{sweep.id}'"))
    assert [each.info.run_id for each in found] == ids
    for each in found:
        asked = client.get_run(each.info.run_id)
        assert (each.info.status, each.info.start_time) == (asked.info.status, asked.info.start_time)
        assert dict(each.data.tags) == dict(asked.data.tags)
        assert dict(each.data.metrics) == dict(asked.data.metrics)
        assert dict(each.data.params) == dict(asked.data.params)
    # What earlier versions left for fewer requests is passed over.
    for name in ("merged/a.arrow", "merged/a.json"):
        store.run(sweep.id).log_yaml("not read", name)
    expected = told(store.jobs_of(sweep.id))
    assert ([each[0] for each in expected[0]], expected[1]) == (ids, [])
    client.set_tag(ids[1], "note", "edited since")
    assert store.jobs_of(sweep.id)[0][1].tags["note"] == "edited since"
    client.delete_tag(ids[1], "note")
    assert Reader(backend).content(ids[0], "nothing.arrow") is None
    assert told(store.jobs([ids[3], ids[0]]))[0] == [expected[0][3], expected[0][0]]
    assert all(aggregate(StatsConfig(resamples=20), store, sweep.id, [], tmp_path / "report"))
    assert "lost against Q8_0" in client.get_run(ids[3]).data.tags["mlflow.note.content"]
