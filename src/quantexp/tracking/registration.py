"""A sweep's declaration as the store has it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class Registration:
    """A declaration as the store has it.

    Attributes:
        text: what was declared, as YAML.
        sha256: of the text when it was declared.
        time: when, UTC, ISO 8601.
        commit: of quantexp.
        late: how many of the sweep's jobs had finished by then; a declaration after results is none.
        sweep: id of the sweep's run.
    """

    text: str
    sha256: str
    time: str
    commit: str
    late: int
    sweep: str = ""

    @property
    def comparisons(self) -> int:
        """Number of comparisons that were declared together."""
        return max(1, int(read_content(self)["comparisons"]))

    @property
    def models(self) -> dict[str, int]:
        """A place for each model, in the order in which they were asked for; empty if there is one only."""
        return {model: place for place, model in enumerate(read_content(self).get("families") or {})}

    @property
    def baseline(self) -> str | None:
        """The baseline, as it was declared; None in a declaration that does not say so."""
        declared = read_content(self)["analysis"].get("baseline")
        return None if declared is None else str(declared)

    @property
    def references(self) -> dict[tuple[str, str], dict[str, str]]:
        """The baseline's level of each factor that varies besides the weights, by model and task."""
        declared = read_content(self).get("references") or []
        return {(each["model"], each["task"]): dict(each["levels"]) for each in declared}

    @property
    def order(self) -> dict[str, int]:
        """A place for each task, in the order in which they were asked for, and for each TASK/QUANT after the tasks."""
        family = read_content(self)["family"]
        tasks = [str(each).partition("/")[0] for each in family]
        return {each: place for place, each in enumerate(dict.fromkeys([*tasks, *map(str, family)]))}


def read_time(text: str) -> float:
    """Read when a declaration was made, in seconds since 1970.

    Raises:
        UserError: the text is no time.
    """
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise UserError(
            f"A sweep's tag registration.time is damaged ({text!r}); put back the time that the sweep's report says."
        ) from error


def read_content(registration: Registration) -> dict[str, Any]:
    """Return the declaration's keys.

    Raises:
        UserError: it is none any more.
    """
    from quantexp.tracking.artifacts import read_yaml  # only now: it loads pandas

    content = read_yaml(registration.text, "A sweep's registration.yaml")
    kinds = {"hypothesis": dict, "family": list, "comparisons": int, "analysis": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if not wrong and not _is_hypothesis(content["hypothesis"]):
        wrong = ["hypothesis"]
    if not wrong and not all(map(_is_reference, content.get("references") or [])):
        wrong = ["references"]
    if wrong:
        raise UserError(f"A sweep's registration.yaml is damaged (it has no {min(wrong)}); put it back from a copy.")
    return content


def _is_reference(each: object) -> bool:
    return isinstance(each, dict) and each.keys() == {"model", "task", "levels"} and isinstance(each["levels"], dict)


def _is_hypothesis(content: Mapping[str, Any]) -> bool:
    """Tell if this is what `write_declaration` writes: a text, and claims with weights by task and quant."""
    claims = content.get("claims")
    return isinstance(content.get("text"), str) and isinstance(claims, dict) and all(map(_is_claim, claims.values()))


def _is_claim(claim: object) -> bool:
    if not isinstance(claim, dict) or not isinstance(claim.get("text"), str):
        return False
    tasks = claim.get("contrast")
    return isinstance(tasks, dict) and all(
        isinstance(weights, dict) and weights and all(isinstance(weight, int | float) for weight in weights.values())
        for weights in tasks.values()
    )


def check_declaration(registration: Registration) -> None:
    """Refuse a registration whose text is no declaration.

    Raises:
        UserError: it is none any more.
    """
    read_content(registration)


def digest(text: str) -> str:
    """sha256 of a declaration."""
    return hashlib.sha256(text.encode()).hexdigest()
