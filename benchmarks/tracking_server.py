"""A tracking server for a measurement: PostgreSQL and `mlflow server` before it, and nothing left of them after."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 120.0
"""For each to begin to serve: MLflow makes its tables first."""


@dataclass(frozen=True, slots=True)
class TrackingServer:
    """A server that runs.

    Attributes:
        uri: of the MLflow server.
        database: of PostgreSQL, as SQLAlchemy has it.
        artifacts: the folder that the server keeps artifacts in.
    """

    uri: str
    database: str
    artifacts: Path


@contextmanager
def tracking_server(folder: Path, workers: int) -> Iterator[TrackingServer]:
    """PostgreSQL on a free port, and an MLflow server on it that hands artifacts through, both in a folder."""
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    with _postgres(folder) as database:
        port = _free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database]
        command += ["--artifacts-destination", str(artifacts), "--workers", str(workers)]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (folder / "mlflow.log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            _wait(server, lambda: _answers(f"http://127.0.0.1:{port}/health"), folder / "mlflow.log")
            yield TrackingServer(f"http://127.0.0.1:{port}", database, artifacts)
        finally:
            server.terminate()
            server.wait()


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """A database of its own, which only this machine reaches."""
    programs = _programs()
    data, sockets, log = folder / "postgres", folder / "sockets", folder / "postgres.log"
    owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    for made in (data, sockets):
        made.mkdir(mode=0o700)
        os.chown(made, owner.pw_uid, owner.pw_gid)
    if os.geteuid() == 0:
        folder.chmod(0o711)
    # PostgreSQL refuses to run as root.
    as_owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_owner = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    port = _free_port()
    with log.open("wb") as output:
        started: dict[str, Any] = {"stdout": output, "stderr": output, "cwd": data, **as_owner}
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "mlflow", "--auth=trust", "-E", "UTF8"], check=True, **started
        )
        listen = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={sockets}"]
        server = subprocess.Popen([programs / "postgres", "-D", data, "-p", str(port), *listen], **started)
    ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    try:
        _wait(server, lambda: subprocess.run(ready).returncode == 0, log)
        yield f"postgresql+psycopg://mlflow@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait()


def _programs() -> Path:
    """Where PostgreSQL's programs are: on the path, or where Debian puts them."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        sys.exit("--server needs PostgreSQL's programs (initdb, postgres): apt-get install postgresql")
    return versions[-1].parent


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(server: "subprocess.Popen[bytes]", alive: Callable[[], bool], log: Path) -> None:
    """Until it serves, or has ended before that."""
    deadline = time.monotonic() + SECONDS
    while not alive():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{log.stem} does not serve:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True
