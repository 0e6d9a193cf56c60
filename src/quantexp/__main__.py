"""`python -m quantexp`: one job, or with -m a sweep of them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from quantexp.config import Config, register_schemas
from quantexp.errors import past_hydra, reported
from quantexp.sweep import PARENT, Conclusion
from quantexp.validation import validated

if TYPE_CHECKING:
    from quantexp.store import CompletionStore
    from quantexp.tracking import Store

# Opened once a process: the jobs of a local sweep follow each other here.
_stores: dict[str, "Store"] = {}
_completions: dict[str, "CompletionStore"] = {}


@hydra.main(version_base="1.3", config_path="pkg://quantexp.conf", config_name="config")
def _app(composed: DictConfig) -> float:
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        return _run(composed, os.environ[PARENT])
    with past_hydra():
        return _run(composed, None)


def _run(composed: DictConfig, sweep: str | None) -> float:
    config = validated(composed, Config)
    # Only now: composing, --help and shell completion do without these heavy imports.
    from quantexp.job import run_job
    from quantexp.store import CompletionStore
    from quantexp.tracking import Store

    key = repr(config.tracking)
    if key not in _stores:
        _stores[key] = Store(config.tracking)
    folder = config.store.folder
    if folder not in _completions:
        _completions[folder] = CompletionStore(Path(folder).expanduser().absolute())
    return run_job(config, _stores[key], _completions[folder], sweep)


def main() -> None:
    """Entry point."""
    register_schemas()
    with reported(), Conclusion():
        _app()


if __name__ == "__main__":
    main()
