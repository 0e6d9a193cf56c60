"""A sweep's declaration as the store has it."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from annotated_types import Len
from pydantic import BaseModel, ConfigDict, ValidationError

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
    try:
        _Content.model_validate(content)
    except ValidationError as error:
        wrong = min(str(each["loc"][0]) for each in error.errors())
        raise UserError(
            f"A sweep's registration.yaml is damaged (it has no {wrong}); put it back from a copy."
        ) from error
    return content


class _Part(BaseModel):
    model_config = ConfigDict(strict=True)


class _Claim(_Part):
    text: str
    contrast: dict[str, Annotated[dict[str, float], Len(1)]]


class _Hypothesis(_Part):
    text: str
    claims: dict[str, _Claim]


class _Reference(_Part):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    task: str
    levels: dict[str, Any]


class _Content(_Part):
    """What `write_declaration` in the comparisons writes, as far as it is read."""

    hypothesis: _Hypothesis
    family: list[Any]
    comparisons: int
    analysis: dict[str, Any]
    references: list[_Reference] | None = None


def digest(text: str) -> str:
    """sha256 of a declaration."""
    return hashlib.sha256(text.encode()).hexdigest()
