"""From outputs to scores: the columns of the per-item table that a grader fills, and the metrics that follow."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from quantexp.evaluation.answers import AnswerReader
from quantexp.stats import Method, at_k, estimate
from quantexp.tasks.graders.base import UNFINISHED, GradeAnswer
from quantexp.tracking.tags import FIELD, RULE
from quantexp.util.errors import UserError
from quantexp.util.metric_names import fold_name

if TYPE_CHECKING:
    # It needs Hydra, and `quantexp.regrade` no engine.
    from quantexp.config import StatsConfig
    from quantexp.engines import Completion, Prompt
    from quantexp.tasks.items import Item

_OF_GRADER = frozenset({"extracted", "rule", "score", "grading_error"})
"""The other columns that a grader fills; tables of earlier versions have no rule."""


def verdict(
    reader: AnswerReader, grader: GradeAnswer, output: str, fields: Mapping[str, Any], finish_reason: str
) -> dict[str, Any]:
    """Fill a grader's columns for one output; an item that was never asked gets no score."""
    grade = None if finish_reason == "context" else grader(reader.read(output, finish_reason == "length"), fields)
    return {
        "extracted": grade.extracted if grade else None,
        "rule": grade.rule if grade else None,
        "score": grade.score if grade else None,
        **{FIELD + name: value for name, value in (grade.fields if grade else {}).items()},
        "grading_error": grade.error if grade else "not asked: does not fit the context",
    }


class AnswerGrading:
    """Reads and grades a job's answers: each once, whenever its verdict is wanted first."""

    def __init__(self, reader: AnswerReader, grader: GradeAnswer, items: "Iterable[Item]") -> None:
        """Take what the answers are to.

        Args:
            reader: of the outputs.
            grader: who grades, opened.
            items: all that are answered.
        """
        self._reader = reader
        self._grader = grader
        self._fields = {item.id: item.fields for item in items}
        self._verdicts: dict[tuple[str, int], dict[str, Any]] = {}

    def verdict(self, prompt: "Prompt", completion: "Completion") -> Mapping[str, Any]:
        """Fill the grader's columns for the answer to a prompt (`verdict`)."""
        key = (prompt.item_id, prompt.sample)
        if key not in self._verdicts:
            fields = self._fields[prompt.item_id]
            self._verdicts[key] = verdict(self._reader, self._grader, completion.text, fields, completion.finish_reason)
        return self._verdicts[key]


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
    answers = zip(table["item_id"], table["output"], table["finish_reason"], strict=True)
    verdicts = pd.DataFrame(
        [verdict(reader, grader, output, items[item], reason) for item, output, reason in answers], index=table.index
    )
    old = [name for name in table if name in _OF_GRADER or str(name).startswith(FIELD)]
    at = table.columns.get_loc("extracted")
    others = table.drop(columns=old)
    return pd.concat([others.iloc[:, :at], verdicts[_ordered(verdicts)], others.iloc[:, at:]], axis="columns")


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
    options: dict[str, Any] = {
        "resamples": stats.resamples,
        "seed": stats.seed,
        "confidence": stats.confidence,
        "method": method,
    }
    found = estimate(scored["score"].to_numpy(), clusters=scored["cluster"].to_numpy(), **options)
    wrong = table["grading_error"].where(table["score"].notna())
    unfinished = wrong.eq(UNFINISHED)
    return {
        "score": found.mean,
        "score_low": found.low,
        "score_high": found.high,
        "items_unreadable": int((wrong.notna() & ~unfinished).sum()),
        "items_unfinished": int(unfinished.sum()),
        **_metrics_at_k(scored, options),
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


def rule_counts(table: pd.DataFrame) -> dict[str, float]:
    """Count the answers which each rule of the grader has read, as metrics; none if it has but one way to read.

    Rules whose names are the same to MLflow count together.
    """
    if "rule" not in table:
        return {}
    names = table["rule"].dropna().map(lambda rule: f"{RULE}{fold_name(rule)}")
    return {str(name): float(count) for name, count in names.value_counts().sort_index().items()}


def _ordered(verdicts: pd.DataFrame) -> list[str]:
    """Return the columns in the order of `verdict`, whichever row came first: one that was not asked has no fields."""
    fields = [str(name) for name in verdicts if str(name).startswith(FIELD)]
    return ["extracted", "rule", "score", *fields, "grading_error"]
