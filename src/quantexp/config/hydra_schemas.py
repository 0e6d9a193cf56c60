"""Registration of the configuration's types with Hydra."""

import warnings
from dataclasses import dataclass
from functools import cache

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from quantexp.config.commands import SCHEMAS
from quantexp.config.hydra_sources import register_sources
from quantexp.config.recommendation import register_resolver
from quantexp.config.schema import Config, EngineConfig
from quantexp.util.native.file_types import list_quants


@dataclass
class ComposedEngineConfig(EngineConfig):
    """The engine while Hydra composes it.

    A bare `on` or `off` in a YAML file is a truth value by then; `validation.typed` makes the choice of it that it is.
    """

    flash_attention: bool | str = "auto"  # type: ignore[assignment]


def register_schemas(*names: str) -> None:
    """Make the types known to Hydra, before it composes anything.

    Args:
        names: of those that will be needed, such as `schema`, a job's; all if none is given.
    """
    _prepare_store()
    for name in names or _BY_NAME:
        _store_schema(name)
    # Hydra warns of an option in a folder of the user's that is called like one of these, and takes the user's.
    warnings.filterwarnings("ignore", r"\s*'quant/.+' is validated against ConfigStore schema", UserWarning)


_BY_NAME: dict[str, type] = {"schema": Config, **{f"{name}_schema": schema for name, schema in SCHEMAS.items()}}


@cache
def _prepare_store() -> None:
    """Put what all commands need where Hydra looks for it, once in a process."""
    store = ConfigStore.instance()
    _rename_plugins(store)
    register_sources()
    register_resolver()
    for name, file_type in list_quants().items():
        store.store(group="quant", name=name, node={"name": name, "file_type": file_type})


@cache
def _store_schema(name: str) -> None:
    """Put a type there, once in a process."""
    node = OmegaConf.structured(_BY_NAME[name])
    if name == "schema":
        node.engine = OmegaConf.structured(ComposedEngineConfig)
    _open_mappings(node)
    ConfigStore.instance().store(name=name, node=node)


def _open_mappings(node: DictConfig) -> None:
    """Let mappings take any key: a task's name, or one that a task needs, as data.columns={question: prompt} does."""
    for key in node:
        if OmegaConf.is_missing(node, key) or not isinstance(value := node[key], DictConfig):
            continue
        if OmegaConf.get_type(value) is dict:
            OmegaConf.set_struct(value, False)
        else:
            _open_mappings(value)


def _rename_plugins(store: ConfigStore) -> None:
    """Make room for the files in conf/hydra/launcher that are called like the plugins which they fill in.

    Hydra would take a schema of the same name as deprecated.
    """
    Plugins.instance()  # finds them
    launchers = store.repo["hydra"]["launcher"]
    for name in ("joblib", "ray"):
        if f"{name}.yaml" in launchers:
            launchers[f"{name}_plugin.yaml"] = launchers.pop(f"{name}.yaml")
