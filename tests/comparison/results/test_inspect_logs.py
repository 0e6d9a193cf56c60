"""Logs of Inspect, as the tool itself has written them."""

import sys
from pathlib import Path
from typing import Any

import pytest

from quantexp.comparison.results.base import Results, Selection
from quantexp.comparison.results.files import read_results
from quantexp.util.errors import UserError

DATA = Path(__file__).parent / "data" / "inspect"


def read(name: str, **selection: Any) -> Results:
    return read_results(DATA / name, Selection(**selection), name)


def test_without_the_extra_a_log_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(UserError, match=r'which Inspect\'s own package reads: pip install "quantexp\[inspect\]"\.$'):
        read("base")


class TestWithTheExtra:
    """What needs inspect-ai, which comes with `quantexp[inspect]`."""

    @pytest.fixture(autouse=True)
    def _needs_inspect(self) -> None:
        pytest.importorskip("inspect_ai")

    def test_scores_are_those_that_the_tool_reports(self) -> None:
        from inspect_ai.log import read_eval_log

        for name in ("base", "q4", "base-epochs", "base-json"):
            [path] = (each for each in (DATA / name).iterdir())
            for scorer in ("match", "includes"):
                reported = read_eval_log(str(path), header_only=True).results
                [accuracy] = [each.metrics["accuracy"].value for each in reported.scores if each.name == scorer]
                [found] = read(name, metric=scorer).tasks
                assert found.table["score"].mean() == pytest.approx(accuracy)

    def test_what_is_known_of_an_answer(self) -> None:
        [found] = read("q4").tasks
        assert (found.task, found.metric, len(found.table)) == ("shelf_sums", "match", 21)
        assert found.facts["solver"].startswith("system_message(")
        first = found.table.iloc[0]
        assert (first["id"], first["sample"], first["reference"], first["extracted"]) == ("shelf-0", 0, "33", "33")
        assert first["prompt"].startswith("system: Answer with a number.\n\nuser: A shelf holds 22 red and 11 blue")
        assert found.notes == ("the metric is match, the first there is; metric=includes takes another",)

    def test_epochs_are_answers_to_the_same_item(self) -> None:
        [found] = read("q4-epochs").tasks
        assert sorted(set(found.table["sample"])) == [0, 1, 2]
        assert found.table["document"].nunique() == 6
        assert found.items_in_data is None  # the log is of six items of more

    def test_a_log_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "broken.eval").write_bytes(b"PK no log")
        with pytest.raises(UserError, match=r"broken\.eval is no log that inspect-ai can read \("):
            read_results(tmp_path / "broken.eval", Selection(), "q4")

    def test_a_scorer_that_is_not_there(self) -> None:
        with pytest.raises(UserError, match=r"^metric=f1: q4 has no such metric; choose one of match, includes\.$"):
            read("q4", metric="f1")
