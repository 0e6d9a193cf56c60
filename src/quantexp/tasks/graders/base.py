"""Grades and graders: an answer and an item in, a grade out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from quantexp.util.errors import UserError

UNFINISHED = "unfinished: cut off at max_tokens before an answer"
"""Why nothing was read of an output that a grader wants whole."""

ENDED_IN_REASONING = "ended in reasoning: no answer was begun"
"""Why nothing was read of an output without an answer."""

UNDECIDED = "undecided: "
"""Begins why an answer has no score although it was asked for: whoever was to decide has not."""

Need = Literal["sandbox", "judge", "embedder"]
"""A resource that a grader may need, and that is opened for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as graders take it.

    Attributes:
        text: the answer itself.
        reasoning: what the model wrote before its answer, if the two are told apart; empty otherwise.
        is_cut: whether the output was cut off at max_tokens.
        ended_in_reasoning: whether the output ended before an answer began.
        reasoning_tokens: number of tokens of the reasoning, its marks included; None if that is not known.
    """

    text: str
    reasoning: str = ""
    is_cut: bool = False
    ended_in_reasoning: bool = False
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one output.

    Attributes:
        score: in [0, 1]; 1 is entirely right.
        extracted: what was read from the output, in canonical form; None when nothing could be
            read, which always scores 0.
        fields: score of each field, where an item has several; empty otherwise.
        error: why nothing could be read ("no number", "not JSON: ..."); None when something was.
        is_undecided: whether there is no score: the fault is of whoever was to decide, and not of the answer. Such an
            answer counts in no mean, and is counted apart.
        rule: which of a grader's rules found what was read ("marker", "last number"); None where it has but one way, or
            found nothing.
        explanation: why the score is what it is, in a sentence; None if the grader has nothing to say.
        outcomes: 1 or 0 by the name of an outcome that only this grader knows, such as `syntax_error`; all of them for
            each answer that it has looked at.
    """

    score: float
    extracted: str | None
    fields: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    rule: str | None = None
    is_undecided: bool = False
    explanation: str | None = None
    outcomes: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def right_or_wrong(cls, right: bool, extracted: str, rule: str | None = None) -> "Grade":
        """Return a grade for an item that is either right (1) or wrong (0)."""
        return cls(score=1.0 if right else 0.0, extracted=extracted, rule=rule)

    @classmethod
    def unreadable(cls, error: str, field_names: Iterable[str] = ()) -> "Grade":
        """Return the grade of an output from which nothing could be read: 0 in all fields, and why."""
        return cls(score=0.0, extracted=None, fields=dict.fromkeys(field_names, 0.0), error=error)

    @classmethod
    def undecided(cls, why: str, extracted: str | None) -> "Grade":
        """Return the grade of an answer on which there is no verdict, and why."""
        return cls(score=0.0, extracted=extracted, error=f"{UNDECIDED}{why}", is_undecided=True)

    @classmethod
    def unfinished(cls) -> "Grade":
        """Return the grade of an output that was cut off before its answer; counted apart from what is unreadable."""
        return cls.unreadable(UNFINISHED)


GradeAnswer = Callable[[Answer, Mapping[str, Any]], Grade]
"""A grader that is open: an answer and the item's fields in, a grade out."""


class JointGrading(ABC):
    """An open grader that takes less time for many answers at once than for one after the other."""

    def __call__(self, answer: Answer, fields: Mapping[str, Any]) -> Grade:
        """Grade an answer."""
        return next(self.grade_all([(answer, fields)]))

    @abstractmethod
    def grade_all(self, answers: Sequence[tuple[Answer, Mapping[str, Any]]]) -> Iterator[Grade]:
        """Grade answers, each with its item's fields; the grades come in their order, each as soon as it is known."""


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
        needs: the resources without which it cannot be opened; none if `grade` is all there is to it.
    """

    name: str
    version: int
    description: str
    grade: Callable[[str, Mapping[str, Any]], Grade]
    grade_cut: Callable[[str, Mapping[str, Any]], Grade] | None = None
    check: Callable[[Mapping[str, Any]], None] | None = None
    needs: frozenset[Need] = frozenset()

    @property
    def id(self) -> str:
        """Name and version in one word, e.g. "gsm8k-v1"."""
        return f"{self.name}-v{self.version}"

    @contextmanager
    def open(self, resources: Mapping[Need, Any]) -> Iterator[GradeAnswer]:
        """Make it ready to grade; what it holds is released at the end.

        A grader that holds something while it grades overrides this, and may yield a `JointGrading`.

        Args:
            resources: what it may use, by the need that each meets (`evaluation.resources`).

        Raises:
            UserError: one that it needs is missing.
        """
        if missing := sorted(self.needs - resources.keys()):
            raise UserError(
                f"The grader {self.name} needs what this version of quantexp cannot give it ({', '.join(missing)}); "
                "choose another one with task.grader."
            )
        yield self._grade_answer

    def _grade_answer(self, answer: Answer, fields: Mapping[str, Any]) -> Grade:
        grade = self.grade_cut if answer.is_cut and self.grade_cut else self.grade
        return grade(answer.text, fields)
