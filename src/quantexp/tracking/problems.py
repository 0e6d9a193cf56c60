"""Problems of a finished job's run, whose tags people edit in MLflow, and which another program may have written."""

import json
from collections.abc import Mapping
from functools import lru_cache

from mlflow.entities import Run as RunEntity

from quantexp.tracking.tags import IDENTITY
from quantexp.util.terminal import one_line

TAGS = ("model", "quant", "task", "data", "seed")
"""Tags without which nobody knows what a job was."""

MEASURED = (
    *("score", "items", "items_not_asked", "items_cut_at_max_tokens", "completion_tokens"),
    *("bits_per_weight", "run.tokens_per_second"),
)
"""Metrics that every comparison reads."""

_OPTIONAL = ("items_in_data", "model_bytes", "parameters", "divergence", "parted", "verify.", "floor.", "run.")
"""Beginnings of the metrics that are read where they are there."""

_LARGEST = 1e18
"""Nothing that is counted or measured is as large."""


def find_problem(run: RunEntity) -> str | None:
    """Find what makes a finished job unusable, to go on after "for"; None if it can be compared."""
    tags, metrics = run.data.tags, run.data.metrics
    if missing := [tag for tag in TAGS if tag not in tags]:
        return f"its tag {missing[0]} is missing"
    if not _is_whole(tags["seed"]):
        return f"its tag seed is {one_line(tags['seed'], 40)}, which is no whole number"
    for key, value in tags.items():
        if key.startswith(IDENTITY) and read_mapping(value) is None:
            return f"its tag {key} is damaged ({one_line(value, 40)})"
    if "id" not in (read_mapping(tags.get(f"{IDENTITY}grader", "")) or {}):
        return f"its tag {IDENTITY}grader does not say how it was graded"
    if missing := [name for name in MEASURED if name not in metrics]:
        return f"its metric {missing[0]} is missing"
    for name, measured in metrics.items():
        if (name in MEASURED or name.startswith(_OPTIONAL)) and not abs(measured) < _LARGEST:
            return f"its metric {name} is {measured}"
    return None if "file.sha256" in run.data.params else "its parameter file.sha256 is missing"


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=4096)
def read_mapping(text: str) -> Mapping[str, object] | None:
    """Read what an identity's tag says; None if it is no JSON object, or one that no report can hold.

    Runs that share a text share the object.
    """
    try:
        found = json.loads(text, parse_constant=_refuse)
        json.dumps(found, ensure_ascii=False).encode()  # half a character is a ValueError
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(constant: str) -> float:
    raise ValueError(constant)  # NaN is not even equal to itself
