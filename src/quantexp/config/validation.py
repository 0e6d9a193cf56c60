"""Validation of the configuration's values.

Hydra checks names and types while it composes; `validated` closes the hole it leaves (a key added with `+`) and checks
what a type cannot say.
"""

import hashlib
import re
from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

from omegaconf import DictConfig, OmegaConf

from quantexp.config.choices import FlashAttention, Method, Pool, Target, Unit
from quantexp.config.commands import (
    CommandConfig,
    GateConfig,
    MaintenanceConfig,
    PlanConfig,
    RegradeConfig,
    ReproduceConfig,
    SyncConfig,
)
from quantexp.config.condition import find_factor_problems
from quantexp.config.fingerprint import AUTO, RECIPE
from quantexp.config.grading import JudgeConfig
from quantexp.config.own_data import apply_own_data
from quantexp.config.ranges import find_range_problems
from quantexp.config.recommendation import apply_recommendation
from quantexp.config.schema import Config, ModelConfig, StatsConfig, TrackingConfig
from quantexp.config.weights import apply_weights
from quantexp.util.errors import UserError
from quantexp.util.urls import address_problem

AnyConfig = TypeVar("AnyConfig", bound=Config | CommandConfig)
AnyType = TypeVar("AnyType")


_made: dict[tuple[type, bytes], object] = {}
"""Dataclasses that were made, by their content: a sweep checks each job before it has it run."""


def typed(composed: DictConfig, schema: type[AnyType]) -> AnyType:
    """Return the composed config as the dataclass `schema`, interpolations resolved; values are not checked.

    Raises:
        omegaconf.errors.OmegaConfBaseException: an unknown key, a missing value or a wrong type.
    """
    plain = OmegaConf.to_container(composed, resolve=True)
    if isinstance(plain, dict) and isinstance(engine := plain.get("engine"), dict):
        _name_switch(engine)
    content = schema, hashlib.sha256(repr(plain).encode()).digest()
    if content in _made:
        return cast(AnyType, _made[content])
    # Hydra lets `+key=value` through even where a dataclass has no such key; a merge into a fresh structure does not.
    merged = OmegaConf.merge(_structure(cast(Hashable, schema)), cast(dict[str, Any], plain))
    made = _made[content] = OmegaConf.to_object(merged)
    return cast(AnyType, made)


def _name_switch(engine: dict[Any, Any]) -> None:
    """Name the choice that YAML has read as a truth value: its version 1.1 takes `on` and `off` for such."""
    if isinstance(given := engine.get("flash_attention"), bool):
        engine["flash_attention"] = (FlashAttention.on if given else FlashAttention.off).name


@cache
def _structure(schema: Hashable) -> DictConfig:
    """Make the empty structure of a schema, which a merge copies: for a hundred jobs it is made once."""
    return cast(DictConfig, OmegaConf.structured(schema))


def validated(composed: DictConfig, schema: type[AnyConfig]) -> AnyConfig:
    """Return the composed config as the dataclass `schema`, interpolations resolved.

    Raises:
        UserError: a value lies outside its range.
        omegaconf.errors.OmegaConfBaseException: an unknown key, a missing value or a wrong type.
    """
    if schema is Config:
        composed = apply_recommendation(apply_own_data(apply_weights(composed)))
    config = typed(composed, schema)
    for problem in _problems(config):
        raise UserError(problem)
    return config


def _problems(config: Config | CommandConfig) -> list[str]:
    """Return a sentence for each value outside its range."""
    if isinstance(config, MaintenanceConfig):
        return []
    if isinstance(config, SyncConfig):
        return _tracking_problems(config.tracking)
    problems = list(find_range_problems(config))
    if isinstance(config, ReproduceConfig):
        return problems
    if isinstance(config, Config | RegradeConfig):
        problems += _judge_problems(config.judge)
    if isinstance(config, Config):
        problems += _sampling_problems(config)
        problems += _claim_problems(config)
        problems += _recipe_problems(config.model)
        if config.stats.method is Method.sequential and config.hypothesis.claims:
            problems.append(
                "hypothesis.claims are tested on a number of items that is fixed beforehand, and with "
                "stats.method=sequential it is not: use stats=default, or hypothesis=none."
            )
    if isinstance(config, PlanConfig):
        problems += _plan_problems(config)
    problems += find_factor_problems(config.stats)
    problems += _sequential_problems(config.stats)
    problems += find_pool_problems(config.stats, "policy" if isinstance(config, GateConfig) else "stats")
    if isinstance(config, GateConfig) and config.stats.pool is Pool.none and not config.policy.each_task:
        problems.append("policy.each_task=false leaves nothing to judge without a pool: set policy.pool=tasks.")
    problems += _tracking_problems(config.tracking)
    return problems


def _judge_problems(judge: JudgeConfig) -> list[str]:
    if judge.votes == 1 or judge.temperature > 0:
        return []
    return [f"judge.votes={judge.votes} would all be the same at temperature 0; set judge.temperature above 0."]


def _recipe_problems(model: ModelConfig) -> list[str]:
    problems = [
        f"model.{key} is of quants that are made here: add model.quantize=true, or leave it out."
        for key in RECIPE
        if getattr(model, key) and not model.quantize
    ]
    if model.calibration and model.imatrix != AUTO:
        problems.append("model.calibration is the text that an importance matrix is made of: add model.imatrix=auto.")
    for pattern in model.tensor_types:
        try:
            re.compile(pattern)
        except re.error as error:
            problems.append(f"model.tensor_types: {pattern} is no regular expression ({error}).")
    return problems


def _sequential_problems(stats: StatsConfig) -> list[str]:
    if stats.method is not Method.sequential:
        return []
    problems = []
    if stats.unit is not Unit.item:
        problems.append("stats.method=sequential counts an item once: leave stats.unit at item.")
    if stats.target is not Target.population:
        problems.append(
            "stats.method=sequential speaks of the items that the data sample, not of the data's own items, where late "
            "items are bound to make up for early ones: leave stats.target at population."
        )
    return problems


def find_pool_problems(stats: StatsConfig, group: str = "stats") -> list[str]:
    """Return a sentence for each key of the pool that does not fit the others, by the group that sets them."""
    problems = []
    if stats.pool is not Pool.none and stats.method is Method.sequential:
        problems.append(
            f"{group}.pool needs numbers of items that are fixed beforehand, and with stats.method=sequential they are "
            f"not: use stats=default, or {group}.pool=none."
        )
    if stats.pool_weights and stats.pool is not Pool.weights:
        problems.append(f"{group}.pool_weights are of {group}.pool=weights: set that, or leave them out.")
    if stats.pool is Pool.weights and len(stats.pool_weights) < 2:
        problems.append(
            f"{group}.pool=weights needs the weights of at least two tasks, as in "
            f"'{group}.pool_weights={{gsm8k: 2, triviaqa: 1}}'."
        )
    if stats.pool_margin is not None and stats.pool is Pool.none:
        problems.append(f"{group}.pool_margin needs a pool: set {group}.pool=tasks, or another of its words.")
    return problems


def _tracking_problems(tracking: TrackingConfig) -> list[str]:
    if tracking.uri is None:
        return []
    if not tracking.uri:
        return [
            "tracking=server needs the server's address: set MLFLOW_TRACKING_URI in the environment, or "
            "tracking.uri=http://HOST:PORT."
        ]
    if {"@", "?", "#"} & set(tracking.uri):
        return [
            "tracking.uri holds more than an address, and it is recorded: write http://HOST:PORT, and give user and "
            "password as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment."
        ]
    problem = address_problem("tracking.uri", tracking.uri, "http://127.0.0.1:5000")
    return [] if problem is None else [problem]


def _claim_problems(config: Config) -> list[str]:
    return [
        f"hypothesis.claims.{name}.contrast must give weights by task and quant, as in "
        "{gsm8k: {Q3_K_M: 1}, triviaqa: {Q3_K_M: -1}}."
        for name, claim in config.hypothesis.claims.items()
        if not claim.contrast
        or not all(isinstance(weights, dict) and weights for weights in claim.contrast.values())
        or not all(type(w) in {int, float} for weights in claim.contrast.values() for w in weights.values())
    ]


def _plan_problems(config: PlanConfig) -> list[str]:
    if config.alpha < config.power < 1:
        return []
    return [f"power={config.power} must be above alpha={config.alpha} and below 1, such as 0.8."]


def _sampling_problems(config: Config) -> list[str]:
    sampling = config.task.sampling
    problems = []
    if sampling.samples > 1 and sampling.temperature == 0:
        problems.append(
            f"task.sampling.samples={sampling.samples} would all be the same answer at temperature 0; "
            "set task.sampling.temperature above 0."
        )
    if "" in config.task.stop:
        problems.append("task.stop holds an empty string, which would end every answer at once; leave it out.")
    return problems
