"""The watched process in which jobs run: llama.cpp may abort there, and the command that waits for it goes on.

A process that runs a command or a launcher's jobs has one, kept from job to job with the model that it has loaded, and
replaced after a death. Its log lines are handled by its parent, so that they appear once, in order and as configured.
"""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import connection, resource_tracker, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import TypeVar, cast

from quantexp.util.errors import UserError
from quantexp.util.job_process_loop import HELD, RemoteTracebackError, Surroundings, answer_requests
from quantexp.util.process_death import ProcessDeathError, describe_death

Result = TypeVar("Result")

METHOD = "QUANTEXP_START_METHOD"
"""Environment variable with the way in which the process is started: a method of `multiprocessing`, or `NONE`."""

NONE = "none"
"""No process: jobs run in the command's own, for a debugger. Their death is then the command's."""

DEFAULT = "spawn"
"""A fresh interpreter: GPU drivers and OpenMP survive no fork. It starts while the command checks what it was given."""

_process: "JobProcess | None" = None


def start(*modules: str) -> None:
    """Have the process, which is started if there is none, begin to import modules, so that no call waits for them."""
    global _process
    if (method := _method()) == NONE:
        return
    if _process is not None and not _process.is_alive():
        stop()
    if _process is None:
        _process = JobProcess(method)
    if modules:
        _process.send(_import_all, modules)


def load(module: str) -> None:
    """Have the process import a module, and wait for it.

    Raises:
        UserError: the module cannot be used on this machine.
    """
    call(_import_all, [module])


def call(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function in the process, which is started if there is none.

    Args:
        function: of a module; it, its arguments and its result are pickled.
        arguments: its arguments.

    Raises:
        ProcessDeathError: the process ended before the function did.
        UserError: the start method is unknown.
        BaseException: what the function raised; its traceback there is the cause.
    """
    if _method() == NONE:
        return function(*arguments)
    start()
    assert _process is not None
    try:
        _process.send(function, *arguments)
        return cast(Result, _process.receive())
    except (KeyboardInterrupt, SystemExit):
        _process.interrupt()
        raise
    finally:
        if not _process.is_alive():
            stop()


def stop() -> None:
    """End the process, and free what it has loaded; it keeps nothing that is not on disk."""
    global _process
    if _process is not None:
        _process.kill()
        _process = None


def _method() -> str:
    method = os.environ.get(METHOD, DEFAULT)
    if method not in (known := (*multiprocessing.get_all_start_methods(), NONE)):
        raise UserError(f"{METHOD}={method} is unknown; choose one of {', '.join(known)}.")
    return method


def _import_all(names: Sequence[str]) -> None:
    for name in names:
        import_module(name)


class JobProcess:
    """The parent's side of the process: requests go out; log records and answers come back."""

    def __init__(self, method: str) -> None:
        if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
            # A worker of joblib's: its own method, which would be handed on, is unknown in a fresh interpreter.
            multiprocessing.set_start_method(method, force=True)
        context = multiprocessing.get_context(method)
        self._requests, requests = context.Pipe()
        self._interrupts, interrupts = context.Pipe()
        self._unanswered = 0
        # What C libraries write to standard error: a file is never full, and outlives its writer.
        descriptor, name = tempfile.mkstemp(prefix="quantexp-", suffix=".err")
        self._stderr = os.fdopen(descriptor, "rb")
        self._process: BaseProcess = context.Process(  # type: ignore[attr-defined] # of each context, if not of their base
            target=answer_requests, args=(requests, interrupts, name), name="quantexp jobs"
        )
        if method != "fork":
            resource_tracker.ensure_running()  # otherwise started below, where it would let the signals through
        with _without_main(), _held_signals():
            self._process.start()
        requests.close()
        interrupts.close()
        self.id = cast(int, self._process.pid)
        # Before multiprocessing waits for its processes at the end of this one.
        self._end = util.Finalize(self, _end, args=(self._process, name), exitpriority=10)

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return not connection.wait([self._process.sentinel], 0)

    def send(self, function: Callable[..., object], *arguments: object) -> None:
        """Ask for a call of the function."""
        if not self._unanswered:
            self._stderr.seek(0, os.SEEK_END)  # what earlier calls wrote says nothing of this one's end
        with suppress(BrokenPipeError, ConnectionResetError):  # it is dead; `receive` finds out how it died
            self._requests.send((Surroundings(), function, arguments))
        self._unanswered += 1

    def receive(self) -> object:
        """Wait for the answers to all requests; the last one's value.

        Raises:
            ProcessDeathError: the process ended before.
            BaseException: what a call raised.
        """
        value: object = None
        failed: tuple[BaseException, str] | None = None
        while self._unanswered:
            value, error, trace = self._next_answer()
            if error is not None and failed is None:
                failed = error, trace
        if failed is not None:
            raise failed[0] from RemoteTracebackError(failed[1])
        return value

    def interrupt(self) -> None:
        """Let the call end as after Ctrl-C, then end the process; a second interrupt does not wait for the call."""
        with suppress(KeyboardInterrupt, SystemExit, ProcessDeathError, BrokenPipeError, ConnectionResetError):
            self._interrupts.send(None)
            while self._unanswered:
                self._next_answer()
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        self._end()
        for each in (self._requests, self._interrupts, self._stderr):
            each.close()

    def _next_answer(self) -> tuple[object, BaseException | None, str]:
        """Return the next call's value, or its error and traceback; log records on the way are handled."""
        while True:
            ready = connection.wait([self._requests, self._process.sentinel])
            if self._requests not in ready:  # what it sent before its death comes first
                raise self._death()
            try:
                received = self._requests.recv()
            except (EOFError, OSError):  # an OSError where it died in the middle of a message
                raise self._death() from None
            if not isinstance(received, logging.LogRecord):
                self._unanswered -= 1
                return cast(tuple[object, BaseException | None, str], received)
            logger = logging.getLogger(received.name)
            if logger.isEnabledFor(received.levelno):
                logger.handle(received)

    def _death(self) -> ProcessDeathError:
        self._process.join()
        written = self._stderr.read().decode("utf-8", "replace")
        return ProcessDeathError(describe_death(self._process.exitcode, written), self.id)


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep multiprocessing from importing the command's module again: a script may begin a second command thereby."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _held_signals() -> Iterator[None]:
    """Hold signals back until the process that is started here, which inherits that, is ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: BaseProcess, stderr: str) -> None:
    process.kill()
    process.join()
    Path(stderr).unlink(missing_ok=True)  # where it died before it could
