"""A process that has jobs run, the launching one or one of a launcher: each job in a process that it watches."""

import os
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from quantexp.config import Config, Method
from quantexp.config.fingerprint import config_fingerprint, job_fingerprint, pair_fingerprint
from quantexp.config.validation import validated
from quantexp.util import job_process
from quantexp.util.environment import DEVICES, FOLDER, PROCESSES
from quantexp.util.error_reports import return_to_start
from quantexp.util.errors import UserError
from quantexp.util.files import keep_from_others
from quantexp.util.process_death import ProcessDeathError

if TYPE_CHECKING:
    from filelock import FileLock

    from quantexp.store import CompletionStore
    from quantexp.tracking.store import Store

_facts: dict[str, Mapping[str, str]] = {}
"""What jobs' fingerprints are made of besides their config, by the fingerprint of that."""

# The launching process's own: a process that is forked from it must not use its locks and connections.
_launching_store: "Store | None" = None

# Opened once a process: a process runs one job after the other.
_stores: dict[str, "Store"] = {}
_completions: dict[str, "CompletionStore"] = {}


def run(composed: DictConfig, sweep: str | None) -> float:
    """Have one job run.

    Args:
        composed: its configuration, as Hydra has it.
        sweep: id of the run that it belongs to, if any.

    Returns:
        The mean score, between 0 and 1.

    Raises:
        UserError: the configuration cannot be run.
        ProcessDeathError: llama.cpp, or the system, has ended the job.
    """
    keep_from_others()  # a launcher may have started this process with another umask
    config = validated(composed, Config)
    return_to_start()
    fingerprint = _fingerprint_here(config)
    # A job that has finished before is found here, so that the process that could run it imports nothing for it.
    if fingerprint is not None and (score := _reuse(config, fingerprint, sweep)) is not None:
        return score
    if (started := os.environ.get(FOLDER)) is not None:  # this process has begun in another
        os.chdir(started)
    if (variable := os.environ.get(DEVICES)) is not None:
        # Before llama.cpp is loaded, which looks only once.
        claim_device(variable, Path(HydraConfig.get().sweep.dir).absolute() / ".devices")
    try:
        return job_process.call(run_here, config, sweep, fingerprint)
    except ProcessDeathError as death:
        job_process.call(record_death, config, sweep, death)  # in a new one, which has MLflow loaded
        raise


def needs_only_facts(config: Config) -> bool:
    """Tell whether a job is the same as another if its config, its data, its grader and its model's file are."""
    return config.stats.method is not Method.sequential and not config.divergence


def remember_facts(jobs: Sequence[Config], facts: Sequence[Mapping[str, str]], store: "Store") -> None:
    """Remember what the fingerprint of each job is made of besides its config, and where to look for it.

    Args:
        jobs: those that this process will have run.
        facts: of each; empty if only the job itself knows them.
        store: the open one.
    """
    global _launching_store
    _launching_store = store
    _facts.clear()
    _facts.update({config_fingerprint(job): known for job, known in zip(jobs, facts, strict=True) if known})


def _fingerprint_here(config: Config) -> str | None:
    """Fingerprint of the job, if this process knows all that it is made of and may look for a finished run."""
    known = None if config.force else _facts.get(config_fingerprint(config))
    return None if known is None else job_fingerprint(config, **known)


def _reuse(config: Config, fingerprint: str, sweep: str | None) -> float | None:
    """Let a finished run of the job count in the sweep; the score, or None if the job has to run."""
    from quantexp.evaluation.finished_jobs import adopt

    store, known = _launching_store, _facts[config_fingerprint(config)]
    assert store is not None  # the facts came with it
    if (done := store.finished_job(fingerprint)) is None:
        return None
    pair = pair_fingerprint(config, **{name: fact for name, fact in known.items() if name != "source"})
    return adopt(config, pair, done, store, sweep)


def run_here(config: Config, sweep: str | None, unfinished: str | None = None) -> float:
    """Run one job in this very process; the mean score.

    Args:
        config: what to run.
        sweep: id of the run that it belongs to, if any.
        unfinished: fingerprint of a job of which the caller has found no finished run (`run_job`).

    Raises:
        UserError: the configuration cannot be run.
    """
    # Only now: composing, --help and shell completion do without these heavy imports.
    from quantexp.evaluation.job import run_job
    from quantexp.store import CompletionStore

    folder = config.store.folder
    if folder not in _completions:
        _completions[folder] = CompletionStore(Path(folder).expanduser().absolute())
    return run_job(config, _store_of(config), _completions[folder], sweep, unfinished)


def record_death(config: Config, sweep: str | None, death: ProcessDeathError) -> None:
    """Mark the run of a job as FAILED whose process has died; where none had begun, begin one.

    Raises:
        ProcessDeathError: the same, where none had begun.
    """
    from quantexp.evaluation.job import open_failed_run

    store = _store_of(config)
    if not store.fail_left(death.process, str(death)):
        with open_failed_run(config, store, sweep):
            raise death


def _store_of(config: Config) -> "Store":
    from quantexp.tracking.store import Store

    key = repr(config.tracking)
    if key not in _stores:
        _stores[key] = Store(config.tracking)
    return _stores[key]


@cache
def claim_device(variable: str, folder: Path, patience: float = 60) -> "FileLock":
    """Let this process see one of the GPUs, for as long as it lives.

    Where there are more processes than GPUs, each GPU is shared by as few as possible.

    Args:
        variable: the environment variable that names all of them; it is set to the one.
        folder: where the processes lock what they have taken; the system unlocks what a dead one had.
        patience: seconds to wait for a process that is just ending.

    Raises:
        UserError: others have taken everything.
    """
    from filelock import FileLock, Timeout

    devices = os.environ[variable].split(",")
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    while True:
        for slot in range(int(os.environ[PROCESSES])):
            lock = FileLock(folder / f"{slot}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            os.environ[variable] = devices[slot % len(devices)]
            return lock
        if time.monotonic() > deadline:
            raise UserError(f"All of {variable}={','.join(devices)} are taken; raise hydra.launcher.n_jobs.")
        time.sleep(0.1)
