"""Graders that ask a judge or an embedder: what they ask, and what they make of the verdicts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from quantexp.tasks.graders.base import Answer, Grade, Grader, JointGrading, Need
from quantexp.tasks.graders.rubrics import Rubric

TIE, UNREADABLE = "the judge's votes are a tie", "the judge's replies cannot be read"
"""Why a judge has given no verdict."""


@dataclass(frozen=True, slots=True)
class JudgeVerdict:
    """A judge's answer to one question.

    Attributes:
        label: whether it is yes; None if there is no verdict.
        problem: why there is none.
    """

    label: bool | None
    problem: str | None = None


Pair = tuple[str, str]
"""Two texts that are asked about."""


class Judge(Protocol):
    """A judge, as graders use it."""

    def calibrate(self, rubric: Rubric) -> None:
        """Measure it on the rubric's bundled pairs, before its verdicts count.

        Raises:
            UserError: it agrees too little with their labels.
        """

    def decide(self, rubric: Rubric, pairs: Sequence[Pair]) -> Sequence[JudgeVerdict]:
        """Answer the rubric's question about each pair of texts, in order."""


class Embedder(Protocol):
    """An embedder, as graders use it."""

    def calibrate(self, calibration: str) -> None:
        """Choose the threshold on one half of the bundled pairs of this name, and measure it on the other.

        Raises:
            UserError: it agrees too little with their labels.
        """

    def compare(self, calibration: str, pairs: Sequence[Pair]) -> Sequence[tuple[float, bool]]:
        """Return the similarity of each pair of texts, from -1 to 1, and whether that is at or above the threshold."""


ReadPairs = Callable[[Answer, Mapping[str, Any]], Grade | list[Pair]]
"""Returns the pairs of texts to ask about an answer; a grade if nothing need be asked."""

MakeGrade = Callable[[Answer, Mapping[str, Any], Sequence[Any]], Grade]
"""Makes the grade of an answer of the replies to its pairs."""


@dataclass(frozen=True, slots=True)
class _AskedGrading(JointGrading):
    """An open grader that puts the questions of all answers in one go.

    Attributes:
        read: as the grader has it.
        ask: answers about each pair.
        make: as the grader has it.
    """

    read: ReadPairs
    ask: Callable[[Sequence[Pair]], Sequence[Any]]
    make: MakeGrade

    def grade_all(self, answers: Sequence[tuple[Answer, Mapping[str, Any]]]) -> Iterator[Grade]:
        drafts = [self.read(answer, fields) for answer, fields in answers]
        pairs = [pair for draft in drafts if not isinstance(draft, Grade) for pair in draft]
        replies = iter(self.ask(pairs) if pairs else ())
        for draft, (answer, fields) in zip(drafts, answers, strict=True):
            if isinstance(draft, Grade):
                yield draft
            else:
                yield self.make(answer, fields, [next(replies) for _ in draft])


def _refuse_to_guess(_output: str, _fields: Mapping[str, Any]) -> Grade:
    """Return the grade of an answer about which nobody was asked."""
    return Grade.unreadable("nobody was asked about it")


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedGrader(Grader):
    """A grader that puts a rubric's question to a judge.

    Attributes:
        rubric: the question.
        read: finds what is asked about an answer.
        make: makes a grade of the verdicts (`JudgeVerdict`).
    """

    rubric: Rubric
    read: ReadPairs
    make: MakeGrade
    grade: Callable[[str, Mapping[str, Any]], Grade] = _refuse_to_guess
    needs: frozenset[Need] = frozenset({"judge"})

    @contextmanager
    def open(self, resources: Mapping[Need, Any]) -> Iterator[_AskedGrading]:
        """Have the judge measured on the rubric's pairs.

        Raises:
            UserError: there is no judge, or it agrees too little with the pairs' labels.
        """
        judge: Judge = resources["judge"]
        judge.calibrate(self.rubric)
        yield _AskedGrading(self.read, lambda pairs: judge.decide(self.rubric, pairs), self.make)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedGrader(Grader):
    """A grader that compares texts by their embeddings.

    Attributes:
        calibration: name of the bundled pairs on which its threshold is chosen.
        read: finds what is compared in an answer.
        make: makes a grade of similarities, each with whether it is at or above the threshold.
    """

    calibration: str
    read: ReadPairs
    make: MakeGrade
    grade: Callable[[str, Mapping[str, Any]], Grade] = _refuse_to_guess
    needs: frozenset[Need] = frozenset({"embedder"})

    @contextmanager
    def open(self, resources: Mapping[Need, Any]) -> Iterator[_AskedGrading]:
        """Have the embedder's threshold chosen and measured.

        Raises:
            UserError: there is no embedder, or it agrees too little with the pairs' labels.
        """
        embedder: Embedder = resources["embedder"]
        embedder.calibrate(self.calibration)
        yield _AskedGrading(self.read, lambda pairs: embedder.compare(self.calibration, pairs), self.make)
