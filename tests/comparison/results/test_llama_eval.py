"""States of llama-eval, as the tool itself has written them."""

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

DATA = Path(__file__).parent / "data" / "llama_eval"


def read(path: Path, **selection: Any) -> Results:
    return read_results(path, Selection(**selection), "q4")


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "q4.json", tmp_path / "q4.json"))


def test_scores_are_those_that_the_tool_reports() -> None:
    for name in ("base", "q4"):
        reported = json.loads((DATA / f"{name}.json").read_text())["task_states"]
        [found] = read(DATA / f"{name}.json").tasks
        assert found.table["score"].sum() == reported["correct"]
        assert len(found.table) == reported["total"] == 30


def test_what_is_known_of_an_answer() -> None:
    [found] = read(DATA / "q4.json").tasks
    assert (found.task, found.metric) == ("gsm8k", "correct")
    assert found.facts == {"grader": r"regex \b(\d+)\b"}
    assert found.settings == {"sampling": '{"temperature": 0.0}'}
    assert found.table["id"].nunique() == 21, "nine are asked a second time"
    assert found.table["document"].nunique() == 20, "two ask the same"
    assert sorted(found.table["sample"].unique()) == [0, 1]
    row = found.table[found.table["score"] == 1].iloc[0]
    assert row["extracted"] == row["reference"]
    assert f"boxed{{{row['reference']}}}" in row["output"]
    assert row["prompt"].startswith("A shelf holds")


def test_an_answer_that_is_cut_off_is_wrong_and_one_that_is_missing_has_no_score() -> None:
    [found] = read(DATA / "q4.json").tasks
    assert found.table["score"].isna().sum() == 3
    assert found.notes == ("6 of 30 answers did not end and count as wrong, as llama-eval has it",)
    cut = found.table[found.table["extracted"].isna() & found.table["output"].notna()]
    assert cut["score"].tolist() == [0.0] * 6


def test_a_folder_has_a_state_for_each_data_set(copy: Path) -> None:
    assert read(copy.parent).tasks[0].table.equals(read(copy).tasks[0].table)
    other = Path(shutil.copy(copy, copy.with_name("aime.json")))
    with pytest.raises(UserError, match="q4 has several states of gsm8k; give the file of one"):
        read(copy.parent)
    change(other, id="aime2025")
    assert [each.task for each in read(copy.parent).tasks] == ["aime2025", "gsm8k"]


def test_what_is_no_whole_state_is_a_sentence(copy: Path) -> None:
    with pytest.raises(UserError, match="metric=f1: q4 has no such metric; choose one of correct"):
        read(copy, metric="f1")
    state = json.loads(copy.read_text())
    for case in state["task_states"]["cases"].values():
        case["status"], case["grader_log"] = "pending", {}
    change(copy, **state)
    assert read(copy).left_out == ("gsm8k of q4 has no case that was answered.",)
    change(copy, task_states={})
    with pytest.raises(UserError, match=r"has no cases \(task_states\.cases\)"):
        read(copy)
    copy.write_text(copy.read_text()[:-20])
    with pytest.raises(UserError, match="is not JSON"):
        read(copy)


def test_a_grader_that_is_a_model_is_told(copy: Path) -> None:
    copy.write_text(copy.read_text().replace('"grader_type": "regex"', '"grader_type": "llm"'))
    [found] = read(copy).tasks
    assert found.notes[-1] == "the answers were graded by a model that the file does not name"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    state = json.loads((DATA / "q4.json").read_text())
    cases = state["task_states"]["cases"]
    damaged = data.draw(st.sampled_from([state, state["task_states"], cases, *list(cases.values())[:3]]))
    damaged[data.draw(st.sampled_from(sorted(damaged)))] = data.draw(json_values)
    (tmp_path / "q4.json").write_text(json.dumps(state))
    with suppress(UserError):
        results = [read_results(DATA / "base.json", Selection(), "base"), read(tmp_path / "q4.json")]
        compare_results(results, StatsConfig(resamples=10))
