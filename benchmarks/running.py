"""Servers that are started for a measurement or a test, and ended after it."""

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from common import llama_tool

SECONDS = 600.0
"""The time that something may take to come, on a machine whose cores are all busy with other things."""

T = TypeVar("T")

SHOWN = 3000
"""So many characters at the end of a log are shown in an error."""


class Process(Protocol):
    """A process that was started, or a command of `tests.support.forking`."""

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""


@contextmanager
def llama_cpp_server(model: str, context: int, threads: int) -> Iterator[str]:
    """llama-cpp-python's server (its extra `server`) with a GGUF; its base URL."""
    options = {"model": model, "n_ctx": context, "n_threads": threads, "n_threads_batch": threads, "verbose": False}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    with _running([sys.executable, "-m", "llama_cpp.server", *words]) as address:
        yield address


@contextmanager
def llama_server(model: str, context: int, threads: int, slots: int = 4) -> Iterator[str]:
    """llama.cpp's own server with a GGUF, `slots` requests at once; its base URL. Built if it is not there."""
    size = ["--ctx-size", str(context * slots), "--parallel", str(slots), "--threads", str(threads)]
    with _running([str(llama_tool("llama-server")), "--model", model, *size]) as address:
        yield address


@contextmanager
def _running(command: Sequence[str]) -> Iterator[str]:
    """Yield a server on a free port, from its first sign of life to the end of the block."""
    port = free_port()
    with tempfile.TemporaryFile("w+") as log:
        whole = [*command, "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(whole, stdout=log, stderr=log)

        def read_log() -> str:
            log.seek(0)
            return log.read()

        try:
            until(f"{command[0]} serves", lambda: _alive(port), process=server, log=read_log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.kill()
            server.wait()


def _alive(port: int) -> bool:
    """Whether it has loaded its model."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code == 404  # llama_cpp.server has no such page, and listens once it has loaded
    except OSError:
        return False
    return True


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def until(
    what: str,
    look: Callable[[], T],
    seconds: float = SECONDS,
    process: Process | None = None,
    log: Callable[[], str] = str,
) -> T:
    """Wait for something that a process brings about.

    Args:
        what: the thing, for the error.
        look: returns the thing, or something false while it is not there.
        seconds: the longest wait.
        process: it must not end before.
        log: returns what the process has written; the error shows its end.

    Raises:
        RuntimeError: the process has ended.
        TimeoutError: the thing did not come.
    """
    deadline = time.monotonic() + seconds
    while True:
        status = process.poll() if process is not None else None  # before the look: it may come at the very end
        if found := look():
            return found
        if status is not None:
            raise RuntimeError(f"{what}: the process has ended with {status}:\n{log()[-SHOWN:]}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} seconds:\n{log()[-SHOWN:]}")
        time.sleep(0.05)
