"""The inside of the process in which jobs run (`job_process`): calls one after the other, until the parent ends it.

Ctrl-C at a terminal and the signals of schedulers reach both processes. Here they are passed over: the parent decides,
and says so on a connection of its own. Where the parent dies, this process dies at once, so that the same command finds
its runs abandoned.
"""

import gc
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from types import FrameType
from typing import IO, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from omegaconf import OmegaConf

from quantexp.util.error_reports import explain_error
from quantexp.util.errors import UserError
from quantexp.util.garbage import collect_rarely
from quantexp.util.provenance import provenance

log = logging.getLogger(__name__)

Connection = Any
"""multiprocessing's; its type has type parameters in some versions and none in others."""

PASSED_OVER = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals of terminals and schedulers that are the parent's to obey."""

HELD = (signal.SIGINT, *PASSED_OVER)
"""Signals that wait until this process is ready for them."""


class RemoteTracebackError(Exception):
    """The traceback of an error in the other process, as text: the cause of that error in this one."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _levels() -> dict[str | None, int]:
    """Return the level of the root logger and of each other that has one."""
    known = {name: each for name, each in logging.root.manager.loggerDict.items() if isinstance(each, logging.Logger)}
    return {None: logging.root.level, **{name: each.level for name, each in known.items() if each.level}}


def _hydra() -> Any:
    """Hydra's configuration without its types, which plugins bring and not every process can find; None outside it."""
    composed = HydraConfig.instance().cfg
    return None if composed is None else OmegaConf.to_container(composed)


@dataclass
class Surroundings:
    """Surroundings of a call: the caller's folder, variables, levels of loggers and Hydra configuration."""

    folder: str = field(default_factory=os.getcwd)
    variables: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    levels: Mapping[str | None, int] = field(default_factory=_levels)
    hydra: Any = field(default_factory=_hydra)

    def adopt(self, before: Mapping[str, str]) -> None:
        """Make them those of this process; variables that were the same `before` stay as this process has set them."""
        os.chdir(self.folder)
        for name in before.keys() - self.variables.keys():
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in self.variables.items() if before.get(name) != value})
        for logger, level in self.levels.items():
            logging.getLogger(logger).setLevel(level)
        HydraConfig.instance().cfg = None if self.hydra is None else OmegaConf.create(self.hydra)


class _Records(logging.handlers.QueueHandler):
    """Sends log records to the parent, and answers between them."""

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send one record; a parent that is gone needs none."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.queue.send(record)  # type: ignore[attr-defined] # a connection

    def answer(self, value: object) -> None:
        """Send what is no record, and not in the middle of one that another thread sends."""
        self.acquire()
        try:
            self.queue.send(value)  # type: ignore[attr-defined]
        finally:
            self.release()


def answer_requests(requests: Connection, interrupts: Connection, stderr: str) -> None:
    """Make the calls that are asked for, until one is interrupted or the parent ends this process.

    Args:
        requests: takes a `Surroundings`, a function and its arguments; gives log records, and for each call its value,
            its error or None, and that one's traceback.
        interrupts: takes anything, which interrupts the present call.
        stderr: file for what C libraries write to standard error; it is unlinked.
    """
    before: Mapping[str, str] = dict(os.environ)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["GGML_NO_BACKTRACE"] = "1"  # it would call a debugger, and fill the terminal
    written = _divert_stderr(Path(stderr))
    _forget_parent()
    setup_globals()
    records = _Records(requests)
    logging.root.handlers[:] = [records]
    with suppress(KeyboardInterrupt), collect_rarely():
        _obey_parent(interrupts)
        while True:
            given: tuple[object, BaseException | None, str]
            try:
                surroundings, function, arguments = requests.recv()
                surroundings.adopt(before)
                before = surroundings.variables
                given = function(*arguments), None, ""
            except BaseException as error:  # noqa: BLE001 - nothing is swallowed: the parent raises it
                given = None, _portable(error), traceback.format_exc()
            for line in written.read().decode("utf-8", "replace").splitlines():
                log.debug("%s", line)
            records.answer(given)
            if isinstance(given[1], KeyboardInterrupt | SystemExit):
                return


def _divert_stderr(path: Path) -> IO[bytes]:
    """Send what C libraries write to a file, while Python goes on writing to the terminal; the file, to be read."""
    if sys.stderr is not None:  # it may have been closed
        sys.stderr.flush()
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    written = path.open("rb")
    path.unlink()  # both have it open
    return written


def _forget_parent() -> None:
    """After a fork: take nothing for this process's own that is the parent's."""
    provenance.cache_clear()
    if (sqlalchemy := sys.modules.get("sqlalchemy")) is not None:
        for engine in [each for each in gc.get_objects() if isinstance(each, sqlalchemy.Engine)]:
            engine.dispose(close=False)  # its connections to databases


def _obey_parent(interrupts: Connection) -> None:
    """From now on a call is interrupted when the parent says so, and at no other time; without it there is none."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    main = threading.main_thread().ident
    assert main is not None
    asked = threading.Event()

    def interrupt(number: int, _: FrameType | None) -> None:
        if asked.is_set():
            asked.clear()
            raise KeyboardInterrupt

    def watch() -> None:
        while interrupts in connection.wait([interrupts, parent.sentinel]):
            try:
                interrupts.recv()
            except (EOFError, ConnectionResetError):
                break
            asked.set()
            signal.pthread_kill(main, signal.SIGINT)  # out of whatever the main thread waits in
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="quantexp parent", daemon=True).start()
    signal.signal(signal.SIGINT, interrupt)
    for number in PASSED_OVER:
        signal.signal(number, _pass_over)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def _pass_over(number: int, _: FrameType | None) -> None:
    """Do nothing; unlike SIG_IGN, programs that a job starts do not inherit it."""


def _portable(error: BaseException) -> BaseException:
    """Return the error, or where another process could not read it, one that says the same."""
    try:
        read = pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever a foreign class does when it is pickled, its words go on
        read = None
    if type(read) is type(error) and str(read) == str(error):
        return error
    sentence = explain_error(error)
    return UserError(sentence) if sentence is not None else RuntimeError(f"{type(error).__name__}: {error}")
