"""From outputs to scores: the columns of the per-item table that a grader fills, and the metrics that follow."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pandas as pd

from quantexp.evaluation.answers import AnswerReader, decode_output, encode_marks
from quantexp.evaluation.outcomes import list_outcomes
from quantexp.stats import Method, at_k, estimate
from quantexp.tasks.graders.base import (
    ENDED_IN_REASONING,
    UNDECIDED,
    UNFINISHED,
    Answer,
    Grade,
    GradeAnswer,
    JointGrading,
)
from quantexp.tasks.reasoning import Output
from quantexp.tracking.tags import FIELD, LENGTHS, OUTCOME, RULE
from quantexp.util.errors import UserError
from quantexp.util.metric_names import fold_name

if TYPE_CHECKING:
    # It needs Hydra, and `quantexp.regrade` no engine.
    from quantexp.config import StatsConfig
    from quantexp.engines import Completion, Prompt
    from quantexp.tasks.items import Item

READ = ("reasoning", "answer", "reasoning_tokens")
"""The columns that a reader fills which looks for reasoning."""

EXPLANATION = "explanation"
"""The column of graders that explain their grades."""

_OF_GRADER = frozenset({*READ, "extracted", "rule", "score", "grading_error", EXPLANATION})
"""The other columns that a reader and a grader fill; tables of earlier versions have no rule."""


class GradedOutput(NamedTuple):
    """An output that is to be graded."""

    output: Output
    fields: Mapping[str, Any]
    finish_reason: str
    prompt: str


def list_verdicts(reader: AnswerReader, grader: GradeAnswer, given: Sequence[GradedOutput]) -> Iterator[dict[str, Any]]:
    """Fill the columns of reader and grader for each output, in order; one that was never asked gets no score."""
    answers = [reader.read(each.output, each.finish_reason == "length") for each in given]
    asked = [
        (answer, each.fields) for answer, each in zip(answers, given, strict=True) if each.finish_reason != "context"
    ]
    if isinstance(grader, JointGrading):
        grades = iter(grader.grade_all(asked))
    else:
        grades = (grader(answer, fields) for answer, fields in asked)
    for each, answer in zip(given, answers, strict=True):
        grade = None if each.finish_reason == "context" else _settle(next(grades), answer)
        read = (answer.reasoning, answer.text, answer.reasoning_tokens)
        yield {
            **(dict(zip(READ, read, strict=True)) if reader.splits else {}),
            "extracted": grade.extracted if grade else None,
            "rule": grade.rule if grade else None,
            "score": None if grade is None or grade.is_undecided else grade.score,
            **{FIELD + name: value for name, value in (grade.fields if grade else {}).items()},
            "grading_error": grade.error if grade else "not asked: does not fit the context",
            **({EXPLANATION: grade.explanation} if grade and grade.explanation is not None else {}),
            **{OUTCOME + name: value for name, value in _outcomes(answer, grade, each.prompt, each.output).items()},
        }


def _outcomes(answer: Answer, grade: Grade | None, prompt: str, output: Output) -> dict[str, float]:
    if grade is None or grade.is_undecided:
        return {}
    return {**grade.outcomes, **list_outcomes(answer, grade, prompt, output.tokens or 0)}


def _settle(grade: Grade, answer: Answer) -> Grade:
    """Return the grade that counts: an answer that never began scores 0, whatever the grader makes of nothing."""
    return Grade.unreadable(ENDED_IN_REASONING, grade.fields) if answer.ended_in_reasoning else grade


class AnswerGrading:
    """Reads and grades a job's answers: each once, whenever its verdict is wanted first."""

    def __init__(
        self,
        reader: AnswerReader,
        grader: GradeAnswer,
        items: "Iterable[Item]",
        read_output: "Callable[[Prompt, Completion], Output]",
    ) -> None:
        """Take what the answers are to.

        Args:
            reader: of the outputs.
            grader: who grades, opened.
            items: all that are answered.
            read_output: returns the output of a completion (`Engine.read_output`).
        """
        self._read_output = read_output
        self._reader = reader
        self._grader = grader
        self._fields = {item.id: item.fields for item in items}
        self._verdicts: dict[tuple[str, int], dict[str, Any]] = {}
        self._outputs: dict[tuple[str, int], Output] = {}

    def start_over(self) -> "AnswerGrading":
        """Return the same for other answers to the same items."""
        again = copy(self)
        again._verdicts, again._outputs = {}, {}
        return again

    def output(self, prompt: "Prompt", completion: "Completion") -> Output:
        """Return what the model wrote, with the marks in it."""
        key = (prompt.item_id, prompt.sample)
        if key not in self._outputs:
            self._outputs[key] = self._read_output(prompt, completion)
        return self._outputs[key]

    def verdict(self, prompt: "Prompt", completion: "Completion") -> Mapping[str, Any]:
        """Fill the grader's columns for the answer to a prompt."""
        self.grade_all([prompt], [completion])
        return self._verdicts[prompt.item_id, prompt.sample]

    def grade_all(self, prompts: "Sequence[Prompt]", completions: "Sequence[Completion]") -> None:
        """Grade the answers to prompts that have no verdict yet, together if the grader does so."""
        new = {
            (prompt.item_id, prompt.sample): GradedOutput(
                self.output(prompt, completion), self._fields[prompt.item_id], completion.finish_reason, prompt.text
            )
            for prompt, completion in zip(prompts, completions, strict=True)
            if (prompt.item_id, prompt.sample) not in self._verdicts
        }
        verdicts = list_verdicts(self._reader, self._grader, [*new.values()])
        for (key, given), found in zip(new.items(), verdicts, strict=True):
            marks = {"marks": encode_marks(given.output, self._reader)} if self._reader.splits else {}
            self._verdicts[key] = marks | found


def regrade_table(
    table: pd.DataFrame, reader: AnswerReader, grader: GradeAnswer, items: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Put the verdicts of another reader and grader in place of a table's own.

    Args:
        table: a per-item table; it is not changed.
        reader: of the outputs.
        grader: who grades, opened.
        items: the fields of each item by its id.

    Raises:
        UserError: an item of the table is not among `items`.
    """
    missing = [item for item in dict.fromkeys(table["item_id"]) if item not in items]
    if missing:
        raise UserError(
            f"{len(missing)} of its items are not in the data any more, the first is {missing[0]}; "
            "grade it with the data that it was run on."
        )
    rows = cast(list[dict[str, Any]], table.to_dict("records"))
    given = [
        GradedOutput(
            decode_output(row, reader), items[row["item_id"]], row["finish_reason"], str(row.get("prompt", ""))
        )
        for row in rows
    ]
    verdicts = pd.DataFrame([*list_verdicts(reader, grader, given)], index=table.index)
    old = [name for name in table if name in _OF_GRADER or str(name).startswith((FIELD, OUTCOME))]
    at = next(place for place, name in enumerate(table) if name in _OF_GRADER)
    others = table.drop(columns=old)
    graded = pd.concat([others.iloc[:, :at], verdicts[_ordered(verdicts)], others.iloc[:, at:]], axis="columns")
    return drop_unbounded(graded)


def drop_unbounded(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out fields with a value that is no share: intervals of means are made for scores from 0 to 1."""
    fields = [str(name) for name in table if str(name).startswith(FIELD)]
    asked = table[table["score"].notna()]
    return table.drop(columns=[name for name in fields if not asked[name].dropna().between(0, 1).all()])


def score_metrics(table: pd.DataFrame, stats: "StatsConfig") -> dict[str, float]:
    """Compute the metrics that depend on the grader: mean score with interval, answers not read, and not finished.

    With several answers to an item that are right or wrong, pass@k and majority@k as well.

    Args:
        table: a per-item table in which at least one row has a score, in the order in which it was asked.
        stats: How the score's interval is made.
    """
    scored, method = table.dropna(subset="score"), Method(stats.method.value)
    if method is not Method.sequential:  # which needs the items as they were drawn
        scored = scored.sort_values("item_id", kind="stable")
    options = {"method": method, **stats.resampling}
    found = estimate(scored["score"].to_numpy(), clusters=scored["cluster"].to_numpy(), **options)
    wrong = table["grading_error"].where(table["score"].notna())
    unfinished, in_reasoning = wrong.eq(UNFINISHED), wrong.eq(ENDED_IN_REASONING)
    undecided = int(table["grading_error"].str.startswith(UNDECIDED).sum())
    reasoned = {"items_ended_in_reasoning": int(in_reasoning.sum())} if READ[0] in table else {}
    return {
        "score": found.mean,
        "score_low": found.low,
        "score_high": found.high,
        "items_unreadable": int((wrong.notna() & ~unfinished & ~in_reasoning).sum()),
        "items_unfinished": int(unfinished.sum()),
        **({"items_undecided": undecided} if undecided else {}),
        **_metrics_at_k(scored, options),
        **reasoned,
        **outcome_means(table),
        **rule_counts(table),
    }


def _metrics_at_k(scored: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, float]:
    """Compute pass@k and majority@k; none if items have one answer each, or scores are graded."""
    if "sample" not in scored:
        return {}
    found = at_k(
        scored["score"].to_numpy(),
        pd.factorize(scored["extracted"])[0] + 1,  # 0: nothing was read
        scored["item_id"].to_numpy(),
        scored["sample"].to_numpy(),
        clusters=scored["cluster"].to_numpy(),
        **options,
    )
    return {
        f"{name}_at_{each.k}{end}": value
        for each in found
        for name, estimated in (("pass", each.passed), ("majority", each.majority))
        for end, value in (("", estimated.mean), ("_low", estimated.low), ("_high", estimated.high))
    }


def outcome_means(table: pd.DataFrame) -> dict[str, float]:
    """Return the share of answers of each outcome, and the mean lengths, over the answers that were asked for."""
    asked = table[table["score"].notna()]
    names = [str(name) for name in table if str(name).startswith(OUTCOME) and len(asked)]
    known = {name: asked[name].fillna(0) if name not in LENGTHS else asked[name] for name in names}
    return {name: float(values.mean()) for name, values in known.items() if not values.isna().any()}


def rule_counts(table: pd.DataFrame) -> dict[str, float]:
    """Count the answers which each rule of the grader has read, as metrics; none if it has but one way to read.

    Rules whose names are the same to MLflow count together.
    """
    if "rule" not in table:
        return {}
    names = table["rule"].dropna().map(lambda rule: f"{RULE}{fold_name(rule)}")
    return {str(name): float(count) for name, count in names.value_counts().sort_index().items()}


def _ordered(verdicts: pd.DataFrame) -> list[str]:
    """Return the columns in their order, whichever row came first: one that was not asked has no fields."""
    fields = [str(name) for name in verdicts if str(name).startswith(FIELD)]
    outcomes = [str(name) for name in verdicts if str(name).startswith(OUTCOME)]
    read = [name for name in READ if name in verdicts]
    explained = [EXPLANATION] if EXPLANATION in verdicts else []
    return [*read, "extracted", "rule", "score", *fields, "grading_error", *explained, *outcomes]
