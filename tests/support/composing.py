"""Configurations, composed in this process as the commands compose them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from quantexp.config import Config
from quantexp.config.composition import SweepLoader, job_of
from quantexp.config.hydra_schemas import register_schemas


@contextmanager
def initialize_hydra() -> Iterator[None]:
    """Let Hydra compose from conf/ within the block; jobs as a sweep does (tests/config/test_composition.py)."""
    register_schemas()
    with initialize_config_module("quantexp.conf", version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        assert isinstance(hydra.config_loader, ConfigLoaderImpl)
        hydra.config_loader = _share_loader(hydra.config_loader)
        yield


_shared: list[SweepLoader] = []


def _share_loader(loader: ConfigLoaderImpl) -> SweepLoader:
    """Return one loader for all tests: what they choose alike is composed once."""
    if not _shared:
        _shared.append(SweepLoader(loader))
    return _shared[0]


def compose_sweep(*overrides: str) -> DictConfig:
    """Compose what Hydra hands to the callback of a sweep; only where Hydra is initialized."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    return hydra.compose_config("config", list(overrides), run_mode=RunMode.MULTIRUN, from_shell=False)


def compose_job(*overrides: str) -> Config:
    """Compose a job; only where Hydra is initialized."""
    return job_of(GlobalHydra.instance().config_loader().load_sweep_config(_compose_bare_sweep(), list(overrides)))


@cache
def _compose_bare_sweep() -> DictConfig:
    return compose_sweep()
