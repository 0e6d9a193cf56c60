"""Logs of lm-evaluation-harness, as the tool itself has written them."""

import json
import shutil
from collections.abc import Callable
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
from quantexp.comparison.results.lm_eval import hash_document
from quantexp.config import StatsConfig
from quantexp.util.errors import UserError

DATA = Path(__file__).parent / "data" / "lm_eval"


def read(path: Path, **selection: Any) -> Results:
    return read_results(path, Selection(**selection), "q4")


def edit(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change every sample of a folder."""
    for path in folder.rglob("samples_*.jsonl"):
        rows = [change(json.loads(line)) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "q4", tmp_path / "q4")


def test_scores_are_those_that_the_tool_reports() -> None:
    for name in ("base", "q4"):
        [path] = (DATA / name).rglob("results_*.json")
        reported = json.loads(path.read_text())["results"]
        for metric, filter_, key in (
            ("exact_match", "strict-match", "exact_match,strict-match"),
            ("exact_match", "flexible-extract", "exact_match,flexible-extract"),
        ):
            tasks = {each.task: each for each in read(DATA / name, metric=metric, filter=filter_).tasks}
            assert tasks["shelf_sums"].table["score"].mean() == pytest.approx(reported["shelf_sums"][key])
        for metric in ("acc", "acc_norm"):
            tasks = {each.task: each for each in read(DATA / name, metric=metric).tasks}
            assert tasks["common_words"].table["score"].mean() == pytest.approx(
                reported["common_words"][f"{metric},none"]
            )


def test_what_is_known_of_an_answer() -> None:
    words, sums = read(DATA / "q4").tasks
    assert (sums.task, sums.metric, len(sums.table)) == ("shelf_sums", "exact_match (strict-match)", 21)
    assert sums.facts["number of few-shot examples"] == "0"
    assert sums.items_in_data == 20  # two of the 21 ask the same
    second = sums.table.iloc[1]
    assert (second["id"], second["reference"], second["extracted"]) == ("1", "70", "71")
    assert second["output"] == " There are 27 and 43. The answer is 71"
    assert second["prompt"].endswith("How many books are on it?\nAnswer:")
    # Of choices the one with the largest log-likelihood was read; acc says if it is the right one.
    right = {"cold", "puppy", "white", "honey", "sides", "day", "water", "ears", "days"}
    assert [answer in right for answer in words.table["extracted"]] == [score == 1 for score in words.table["score"]]
    [norm, _] = read(DATA / "q4", metric="acc_norm").tasks
    assert norm.table["extracted"].isna().all()


def test_a_file_alone_and_the_file_of_results_say_the_same_as_the_folder() -> None:
    [summary] = (DATA / "q4").rglob("results_*.json")
    [samples] = (DATA / "q4").rglob("samples_shelf_sums_*.jsonl")
    folder = read(DATA / "q4")
    assert read(summary).sha256 == folder.sha256
    [alone] = read(samples).tasks
    assert alone.table.equals(folder.tasks[1].table)
    assert alone.facts == folder.tasks[1].facts


def test_earlier_versions_recorded_no_hashes(copy: Path) -> None:
    before = read(copy)
    recorded = ("doc_hash", "prompt_hash", "target_hash", "filter", "metrics")

    def forget(row: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in row.items() if key not in recorded}

    [path] = copy.rglob("samples_common_words_*.jsonl")
    for row in map(json.loads, path.read_text().splitlines()):
        assert hash_document(row["doc"]) == row["doc_hash"]
    edit(copy, forget)
    after = read(copy)
    assert after.tasks[0].table.equals(before.tasks[0].table)
    assert after.tasks[0].metric == "acc"


def test_a_choice_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"^metric=f1: q4 has no such metric; choose one of acc, acc_norm, ex"):
        read(DATA / "q4", metric="f1")
    with pytest.raises(UserError, match=r"^filter=strict: q4 has no such filter; choose one of none, strict-match, "):
        read(DATA / "q4", filter="strict")


def test_of_several_runs_the_newest_counts_and_of_several_models_none(copy: Path, tmp_path: Path) -> None:
    for path in copy.rglob("*_common_words_*"):
        path.with_name(path.name.replace("2026", "2025")).write_text("not read")
    found = read(copy)
    assert found.notes == (f"q4={copy} has several runs of common_words (2): the newest of each counts.",)
    shutil.copytree(DATA / "base" / "shelf-base", copy / "shelf-base")
    with pytest.raises(UserError, match=r"has the results of 2 models \(shelf-base, shelf-q4\); give one's folder"):
        read(copy)


def test_a_metric_of_which_less_is_better_is_left_out(copy: Path) -> None:
    [summary] = copy.rglob("results_*.json")
    content = json.loads(summary.read_text())
    content["higher_is_better"]["common_words"]["acc"] = False
    summary.write_text(json.dumps(content))
    found = read(copy)
    assert [each.task for each in found.tasks] == ["shelf_sums"]
    assert found.left_out == ("common_words of q4 is measured by acc, of which less is better; take another.",)


def test_scores_that_are_no_numbers_or_out_of_range(copy: Path) -> None:
    edit(copy, lambda row: row | ({"acc": 50.0} if "acc" in row else {}))
    with pytest.raises(UserError, match="common_words of q4 has scores from 50 to 50"):
        read(copy)
    edit(copy, lambda row: row | ({"acc": "?"} if row["doc_id"] == 3 and "acc" in row else {"acc": 1}))
    with pytest.raises(UserError, match="common_words of q4 has no number as acc of item 3"):
        read(copy)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    for path in [*(DATA / "q4").rglob("*.json*")]:
        text = path.read_text()
        rows = [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else [json.loads(text)]
        row = rows[data.draw(st.integers(0, len(rows) - 1))]
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(json_values)
        (tmp_path / path.name).write_text("".join(json.dumps(each) + "\n" for each in rows))
    with suppress(UserError):
        results = [read_results(DATA / "q4", Selection(), "base"), read(tmp_path)]
        compare_results(results, StatsConfig(resamples=10))
