"""Composition of a sweep's jobs, each once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import cast

from hydra import initialize_config_module
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf

from quantexp.config.schema import Config
from quantexp.config.validation import validated
from quantexp.util.errors import UserError


class SweepLoader(ConfigLoaderImpl):
    """A config loader that composes each job of a sweep once.

    Hydra composes a job when its sweeper checks it and when the launcher starts it, and quantexp does before both, each
    time from every YAML file of every group. Jobs that choose the same options of all groups share one composition,
    in which only the values differ.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self.__dict__.update(vars(loader))
        self._jobs: dict[tuple[str, ...], DictConfig] = {}
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def __getstate__(self) -> dict[str, object]:
        """Leave out what is composed: launchers send the loader along with every job."""
        return {**self.__dict__, "_jobs": {}, "_bases": {}}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Compose a job, or return what was composed for the same overrides before.

        Raises:
            hydra.errors.HydraException: it cannot be composed.
        """
        job = (*_hydra_overrides(master_config), *sweep_overrides)
        if job not in self._jobs:
            self._jobs[job] = self._compose(master_config, sweep_overrides)
        return self._jobs[job]

    def _compose(self, master_config: DictConfig, overrides: list[str]) -> DictConfig:
        parsed = OverridesParser.create(config_loader=self).parse_overrides(overrides)
        values = [each for each in parsed if self._is_value(each)]
        choices = [each for each in parsed if not self._is_value(each)]
        if master_config.hydra.searchpath or not all(
            self.repository.group_exists(each.key_or_group) for each in choices
        ):
            # Groups may lie elsewhere too; and of keys that are added or removed the order among the others counts.
            return super().load_sweep_config(master_config, overrides)
        lines = [str(each.input_line) for each in choices]
        base = (*_hydra_overrides(master_config), *lines)
        if base not in self._bases:
            self._bases[base] = super().load_sweep_config(master_config, lines)
        # Not by pickle, which is quicker: Hydra loads a plugin twice, so that its types are not those it would find.
        composed = deepcopy(self._bases[base])
        self._apply_overrides_to_config(values, composed)
        composed.hydra.overrides.task = overrides
        if hasattr(config_loader_impl, "get_overrides_dirname"):  # from Hydra 1.4 on a resolver of its own makes it
            form = composed.hydra.job.config.override_dirname
            composed.hydra.job.override_dirname = config_loader_impl.get_overrides_dirname(
                overrides=parsed, kv_sep=form.kv_sep, item_sep=form.item_sep, exclude_keys=form.exclude_keys
            )
        OmegaConf.copy_cache(from_config=master_config, to_config=composed)
        return composed

    def _is_value(self, override: Override) -> bool:
        """Return whether it only sets a key that is there."""
        changes_keys = override.is_add() or override.is_force_add() or override.is_delete()
        is_group = override.package is not None or self.repository.group_exists(override.key_or_group)
        return not (changes_keys or is_group or override.is_hydra_override())


def _hydra_overrides(config: DictConfig) -> list[str]:
    """List what Hydra's own part of every job is changed by; launchers are set up by more of it after the check."""
    return [str(each) for each in config.hydra.overrides.hydra]


def compose_once() -> None:
    """Let Hydra, its sweeper and its launchers compose each job of the sweep that begins once."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    assert isinstance(hydra.config_loader, ConfigLoaderImpl)
    hydra.config_loader = SweepLoader(hydra.config_loader)


def compose_ahead(words: Sequence[str], *, folder: str | None = None, name: str | None = None) -> DictConfig:
    """Compose what a command asks for before Hydra does, without the keys that are swept.

    The baseline is missing unless something but its type gives it.

    Args:
        words: its overrides.
        folder: of further files of configuration.
        name: of the main one.

    Raises:
        hydra.errors.HydraException: it cannot be composed.
    """
    words = [*words, *([] if folder is None else [f"hydra.searchpath=['file://{Path(folder).absolute()}']"])]
    is_there = GlobalHydra.instance().is_initialized()
    conf = nullcontext() if is_there else initialize_config_module("quantexp.conf", version_base="1.3")
    with conf, _without_default("stats.baseline"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        return hydra.compose_config(name or "config", words, run_mode=RunMode.MULTIRUN, with_log_configuration=False)


def compose_option(group: str, option: str) -> DictConfig:
    """Compose an option alone, without what the other groups hold; only where Hydra is initialized.

    Raises:
        hydra.errors.HydraException: it needs another group.
    """
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    files = CachingConfigRepository(loader.repository)
    chosen = create_defaults_list(files, f"{group}/{option}", [], prepend_hydra=False, skip_missing=False)
    composed: DictConfig = loader._compose_config_from_defaults_list(chosen.defaults, files)[group]
    return composed


@contextmanager
def _without_default(key: str) -> Iterator[None]:
    """Have the schema of a job leave a key missing that has a default."""
    store = ConfigStore.instance()
    kept = store.repo["schema.yaml"]
    node = deepcopy(kept.node)
    OmegaConf.update(node, key, MISSING)
    store.store(name="schema", node=node)
    try:
        yield
    finally:
        store.repo["schema.yaml"] = kept


def quote_value(text: str, quote: Quote = Quote.single) -> str:
    """Return the text as a value in quotes, which Hydra's grammar reads back."""
    return QuotedString(text, quote).with_quotes()


def replace_overrides(arguments: Sequence[str], change: Callable[[Sequence[str]], Sequence[str]]) -> list[str]:
    """Return a command's arguments with other overrides; flags, and their values, stay where they are.

    Args:
        arguments: of the command.
        change: returns the overrides in the place of those that it is given.
    """
    words = get_args_parser().parse_known_args(list(arguments))[0].overrides
    begin = next(at for at in range(len(arguments) + 1) if list(arguments[at : at + len(words)]) == words)
    return [*arguments[:begin], *change(words), *arguments[begin + len(words) :]]


def compose_jobs(config: DictConfig) -> Iterator[Config]:
    """Compose the configuration of every job of a sweep, checked: a wrong value in the last one stops the first.

    Raises:
        UserError: a value is outside its range, or what it names is not there.
    """
    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides([*swept, *_overrides(config)])
    for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None):
        for job in batch:
            yield job_of(loader.load_sweep_config(config, list(job)))


def job_of(composed: DictConfig) -> Config:
    """Return the configuration of one job, checked.

    Raises:
        UserError: a value is outside its range, or what it names is not there.
    """
    for override in _overrides(composed):
        key, _, value = override.partition("=")
        # Hydra would lay all the listed options over each other; the last one would win without a word.
        groups = {"task/sampling", "task.sampling", *(field.name for field in fields(Config))}
        if value.startswith("[") and key in groups:
            raise UserError(f"{override}: a job takes one option; leave out the brackets, and add -m for several jobs.")
    own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    return validated(own, Config)


def _overrides(config: DictConfig) -> list[str]:
    """Return the overrides as typed: ${quant.name} means the quant of each job, not the one of this config."""
    return cast(list[str], OmegaConf.to_container(config.hydra.overrides.task, resolve=False))
