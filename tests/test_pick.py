"""`python -m quantexp.pick`: one of a sweep for a memory, as somebody who asks for it sees it."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.support.copies import copied

from quantexp.pick import read_budget
from quantexp.util.errors import UserError

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(swept: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the sweep: Q8_0 and Q3_K_M, three items a task."""
    copied(swept, tmp_path)
    return tmp_path


def sizes(out: str) -> dict[str, str]:
    """What the table says of each condition's memory."""
    rows = re.findall(r"^ *>? *(Q\w+) +([\d.]+ [MG]B)", out, flags=re.MULTILINE)
    return dict(rows)


def change(store: Path, key: str, value: str) -> None:
    """Write another value into a parameter of all runs."""
    with closing(sqlite3.connect(store / "mlruns" / "mlflow.db")) as database:
        database.execute("UPDATE params SET value = ? WHERE key = ?", (value, key))
        database.commit()


def test_the_baseline_is_picked_until_something_smaller_is_certain(command: Command, store: Path) -> None:
    status, out, err = command(store, "quantexp.pick", "memory=16GB", "context=8192")
    assert (status, err) == (0, "")
    answer, smaller = out.splitlines()[:2]
    assert answer == (
        "For 16 GB at 8,192 tokens of context, take Q8_0, the baseline (356 MB): nothing smaller that fits is shown to "
        "be within the margin of 2.0 points on all tasks."
    )
    assert smaller.startswith("Q3_K_M (305 MB) is smaller, but not certain: to tell takes ")
    assert re.search(r"some [\d,]+ items of extraction instead of 3|an easier task than|another task than", smaller)
    assert sizes(out) == {"Q3_K_M": "305 MB", "Q8_0": "356 MB"}
    assert "from the file without its weights: Q3_K_M, Q8_0." in out
    assert "one conversation alone is slower" in out
    page = (store / "pick" / "report.html").read_text()
    assert '<section id="pick">' in page
    assert "off the axis" in page.partition('<section id="memory"')[2].partition("</section>")[0], "16 GB are far"
    assert (store / "pick" / "memory.png").stat().st_size > 10_000
    text = (store / "pick" / "pick.md").read_text()
    assert "| → | Q8_0 | 356 MB |" in text
    assert "](memory.png)" in text


def test_nothing_that_fits_and_nothing_that_is_certain_have_statuses(command: Command, store: Path) -> None:
    status, out, _ = command(store, "quantexp.pick", "memory=320MB")
    assert status == 3
    assert out.startswith("For 320 MB at 8,192 tokens of context, nothing is certain: of what fits, nothing is shown")
    chart = (store / "pick" / "report.html").read_text().partition('<section id="memory"')[2].partition("</section>")[0]
    assert "off the axis" not in chart
    assert "Dashed, upright: the memory that there is." in chart
    status, out, _ = command(store, "quantexp.pick", "memory=0.2", "out=other")
    assert status == 1
    assert "nothing fits: the smallest is Q3_K_M (305 MB)." in out
    assert (store / "other" / "pick.md").is_file()
    status, out, _ = command(store, "quantexp.pick", "speed=1000000")
    assert status == 1
    assert re.search(r"nothing fits: the fastest that has the room is Q\w+,? .* with [\d,.]+ tokens/s\.", out)


def test_a_file_that_is_gone_is_known_by_what_its_run_recorded(command: Command, store: Path) -> None:
    def picks(*arguments: str) -> str:
        status, out, err = command(store, "quantexp.pick", "memory=16GB", *arguments)
        assert (status, err) == (0, "")
        return str(out)

    measured = picks("context=10000")
    change(store, "file.path", "/gone/model.gguf")
    out = picks("context=10000")
    assert "as the runs recorded them, because the file is not here: Q3_K_M, Q8_0." in out
    assert sizes(out) == sizes(measured)
    change(store, "file.memory", "[]")
    status, out, _ = command(store, "quantexp.pick", "memory=16GB")
    assert status == 1
    assert "the memory of none is known" in out
    assert "Memory not known, because the file is not here and the run has not recorded it: Q8_0, Q3_K_M." in out


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("memory=lots", "memory=lots is no memory; write 16GB"),
        ("context=0", "context=0 is too small"),
        ("speed=-1", "speed=-1"),
        ("stats=published", "stats=published gives none"),
    ],
)
def test_a_wrong_word_is_a_sentence(command: Command, store: Path, argument: str, said: str) -> None:
    status, _, err = command(store, "quantexp.pick", argument)
    assert status == 2
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("text", "count"),
    [("16GB", 16e9), ("16", 16e9), ("0.5 gb", 5e8), ("16GiB", 2**34), ("800MB", 8e8), ("1MiB", 2**20)],
)
def test_a_budget_has_a_unit(text: str, count: float) -> None:
    assert read_budget(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "16TB", "1e9", "16GB or so"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no memory"):
        read_budget(text)
