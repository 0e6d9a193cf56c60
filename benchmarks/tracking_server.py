"""A tracking server to measure and to test: `mlflow server` and PostgreSQL, which can be killed and started again."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from running import SECONDS, free_port, until


class _Process:
    """A server with its children, from `with` to its end."""

    def __init__(self, log: Path, **options: Any) -> None:
        self._log, self._options = log, options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """What the server has said."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, start_new_session=True, **self._options
            )
        until(f"{self._log.stem} answers", self.answers, process=self._process, log=lambda: self.log)

    def kill(self) -> None:
        """All of its processes, with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def cpu_seconds(self) -> float:
        """Seconds of a core that it and its children have taken, those that have ended included."""
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return sum(sum(each.cpu_times()[:4]) for each in (parent, *parent.children(recursive=True)))

    def command(self) -> list[str]:
        """Return the command to start."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves."""
        raise NotImplementedError


class Postgres(_Process):
    """A database in a folder of its own, which goes with it; on a port that stays the same.

    Attributes:
        address: as SQLAlchemy has it.
    """

    def __init__(self) -> None:
        # PostgreSQL does not run as root; where we do, it runs as nobody, in a folder that it may enter.
        owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        folder = "/tmp" if os.geteuid() == 0 else None  # the tests' own folder is closed to nobody
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-", dir=folder)
        Path(self._folder.name).chmod(0o711)
        self._data, self._port = Path(self._folder.name) / "data", free_port()
        self._data.mkdir(mode=0o700)
        options: dict[str, Any] = {"cwd": self._data}
        if os.geteuid() == 0:
            os.chown(self._data, owner.pw_uid, owner.pw_gid)
            options |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        super().__init__(Path(self._folder.name) / "postgres.log", **options)
        self.address = f"postgresql+psycopg://quantexp@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        command = [_program("initdb"), "-D", str(self._data), "-U", "quantexp", "--auth=trust", "-E", "UTF8"]
        subprocess.run(command, check=True, capture_output=True, **self._options)
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        super().__exit__(kind, error, _)
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers; after a kill it first repeats what its log holds."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                super().start()
                return
            except RuntimeError:  # what the killed one had started is not quite gone
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def command(self) -> list[str]:
        """Return the command to start."""
        options = {"port": self._port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        return [_program("postgres"), "-D", str(self._data), *words]

    def answers(self) -> bool:
        """Whether it takes connections."""
        command = [_program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self._port}"]
        return subprocess.run(command, check=False).returncode == 0


class TrackingServer(_Process):
    """`mlflow server` as the proxy of its artifacts, on a port that stays the same; files in a folder.

    Attributes:
        url: its address.
        database: SQLAlchemy's address of its database.
        artifacts: the folder that it keeps artifacts in.
    """

    def __init__(self, folder: Path, database: str | None = None, workers: int = 1) -> None:
        """`database` is SQLAlchemy's address of one; None: an SQLite file in the folder."""
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        super().__init__(folder / "server.log", cwd=folder, env=environment)
        self._port, self._workers = free_port(), workers
        self.database = database or f"sqlite:///{folder / 'server.db'}"
        self.artifacts = folder / "artifacts"
        self.url = f"http://127.0.0.1:{self._port}"

    def restart(self, after: float = 0) -> None:
        """Kill it, and start it again some seconds later."""
        self.kill()
        time.sleep(after)
        self.start()

    def command(self) -> list[str]:
        """Return the command to start."""
        options = {
            "host": "127.0.0.1",
            "port": self._port,
            "workers": self._workers,
            "backend-store-uri": self.database,
            "artifacts-destination": self.artifacts,
        }
        words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
        return [sys.executable, "-m", "mlflow", "server", *words]

    def answers(self) -> bool:
        """Whether it says that it is well."""
        try:
            urllib.request.urlopen(f"{self.url}/health", timeout=5).close()
        except (urllib.error.URLError, OSError):
            return False
        return True


def _program(name: str) -> str:
    """One of PostgreSQL's: on the path, or where Debian puts them."""
    found = shutil.which(name) or next((str(path) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), None)
    if found is None:
        sys.exit(f"PostgreSQL's program {name} is not there: apt-get install postgresql")
    return found
