"""What a grade is, and what a grader is: a pure function with a name and a version."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

UNFINISHED = "unfinished: cut off at max_tokens before an answer"
"""Why nothing was read of an output that a grader wants whole."""


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one output.

    Attributes:
        score: in [0, 1]; 1 is entirely right.
        extracted: what was read from the output, in canonical form; None when nothing could be
            read, which always scores 0.
        fields: score of each field, where an item has several; empty otherwise.
        error: why nothing could be read ("no number", "not JSON: ..."); None when something was.
        rule: which of a grader's rules found what was read ("marker", "last number"); None where it has but one way, or
            found nothing.
    """

    score: float
    extracted: str | None
    fields: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    rule: str | None = None

    @classmethod
    def right_or_wrong(cls, right: bool, extracted: str, rule: str | None = None) -> "Grade":
        """A grade for an item that is either right (1) or wrong (0)."""
        return cls(score=1.0 if right else 0.0, extracted=extracted, rule=rule)

    @classmethod
    def unreadable(cls, error: str, field_names: Iterable[str] = ()) -> "Grade":
        """The grade of an output from which nothing could be read: 0 in all fields, and why."""
        return cls(score=0.0, extracted=None, fields=dict.fromkeys(field_names, 0.0), error=error)

    @classmethod
    def unfinished(cls) -> "Grade":
        """The grade of an output that was cut off before its answer; counted apart from what is unreadable."""
        return cls.unreadable(UNFINISHED)


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
        grade_cut: the same for an output that was cut off at max_tokens, if that is not graded like any other.
        check: raises ValueError, in one sentence, where it cannot grade an item that its task accepts.
    """

    name: str
    version: int
    description: str
    grade: Callable[[str, Mapping[str, Any]], Grade]
    grade_cut: Callable[[str, Mapping[str, Any]], Grade] | None = None
    check: Callable[[Mapping[str, Any]], None] | None = None

    @property
    def id(self) -> str:
        """Name and version in one word, e.g. "gsm8k-v1"."""
        return f"{self.name}-v{self.version}"
