"""Progress in the terminal besides the log: a bar for each job."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from quantexp.util.native.threads import THREADS


class _Rate(ProgressColumn):
    """Rate of what is counted, per second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} {self._unit}/s")


@contextmanager
def bar(label: str, total: int | None, unit: str = "items", *, shows: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a bar with rate and time left, on a terminal; nothing elsewhere. Tell the result how many were done.

    Jobs side by side would draw over each other's: they have none.

    Args:
        label: what is done.
        total: how many there are to do; None if that is not known.
        unit: what they are.
        shows: false if another bar is there already.
    """
    console = Console(stderr=True)
    shown = shows and console.is_terminal and THREADS not in os.environ
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(label, total=total)
        yield lambda items: progress.advance(task, items)
