"""Coordinates of conditions in pictures: what the axis measures, and which conditions one line connects."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantexp.comparison.summary import Condition
from quantexp.config.condition import PAIRS, WEIGHTS


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
        factors = PAIRS["kv"]
        axis, unit = "KV cache, bytes a token", "bytes a token"
        values = [each.kv_bytes or 0.0 for each in conditions]
    else:
        levels = list(dict.fromkeys(each.quant for each in conditions))
        factors = tuple(reference.levels)
        axis, unit = "conditions, in the order asked", "in order"
        values = [float(levels.index(each.quant)) for each in conditions]
    over_weights = factors == (WEIGHTS,)
    curves: dict[tuple[str, ...], list[Place]] = {_other_levels(reference, factors): []}
    for each, x in zip(conditions, values, strict=True):
        place = Place(each, x, _weights(each) if over_weights else each.quant)
        curves.setdefault(_other_levels(each, factors), []).append(place)
    found = []
    for places in curves.values():
        own = places[0].condition
        rest = own.quant.removeprefix(_weights(own)).strip() if over_weights else ""
        name = (rest or "as the baseline") if len(curves) > 1 else ""
        found.append(Curve(name, tuple(sorted(places, key=lambda place: place.x))))
    return Coordinates(axis, unit, _weights(reference) if over_weights else reference.quant, tuple(found))


def _other_levels(condition: Condition, factors: Sequence[str]) -> tuple[str, ...]:
    """Return the levels of all factors but these: what the conditions of one curve share."""
    return tuple(level for name, level in condition.levels.items() if name not in factors)


def _weights(condition: Condition) -> str:
    return condition.levels.get(WEIGHTS, condition.quant)
