"""Servers that are started for a measurement or a test, and ended after it."""

import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

SECONDS = 180.0
"""For a server to load a model."""


@contextmanager
def llama_cpp_server(model: str, context: int, threads: int) -> Iterator[str]:
    """llama-cpp-python's server (its extra `server`) with a GGUF; its base URL."""
    options = {"model": model, "n_ctx": context, "n_threads": threads, "n_threads_batch": threads, "verbose": False}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    with _running([sys.executable, "-m", "llama_cpp.server", *words], {}) as address:
        yield address


@contextmanager
def llama_server(model: str, context: int, threads: int, slots: int = 4) -> Iterator[str]:
    """llama.cpp's own server with a GGUF, `slots` requests at once; its base URL."""
    size = ["--ctx-size", str(context * slots), "--parallel", str(slots), "--threads", str(threads)]
    with _running([str(built_llama_server()), "--model", model, *size], {}) as address:
        yield address


def built_llama_server() -> Path:
    """llama.cpp's server: $QUANTEXP_LLAMA_SERVER, else made once of the source that llama-cpp-python itself is made of.

    Takes CMake, a C++ compiler and ten minutes or so on two cores; the result stays in this system's cache folder.
    """
    if given := os.environ.get("QUANTEXP_LLAMA_SERVER"):
        return Path(given)
    release = version("llama-cpp-python")
    target = user_cache_path("quantexp") / "llama-server" / release / "llama-server"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name("lock")), tempfile.TemporaryDirectory(dir=target.parent) as folder:
        if not target.is_file():
            _build(Path(folder), release, target)
    return target


def _build(folder: Path, release: str, target: Path) -> None:
    package = f"llama-cpp-python=={release}"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    _run(*download, "--no-build-isolation", "--dest", str(folder), package)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    [source] = folder.glob("*/vendor/llama.cpp")
    off = [f"-D{option}=OFF" for option in ("LLAMA_CURL", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_UI")]
    static = ["-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_SERVER=ON", "-DCMAKE_BUILD_TYPE=Release"]
    _run("cmake", "-S", str(source), "-B", str(folder / "build"), *static, *off)
    cores = str(len(os.sched_getaffinity(0)))
    _run("cmake", "--build", str(folder / "build"), "--target", "llama-server", "--parallel", cores)
    shutil.move(folder / "build" / "bin" / "llama-server", target)


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command[:3])} ... failed:\n{done.stdout[-2000:]}")


@contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    """A server on a free port, from its first sign of life to the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile("w+") as log:
        whole = [*command, "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(whole, stdout=log, stderr=log, env={**os.environ, **environment})
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
        for page in ("health", "v1/models"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=5):
                return True
    except urllib.error.HTTPError as error:
        return error.code == 404 and _lists_models(port)
    except OSError:
        return False
    return False


if __name__ == "__main__":
    print(built_llama_server())
