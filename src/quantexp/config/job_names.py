"""Names of a sweep's jobs: tables know a file by its quant's name, so two files may not share one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from quantexp.config.condition import OF_WEIGHTS, read_levels
from quantexp.config.fingerprint import RECIPE, config_fingerprint
from quantexp.config.schema import Config
from quantexp.util.errors import UserError

_FILE: dict[str, tuple[str, ...]] = {
    "model": ("source", "package", "file", "repository", "revision", "path", "checkpoint", "sha256", *RECIPE),
    "quant": ("file_type", "method", "label", "bits_per_weight"),
    "engine": ("url", "urls", "model"),
}
"""Keys that choose the weights; a comparison tells every other difference by itself."""

_OF_MODELS = tuple(f"model.{key}" for key in ("source", "package", "repository", "revision", "sha256"))
"""Those that a quant's name cannot choose: it names the file in what they choose."""


def check_names(jobs: Sequence[Config]) -> None:
    """Refuse jobs that differ in their weights and in no name.

    Raises:
        UserError: there are some; of two such runs, tables would show the newer alone.
    """
    alike: dict[tuple[str, ...], dict[str, Config]] = defaultdict(dict)
    for job in jobs:
        levels = read_levels(job)
        recipe = [levels[name] for name in OF_WEIGHTS]  # with and without an importance matrix are two conditions
        alike[job.quant.name, *recipe, config_fingerprint(_without_file(job))][config_fingerprint(job)] = job
    for (name, *_), several in alike.items():
        if len(several) > 1:
            first, second, *_rest = several.values()
            raise UserError(_explain(name, first, second))


def _without_file(job: Config) -> Config:
    """Identify the job, whatever weights it has; a ladder keeps its source, which tells it from other ladders."""
    parts: dict[str, Any] = {}
    for part, keys in _FILE.items():
        shared = RECIPE if part == "model" and job.model.quantize else keys
        parts[part] = replace(getattr(job, part), **dict.fromkeys(shared))
    return replace(job, **parts)


def _explain(name: str, first: Config, second: Config) -> str:
    differing = [
        (f"{part}.{key}", *values)
        for part, keys in _FILE.items()
        for key in keys
        if (values := [getattr(getattr(job, part), key) for job in (first, second)])[0] != values[1]
    ]
    key = differing[0][0]
    shown = "; ".join(f"{key}={one} and {key}={other}" for key, one, other in differing)
    if key in _OF_MODELS:
        cure = f"call them different models, as in 'model.name=NAME-${{{key}}}'"
    else:
        cure = f"let the name choose, as in quant.name=A,B '{key}=...${{quant.name}}...'"
    return (
        f"Two jobs of this sweep have different weights and one name, {name} on {first.task.name} seed {first.seed} "
        f"({shown}), so that one would hide the other; {cure}, or make a sweep for each with a quant.name of its own."
    )
