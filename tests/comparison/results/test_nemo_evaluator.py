"""Results of NeMo Evaluator, as the tool itself has written them."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.json_values import json_values

from quantexp.comparison.results.analysis import compare_results
from quantexp.comparison.results.base import Results, Selection
from quantexp.comparison.results.files import read_results
from quantexp.config import StatsConfig
from quantexp.util.errors import UserError

DATA = Path(__file__).parent / "data" / "nemo_evaluator"


def read(path: Path, **selection: Any) -> Results:
    return read_results(path, Selection(**selection), "q4")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "q4", tmp_path / "q4")


def change(folder: Path, **values: Any) -> None:
    """Write other values into the configuration of a run."""
    [path] = folder.rglob("eval-*.json")
    bundle = json.loads(path.read_text())
    bundle["config"] |= values
    path.write_text(json.dumps(bundle))


def test_scores_are_those_that_the_tool_reports() -> None:
    for name in ("base", "q4"):
        [path] = (DATA / name).rglob("eval-*.json")
        reported = json.loads(path.read_text())["benchmark"]["scores"]
        for metric, key in (("reward", "pass@1"), ("numeric_match", "scorer:numeric_match")):
            [found] = read(DATA / name, metric=metric).tasks
            scores = found.table["score"].fillna(0.0)  # which it counts as wrong
            assert scores.mean() == pytest.approx(reported[key]["value"], abs=5e-5)


def test_what_is_known_of_an_answer() -> None:
    [found] = read(DATA / "q4").tasks
    assert (found.task, found.metric, len(found.table), found.items_in_data) == ("sums", "reward", 24, 21)
    assert found.settings == {"version of the harness": "0.3.0"}
    assert found.table["id"].nunique() == found.table["document"].nunique() == 12
    assert sorted(found.table["sample"].unique()) == [0, 1]
    row = found.table[found.table["score"] == 1].iloc[0]
    assert row["prompt"] == f"{row['question']}\nEnd with 'Answer: ' and the number."
    assert row["extracted"] == row["reference"]
    assert row["output"].endswith(f"Answer: {row['reference']}")
    assert "metric=numeric_match takes another" in found.notes[0]


def test_an_endpoint_that_failed_is_no_wrong_answer() -> None:
    [found] = read(DATA / "q4").tasks
    assert found.table["score"].isna().sum() == 2
    assert found.notes[1] == (
        "2 of 24 answers have no score, because the endpoint, the harness or the judge failed; NeMo Evaluator counts "
        "them as wrong"
    )
    assert len(read(DATA / "base").tasks[0].notes) == 1


@pytest.mark.parametrize("category", [["infra_error"], {"system": 1}, 3, "model"])
def test_another_category_of_errors_is_a_wrong_answer(copy: Path, category: object) -> None:
    [results] = copy.rglob("results.jsonl")
    first, *rows = results.read_text().splitlines()
    changed = json.dumps({**json.loads(first), "scoring_details": {"error_category": category}})
    results.write_text("\n".join([changed, *rows]))
    [found] = read(copy).tasks
    assert found.table["score"].notna().iloc[0]


def test_a_file_alone_says_the_same_as_the_folder(copy: Path) -> None:
    [results], [bundle] = copy.rglob("results.jsonl"), copy.rglob("eval-*.json")
    [folder], [alone], [beside] = read(copy).tasks, read(results).tasks, read(bundle).tasks
    assert alone.table.equals(folder.table)
    assert beside.table.equals(folder.table)
    bundle.unlink()
    [without] = read(results).tasks
    assert (without.task, without.items_in_data, without.settings) == ("sums", None, {})


def test_sums_without_answers_are_refused(copy: Path, tmp_path: Path) -> None:
    [results], [bundle] = copy.rglob("results.jsonl"), copy.rglob("eval-*.json")
    results.unlink()
    for path in (copy, bundle):
        with pytest.raises(UserError, match=r"has sums alone; results\.jsonl, which has the answers, must be beside"):
            read(path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "results.yml").write_text("results: {tasks: {gsm8k: {}}}\n")
    with pytest.raises(UserError, match=r"as NeMo Evaluator wrote them before version 0\.3"):
        read(tmp_path / "old")


def test_parts_models_and_other_metrics_are_refused(copy: Path) -> None:
    with pytest.raises(UserError, match="metric=f1: q4 has no such metric; choose one of reward, numeric_match"):
        read(copy, metric="f1")
    shutil.copytree(DATA / "base" / "sums", copy / "other")
    with pytest.raises(UserError, match=r"has the results of 2 models \(sums-base, sums-q4\); give one's folder"):
        read(copy)
    shutil.rmtree(copy / "other")
    change(copy, shard={"idx": 0, "total": 2})
    with pytest.raises(UserError, match="is a part of a run; put its parts together first, by nel eval merge"):
        read(copy)


def test_of_several_runs_the_newest_counts(copy: Path) -> None:
    shutil.copytree(copy / "sums", copy / "again")
    [path] = (copy / "again").glob("eval-*.json")
    path.write_text(path.read_text().replace('"timestamp": "2026', '"timestamp": "2027'))
    rows = (copy / "again" / "results.jsonl").read_text().splitlines()
    (copy / "again" / "results.jsonl").write_text("\n".join(rows[:10]))
    found = read(copy)
    assert [len(each.table) for each in found.tasks] == [10]
    assert found.notes == ("q4 has several runs of sums: the newest of each counts.",)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    [results], [bundle] = (DATA / "q4").rglob("results.jsonl"), (DATA / "q4").rglob("eval-*.json")
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    run = json.loads(bundle.read_text())
    damaged = data.draw(st.sampled_from([run, run["config"], run["benchmark"], rows[0], rows[0]["metadata"], rows[-1]]))
    damaged[data.draw(st.sampled_from(sorted(damaged)))] = data.draw(json_values)
    (tmp_path / results.name).write_text("".join(json.dumps(each) + "\n" for each in rows))
    (tmp_path / bundle.name).write_text(json.dumps(run))
    with suppress(UserError):
        compare_results([read_results(DATA / "base", Selection(), "base"), read(tmp_path)], StatsConfig(resamples=10))
