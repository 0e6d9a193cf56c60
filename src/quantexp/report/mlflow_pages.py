"""Pages of MLflow for people: descriptions, verdicts, a view of a comparison's jobs, curves over bits per weight."""

import json
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import isnan

from quantexp.comparison.summary import Condition, Summary
from quantexp.comparison.wording import difference_text, reading, score_text
from quantexp.report.markdown import description
from quantexp.report.pools import list_pool_figures
from quantexp.tracking.reader import JobRecord
from quantexp.tracking.run import Run
from quantexp.tracking.store import Store
from quantexp.util.metric_names import fold_name

log = logging.getLogger(__name__)

MOST_DESCRIBED = 1000
"""Jobs that are described: each takes some 10 ms of a server's time, as much as all else that is read of it."""


MOST_NAMED = 100
"""Jobs that are named one by one in what MLflow keeps for a page, which has room for 5,000 characters."""

COLUMNS = ("metrics.`bits_per_weight`", "metrics.`score`", "tags.`verdict`")
"""What the list of a comparison's jobs shows beside their names."""


def show_in_mlflow(summary: Summary, run: Run, store: Store) -> str:
    """Describe a comparison on the run that holds it, chart it there, and give its jobs a page.

    MLflow draws a metric over its steps, so the scores of a task become one curve: the step is a thousandth of a bit
    per weight. Several sweeps share a chart, task by task. Beside a curve, of which lists show one point only, stands
    a metric for each quant.

    Returns:
        The address of the page.
    """
    describe_comparison(summary, run)
    return store.share_view(run.id, _view(summary, run.id))


def describe_comparison(summary: Summary, run: Run) -> None:
    """Describe a comparison on the run that holds it, and chart it there."""
    run.describe(description(summary))
    curves: dict[str, dict[int, float]] = {}
    metrics: dict[str, float] = {}
    for condition in summary.conditions:
        section, quant = _section(summary, condition), fold_name(condition.quant)
        for name, exact in _figures(summary, condition):
            value = round(exact, 9) + 0.0  # differences of means leave dust such as -2e-18
            metrics[f"{section}/{name} {quant}"] = value
            if not isnan(condition.bits_per_weight):
                curves.setdefault(f"{section} by bits/{name}", {})[round(1000 * condition.bits_per_weight)] = value
    metrics |= {name: round(exact, 9) + 0.0 for name, exact in list_pool_figures(summary)}
    run.log_curves(curves)
    run.log_changed(metrics)


def _view(summary: Summary, run_id: str) -> str:
    """Write a state of MLflow's run list: a comparison's jobs by name, so by task and bits, with score and verdict."""
    jobs = [job for condition in summary.conditions for job in condition.run_ids]
    named = ", ".join(f"'{job}'" for job in jobs)
    search = f"attributes.run_id IN ({named})" if len(jobs) <= MOST_NAMED else f"tags.sweep LIKE '%{run_id}%'"
    facets = {"searchFilter": search, "orderByKey": "attributes.run_name", "orderByAsc": True}
    return json.dumps({**facets, "selectedColumns": COLUMNS})


def describe_jobs(summary: Summary, records: Mapping[str, JobRecord], store: Store) -> None:
    """Say on each job's run what came of its quant; of more than `MOST_DESCRIBED` jobs only the sweep's run says it."""
    if len(records) > MOST_DESCRIBED:
        log.info(
            "%d jobs: their descriptions in MLflow stay as they are, for each takes a request; the sweep's run has all",
            len(records),
        )
        return
    told = {run_id: condition for condition in summary.conditions for run_id in condition.run_ids}

    def describe(run_id: str) -> None:
        tags, verdict = records[run_id].tags, _verdict(summary, told[run_id])
        run = store.run(run_id, records[run_id].name)
        run.describe(_told(summary, told[run_id]), tags)
        if verdict != tags.get("verdict", ""):
            run.log(tags={"verdict": verdict})

    # A server takes its time for each; SQLite takes one writer at a time.
    with ThreadPoolExecutor(1 if store.uri.startswith("sqlite") else 16) as threads:
        list(threads.map(describe, told))


def _section(summary: Summary, condition: Condition) -> str:
    """Name the group of charts of a condition."""
    several = len(summary.models()) > 1
    return fold_name(f"{condition.model} {condition.task}" if several else condition.task)


def _figures(summary: Summary, condition: Condition) -> Iterator[tuple[str, float]]:
    """Yield what is drawn of a condition, by name."""
    estimate = condition.estimate
    yield "score", estimate.mean
    yield "score_low", estimate.low
    yield "score_high", estimate.high
    comparison = summary.comparison(condition)
    if comparison is not None:
        yield f"loss_against_{fold_name(summary.baseline)}", comparison.difference.difference
        if comparison.divergence is not None:
            yield "divergence", comparison.divergence.summary.mean.value


def _verdict(summary: Summary, condition: Condition) -> str:
    """Put the verdict on a condition into a word or two, for a column."""
    comparison = summary.comparison(condition)
    if comparison is None:
        return "baseline" if condition.quant == summary.baseline else ""
    return reading(comparison) if comparison.decision is None else comparison.decision.verdict.value


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
