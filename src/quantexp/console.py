"""What the terminal shows besides the log: a bar for each job and the final table."""

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

from quantexp.launching import THREADS


class _Rate(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} items/s")


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left, on a terminal; nothing elsewhere. Tell the result how many items were done.

    Jobs side by side would draw over each other's: they have none.
    """
    console = Console(stderr=True)
    shown = console.is_terminal and THREADS not in os.environ
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        task = progress.add_task(label, total=total)
        yield lambda items: progress.advance(task, items)
