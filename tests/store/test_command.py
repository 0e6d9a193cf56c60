"""`python -m quantexp.store`: what it says of a store, and what it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from quantexp.store import Completion, CompletionStore

Command = Callable[..., tuple[int, str, str]]

ABOUT = {"model": "some-model", "quant": "Q4_K_M", "task": "gsm8k", "item": "1"}


def filled(folder: Path) -> Path:
    """A store in which two processes have written three answers, one of them both; and the power failed."""
    for keys in ((b"a", b"b"), (b"b", b"c")):
        with CompletionStore(folder) as store:
            for key in keys:
                record = Completion((1, 2), (-0.5, -0.25), f"answer {key.decode()}", "stop", 0.1, 0.2)
                store.add(key * 32, record, ABOUT)
    newest = max(folder.glob("*.jsonl"))
    newest.write_bytes(newest.read_bytes()[:-5])
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder in which the command is typed, and nothing of the test's own in it."""
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def test_the_size_report_and_compaction(here: Path, tmp_path: Path, command: Command) -> None:
    folder = filled(here / "mlruns" / "completions")
    before = {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}
    status, out, err = command(here, "quantexp.store", files=tmp_path)
    assert (status, err) == (0, "")
    assert "2 completions in 2 segments" in out
    assert "1 duplicates, 1 damaged" in out
    assert "compact=true would free" in out
    assert [line.split("│")[1:5] for line in out.splitlines() if "some-model" in line]
    assert {path.name: path.read_bytes() for path in folder.glob("*.jsonl")} == before
    assert [path.name for path in here.iterdir()] == ["mlruns"]  # nothing else is written

    status, out, err = command(here, "quantexp.store", "compact=true", files=tmp_path)
    assert (status, err) == (0, "")
    assert "Compacted 2 segments: 1 duplicates and 1 damaged records removed" in out
    assert "2 completions in 1 segments" in out
    with CompletionStore(folder) as store:
        assert set(store.lookup([b"a" * 32, b"b" * 32, b"c" * 32])) == {b"a" * 32, b"b" * 32}


def test_a_store_that_is_not_there(here: Path, tmp_path: Path, command: Command) -> None:
    status, out, err = command(here, "quantexp.store", "store.folder=nowhere", files=tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith("quantexp: There is no completion store in ")
    assert len(err.splitlines()) == 1
    assert list(here.iterdir()) == []
