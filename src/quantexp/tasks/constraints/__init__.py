"""Constraints on a text that can be checked without a judge, by kind."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from quantexp.tasks.constraints import layout, length, style, wording
from quantexp.tasks.constraints.base import Kind

__all__ = ["FAMILIES", "KINDS", "Kind", "check_constraint", "keeps_constraint"]

FAMILIES: Mapping[str, tuple[Kind, ...]] = MappingProxyType(
    {"length": length.KINDS, "layout": layout.KINDS, "wording": wording.KINDS, "style": style.KINDS}
)
"""Kinds by what they are about."""

KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kinds in FAMILIES.values() for kind in kinds})
"""Every kind by its name."""


def check_constraint(constraint: object) -> None:
    """Refuse what is no constraint: an object with its `kind` and the arguments that this takes.

    Raises:
        ValueError: it is none; the sentence says why.
    """
    if not isinstance(constraint, Mapping) or not isinstance(constraint.get("kind"), str):
        raise ValueError(f"a constraint must be an object with its 'kind', not {constraint!r}")
    kind = KINDS.get(constraint["kind"])
    if kind is None:
        raise ValueError(f"there is no constraint of the kind {constraint['kind']!r}; choose one of {', '.join(KINDS)}")
    kind.check(_get_arguments(constraint))


def keeps_constraint(text: str, constraint: Mapping[str, Any]) -> bool:
    """Return whether a text keeps a constraint that `check_constraint` accepts; pure, and total."""
    return KINDS[constraint["kind"]].keeps(text, _get_arguments(constraint))


def _get_arguments(constraint: Mapping[str, Any]) -> dict[str, Any]:
    # A null is an argument that is not there: rows of a table have a cell for each column.
    return {name: value for name, value in constraint.items() if name != "kind" and value is not None}
