"""Finished jobs that stand for others; without the imports of a job that runs."""

import logging
import os

from quantexp.config import Config
from quantexp.config.fingerprint import config_fingerprint
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import CONFIG, PAIR, job_name
from quantexp.util.environment import SEVERAL_MODELS

log = logging.getLogger(__name__)


def name_job(config: Config) -> str:
    """Name a job for the terminal; with its model if the sweep has several."""
    model = config.model.name if SEVERAL_MODELS in os.environ else ""
    return job_name(config.quant.name, config.task.name, config.seed, model)


def adopt(config: Config, pair: str, done: JobRecord, store: Store, sweep: str | None) -> float:
    """Let a job that has finished before stand for this one.

    Args:
        config: of this one.
        pair: what it has in common with the baseline's job (`pair_fingerprint`).
        done: the one that has finished.
        store: where that is.
        sweep: id of the run that it is to count in, if any.

    Returns:
        The mean score, between 0 and 1.
    """
    tags = {PAIR: pair, CONFIG: config_fingerprint(config)}
    store.reuse(done, sweep, tags, traces=config.tracking.traces)
    log.info("%s: finished before (run %s); force=true runs it again", name_job(config), done.run_id[:8])
    return done.metrics["score"]
