"""What a finished comparison leaves in MLflow for people: descriptions, and curves over bits per weight."""

import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from quantexp.report.markdown import description
from quantexp.report.summary import Condition, Summary, difference_text, reading, score_text
from quantexp.tracking import JobRecord, Run, Store

log = logging.getLogger(__name__)

MOST_DESCRIBED = 1000
"""Jobs that are described: each takes some 10 ms of a server's time, as much as all else that is read of it."""


def show_in_mlflow(summary: Summary, run: Run) -> None:
    """Describe a comparison on the run that holds it, and chart it there.

    MLflow draws a metric over its steps, so the scores of a task become one curve: the step is a thousandth of a bit
    per weight. Several sweeps share a chart, task by task.
    """
    run.describe(description(summary))
    curves: dict[str, dict[int, float]] = {}
    for condition in summary.conditions:
        for name, value in _figures(summary, condition):
            curves.setdefault(name, {})[round(1000 * condition.bits_per_weight)] = value
    run.log_curves(curves)


def describe_jobs(summary: Summary, records: Mapping[str, JobRecord], store: Store) -> None:
    """Say on each job's run what came of its quant; of more than `MOST_DESCRIBED` jobs only the sweep's run says it."""
    if len(records) > MOST_DESCRIBED:
        log.info(
            "%d jobs: their descriptions in MLflow stay as they are, for each takes a request; the sweep's run has all",
            len(records),
        )
        return
    told = {run_id: _told(summary, condition) for condition in summary.conditions for run_id in condition.run_ids}

    def describe(run_id: str) -> None:
        store.run(run_id, records[run_id].name).describe(told[run_id], records[run_id].tags)

    # A server takes its time for each; SQLite takes one writer at a time.
    with ThreadPoolExecutor(1 if store.uri.startswith("sqlite") else 16) as threads:
        list(threads.map(describe, told))


def _figures(summary: Summary, condition: Condition) -> Iterator[tuple[str, float]]:
    """What is drawn of a condition, by the metric's name; a group of charts is what precedes the slash."""
    several = len(summary.models()) > 1
    section = _allowed(f"{condition.model} {condition.task}" if several else condition.task)
    estimate = condition.estimate
    yield f"{section}/score", estimate.mean
    yield f"{section}/score_low", estimate.low
    yield f"{section}/score_high", estimate.high
    yield "bits_per_weight", condition.bits_per_weight
    comparison = summary.comparison(condition)
    if comparison is not None:
        yield f"{section}/loss_against_{_allowed(summary.baseline)}", comparison.difference.difference
        if comparison.divergence is not None:
            yield f"{section}/divergence", comparison.divergence.summary.mean.value


def _allowed(name: str) -> str:
    """Without the characters that MLflow refuses in the name of a metric, such as brackets."""
    return " ".join(re.sub(r"[^\w.\-]+", " ", name).split())


def _told(summary: Summary, condition: Condition) -> str:
    score, interval = score_text(condition.estimate)
    runs = "" if condition.repeats == 1 else f" under {condition.repeats} seeds"
    text = (
        f"Score {score} {interval} points on {condition.items} items of {condition.task}{runs}, "
        f"{condition.bits_per_weight:.2f} bits per weight."
    )
    comparison = summary.comparison(condition)
    if comparison is None:
        return text + (" The baseline." if condition.quant == summary.baseline else "")
    loss, bounds = difference_text(comparison.difference)
    return f"**{reading(comparison)}** ({loss} {bounds} points lost against {summary.baseline})\n\n{text}"
