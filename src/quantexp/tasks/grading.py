"""What a grade is, and what a grader is: a pure function with a name and a version."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one output.

    Attributes:
        score: in [0, 1]; 1 is entirely right.
        extracted: what was read from the output, in canonical form; None when nothing could be
            read, which always scores 0.
        fields: score of each field, where an item has several; empty otherwise.
        error: why nothing could be read ("no number", "not JSON: ..."); None when something was.
    """

    score: float
    extracted: str | None
    fields: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def right_or_wrong(cls, right: bool, extracted: str) -> "Grade":
        """A grade for an item that is either right (1) or wrong (0)."""
        return cls(score=1.0 if right else 0.0, extracted=extracted)

    @classmethod
    def unreadable(cls, error: str, field_names: Iterable[str] = ()) -> "Grade":
        """The grade of an output from which nothing could be read: 0 in all fields, and why."""
        return cls(score=0.0, extracted=None, fields=dict.fromkeys(field_names, 0.0), error=error)


@dataclass(frozen=True, slots=True)
class Grader:
    """A named, versioned way to score one output.

    A grader whose verdict changes on any output gets a new version: score sets are stored under
    `id`, so two versions never mix.

    Attributes:
        name: as a user selects it, e.g. `task.grader=gsm8k-strict`.
        version: a positive integer.
        description: one sentence for reports.
        grade: (model output, the item's fields) -> Grade. Pure, and total: it returns a grade for
            any output whatsoever, given fields that the task's `validate` accepts.
    """

    name: str
    version: int
    description: str
    grade: Callable[[str, Mapping[str, Any]], Grade]

    @property
    def id(self) -> str:
        """Name and version in one word, e.g. "gsm8k-v1"."""
        return f"{self.name}-v{self.version}"
