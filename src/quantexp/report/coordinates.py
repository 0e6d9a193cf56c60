"""Coordinates of conditions in pictures: what the axis measures, and which conditions one line connects."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantexp.comparison.summary import Condition
from quantexp.config.condition import WEIGHTS

KV_FACTORS = ("kv_key", "kv_value")
"""Factors that the KV cache's bytes follow from."""


@dataclass(frozen=True)
class Place:
    """A condition's place in a picture.

    Attributes:
        condition: it.
        x: along the axis.
        name: above the plot.
    """

    condition: Condition
    x: float
    name: str


@dataclass(frozen=True)
class Curve:
    """Conditions that one line connects: they differ in nothing but what the axis measures.

    Attributes:
        name: how they differ from other curves; empty if there are none, or they have the baseline's levels.
        places: from low to high.
    """

    name: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Coordinates:
    """The axis of a picture and its curves.

    Attributes:
        axis: what it measures.
        unit: the same in a sentence.
        baseline: the baseline's name above the plot.
        curves: the one with the baseline's levels first.
    """

    axis: str
    unit: str
    baseline: str
    curves: tuple[Curve, ...]

    @property
    def places(self) -> list[Place]:
        """All of them, from low to high."""
        return sorted((place for curve in self.curves for place in curve.places), key=lambda place: place.x)


def find_coordinates(conditions: Sequence[Condition], baseline: str) -> Coordinates:
    """Lay conditions out: over bits per weight, or, of one quant, over what varies instead.

    Args:
        conditions: those of one model on one task.
        baseline: its name.
    """
    reference = next((each for each in conditions if each.quant == baseline), conditions[0])
    if len({_weights(each) for each in conditions}) > 1 or len(conditions) == 1:
        factors: tuple[str, ...] = (WEIGHTS,)
        axis, unit = "measured bits per weight", "bits"
        values = [each.bits_per_weight for each in conditions]
    elif len({each.kv_bytes for each in conditions}) > 1 and None not in {each.kv_bytes for each in conditions}:
        factors = KV_FACTORS
        axis, unit = "KV cache, bytes a token", "bytes a token"
        values = [each.kv_bytes or 0.0 for each in conditions]
    else:
        levels = list(dict.fromkeys(each.quant for each in conditions))
        factors = tuple(reference.levels)
        axis, unit = "conditions, in the order asked", "in order"
        values = [float(levels.index(each.quant)) for each in conditions]
    curves: dict[tuple[str, ...], list[Place]] = {}
    for each, x in zip(conditions, values, strict=True):
        key = tuple(level for name, level in each.levels.items() if name not in factors)
        name = _weights(each) if factors == (WEIGHTS,) else each.quant
        curves.setdefault(key, []).append(Place(each, x, name))
    first = tuple(level for name, level in reference.levels.items() if name not in factors)
    ordered = sorted(curves, key=lambda key: key != first)
    named = len(curves) > 1
    found = []
    for key in ordered:
        places = sorted(curves[key], key=lambda place: place.x)
        own = places[0].condition
        rest = own.quant.removeprefix(_weights(own)).strip() if factors == (WEIGHTS,) else ""
        found.append(Curve((rest or "as the baseline") if named else "", tuple(places)))
    of_baseline = _weights(reference) if factors == (WEIGHTS,) else reference.quant
    return Coordinates(axis, unit, of_baseline, tuple(found))


def _weights(condition: Condition) -> str:
    return condition.levels.get(WEIGHTS, condition.quant)
