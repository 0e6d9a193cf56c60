"""Tables of results, and data frames."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.comparison.results.analysis import compare_results
from quantexp.comparison.results.base import Selection, TaskResults, read_score
from quantexp.comparison.results.files import name_sources, read_results
from quantexp.config import StatsConfig
from quantexp.util.errors import UserError

ROWS = [{"question_id": n, "exact_match": n % 2, "response": f"It is {n}", "gold": "1"} for n in range(4)]


def read(source: "Path | pd.DataFrame", **selection: Any) -> tuple[TaskResults, ...]:
    return read_results(source, Selection(**selection), "q4").tasks


def write(folder: Path, rows: Sequence[Mapping[str, Any]], ending: str) -> Path:
    path, frame = folder / f"q4{ending}", pd.DataFrame(rows)
    match ending:
        case ".parquet":
            frame.to_parquet(path)
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case _:
            frame.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".jsonl", ".json", ".csv.gz"])
def test_every_format_gives_the_same_table(tmp_path: Path, ending: str) -> None:
    [found] = read(write(tmp_path, ROWS, ending))
    [frame] = read(pd.DataFrame(ROWS))
    assert found.table.equals(frame.table)
    assert found.table["score"].tolist() == [0, 1, 0, 1]
    assert found.table["id"].tolist() == ["0", "1", "2", "3"]
    assert found.table["output"].tolist()[0] == found.table["extracted"].tolist()[0] == "It is 0"
    assert found.notes == ("the score is column exact_match, the item is column question_id",)


def test_columns_can_be_named() -> None:
    rows = [{"q": "a", "strict": 1, "score": 0.25}, {"q": "b", "strict": 0, "score": 0.5}]
    [found] = read(pd.DataFrame(rows), metric="strict", columns={"item": "q"})
    assert (found.table["id"].tolist(), found.table["score"].tolist()) == (["a", "b"], [1, 0])
    assert found.notes == ()
    [found] = read(pd.DataFrame(rows), metric="exact_match", columns={"item": "q", "score": "strict"})
    assert found.metric == "strict"  # the metric is that of a log which is compared with the table
    [found] = read(pd.DataFrame(rows).set_index("q"), columns={"item": "q"})
    assert found.table["score"].tolist() == [0.25, 0.5]


def test_a_column_of_tasks_takes_a_table_apart() -> None:
    rows = [{"task": task, "id": n, "score": n} for task in ("arc", "gsm8k") for n in (0, 1)]
    assert [(each.task, len(each.table), each.is_named) for each in read(pd.DataFrame(rows))] == [
        ("arc", 2, True),
        ("gsm8k", 2, True),
    ]


def test_numbers_of_answers_that_a_gap_made_decimals() -> None:
    frame = pd.DataFrame(
        [{"id": "a", "score": 1, "epoch": 1}, {"id": "a", "score": 0, "epoch": 2}, {"id": "b", "score": 1}]
    )
    assert frame["epoch"].dtype == float
    [found] = read(frame)
    assert found.table["sample"].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("rows", "selection", "said"),
    [
        (
            [{"id": 1, "points": 1}],
            {},
            "q4 has no column that is known as a score: name it with metric=COLUMN; its columns ",
        ),
        (
            [{"score": 1}],
            {},
            "q4 has no column that names its items: name it with columns.item=COLUMN; its ",
        ),
        ([{"id": 1, "score": 1}], {"metric": "f"}, "metric=f: q4 has no such column; it has id, score."),
        (
            [{"id": 1, "score": 1}],
            {"columns": {"item": "x"}},
            "columns.item=x: q4 has no such column; it has id, ",
        ),
        (
            [{"id": 1, "score": 1}],
            {"columns": {"itm": "id"}},
            "columns.itm: there is no such thing; choose one of ",
        ),
        (
            [{"id": 1, "score": "good"}],
            {},
            "q4 has 'good' as score in row 1, which is no number; choose another ",
        ),
        (
            [{"id": 1, "score": 85.5}],
            {},
            "items of q4 has scores from 85.5 to 85.5 (score), and they must lie ",
        ),
        ([{"id": 1, "score": None}], {}, "items of q4 has no item with a score (score)."),
        ([{"id": 1, "score": 1, "epoch": "b"}], {}, "q4 has 'b' as epoch in row 1, which is no whole number below "),
        ([{"id": 1, "score": 1, "epoch": 2.0**63}], {}, "q4 has 9.223372036854776e+18 as epoch in row 1, which is "),
        ([], {}, "q4 has no rows."),
    ],
)
def test_a_bad_table_gets_one_sentence(rows: list[dict[str, Any]], selection: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        read(pd.DataFrame(rows), **selection)
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(".")


def test_files_that_hold_no_results(tmp_path: Path) -> None:
    (tmp_path / "q4.csv").write_text('id,score\n1,"')
    with pytest.raises(UserError, match=r"q4\.csv: line 1 is not CSV"):
        read(tmp_path / "q4.csv")
    with pytest.raises(UserError, match=r"gone\.csv: there is no such file or folder; paths are relative to "):
        read(tmp_path / "gone.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no results that are known: samples_\*\.jsonl of lm-evaluation-harness"):
        read(tmp_path / "empty")


@pytest.mark.parametrize(
    ("value", "score"),
    [(1, 1), (0.5, 0.5), (True, 1), ("C", 1), ("I", 0), ("P", 0.5), ("N", 0), ("false", 0), (" 0.25 ", 0.25)],
)
def test_scores_in_words_and_numbers(value: object, score: float) -> None:
    assert read_score(value, "no score") == score


@given(st.floats(0, 1) | st.integers(0, 1) | st.booleans())
def test_a_score_is_read_the_same_from_text(value: float) -> None:
    assert read_score(value, "no score") == read_score(str(value), "no score") == value


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/base.csv", "runs/q4.csv"], ["base", "q4"]),
        (["base/scores.csv", "q4/scores.csv"], ["base", "q4"]),
        (["a/x.csv", "b/x.csv", "b/y.csv"], ["a/x", "b/x", "b/y"]),
        (
            ["m/base/samples_arc_2026-01-02T03-04-05.1.jsonl", "m/q4/samples_arc_2026-01-02T03-04-06.1.jsonl"],
            ["base", "q4"],
        ),
    ],
)
def test_conditions_are_named_by_their_paths(paths: list[str], names: list[str]) -> None:
    assert name_sources(paths) == names


def test_seeds_may_be_large() -> None:
    rows = [{"id": "a", "score": 1, "seed": seed} for seed in (4294967295, 2**63 - 1, -1)]
    [task] = read(pd.DataFrame(rows))
    assert task.table["seed"].tolist() == [4294967295, 2**63 - 1, -1]


cells = st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | st.text(max_size=3)
some_rows = st.lists(st.fixed_dictionaries({"score": cells, "id": cells}, optional={"sample": cells, "target": cells}))


@given(some_rows, some_rows)
def test_any_frames_are_compared_or_refused(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    with suppress(UserError):
        results = [read_results(pd.DataFrame(rows), Selection(), name) for name, rows in (("a", before), ("b", after))]
        compare_results(results, StatsConfig(resamples=10))
