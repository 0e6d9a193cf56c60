"""The most that a sweep can show with its number of items, before it is run."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from quantexp.config import Config, StatsConfig, Target, Unit
from quantexp.tasks import open_task
from quantexp.tasks.items import Dataset, draw_items


@dataclass(frozen=True, slots=True)
class TaskExtent:
    """Number of items that a sweep has of a task.

    Attributes:
        task: its name.
        counted: units that count once: items, or an item's answers under one seed.
        in_data: items in the data.
        is_graded: whether an item's score may be neither right nor wrong.
    """

    task: str
    counted: int
    in_data: int
    is_graded: bool


def count_items(jobs: Iterable[tuple[Config, Dataset]]) -> list[TaskExtent]:
    """Count the items of each task of a sweep.

    Args:
        jobs: each with its data, and without those that read plain text, whose items are not known yet.
    """
    by_task: dict[str, list[tuple[Config, Dataset]]] = {}
    for job, rows in jobs:
        by_task.setdefault(job.task.name, []).append((job, rows))
    extents = []
    for task, of_task in by_task.items():
        stats = of_task[0][0].stats
        asked = {(id(rows), job.seed, job.task.limit): rows for job, rows in of_task}
        counted = {
            (seed, item.id) if stats.unit is Unit.answer else item.cluster
            for (_, seed, limit), rows in asked.items()
            for item in draw_items(rows.items, seed, limit)
        }
        is_graded = any(job.task.sampling.samples > 1 or _has_fields(job, rows) for job, rows in of_task)
        in_data = {item.cluster for _, rows in of_task for item in rows.items}
        extents.append(TaskExtent(task, len(counted), len(in_data), is_graded))
    return extents


def describe_prospects(extents: Iterable[TaskExtent], stats: StatsConfig) -> Iterator[str]:
    """Say of which tasks a sweep has too few items to show the margin, unless a quant gains more than it loses."""
    # Only now: the process that counts does without SciPy.
    from quantexp.comparison.wording import given_points
    from quantexp.stats import Kind, Method, fewest_items

    found: dict[tuple[int, float, int | None], list[str]] = {}
    for each in extents:
        margin = stats.margins.get(each.task, stats.margin)
        fewest = fewest_items(
            margin,
            kind=Kind.graded if each.is_graded else Kind.binary,
            method=Method(stats.method.value),
            population=each.in_data if stats.target is Target.items else None,
            alpha=1 - stats.confidence,
        )
        if fewest is None or each.counted < fewest:
            found.setdefault((each.counted, margin, fewest), []).append(each.task)
    unit = stats.unit.value
    for (count, margin, fewest), tasks in found.items():
        on = f" on {', '.join(tasks)}" if len(found) > 1 else ""
        least = "no number is enough" if fewest is None else f"{fewest:,} are the fewest"
        what = unit if count == 1 else f"{unit}s"
        yield (
            f"{count:,} {what}{on} can show a margin of {given_points(margin)} points only for a quant that gains "
            f"more than it loses: for others {least}; see python -m quantexp.plan"
        )


def _has_fields(job: Config, rows: Dataset) -> bool:
    """Tell if the grader scores several fields of an item, whose mean is neither right nor wrong."""
    grader = open_task(job.task).grader(job.task.grader)
    return bool(grader.grade("", rows.items[0].fields).fields)
