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

from common import llama_tool

SECONDS = 180.0
"""For a server to load a model."""


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
        try:
            deadline = time.monotonic() + SECONDS
            while not _alive(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{command[0]} does not serve:\n{log.read()[-2000:]}")
                time.sleep(0.1)
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


def until(what: str, is_so: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something.

    Raises:
        TimeoutError: it did not come.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)
