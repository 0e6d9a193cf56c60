"""The publisher's recommendation for sampling, in the place of task.sampling=model."""

import copy
from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf

from quantexp.config.schema import SamplingConfig
from quantexp.util.errors import UserError

_RESOLVER = "recommended"
"""`${recommended:top_p}` in a key of `task.sampling` stands for the recommended top_p."""


def register_resolver() -> None:
    """Let `--cfg job --resolve` show what is recommended."""
    OmegaConf.register_new_resolver(
        _RESOLVER, lambda key, *, _root_: _find_value(_choose(_root_.model), key), replace=True
    )


def apply_recommendation(composed: DictConfig) -> DictConfig:
    """Fill in what `task.sampling` takes from the model.

    A model that thinks has a recommendation of its own, unless its template is told `enable_thinking: false`. Filled in
    before anything is resolved, so that a model without one is told in a sentence.

    Args:
        composed: a job's configuration, interpolations not resolved; it is not changed.

    Raises:
        UserError: something is to be taken, and the model has no recommendation.
    """
    given = OmegaConf.to_container(composed.task.sampling, resolve=False)
    assert isinstance(given, dict)
    taken = [key for key in map(str, given) if given[key] == f"${{{_RESOLVER}:{key}}}"]
    if not taken:
        return composed
    composed = copy.deepcopy(composed)
    OmegaConf.set_readonly(composed, False)
    recommended = _choose(composed.model)
    for key in taken:
        composed.task.sampling[key] = _find_value(recommended, key)
    return composed


def _choose(model: DictConfig) -> Mapping[str, object]:
    """Return the recommendation that counts.

    Raises:
        UserError: there is none.
    """
    is_told_not_to = model.template.get("enable_thinking") is False
    modes = ["non_thinking"] if is_told_not_to else ["thinking", "non_thinking"]
    for mode in modes:
        found = model.sampling[mode]
        if any(value is not None for value in found.values()):
            recommended: Mapping[str, object] = found
            return recommended
    without = " without thinking" if is_told_not_to else ""
    raise UserError(
        f"task.sampling=model: nothing is known of what the publisher of {model.name} recommends{without}; add it, as "
        "in 'model.sampling.non_thinking={temperature: 0.7, top_p: 0.8, top_k: 20}', or set the keys of task.sampling."
    )


def _find_value(recommended: Mapping[str, object], key: str) -> object:
    """Return a recommended value; of what nothing is said, one that does nothing."""
    if (value := recommended[key]) is not None:
        return value
    return 1.0 if key == "temperature" else getattr(SamplingConfig, key)
