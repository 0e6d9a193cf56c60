"""Configurations, composed in this process as the commands compose them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from hydra import compose, initialize_config_module

from quantexp.config import Config
from quantexp.config.hydra_schemas import register_schemas
from quantexp.config.validation import validated


@contextmanager
def initialize_hydra() -> Iterator[None]:
    """Let Hydra compose from conf/ within the block."""
    register_once()
    with initialize_config_module("quantexp.conf", version_base="1.3"):
        yield


@cache
def register_once() -> None:
    """Make the configuration's types known to Hydra."""
    register_schemas()


def compose_job(*overrides: str) -> Config:
    """Compose a job; only where Hydra is initialized."""
    return validated(compose("config", list(overrides)), Config)
