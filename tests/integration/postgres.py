"""A real PostgreSQL in a folder, which can be killed and started again."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.slurm_cluster import free_port, until

USER = "nobody"
"""PostgreSQL does not run as root; where the tests do, it runs as this."""


class Postgres:
    """One database, from `with` to its end; on a port that stays the same."""

    def __init__(self) -> None:
        # Not in pytest's folder, which is its owner's only.
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-")
        self._data, self._log = Path(self._folder.name) / "data", Path(self._folder.name) / "postgres.log"
        self._port = free_port()
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            self._as = {"user": USER, "group": "nogroup", "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"postgresql://quantexp@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        self._data.mkdir()
        if self._as:
            shutil.chown(self._data, USER)
            Path(self._folder.name).chmod(0o711)
        command = [program("initdb"), "--pgdata", str(self._data), "--auth=trust", "--username=quantexp"]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._as)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers; after a kill it first repeats what its log holds."""
        options = {"port": self._port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "on"}
        command = [program("postgres"), "-D", str(self._data)]
        command += [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        deadline = time.monotonic() + 60
        while True:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command, stdout=log, stderr=log, cwd="/", start_new_session=True, **self._as
                )
            try:
                until("PostgreSQL", self._answers, 30)
                return
            except AssertionError:  # what the killed one had started is not quite gone
                assert time.monotonic() < deadline, self._log.read_text()[-3000:]
                time.sleep(0.5)

    def kill(self) -> None:
        """All of its processes, with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None
        command = [program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self._port}"]
        return subprocess.run(command, check=False).returncode == 0


def program(name: str) -> str:
    """Its path; Debian keeps some of them out of PATH."""
    found = shutil.which(name) or next((str(path) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    assert found, f"{name} is not installed"
    return found
