"""Grading stored outputs again: what is written beside the old scores, what is printed, and what is refused."""

import csv
import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Run as RunEntity
from omegaconf import OmegaConf
from tests.support.judges import judge_of, measure_by_few, serve_judge
from tests.support.verdicts import verdict

from quantexp import tasks
from quantexp.comparison.analysis import compare
from quantexp.config import Config, DataConfig, RegradeConfig, StatsConfig, StoreConfig, TaskConfig, TrackingConfig
from quantexp.evaluation.scoring import score_metrics
from quantexp.regrade import SHOWN, Grading, Regraded, regrade
from quantexp.stats import estimate
from quantexp.tasks import Grade, Grader, get_task
from quantexp.tasks.data import load
from quantexp.tasks.items import Dataset
from quantexp.tracking.store import Store
from quantexp.tracking.tags import IDENTITY
from quantexp.util.errors import UserError

STATS = StatsConfig(resamples=100)

STRICT = "gsm8k-strict-v2"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(TrackingConfig(str(tmp_path_factory.mktemp("regrade") / "mlruns")))


@pytest.fixture
def sweep(store: Store) -> str:
    with store.start("a sweep", "sweep", None, {}) as run:
        return run.id


@cache
def bundled(task: str) -> Dataset:
    return load(DataConfig("bundled"), get_task(task))


def marked(number: int, of: str = "gsm8k") -> tuple[str, str, str]:
    """Id of an item, its answer as every grader reads it, and the same where only a lenient one does."""
    item = bundled(of).items[number]
    gold = get_task(of).target(item.fields)
    return item.id, gold, gold.replace("####", "The answer is") if of == "gsm8k" else f"```json\n{gold}\n```"


Answers = Sequence[tuple[int, str, str]]
"""Number of an item, the output, and why it ended."""

LENIENT: Answers = [(0, marked(0)[1], "stop"), (1, marked(1)[2], "stop"), (2, "no idea", "length")]
"""Right under both graders, under the lenient one only, and under none."""


def job(
    store: Store,
    sweep: str,
    answers: Answers = LENIENT,
    *,
    task: str = "gsm8k",
    quant: str = "Q8_0",
    samples: int = 1,
    fingerprint: str | None = None,
    config: bool = True,
    max_tokens: int = 64,
) -> str:
    """A finished job with these answers, as `run_job` leaves it; its run id."""
    kind = get_task(task)
    grader, data = kind.grader(), bundled(task)
    rows = [
        {
            "item_id": data.items[number].id,
            "cluster": data.items[number].cluster,
            "sample": position % samples,
            "difficulty": data.items[number].difficulty,
            "prompt": "a prompt",
            "output": output,
            "reference": kind.target(data.items[number].fields),
            **verdict(grader, output, data.items[number].fields, reason),
            "finish_reason": reason,
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "mean_logprob": -0.5,
        }
        for position, (number, output, reason) in enumerate(answers)
    ]
    table = pd.DataFrame(rows)
    tags = {"model": "m", "quant": quant, "task": task, "data": "bundled", "seed": "0", "engine.system": "x"}
    identity: dict[str, Mapping[str, object]] = {
        "model": {"name": "m"},
        "data": {"name": "bundled", "fingerprint": fingerprint or data.fingerprint},
        "grader": {"id": grader.id},
        "settings": {"max_tokens": max_tokens},
    }
    facts = {"bits_per_weight": {"Q8_0": 8.5}.get(quant, 4.5), "model_bytes": 1000, "items": 3, "items_not_asked": 0}
    facts |= {"items_cut_at_max_tokens": 0, "completion_tokens": 15, "run.tokens_per_second": 10}
    with store.start(f"{quant} {task} seed 0", "job", sweep, tags) as run:
        if config:
            whole = Config(task=TaskConfig(task, grader=grader.name, max_tokens=64), data=DataConfig("bundled"))
            run.log_yaml(OmegaConf.to_yaml(OmegaConf.structured(whole)), "config.yaml")
        run.log(
            params={"file.sha256": f"sha of {quant}", "model.note": ""},
            metrics=facts | score_metrics(table, STATS),
            tags={IDENTITY + key: json.dumps(value) for key, value in identity.items()},
        )
        run.log_items(table)
        return run.id


def entity(store: Store, run_id: str) -> RunEntity:
    return store.client.get_run(run_id)


def files_of(store: Store, run_id: str) -> dict[str, bytes]:
    """The artifacts of a run, by their paths."""
    folder = Path(store.client.download_artifacts(run_id, ""))
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def table_of(store: Store, run_id: str, name: str = "items") -> pd.DataFrame:
    return pd.read_parquet(store.client.download_artifacts(run_id, f"{name}.parquet"))


def graded(store: Store, run_id: str, name: str | None) -> Regraded:
    """One job, graded again without a report."""
    [record], _ = store.jobs([run_id])
    new = Grading(store, STATS).grade(record, name)
    assert new is not None
    return new


def new_version(monkeypatch: pytest.MonkeyPatch, task: str, **changes: Any) -> Grader:
    """Version 9 of a task's default grader, in place of the one there is."""
    old = get_task(task)
    grader = dataclasses.replace(old.grader(), version=9, **changes)
    other = dataclasses.replace(old, graders={**old.graders, grader.name: grader})
    monkeypatch.setattr(tasks, "TASKS", MappingProxyType({**tasks.TASKS, task: other}))
    return grader


def right(_: str, fields: Mapping[str, Any]) -> Grade:
    return Grade.right_or_wrong(True, "anything")


# What is written


def test_new_scores_stand_beside_the_old_ones_which_stay(store: Store, sweep: str, tmp_path: Path) -> None:
    run_id = job(store, sweep)
    files, before = files_of(store, run_id), entity(store, run_id)
    assert regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)

    kept = {name: content for name, content in files_of(store, run_id).items() if name in files}
    assert kept == files
    assert set(files_of(store, run_id)) - set(files) == {
        f"items.{STRICT}.parquet", f"items.{STRICT}.json", f"regrade/gsm8k-v2..{STRICT}.diff",
    }  # fmt: skip
    old, new = table_of(store, run_id), table_of(store, run_id, f"items.{STRICT}")
    assert list(new) == list(old)
    assert list(new["score"]) == [1.0, 0.0, 0.0]
    verdicts = ["extracted", "rule", "score", "grading_error", "outcome_unreadable"]
    pd.testing.assert_frame_equal(new.drop(columns=verdicts), old.drop(columns=verdicts))
    shown = json.loads(files_of(store, run_id)[f"items.{STRICT}.json"])
    assert sorted(shown["columns"]) == sorted(map(str, new))
    assert [row[shown["columns"].index("score")] for row in shown["data"]] == [1.0, 0.0, 0.0]

    after = entity(store, run_id)
    found = estimate(new.sort_values("item_id")["score"].to_numpy(), resamples=100, seed=42, confidence=0.95)
    assert after.data.metrics == before.data.metrics | {
        f"{STRICT}/score": found.mean, f"{STRICT}/score_low": found.low, f"{STRICT}/score_high": found.high,
        f"{STRICT}/items_unreadable": 1, f"{STRICT}/items_unfinished": 1, f"{STRICT}/rule.marker": 1,
        **{f"{STRICT}/{name}": new[name].mean() for name in map(str, new) if name.startswith("outcome_")},
    }  # fmt: skip
    assert after.data.tags[f"grader.{STRICT}"].startswith("regraded 20")
    assert after.data.tags[f"{IDENTITY}grader"] == before.data.tags[f"{IDENTITY}grader"]
    assert after.info.status == "FINISHED"


def test_a_version_that_changes_nothing_writes_the_same_bytes_under_its_own_name(
    store: Store, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = job(store, sweep, [(n, marked(n, "extraction")[2], "stop") for n in range(3)], task="extraction")
    new_version(monkeypatch, "extraction")
    assert graded(store, run_id, None).diff == ""
    files = files_of(store, run_id)
    for ending in ("parquet", "json"):
        assert files[f"items.extraction-v9.{ending}"] == files[f"items.{ending}"]
    assert files["regrade/extraction-v2..extraction-v9.diff"] == b""


def test_twice_the_same_gives_the_same_bytes(store: Store, sweep: str) -> None:
    run_id = job(store, sweep)
    first = graded(store, run_id, "gsm8k-strict")
    once = files_of(store, run_id)
    again = graded(store, run_id, "gsm8k-strict")
    assert (again.diff, again.line) == (first.diff, first.line)
    assert files_of(store, run_id) == once


def test_a_run_that_the_grader_has_graded_is_left_as_it_is(
    store: Store, sweep: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = job(store, sweep)
    files, before = files_of(store, run_id), entity(store, run_id)
    with caplog.at_level(logging.INFO):
        assert regrade(STATS, store, sweep, [], None, tmp_path)
        assert regrade(STATS, store, sweep, [], "gsm8k", tmp_path)
    assert caplog.messages == [f"gsm8k: gsm8k-v2 has graded already: run {run_id[:8]}", "nothing was graded again"] * 2
    assert files_of(store, run_id) == files
    assert entity(store, run_id).to_dictionary() == before.to_dictionary()
    assert not (tmp_path / "report.md").exists()


def test_null_means_the_current_version_and_one_that_changed_without_a_new_number_is_told(
    store: Store, sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = job(store, sweep)
    new_version(monkeypatch, "gsm8k")
    assert graded(store, run_id, None).line.endswith("; 0 of 3 verdicts changed")
    new_version(monkeypatch, "gsm8k", grade=right, grade_cut=None)
    assert graded(store, run_id, None).line == (
        "Q8_0 gsm8k seed 0: gsm8k-v2 0.667, gsm8k-v9 1.000; 1 of 3 verdicts changed; "
        "replaces other scores of gsm8k-v9, which has changed without a new version"
    )
    assert list(table_of(store, run_id, "items.gsm8k-v9")["score"]) == [1.0, 1.0, 1.0]
    assert len(json.loads(files_of(store, run_id)["items.gsm8k-v9.json"])["data"]) == 3


def test_an_item_that_was_never_asked_has_no_score_under_any_grader(store: Store, sweep: str) -> None:
    run_id = job(store, sweep, [(3, "", "context"), *LENIENT])
    new = graded(store, run_id, "gsm8k-strict")
    assert pd.isna(table_of(store, run_id, f"items.{STRICT}")["score"][0])
    assert entity(store, run_id).data.metrics[f"{STRICT}/score"] == pytest.approx(1 / 3)
    assert marked(3)[0] not in new.diff
    assert pd.isna(new.record.scores[marked(3)[0]])


def test_several_samples_of_an_item_are_graded_each_and_averaged(store: Store, sweep: str, tmp_path: Path) -> None:
    item, right_one, lenient = marked(0)
    run_id = job(store, sweep, [(0, right_one, "stop"), (0, lenient, "stop")], samples=2)
    assert regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)
    assert list(table_of(store, run_id, f"items.{STRICT}")["score"]) == [1.0, 0.0]
    assert entity(store, run_id).data.metrics[f"{STRICT}/score"] == 0.5
    diff = (tmp_path / "changes.diff").read_text()
    assert f"@@ {item} (sample 1) @@\n" in diff
    assert "(sample 0)" not in diff
    [condition] = [row for row in rows_of(tmp_path / "conditions.csv") if row["grader"] == STRICT]
    assert (condition["mean"], condition["items"]) == ("0.5", "1")


# What changed


def test_changes_are_listed_like_a_diff(store: Store, sweep: str) -> None:
    run_id = job(store, sweep)
    number = marked(1)[1].rpartition("#### ")[2]
    diff = graded(store, run_id, "gsm8k-strict").diff
    assert diff.splitlines() == [
        f"--- gsm8k-v2  Q8_0 gsm8k seed 0 (run {run_id[:8]})",
        f"+++ {STRICT}",
        f"@@ {marked(1)[0]} @@",
        f"-1  extracted: {number}",
        f"+0  {table_of(store, run_id, f'items.{STRICT}')['grading_error'][1]}",
        f" {marked(1)[2]!r}",
    ]
    assert files_of(store, run_id)[f"regrade/gsm8k-v2..{STRICT}.diff"].decode() == diff


def test_a_long_list_is_cut_on_the_terminal_and_whole_in_the_file(
    store: Store, sweep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job(store, sweep, [(0, marked(0)[1], "stop"), *((n, marked(n)[2], "stop") for n in range(1, 21))])
    assert regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)
    whole = (tmp_path / "changes.diff").read_text().splitlines()
    assert len(whole) == 2 + 20 * 4
    printed = capsys.readouterr().out.splitlines()
    assert printed[:SHOWN] == whole[:SHOWN]
    assert printed[SHOWN] == f"... and {len(whole) - SHOWN} more lines in {tmp_path / 'changes.diff'}"


# The report


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_report_shows_both_graders_and_is_recorded(
    store: Store, sweep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    job(store, sweep)
    job(store, sweep, [(n, marked(n)[1], "stop") for n in range(3)], quant="Q3_K_M")
    assert regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)
    ways = [f"gsm8k (grader.id={grader})" for grader in ("gsm8k-v2", STRICT)]
    differences = {row["task"]: float(row["difference"]) for row in rows_of(tmp_path / "comparisons.csv")}
    assert differences == pytest.approx({ways[0]: 2 / 3 - 1, ways[1]: 1 / 3 - 1})
    conditions = rows_of(tmp_path / "conditions.csv")
    assert sorted((row["task"], row["quant"], row["grader"]) for row in conditions) == sorted(
        (way, quant, grader)
        for way, grader in zip(ways, ("gsm8k-v2", STRICT), strict=True)
        for quant in ("Q8_0", "Q3_K_M")
    )
    out, page = capsys.readouterr().out, (tmp_path / "report.md").read_text()
    for way, grader in zip(ways, ("gsm8k-v2", STRICT), strict=True):
        assert way in out
        assert f"| {way} | Q3_K_M |" in page
        assert f"| {grader} |" in page

    recorded = latest_regrade(store)
    assert (recorded.info.status, recorded.data.tags["sweep"]) == ("FINISHED", sweep)
    assert recorded.data.tags["graders"] == f"gsm8k-v2..{STRICT}"
    files = files_of(store, recorded.info.run_id)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files.keys() - written.keys() == {"flips.json", "flips.parquet"}
    assert {name: files[name] for name in written} == written
    assert {"report.md", "changes.diff"} <= set(files)
    unread = {
        (row["task"], row["of_baseline"])
        for row in rows_of(tmp_path / "outcomes.csv")
        if row["outcome"] == "unreadable"
    }
    assert unread == {(ways[1], str(1 / 3))}
    changed = table_of(store, recorded.info.run_id, "flips")
    assert {*zip(changed["task"], changed["item_id"], strict=True)} == {
        (way, marked(number)[0]) for way, numbers in zip(ways, ((2,), (1, 2)), strict=True) for number in numbers
    }
    assert store.latest_sweep() == sweep


def latest_regrade(store: Store) -> RunEntity:
    return next(iter(store.client.search_runs([store.experiment], "tags.`quantexp.kind` = 'regrade'")))


def test_single_runs_can_be_graded_again(store: Store, sweep: str, tmp_path: Path) -> None:
    one, other = job(store, sweep), job(store, sweep, quant="Q3_K_M")
    assert regrade(STATS, store, "latest", [one, one], "gsm8k-strict", tmp_path)
    assert f"items.{STRICT}.json" in files_of(store, one)
    assert f"items.{STRICT}.json" not in files_of(store, other)
    assert latest_regrade(store).data.tags["runs"] == f"{one},{one}"


def test_jobs_of_tasks_without_the_grader_are_left_out_with_a_line(
    store: Store, sweep: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job(store, sweep)
    other = job(store, sweep, [(0, marked(0, "extraction")[1], "stop")], task="extraction")
    files = files_of(store, other)
    with caplog.at_level(logging.INFO):
        assert regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)
    assert "extraction has no grader gsm8k-strict: left out (1 jobs)" in caplog.messages
    assert files_of(store, other) == files
    assert {row["grader"] for row in rows_of(tmp_path / "conditions.csv")} == {"gsm8k-v2", STRICT}


# What cannot be done


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"fingerprint": "0123456789"},
            "the bundled data of gsm8k have changed since it ran (fingerprint 01234567, now ",
        ),
        ({"config": False}, "its config.yaml is not in the store, so nobody knows its data; run it again."),
    ],
)
def test_a_job_that_cannot_be_graded_again_is_left_as_it_is(
    store: Store, sweep: str, changes: Mapping[str, Any], reason: str
) -> None:
    run_id = job(store, sweep, **changes)
    files, before = files_of(store, run_id), entity(store, run_id)
    with pytest.raises(UserError) as refused:
        graded(store, run_id, "gsm8k-strict")
    assert str(refused.value).startswith(reason)
    assert files_of(store, run_id) == files
    assert entity(store, run_id).to_dictionary() == before.to_dictionary()


def test_a_job_that_cannot_be_graded_again_is_named_and_stops_no_other(
    store: Store, sweep: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    good = job(store, sweep)
    bad = job(store, sweep, quant="Q3_K_M", fingerprint="0123456789")
    assert not regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)
    sentence = f"Q3_K_M gsm8k seed 0 (run {bad[:8]}) is not graded again: the bundled data of gsm8k have changed"
    assert any(message.startswith(sentence) for message in caplog.messages)
    assert f"Failed: {sentence}" in " ".join(capsys.readouterr().out.split())
    assert f"items.{STRICT}.json" in files_of(store, good)
    assert f"items.{STRICT}.json" not in files_of(store, bad)


def test_when_no_job_can_be_graded_again_there_is_no_report(store: Store, sweep: str, tmp_path: Path) -> None:
    job(store, sweep, config=False)
    assert not regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pair_that_does_not_fit_is_no_success(store: Store, sweep: str, tmp_path: Path) -> None:
    job(store, sweep)
    job(store, sweep, quant="Q3_K_M", max_tokens=128)
    assert not regrade(STATS, store, sweep, [], "gsm8k-strict", tmp_path)
    assert "settings.max_tokens is 128 here and 64 there" in (tmp_path / "report.md").read_text()


def test_a_table_in_another_order_is_not_graded(store: Store, sweep: str) -> None:
    run = job(store, sweep)
    records, _ = store.jobs([run])
    store.run(run).log_items(table_of(store, run).iloc[::-1])
    with pytest.raises(UserError, match=r"^its items\.parquet is not the table that was scored; run it again\.$"):
        Grading(store, STATS).grade(records[0], "gsm8k-strict")


def test_runs_that_were_graded_again_stand_beside_those_that_were_not(store: Store, sweep: str) -> None:
    """As where the same judge is asked again, and one of its jobs fails."""
    right: Answers = [(number, marked(number)[1], "stop") for number in range(3)]
    ids = [job(store, sweep, answers, quant=quant) for quant, answers in (("Q8_0", right), ("Q3_K_M", LENIENT)) * 2]
    for run_id in ids[2:]:
        store.run(run_id).log(tags={"seed": "1"})
    records, _ = store.jobs(ids)
    new = Grading(store, STATS).grade(records[1], "gsm8k-strict")
    assert new is not None
    records[1] = replace(new.record, identity=records[1].identity)
    changed = compare(records, [], STATS, store, None).changed
    assert sorted(zip(changed["seed"], changed["item_id"], strict=True)) == sorted(
        (seed, marked(number)[0]) for seed, number in ((0, 1), (0, 2), (1, 2))
    )


def test_a_judge_grades_what_was_left_open_and_two_judges_stand_side_by_side(
    store: Store, sweep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_by_few(monkeypatch)
    gold = str(bundled("extraction").items[2].fields["requested_action"])
    outputs = [json.dumps({"requested_action": action}) for action in ("Cancel the table.", gold, "Bring it later.")]
    run = job(
        store, sweep, [(0, outputs[0], "stop"), (1, "no idea", "stop"), (2, outputs[2], "stop")], task="extraction"
    )
    [record], _ = store.jobs([run])
    ids = set()
    for name in ("one-judge", "other-judge"):
        with serve_judge(name, known={(gold, "Bring it later."): name == "one-judge"}) as server:
            asking = RegradeConfig(
                judge=judge_of(server.address, name), store=StoreConfig(str(tmp_path / "completions"))
            )
            new = Grading(store, STATS, asking).grade(record, "requested-action-judge")
        assert new is not None
        identity = new.record.identity["grader"]
        assert identity["judge"] == f"{name} ({name} of {server.address}), 1 votes in each order, temperature 0"
        assert new.record.tags["grading.judge"] == identity["judge"]
        _, _, kept = new.graders.partition("..")
        ids.add(kept)
        right = 1.0 if name == "one-judge" else 0.0
        assert table_of(store, run, f"items.{kept}")["score"].tolist() == [0.0, 0.0, right]
        assert entity(store, run).data.metrics[f"{kept}/score"] == pytest.approx(right / 3)
    assert len(ids) == 2
