"""Finished jobs that stand for others; without the imports of a job that runs."""

import logging
import os

from quantexp.config import Config
from quantexp.config.condition import find_reference, name_condition, parse_baseline, read_levels
from quantexp.config.fingerprint import config_fingerprint
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.store import Store
from quantexp.tracking.tags import CONFIG, FACTOR, PAIR, job_name
from quantexp.util.environment import SEVERAL_MODELS

log = logging.getLogger(__name__)


def name_job(config: Config) -> str:
    """Name a job for the terminal; with its model if the sweep has several."""
    model = config.model.name if SEVERAL_MODELS in os.environ else ""
    return job_name(name_condition(config), config.task.name, config.seed, model)


def tag_levels(config: Config) -> dict[str, str]:
    """Return the tags with a job's level of each factor besides the quant."""
    return {FACTOR + name: level for name, level in read_levels(config).items()}


def find_baseline(config: Config, pair: str, store: Store, sweep: str | None) -> JobRecord | None:
    """Return the finished run of the baseline's job that this one is compared with; None if there is none.

    Args:
        config: of this one.
        pair: what both have in common (`pair_fingerprint`).
        store: where they are recorded.
        sweep: id of the run that this one belongs to, if any.
    """
    weights = parse_baseline(config.stats.baseline).weights
    return store.find_baseline(pair, weights, find_reference(config), sweep)


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
    tags = {PAIR: pair, CONFIG: config_fingerprint(config), **tag_levels(config)}
    store.reuse(done, sweep, tags, traces=config.tracking.traces)
    log.info("%s: finished before (run %s); force=true runs it again", name_job(config), done.run_id[:8])
    return done.metrics["score"]
