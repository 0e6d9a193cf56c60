"""`python -m quantexp`: one job, or with -m a sweep of them."""

import os
import sys
from functools import partial

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from quantexp.config.command_line import command_line
from quantexp.config.hydra_schemas import register_schemas
from quantexp.models.expansion import expand_arguments
from quantexp.sweep.conclusion import Conclusion, obey_lost_signal
from quantexp.sweep.shown_reader import reader_shown
from quantexp.util.environment import PARENT
from quantexp.util.error_reports import past_hydra


@hydra.main(version_base="1.3", config_path="pkg://quantexp.conf", config_name="config")
def _app(composed: DictConfig) -> float:
    from quantexp.sweep import worker

    obey_lost_signal()
    if HydraConfig.get().mode is RunMode.MULTIRUN:
        return worker.run(composed, os.environ[PARENT])
    with past_hydra():
        return worker.run(composed, None)


def main() -> None:
    """Entry point."""
    with command_line("quantexp", partial(register_schemas, "schema")), Conclusion():
        sys.argv[1:] = expand_arguments(sys.argv[1:])
        with reader_shown(sys.argv[1:]):
            _app()
        obey_lost_signal()


if __name__ == "__main__":
    main()
