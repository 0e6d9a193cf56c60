"""Programs in processes of their own, for work that may break down or obeys a file from anyone.

A program is started by its path and imports nothing of quantexp, so that it starts fast.
"""

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from quantexp.util.terminal import last_line, one_line

ASSERTION = r"[\w.-]+\.\w+:\d+: .+"
"""The line in which llama.cpp says what has failed, with file and line, before it ends its process."""

KILLED = "SIGKILL, by hand or for want of memory"
"""The end of a program that was ended from outside."""

_ENDS: dict[int, str] = {
    signal.SIGILL: "SIGILL, an instruction that the processor does not know",
    signal.SIGKILL: KILLED,
    signal.SIGXCPU: "it did not come to an end",
}

_KEPT = ("PATH", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Variables without which Python may not start; the others hold tokens and keys."""

_LIMITED = """
import resource, runpy, sys
for name, most in zip(("RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_AS"), (0, *map(int, sys.argv[1:3]))):
    hard = resource.getrlimit(getattr(resource, name))[1]
    try:
        if most >= 0:
            resource.setrlimit(getattr(resource, name), (most, most if name == "RLIMIT_AS" else hard))
    except (ValueError, OSError):
        pass  # a lower limit holds already, or the system knows no such limit
del sys.argv[:3]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Sets limits and becomes the program: seconds and bytes, -1 for no limit, then the path and the arguments."""


def start_program(
    program: Path, *arguments: str, seconds: int = -1, memory: int = -1, **options: Any
) -> subprocess.Popen[str]:
    """Start a program, without core dumps and debuggers.

    Args:
        program: its path.
        arguments: its own.
        seconds: of computing, after which the system ends it; -1 for no limit. A busy machine does not count.
        memory: bytes of address space; -1 for no limit.
        options: of `subprocess.Popen`.
    """
    # -P: no folder is searched in which modules may be named like Python's own.
    command = [sys.executable, "-P", "-c", _LIMITED, str(seconds), str(memory), str(program), *arguments]
    environment = {**options.pop("env", os.environ), "GGML_NO_BACKTRACE": "1"}  # llama.cpp would call a debugger
    # A session of its own: Ctrl-C is for the parent, and would look like the program's failure.
    return subprocess.Popen(command, env=environment, start_new_session=True, **options)


def run_program(program: Path, *arguments: str, seconds: int) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever that is; its exit status and what it has written.

    Args:
        program: its path.
        arguments: its own.
        seconds: of computing, after which the system ends it.
    """
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start_program(program, *arguments, seconds=seconds, text=True, errors="replace", **streams) as process:
        try:
            written = process.communicate()
        except BaseException:  # an interrupt, which the program does not get
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, *written)


def describe_end(status: int, written: str) -> str:
    """Say in few words how a program ended.

    Args:
        status: its exit status, below zero for a signal's number.
        written: what it has written to standard error.
    """
    asserted = re.search(ASSERTION, written)
    if asserted and status < 0 and status != -signal.SIGXCPU:
        return one_line(asserted[0])
    if status < 0:
        return _ENDS.get(-status) or name_signal(-status)
    return last_line(written) or f"exit status {status}"


def name_signal(number: int) -> str:
    """Name a signal; some systems have signals without a name."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


class ProgramEndError(Exception):
    """The end of a program that should have answered.

    Attributes:
        status: its exit status, below zero for a signal's number.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class AnsweringProgram:
    """A program that answers each line with a line, and is given no secret.

    One process for all questions of this one; started when it is needed, and again after its end.

    Args:
        program: its path.
        memory: bytes of address space.
    """

    def __init__(self, program: Path, memory: int) -> None:
        self._program, self._memory = program, memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        atexit.register(self.close)

    def ask(self, question: str) -> str:
        """Ask it one line of ASCII; its answer.

        Raises:
            ProgramEndError: it ended without one.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(question + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
            except BaseException:  # an interrupt: the answer to this question is not to be taken for the next one's
                self._kill()
                raise
            if not answer.endswith("\n"):
                raise ProgramEndError(self._end())
            return answer

    def close(self) -> None:
        """End the process, if it is one of this process's own."""
        with self._lock:
            self._kill()

    def _running(self) -> subprocess.Popen[str]:
        if self._owner != os.getpid():  # a fork: the process is the parent's
            self._process, self._owner = None, os.getpid()
        if self._process is None:
            self._process = start_program(
                self._program,
                memory=self._memory,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="ascii",
                env={name: os.environ[name] for name in _KEPT if name in os.environ},
            )
        return self._process

    def _end(self) -> int:
        """Return the exit status of the process, which has closed its output."""
        assert self._process is not None
        try:
            return self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return 0
        finally:
            self._kill()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
