"""The fourth field of an extraction: free text, graded by a judge or by an embedder.

Only the requested action is graded: the score of `extraction` says what the other three fields are worth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from quantexp.tasks.graders.base import Answer, Grade
from quantexp.tasks.graders.judged import EmbeddedGrader, JudgedGrader, JudgeVerdict, Pair
from quantexp.tasks.graders.rubrics import SAME_REQUEST
from quantexp.tasks.json_answers import parse_json, strip_fence
from quantexp.tasks.normalise import fold_whitespace, fold_words

FIELD_NAME = "requested_action"

LONGEST = 400
"""Characters of an action that is asked about: what is longer is no short sentence, and is graded wrong unasked."""


def read_action(output: str) -> str:
    """Read the requested action of an answer, read as `extraction` reads it.

    Raises:
        ValueError: there is none; the message says why.
    """
    try:
        answer = parse_json(strip_fence(output))
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    action = answer.get(FIELD_NAME)
    if not isinstance(action, str) or not action.strip():
        raise ValueError(f"no text in {FIELD_NAME}")
    # A lone surrogate, which no file can hold, stays the escape it was in the output.
    return fold_whitespace(action.encode("utf-8", "backslashreplace").decode("utf-8"))


def _read_pairs(answer: Answer, fields: Mapping[str, Any]) -> Grade | list[Pair]:
    try:
        action = read_action(answer.text)
    except ValueError as error:
        return Grade.unreadable(str(error))
    if fold_words(action) == fold_words(fields[FIELD_NAME]):
        return Grade.right_or_wrong(True, action)
    if len(action) > LONGEST:
        return Grade.right_or_wrong(False, f"{action[:LONGEST]}…")
    return [(fields[FIELD_NAME], action)]


def _grade_verdict(answer: Answer, _: Mapping[str, Any], verdicts: Sequence[JudgeVerdict]) -> Grade:
    [verdict], action = verdicts, read_action(answer.text)
    if verdict.label is None:
        return Grade.undecided(str(verdict.problem), action)
    return Grade.right_or_wrong(verdict.label, action)


def _read_similar(answer: Answer, fields: Mapping[str, Any]) -> Grade | list[Pair]:
    """Return the pair to compare; of what need not be compared, the grade with a similarity of 1 or 0."""
    read = _read_pairs(answer, fields)
    return replace(read, fields={"similarity": read.score}) if isinstance(read, Grade) else read


def _grade_similarity(answer: Answer, _: Mapping[str, Any], found: Sequence[tuple[float, bool]]) -> Grade:
    [(similarity, is_same)] = found
    return Grade(
        score=float(is_same),
        extracted=read_action(answer.text),
        fields={"similarity": min(1.0, max(0.0, similarity))},
    )


BY_JUDGE = JudgedGrader(
    name="requested-action-judge",
    version=1,
    description="the requested action alone: a judge says that it asks for the same as the gold one",
    rubric=SAME_REQUEST,
    read=_read_pairs,
    make=_grade_verdict,
)
"""Right if the judge finds the two requests the same; the same words are right without being asked about.

An answer on which the judge's votes are a tie, or cannot be read, has no score and is counted apart.
"""

BY_EMBEDDER = EmbeddedGrader(
    name="requested-action-embedding",
    version=1,
    description="the requested action alone: its embedding is as similar to the gold one's as that of the same request",
    calibration=SAME_REQUEST.calibration,
    read=_read_similar,
    make=_grade_similarity,
)
"""Right if the cosine of the two embeddings is at or above the embedder's threshold, chosen on bundled pairs.

The field `similarity` is the cosine itself, 0 if it is negative or nothing was read, and 1 for the same words.
"""
