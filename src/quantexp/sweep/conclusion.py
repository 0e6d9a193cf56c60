"""Conclusion of a command: when the jobs of its sweep have ended, however they ended, they are compared."""

import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from quantexp.config import Config
from quantexp.config.condition import name_condition
from quantexp.util import slurm
from quantexp.util.errors import UserError
from quantexp.util.launcher_errors import sentence_of_launcher
from quantexp.util.redaction import hide_secrets

if TYPE_CHECKING:
    from quantexp.tracking.run import Run
    from quantexp.tracking.store import Store

log = logging.getLogger(__name__)


class OpenSweep:
    """The sweep that this process launched."""

    def __init__(self, store: "Store", run: "Run", jobs: Sequence[Config], folder: Path, launcher: str) -> None:
        self.store, self.run, self.jobs, self.folder, self.launcher = store, run, jobs, folder, launcher


_open: OpenSweep | None = None


def expect_end(sweep: OpenSweep) -> None:
    """Have `Conclusion` compare this sweep's jobs."""
    global _open
    _open = sweep


class Conclusion:
    """Around the whole command: when the jobs of a sweep have ended, however they ended, compare them.

    Leaves with exit status 1 when a job failed or a pair could not be compared.
    """

    def __enter__(self) -> None:
        signal.signal(signal.SIGTERM, _exit)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, _exit)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if _open is None:
            return
        if error is not None:
            from quantexp.sweep.launchers import end_others  # only now: a configuration is shown without it

            end_others(_open.launcher)
        if isinstance(error, KeyboardInterrupt | SystemExit):
            _close_killed(_open)
            if _open.launcher == "slurm":
                log.info("Slurm's jobs go on; scancel --name=%s ends them", slurm.JOB_NAME.format(sweep=_open.run.id))
            log.info(
                "the same command goes on from here; compare what has finished with: %s",
                _AGAIN.format(sweep=_open.run.id),
            )
            return
        if error is not None and (sentence := sentence_of_launcher(error)) is not None:
            log.error("%s", sentence)
        ended = True
        if _open.launcher == "slurm" and error is not None:
            log.info("waiting for the jobs that Slurm still has")  # submitit waits for none after one that was killed
            ended = slurm.wait_for(_open.run.id)
        complete = False
        try:
            if not _all_there(_open):
                raise SystemExit(1)
            for name in _open.store.close_jobs(_open.run.id, ended=ended):
                log.warning("%s: its process was killed", name)
            if error is not None and not _open.store.has_jobs(_open.run.id):
                _open.run.log(tags={"error": hide_secrets(str(error))[:5000]})
                return
            complete = _compare(_open)
            if not complete:
                log.info("once that is mended, compare with: %s", _AGAIN.format(sweep=_open.run.id))
        finally:
            _open.run.close("FINISHED" if complete else "FAILED")
        if not complete:
            raise SystemExit(1)


_AGAIN = "python -m quantexp.aggregate sweep={sweep}"


def _close_killed(sweep: OpenSweep) -> None:
    """Mark what was interrupted; nobody who has pressed Ctrl-C waits for a server, and the next command does it too."""
    from quantexp.tracking.errors import ServerAwayError
    from quantexp.tracking.outbox import few_attempts

    try:
        with few_attempts():
            sweep.store.close_jobs(sweep.run.id, ended=False)
    except ServerAwayError as error:
        log.warning("%s", error)
    sweep.run.close("KILLED")


def _all_there(sweep: OpenSweep) -> bool:
    """Return whether the tracking server has all that the jobs have written down for it; it is given some minutes."""
    kept = sweep.store.send(patient=True)
    if kept.waiting:
        log.error(
            "the tracking server %s %s, so %d runs are kept here (%s); once it is there: python -m quantexp.sync, and "
            "then: %s", sweep.store.shown, kept.reason, len(kept.waiting), ", ".join(kept.waiting),
            _AGAIN.format(sweep=sweep.run.id),
        )  # fmt: skip
    return not kept.waiting and sweep.run.send(patient=True)


def _compare(sweep: OpenSweep) -> bool:
    from quantexp.aggregate import aggregate
    from quantexp.config.fingerprint import config_fingerprint
    from quantexp.evaluation.finished_jobs import name_job

    asked = sweep.store.asked(sweep.run.id)
    missing = [job for job in sweep.jobs if config_fingerprint(job) not in asked]
    if missing:
        names = ", ".join(map(name_job, missing))
        log.error("%d of %d jobs have not begun: %s", len(missing), len(sweep.jobs), names)
    try:
        complete, compared = aggregate(sweep.jobs[0].stats, sweep.store, sweep.run.id, [], sweep.folder / "report")
    except UserError as error:
        log.error("%s", error)
        return False
    # Who runs one condition alone has asked for its scores.
    wanted = len({name_condition(job) for job in sweep.jobs}) > 1
    return complete and not missing and (compared or not wanted)


_ended_by: list[int] = []
"""Numbers of the signals that have asked this process to end."""


def _exit(number: int, _: FrameType | None) -> None:
    """SIGTERM, or the end of the terminal, as an exception, so that open runs are closed on the way out."""
    _ended_by.append(number)
    raise SystemExit(128 + number)


def obey_lost_signal() -> None:
    """Leave if a signal has asked for it and nobody has seen its exception.

    Python calls handlers wherever it is. What is raised in a finalizer, or beside a fork, goes no further.

    Raises:
        SystemExit: one has.
    """
    if _ended_by:
        raise SystemExit(128 + _ended_by[0])
