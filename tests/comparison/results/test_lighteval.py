"""Details of lighteval, as the tool itself has written them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from quantexp.comparison.results.base import Results, Selection
from quantexp.comparison.results.files import read_results
from quantexp.util.errors import UserError

DATA = Path(__file__).parent / "data" / "lighteval"


def read(path: Path, **selection: Any) -> Results:
    return read_results(path, Selection(**selection), "q4")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(DATA / "q4", tmp_path / "q4")


def test_scores_are_those_that_the_tool_reports() -> None:
    for name in ("base", "q4"):
        [path] = (DATA / name).rglob("results_*.json")
        reported = json.loads(path.read_text())["results"]["shelf_sums|0"]
        for metric in ("em", "f1"):
            [found] = read(DATA / name, metric=metric).tasks
            assert found.table["score"].mean() == pytest.approx(reported[metric])


def test_what_is_known_of_an_answer() -> None:
    [found] = read(DATA / "q4").tasks
    assert (found.task, found.metric, len(found.table)) == ("shelf_sums", "em", 21)
    assert found.facts == {"task version": "1", "number of few-shot examples": "0", "metric": "em"}
    assert found.table["document"].nunique() == 20  # two of the 21 ask the same
    row = found.table[found.table["id"] == "0"].iloc[0]
    assert row["prompt"].startswith("Question: A shelf holds 22 red and 11 blue books.")
    assert row["reference"] == "33"
    assert (row["output"] == row["reference"]) == (row["score"] == 1)


def test_a_file_alone_says_the_same_as_the_folder(copy: Path) -> None:
    [path] = copy.rglob("details_*.parquet")
    [folder], [alone] = read(copy).tasks, read(path).tasks
    assert alone.table.equals(folder.table)
    assert alone.facts == folder.facts
    shutil.rmtree(copy / "results")
    [without] = read(path).tasks
    assert "task version" not in without.facts


def test_a_metric_of_which_less_is_better_is_left_out(copy: Path) -> None:
    [path] = copy.rglob("results_*.json")
    path.write_text(path.read_text().replace('"higher_is_better": true', '"higher_is_better": false'))
    found = read(copy)
    assert found.tasks == ()
    assert found.left_out == ("shelf_sums of q4 is measured by em, of which less is better; take another.",)


def test_choices_are_read_by_their_likelihood(tmp_path: Path) -> None:
    rows = [
        {
            "doc": {
                "query": f"{n}?",
                "choices": ["a", "b"],
                "gold_index": n % 2,
                "id": str(n),
                "task_name": "lb|arc|3|0",
            },
            "metric": {"acc": 1},
            "model_response": {"input": f"{n}?", "text": [], "logprobs": [-1.0 - n % 2, -1.5]},
        }
        for n in range(4)
    ]
    pd.DataFrame(rows).to_parquet(tmp_path / "details.parquet")
    [found] = read(tmp_path / "details.parquet").tasks
    assert (found.task, found.facts["number of few-shot examples"]) == ("arc", "3")
    assert found.table["extracted"].tolist() == ["a", "b", "a", "b"] == found.table["reference"].tolist()


def test_several_models_are_refused(copy: Path) -> None:
    shutil.copytree(DATA / "base" / "details", copy / "details", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"has the results of 2 models \(shelf-base, shelf-q4\); give one's folder"):
        read(copy)
