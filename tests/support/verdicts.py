"""What a grader says of an output, as `run_job` has it in the item table."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from quantexp.evaluation import scoring
from quantexp.evaluation.answers import AnswerReader
from quantexp.tasks import Grader
from quantexp.tasks.reasoning import NONE, Output


def verdict(grader: Grader, output: str, fields: Mapping[str, Any], finish_reason: str) -> dict[str, Any]:
    """The grader's columns for an output."""
    with grader.open({}) as grade:
        given = scoring.GradedOutput(Output(output, tokens=5), fields, finish_reason, "a prompt")
        return next(scoring.list_verdicts(AnswerReader(NONE), grade, [given]))


def regraded(table: pd.DataFrame, grader: Grader, items: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table under another grader."""
    with grader.open({}) as grade:
        return scoring.regrade_table(table, AnswerReader(NONE), grade, items)
