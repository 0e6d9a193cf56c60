"""The most that a sweep can show with its number of items, before it is run."""

import math
from collections.abc import Iterable, Iterator
from statistics import NormalDist

from quantexp.config import Config, Target
from quantexp.report.summary import given_points
from quantexp.stats import Kind, Method
from quantexp.tasks.items import Dataset, drawn


def describe_prospects(jobs: Iterable[tuple[Config, Dataset]]) -> Iterator[str]:
    """Say of which tasks a sweep has too few items to show the margin, whatever comes out.

    Args:
        jobs: each with its data, and without those that read plain text, whose items are not known yet.
    """
    by_task: dict[str, list[tuple[Config, Dataset]]] = {}
    for job, rows in jobs:
        by_task.setdefault(job.task.name, []).append((job, rows))
    found: dict[tuple[int, float, int | None], list[str]] = {}
    for task, of_task in by_task.items():
        stats = of_task[0][0].stats
        margin = stats.margins.get(task, stats.margin)
        asked = {(id(rows), job.seed, job.task.limit): rows for job, rows in of_task}
        unique = {item.cluster for (_, seed, limit), rows in asked.items() for item in drawn(rows.items, seed, limit)}
        several = any(job.task.sampling.samples > 1 for job, _ in of_task)
        in_data = {item.cluster for _, rows in of_task for item in rows.items}
        fewest = fewest_items(
            margin,
            kind=Kind.graded if several else Kind.binary,
            method=Method(stats.method.value),
            population=len(in_data) if stats.target is Target.items else None,
            alpha=1 - stats.confidence,
        )
        if fewest is None or len(unique) < fewest:
            found.setdefault((len(unique), margin, fewest), []).append(task)
    for (count, margin, fewest), tasks in found.items():
        on = f" on {', '.join(tasks)}" if len(found) > 1 else ""
        items = "1 item" if count == 1 else f"{count:,} items"
        would = "no number would" if fewest is None else f"{fewest:,} would be the fewest"
        yield (
            f"{items}{on} cannot show a margin of {given_points(margin)} points: {would}; see python -m quantexp.plan"
        )


def fewest_items(
    margin: float, *, kind: Kind, method: Method, population: int | None = None, alpha: float = 0.05
) -> int | None:
    """Return the fewest unique items that show a margin, which is if none of them changes.

    Right or wrong, with z = z(1 - alpha): the first n with z² / (n + z²) < margin (Tango); graded: with
    1 - alpha^(1 / n) < margin. Of a fixed population, or by e-values, at most as many: not said here.
    """
    if method is not Method.default or population is not None:
        return 0
    z = NormalDist().inv_cdf(1 - alpha)
    if kind is Kind.binary:
        return math.floor(z**2 * (1 - margin) / margin) + 1
    return math.floor(math.log(alpha) / math.log(1 - margin)) + 1
