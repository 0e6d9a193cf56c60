"""The tasks quantexp knows, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from quantexp.errors import UserError
from quantexp.tasks import extraction, gsm8k, triviaqa
from quantexp.tasks.base import Task
from quantexp.tasks.grading import Grade, Grader

__all__ = ["TASKS", "Grade", "Grader", "Task", "get_task"]

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (gsm8k.TASK, triviaqa.TASK, extraction.TASK)})
"""Every task by its name."""


def get_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        UserError: there is none; the message lists the known tasks.
    """
    if name not in TASKS:
        known = ", ".join(sorted(TASKS))
        raise UserError(f"task={name}: there is no such task; choose one of {known}.")
    return TASKS[name]
