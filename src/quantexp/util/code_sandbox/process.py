"""A process in the sandbox, as the process that has started it sees it."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import psutil

from quantexp.util.code_sandbox.confinement import CALLS
from quantexp.util.errors import UserError
from quantexp.util.sandbox import name_signal
from quantexp.util.terminal import last_line, one_line

PROGRAM = Path(__file__).with_name("program.py")

SECONDS = 5
"""Of computing, for all calls together; a busy machine does not count."""

LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": 2 * SECONDS,
        "RLIMIT_AS": 1 << 30,
        "RLIMIT_FSIZE": 8 << 20,
        "RLIMIT_NOFILE": 32,
    }
)
"""Of the kernel: seconds, bytes of memory, bytes of one file, open files.

The kernel counts seconds by its ticks, and on a busy machine charges a process for far more than it has computed: its
limit is there for the case that nobody watches.
"""

SCRATCH_BYTES, SCRATCH_FILES = 64 << 20, 1000
"""In the scratch folder, at most."""

LONGEST_LINE = 4 << 20
"""Bytes of an answer, at most."""

IDLE_SECONDS, WALL_SECONDS = 10.0, 300.0
"""Of waiting without any computing, and in all, at most."""

_TICK = 0.05

_KEPT = ("LD_LIBRARY_PATH", "PYTHONHOME", "SYSTEMROOT")
"""Variables without which Python may not start; no other crosses."""


class StoppedError(Exception):
    """The end of a process that should have answered.

    Attributes:
        late: whether it had computed, or waited, for too long.
    """

    def __init__(self, words: str, late: bool = False) -> None:
        super().__init__(words)
        self.late = late


def _too_long() -> StoppedError:
    return StoppedError(f"computes for more than {SECONDS} seconds", late=True)


class SandboxProcess:
    """One process in the sandbox, with a scratch folder of its own; both are gone at the end."""

    def __init__(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix=f"quantexp-code-{os.getpid()}-")).resolve()
        """The folder that it may write in."""
        self._buffer = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._begun = self._busy = self._watched = time.monotonic()
        self._computed = 0.0
        self.held: Sequence[str] = ()
        """The mechanisms that hold it."""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a message, and return the answer; it may be anything that JSON can hold.

        Raises:
            StoppedError: the process ended instead, or was stopped.
        """
        return self._exchange(json.dumps(message).encode("ascii") + b"\n")

    def close(self) -> None:
        """Kill it and all that it may have started, and remove the folder."""
        if self._process is not None:
            self._kill()
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _start(self) -> None:
        settings = {"scratch": str(self.scratch), "parent": os.getpid(), "limits": dict(LIMITS)}
        # -S: no installed packages; not -I, which would take PYTHONHASHSEED away.
        options = ("-s", "-S", "-P", "-B", "-X", "utf8")
        self._process = subprocess.Popen(
            [sys.executable, *options, str(PROGRAM), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.scratch,
            env={
                **{name: os.environ[name] for name in _KEPT if name in os.environ},
                "HOME": str(self.scratch),
                "TMPDIR": str(self.scratch),
                "LANG": "C.UTF-8",
                "TZ": "UTC0",
                "PYTHONHASHSEED": "0",
                "MALLOC_ARENA_MAX": "1",  # each further one would take memory that is only reserved
            },
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        try:
            self.held = tuple(map(str, self._exchange(b"")["held"]))
        except (StoppedError, LookupError) as error:
            self._kill()
            assert self._process.stderr is not None
            written = self._process.stderr.read(20_000).decode(errors="replace")
            why = last_line(written) or one_line(str(error))
            raise UserError(f"The sandbox for generated code did not start ({why}); nothing was graded.") from error

    def _exchange(self, data: bytes) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        source, sink = self._process.stdout.fileno(), self._process.stdin.fileno()
        left = memoryview(data)
        poll = select.poll()
        poll.register(source, select.POLLIN)
        if left:
            poll.register(sink, select.POLLOUT)
        while b"\n" not in self._buffer:
            for file, _ in poll.poll(1000 * _TICK):
                if file == sink:
                    try:
                        left = left[os.write(sink, left[:65536]) :]
                    except BrokenPipeError:  # its end is read from the other pipe
                        left = left[:0]
                    if not left:
                        poll.unregister(sink)
                elif read := os.read(source, 1 << 20):
                    self._buffer += read
                else:
                    raise self._explain_end()
            if len(self._buffer) > LONGEST_LINE:
                raise StoppedError("too much output")
            self._watch()
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise StoppedError("it wrote what is no answer") from error
        if not isinstance(answer, dict):
            raise StoppedError("it wrote what is no answer")
        return answer

    def _watch(self) -> None:
        """Stop a process that computes or waits for too long, or writes too much."""
        assert self._process is not None
        now = time.monotonic()
        if now - self._watched < _TICK:
            return
        self._watched = now
        self._check_scratch()
        with suppress(psutil.Error):
            times = psutil.Process(self._process.pid).cpu_times()
            if times.user + times.system > self._computed:
                self._computed, self._busy = times.user + times.system, now
        if self._computed > SECONDS:
            raise _too_long()
        if now - self._busy > IDLE_SECONDS or now - self._begun > WALL_SECONDS:
            raise StoppedError(f"waits for what does not come, for {IDLE_SECONDS:.0f} seconds", late=True)

    def _check_scratch(self) -> None:
        size = files = 0
        for folder, _, names in os.walk(self.scratch):
            for name in names:
                files += 1
                with suppress(OSError):
                    size += os.lstat(Path(folder) / name).st_size
            files += 1
            if size > SCRATCH_BYTES or files > SCRATCH_FILES:
                raise StoppedError("too many or too large files")

    def _explain_end(self) -> StoppedError | UserError:
        """Return how it ended; an end from outside is nobody's grade."""
        assert self._process is not None
        ended = self._has_ended()
        computed = self._kill()
        status = self._process.returncode
        # The kernel's limit, or an end that nobody had watched until then.
        if status == -signal.SIGXCPU or computed > SECONDS - 0.5:
            return _too_long()
        if not ended:
            return StoppedError("ends its process")  # which was killed here
        if status == -signal.SIGKILL and CALLS in self.held:  # which it cannot have sent itself
            return UserError(
                "A process of the sandbox for generated code was killed from outside, perhaps for want of memory; "
                "nothing was graded. Run it again with fewer jobs side by side."
            )
        return StoppedError(f"ends its process ({name_signal(-status)})" if status < 0 else "ends its process")

    def _has_ended(self) -> bool:
        """Return whether it has ended by itself, and not only closed what it should answer on."""
        assert self._process is not None
        for _ in range(40):
            # It is not waited for: its number stays its own until `_kill` has read its status.
            if psutil.Process(self._process.pid).status() == psutil.STATUS_ZOMBIE:
                return True
            time.sleep(_TICK / 2)
        return False

    def _kill(self) -> float:
        """Kill the process with its children, unless that has been done; the seconds that it has computed."""
        process = self._process
        assert process is not None
        if process.returncode is not None:
            return self._computed
        if CALLS not in self.held:  # it can have started others, in sessions of their own
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.Error):
                        child.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self._computed = usage.ru_utime + usage.ru_stime
        return self._computed
