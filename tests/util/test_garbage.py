"""The end of a process in which a command ran."""

import gc
import subprocess
import sys
from pathlib import Path

from quantexp.util.garbage import YOUNG, collect_rarely

COMMAND = """
import sys
from quantexp.util.error_reports import report_errors
with report_errors():
    from quantexp.config import TrackingConfig
    from quantexp.tracking.store import Store
    Store(TrackingConfig(sys.argv[1])).start("a sweep", "sweep", None, {}).close("FINISHED")
"""


def test_a_commands_process_leaves_its_database_closed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", COMMAND, str(tmp_path)], check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.glob("mlflow.*")) == ["mlflow.db", "mlflow.lock"]


def test_pythons_own_collections_come_back() -> None:
    before = gc.get_threshold()
    with collect_rarely():
        assert gc.get_threshold() == (YOUNG, *before[1:])
    assert gc.get_threshold() == before
