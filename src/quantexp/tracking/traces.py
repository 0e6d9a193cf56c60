"""A job's items as MLflow traces: prompt in, answer out, the grader's score as an assessment."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pandas as pd
from mlflow.entities import AssessmentSource, AssessmentSourceType, Feedback, Span, SpanType, TraceInfo, TraceState
from mlflow.entities.trace_location import TraceLocation
from mlflow.tracing.client import TracingClient
from mlflow.tracing.constant import SpanAttributeKey, TokenUsageKey, TraceMetadataKey, TraceTagKey

from quantexp.tracking.tags import FIELD

PREVIEW = 1000
"""Characters of prompt and answer in MLflow's list of traces, which cuts them there itself."""

BATCH = 200
"""Traces whose spans are written in one transaction."""


def write_traces(
    uri: str,
    experiment: str,
    run_id: str,
    started: int,
    tags: Mapping[str, str],
    grader: str,
    table: pd.DataFrame,
    seconds: Sequence[float],
) -> None:
    """Write one trace an answer; written again for the same run, they stay as they are.

    Args:
        uri: the store's.
        experiment: id of the experiment.
        run_id: the job's run, which the traces belong to.
        started: when, in milliseconds since 1970.
        tags: what the traces are filtered by.
        grader: name and version; scores are its assessments.
        table: the per-item table.
        seconds: how long each answer took to generate; 0 where it was not measured.
    """
    client = TracingClient(uri)
    records = cast(list[dict[str, Any]], table.to_dict("records"))
    rows = list(zip(records, seconds, strict=True))
    names = [_id(run_id, f"{row['item_id']} {row['sample']}") for row, _ in rows]
    there = {trace.info.trace_id for trace in client.batch_get_traces(names, location=experiment)}
    new = [(name, row, took) for name, (row, took) in zip(names, rows, strict=True) if name not in there]
    for first in range(0, len(new), BATCH):
        batch = new[first : first + BATCH]
        client.log_spans(experiment, [_span(name, experiment, started, row, took) for name, row, took in batch])
        for name, row, took in batch:
            client.start_trace(
                TraceInfo(
                    trace_id=name,
                    trace_location=TraceLocation.from_experiment_id(experiment),
                    request_time=started,
                    execution_duration=round(1000 * took),
                    state=TraceState.OK,
                    request_preview=_question(row)[-PREVIEW:],
                    response_preview=_outputs(row)["answer"][:PREVIEW],
                    trace_metadata={
                        TraceMetadataKey.SOURCE_RUN: run_id,
                        TraceMetadataKey.TOKEN_USAGE: json.dumps(_usage(row)),
                    },
                    tags={**tags, "item": str(row["item_id"]), TraceTagKey.TRACE_NAME: str(row["item_id"])},
                    assessments=list(_assessments(name, grader, row)),
                )
            )


def _question(row: Mapping[str, Any]) -> str:
    """Choose what sets a prompt apart from the others; tables of earlier versions have no question."""
    return str(row["prompt"] if pd.isna(question := row.get("question")) else question)


def _outputs(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the answer, and the reasoning before it if the two were told apart."""
    if "answer" not in row:
        return {"answer": str(row["output"])}
    return {"answer": str(row["answer"]), "reasoning": str(row["reasoning"])}


def _assessments(name: str, grader: str, row: Mapping[str, Any]) -> Iterable[Feedback]:
    """Yield the score and, where an item has fields, each field's."""
    source = AssessmentSource(AssessmentSourceType.CODE, grader)
    read, wrong = row["extracted"], row["grading_error"]
    why = f"read {read!r}, expected {row['reference']!r}" if pd.isna(wrong) else str(wrong)
    scores = {"score": row["score"]} | {key: row[key] for key in row if key.startswith(FIELD)}
    for key, score in scores.items():
        if pd.notna(score):  # an item that was not asked has none
            yield Feedback(key, float(score), rationale=why if key == "score" else None, source=source, trace_id=name)


def _span(name: str, experiment: str, started: int, row: Mapping[str, Any], took: float) -> Span:
    attributes = {
        SpanAttributeKey.REQUEST_ID: name,
        SpanAttributeKey.EXPERIMENT_ID: experiment,
        SpanAttributeKey.SPAN_TYPE: SpanType.LLM,
        # Not the text alone: MLflow would parse one that is JSON, and graders judge the text as it was written.
        SpanAttributeKey.INPUTS: {"prompt": row["prompt"]},
        SpanAttributeKey.OUTPUTS: _outputs(row),
        SpanAttributeKey.CHAT_USAGE: _usage(row),
        "finish_reason": row["finish_reason"],
        "difficulty": row["difficulty"],
        "sample": row["sample"],
        "reference": row["reference"],
    }
    number = bytes.fromhex(name.removeprefix("tr-"))
    nanoseconds = started * 1_000_000
    return Span.from_dict(
        {
            "trace_id": base64.b64encode(number).decode(),
            "span_id": base64.b64encode(number[:8]).decode(),
            "parent_span_id": None,
            "name": str(row["item_id"]),
            "start_time_unix_nano": nanoseconds,
            "end_time_unix_nano": nanoseconds + round(1e9 * took),
            "events": [],
            "status": {"code": "STATUS_CODE_OK", "message": ""},
            "attributes": {key: json.dumps(value, ensure_ascii=False) for key, value in attributes.items()},
        }
    )


def _usage(row: Mapping[str, Any]) -> dict[str, int]:
    read, written = int(row["prompt_tokens"]), int(row["completion_tokens"])
    keys = TokenUsageKey.INPUT_TOKENS, TokenUsageKey.OUTPUT_TOKENS, TokenUsageKey.TOTAL_TOKENS
    return dict(zip(keys, (read, written, read + written), strict=True))


def _id(run_id: str, answer: str) -> str:
    """MLflow's form of an id, the same whenever this answer of this run is written."""
    return f"tr-{hashlib.sha256(f'{run_id} {answer}'.encode()).hexdigest()[:32]}"
