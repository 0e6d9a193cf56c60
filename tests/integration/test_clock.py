"""The clock is set in the middle of a sweep, of which libfaketime gives all processes another one."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from running import until
from tests.support.stores import runs_so_far
from tests.support.waiting import read_killed

from quantexp.config import TrackingConfig
from quantexp.tracking.store import Store

pytestmark = pytest.mark.integration


def items(folder: Path) -> dict[tuple[str, str], pd.DataFrame]:
    """The item table of each finished job."""
    store, found = Store(TrackingConfig(str(folder / "mlruns"))), {}
    for run in runs_so_far(folder, "job"):
        if run.info.status == "FINISHED":
            with store.file(run.info.run_id, "items.parquet") as path:
                found[run.data.tags["quant"], run.data.tags["task"]] = pd.read_parquet(path)
    return found


@pytest.mark.parametrize("jump", ["-1y", "-90m", "+10y"])
def test_a_sweep_whose_clock_is_set_ends_as_ever(
    jump: str, tmp_path: Path, start: Callable[..., subprocess.Popen[str]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (
        "-m", "quant=Q8_0,Q3_K_M", "task=gsm8k,extraction", "task.limit=8", "task.max_tokens=64", "engine.lanes=2",
        f"model.cache={cache}",
    )  # fmt: skip
    undisturbed, there = tmp_path / "undisturbed", tmp_path / "there"
    undisturbed.mkdir()
    there.mkdir()
    expected, err = start(undisturbed, "quantexp", *command).communicate(timeout=900)
    assert expected, err

    [library] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")  # a folder for each architecture
    clock = tmp_path / "clock"
    clock.write_text("+0")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
    monkeypatch.setenv("FAKETIME_NO_CACHE", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    process = start(there, "quantexp", *command)
    until(
        "a finished job",
        lambda: "FINISHED" in {run.info.status for run in runs_so_far(there, "job")},
        process=process,
        log=lambda: read_killed(process),
    )
    clock.write_text(jump)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    monkeypatch.undo()

    def shown(text: str) -> str:
        return text.partition("Declared before")[0]

    assert shown(out) == shown(expected)
    found, same = items(there), items(undisturbed)
    assert found.keys() == same.keys()
    assert len(found) == 4
    for name, table in found.items():
        pd.testing.assert_frame_equal(table, same[name])
    starts = [run.info.start_time for run in runs_so_far(there, "job")]
    assert max(starts) - min(starts) > 3_600_000  # the clock was set indeed
    # By the right clock again: nothing runs anew.
    out, err = start(there, "quantexp", *command).communicate(timeout=900)
    assert shown(out) == shown(expected), err
    assert err.count("finished before") == 4
