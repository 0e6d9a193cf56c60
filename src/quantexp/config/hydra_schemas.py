"""Registration of the configuration's types with Hydra."""

import warnings
from dataclasses import dataclass

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from quantexp.config.commands import (
    AggregateConfig,
    CompareConfig,
    ExportConfig,
    GateConfig,
    MaintenanceConfig,
    PickConfig,
    PlanConfig,
    RegradeConfig,
    ReproduceConfig,
    SyncConfig,
)
from quantexp.config.recommendation import register_resolver
from quantexp.config.schema import Config, EngineConfig
from quantexp.util.native.file_types import list_quants


@dataclass
class ComposedEngineConfig(EngineConfig):
    """The engine while Hydra composes it.

    A bare `on` or `off` in a YAML file is a truth value by then; `validation.typed` makes the choice of it that it is.
    """

    flash_attention: bool | str = "auto"  # type: ignore[assignment]


def register_schemas() -> None:
    """Make the types known to Hydra, before it composes anything."""
    store = ConfigStore.instance()
    _rename_plugins(store)
    register_resolver()
    schemas = {
        "schema": Config,
        "aggregate_schema": AggregateConfig,
        "regrade_schema": RegradeConfig,
        "plan_schema": PlanConfig,
        "compare_schema": CompareConfig,
        "gate_schema": GateConfig,
        "pick_schema": PickConfig,
        "export_schema": ExportConfig,
    }
    for name, schema in schemas.items():
        node = OmegaConf.structured(schema)
        # The keys of these are whatever a task is called, or needs: data.columns={question: prompt} adds some.
        OmegaConf.set_struct(node.stats.margins, False)
        OmegaConf.set_struct(node.stats.pool_weights, False)
        if "policy" in node:
            OmegaConf.set_struct(node.policy.margins, False)
            OmegaConf.set_struct(node.policy.pool_weights, False)
        if "benchmarks" in node:
            OmegaConf.set_struct(node.benchmarks, False)
        if "judge" in node:
            OmegaConf.set_struct(node.judge.model, False)
            OmegaConf.set_struct(node.judge.engine, False)
        if "columns" in node:
            OmegaConf.set_struct(node.columns, False)
        if "data" in node:
            node.engine = OmegaConf.structured(ComposedEngineConfig)
            OmegaConf.set_struct(node.data.columns, False)
            OmegaConf.set_struct(node.data.own, False)
            OmegaConf.set_struct(node.engine.extra_body, False)
            OmegaConf.set_struct(node.engine.urls, False)
            OmegaConf.set_struct(node.hypothesis.claims, False)
            OmegaConf.set_struct(node.model.template, False)
            OmegaConf.set_struct(node.model.tensor_types, False)
        store.store(name=name, node=node)
    reproduction = OmegaConf.structured(ReproduceConfig)
    OmegaConf.set_struct(reproduction.places, False)
    store.store(name="reproduce_schema", node=reproduction)
    store.store(name="store_schema", node=MaintenanceConfig)
    store.store(name="sync_schema", node=SyncConfig)
    # Hydra warns of an option in a folder of the user's that is called like one of these, and takes the user's.
    warnings.filterwarnings("ignore", r"\s*'quant/.+' is validated against ConfigStore schema", UserWarning)
    for name, file_type in list_quants().items():
        store.store(group="quant", name=name, node={"name": name, "file_type": file_type})


def _rename_plugins(store: ConfigStore) -> None:
    """Make room for the files in conf/hydra/launcher that are called like the plugins which they fill in.

    Hydra would take a schema of the same name as deprecated.
    """
    Plugins.instance()  # finds them
    launchers = store.repo["hydra"]["launcher"]
    for name in ("joblib", "ray"):
        if f"{name}.yaml" in launchers:
            launchers[f"{name}_plugin.yaml"] = launchers.pop(f"{name}.yaml")
