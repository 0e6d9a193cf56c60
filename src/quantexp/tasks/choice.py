"""Multiple choice by log-likelihood: the model does not answer; its probabilities of the given choices are read.

An item has `question`, `choices` and `answer`: the right choice's text, its letter (A, B, ...) or its place from 0 on.
An output is the choices' scores as JSON (`format_scores`). The graders are readings of the same scores.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.requests import Choose
from quantexp.util.errors import UserError

PROBABILITY, LEAD = "probability", "lead"
"""Fields of a grade."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class ChoiceScore:
    """A choice and its log-probability.

    Attributes:
        choice: its text.
        logprob: of all its tokens, after the item, in nats.
        tokens: how many it has.
        unconditional: the log-probability of the same tokens after the words that head every answer alone, without the
            question; None if it was not asked for.
        likeliest: whether each of its tokens was the likeliest in its place; None if that is not known.
    """

    choice: str
    logprob: float
    tokens: int
    unconditional: float | None = None
    likeliest: bool | None = None


def format_scores(scores: Sequence[ChoiceScore]) -> str:
    """Return scores as JSON, a line for each choice; log-probabilities to 6 decimals, more than float32 knows."""
    lines = []
    for score in scores:
        shown: dict[str, Any] = {
            "choice": score.choice,
            "logprob": round(score.logprob, 6),
            "tokens": score.tokens,
        }
        if score.unconditional is not None:
            shown["unconditional"] = round(score.unconditional, 6)
        if score.likeliest is not None:
            shown["likeliest"] = score.likeliest
        lines.append(json.dumps(shown, ensure_ascii=False))
    return "[" + ",\n ".join(lines) + "]"


def parse_scores(output: str) -> list[ChoiceScore] | None:
    """Read scores again; None if the text is none that `format_scores` can have written."""
    try:
        scores = [
            ChoiceScore(
                row["choice"],
                float(row["logprob"]),
                int(row["tokens"]),
                _read_number(row.get("unconditional")),
                row.get("likeliest"),
            )
            for row in json.loads(output)
        ]
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None
    if not all(math.isfinite(number) for score in scores for number in (score.logprob, score.unconditional or 0.0)):
        return None
    return scores if all(isinstance(score.choice, str) and score.tokens > 0 for score in scores) else None


def _read_number(value: Any) -> float | None:
    return None if value is None else float(value)


def list_choices(fields: Mapping[str, Any]) -> list[str]:
    """Return an item's choices, as texts without white space around them.

    Raises:
        ValueError: there are fewer than two, two are the same, or one is blank or neither text nor a number.
    """
    given = fields["choices"]
    texts = [_read_text(each) for each in given] if isinstance(given, list | tuple) else []
    if len(texts) < 2 or not all(texts):
        raise ValueError(f"the field 'choices' must be a list of two texts or more, none of them blank, not {given!r}")
    if len(set(texts)) < len(texts):
        raise ValueError(f"the field 'choices' holds the same text twice: {given!r}")
    return texts


def find_answer(fields: Mapping[str, Any]) -> int:
    """Return the place of the right choice, counted from 0.

    Raises:
        ValueError: `answer` is neither the text of a choice, nor a letter or a place that one has.
    """
    choices, given = list_choices(fields), fields["answer"]
    text = _read_text(given)
    if isinstance(given, str) and text in choices:
        return choices.index(text)
    place = _LETTERS.find(text.upper()) if len(text) == 1 and text.isalpha() else -1
    if text.isdecimal() and len(text) < 4:
        place = int(text)
    if not 0 <= place < len(choices):
        raise ValueError(
            f"the field 'answer' must be the text of one of the {len(choices)} choices, its letter from A on, or its "
            f"place from 0 on, not {given!r}"
        )
    return place


def _read_text(value: object) -> str:
    """Return a text or a number as text; empty for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value).strip()


Reading = Callable[[Sequence[ChoiceScore]], list[float]]
"""What choices are ranked by, in nats."""


def _read_sum(scores: Sequence[ChoiceScore]) -> list[float]:
    return [score.logprob for score in scores]


def _read_per_byte(scores: Sequence[ChoiceScore]) -> list[float]:
    return _read_per_length(scores, [len(score.choice.encode("utf-8", "replace")) or 1 for score in scores])


def _read_per_token(scores: Sequence[ChoiceScore]) -> list[float]:
    return _read_per_length(scores, [score.tokens for score in scores])


def _read_per_length(scores: Sequence[ChoiceScore], lengths: Sequence[int]) -> list[float]:
    """Divide by the length, and multiply by the mean length: the ranks stay, and so does the scale."""
    mean = sum(lengths) / len(lengths)
    return [score.logprob / length * mean for score, length in zip(scores, lengths, strict=True)]


def _read_gain(scores: Sequence[ChoiceScore]) -> list[float]:
    return [score.logprob - (score.unconditional or 0.0) for score in scores]


@dataclass(frozen=True, slots=True)
class ChoiceGrader(Grader):
    """A reading of choices' scores: right if the right choice is the first of those with the highest.

    Attributes:
        unconditional: whether it needs the log-probabilities without the question.
    """

    unconditional: bool = False


def _make_grader(name: str, description: str, reading: Reading, unconditional: bool = False) -> ChoiceGrader:
    def grade(output: str, fields: Mapping[str, Any]) -> Grade:
        choices, right = list_choices(fields), find_answer(fields)
        if output.strip() in choices:  # a worked example: it is sure of this one
            place = choices.index(output.strip())
            values = [0.0 if each == place else -math.inf for each in range(len(choices))]
        else:
            scores = parse_scores(output)
            if scores is None or [score.choice for score in scores] != choices:
                return Grade.unreadable("not the choices' scores", (PROBABILITY, LEAD))
            if unconditional and any(score.unconditional is None for score in scores):
                return Grade.unreadable("no scores without the question", (PROBABILITY, LEAD))
            values = reading(scores)
        best = max(range(len(values)), key=values.__getitem__)  # the first of several
        others = max(value for place, value in enumerate(values) if place != right)
        return Grade(
            score=float(best == right),
            extracted=choices[best],
            fields={PROBABILITY: _share(values, right), LEAD: _share([values[right], others], 0)},
        )

    return ChoiceGrader(name=name, version=1, description=description, grade=grade, unconditional=unconditional)


def _share(values: Sequence[float], place: int) -> float:
    """Return the softmax of one of several log-probabilities, to 9 decimals."""
    top = max(values)
    shares = [math.exp(value - top) for value in values]
    return round(shares[place] / math.fsum(shares), 9)


ACC = _make_grader("acc", "the right choice has the highest log-probability", _read_sum)
"""lm-evaluation-harness's acc. Favours short choices.

Every reading has two fields beside the score. `probability`: of the right choice, among the choices, if the values that
rank them are log-probabilities. `lead`: the same between the right and the best wrong one alone, so it is above a
half where the item is right, and 1 / (1 + exp(-m)) if the right one is ahead by m nats.
"""

ACC_NORM = _make_grader("acc_norm", "the right choice has the highest log-probability per byte", _read_per_byte)
"""Bytes of the choice's text in UTF-8, without the space before it. lm-evaluation-harness's acc_norm counts characters,
which are the same in English, and its acc_bytes bytes."""

ACC_TOKEN = _make_grader("acc_token", "the right choice has the highest log-probability per token", _read_per_token)
"""Tokens of the model's own vocabulary, so models that cut texts otherwise are not compared alike."""

ACC_UNCONDITIONAL = _make_grader(
    "acc_unconditional",
    "the right choice's log-probability gains most from the question, against that after `Answer:` alone",
    _read_gain,
    unconditional=True,
)
"""Takes away how likely a choice is as an answer to anything. Needs each choice scored once more, without the item."""


def needs_unconditional(grader: Grader) -> bool:
    """Return whether a grader needs the choices scored without their items, too."""
    return isinstance(grader, ChoiceGrader) and grader.unconditional


def check_outputs(grader: Grader, outputs: Iterable[object]) -> None:
    """Refuse to regrade by a grader that needs scores which the run did not ask for.

    Args:
        grader: who is to grade.
        outputs: of a run.

    Raises:
        UserError: an output lacks them.
    """
    if not needs_unconditional(grader):
        return
    for output in outputs:
        scores = parse_scores(str(output)) or ()
        if any(score.unconditional is None for score in scores):
            raise UserError(
                f"{grader.name} needs the choices' scores without the questions, for which the run did not ask: run it "
                f"again with task.grader={grader.name}; the scores that are there are taken from the store."
            )


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "question")
    find_answer(fields)


TASK = Task(
    name="choice",
    asks="question",
    required_fields=("question", "choices", "answer"),
    target=lambda fields: list_choices(fields)[find_answer(fields)],
    check=_check,
    graders=index_by_name(ACC, ACC_NORM, ACC_TOKEN, ACC_UNCONDITIONAL),
    default_grader=ACC.name,
    request=Choose,
    is_bundled=True,
)
"""Items with any number of choices; a worked example is shown with the right one."""
