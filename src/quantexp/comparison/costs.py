"""The cost of an item, as runs measured it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantexp.tracking.reader import JobRecord


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one item.

    Attributes:
        tokens: written.
        seconds: on the machine of the runs, loading included; None where no run generated anything.
    """

    tokens: float
    seconds: float | None

    def __add__(self, other: "Cost") -> "Cost":
        known = self.seconds is not None and other.seconds is not None
        return Cost(self.tokens + other.tokens, (self.seconds or 0) + (other.seconds or 0) if known else None)

    def __mul__(self, items: int) -> "Cost":
        return Cost(self.tokens * items, None if self.seconds is None else self.seconds * items)

    def __truediv__(self, parts: int) -> "Cost":
        return Cost(self.tokens / parts, None if self.seconds is None else self.seconds / parts)


COUNTED = {"run.completions_generated", "run.completions_from_store", "run.wall_seconds"}
"""Metrics of a run that say what it cost."""


def count_generated(run: "JobRecord") -> float:
    """Count the completions that a run generated itself."""
    return run.metrics["run.completions_generated"]


def estimate_cost(runs: Sequence["JobRecord"]) -> Cost:
    """Estimate the cost of an item under one quant.

    The time of a run counts where it generated something: what comes from the store takes none.
    """
    items = sum(run.metrics["items"] for run in runs)
    new = sum(count_generated(run) for run in runs)
    answers = new + sum(run.metrics["run.completions_from_store"] for run in runs)
    seconds = sum(run.metrics["run.wall_seconds"] for run in runs if count_generated(run))
    return Cost(
        tokens=sum(run.metrics["completion_tokens"] for run in runs) / items,
        seconds=seconds / new * answers / items if new else None,
    )


def known_cost(runs: Sequence["JobRecord"]) -> Cost | None:
    """Estimate the same; None if a run does not say what it took, as one that was recorded elsewhere."""
    needed = {"items", "completion_tokens", *COUNTED}
    return estimate_cost(runs) if all(needed <= run.metrics.keys() for run in runs) else None
