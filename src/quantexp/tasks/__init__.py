"""The tasks quantexp knows, by name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from quantexp.tasks.base import Task
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

if TYPE_CHECKING:
    from quantexp.config import TaskConfig

__all__ = ["TASKS", "Grade", "Grader", "Task", "get_task", "open_task"]

_MODULES = (
    *("gsm8k", "triviaqa", "extraction", "choice", "languages", "instructions", "tools", "chat", "code", "long"),
    *("summary", "qa", "plain_text"),
)


class _Tasks(Mapping[str, Task]):
    """The tasks, whose modules are imported once somebody looks: what needs a part of this room does without them."""

    @cached_property
    def _by_name(self) -> dict[str, Task]:
        tasks: list[Task] = [import_module(f"{__name__}.{module}").TASK for module in _MODULES]
        return {task.name: task for task in tasks}

    def __getitem__(self, name: str) -> Task:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


TASKS: Mapping[str, Task] = _Tasks()
"""Every task by its name."""

_NAME = re.compile(r"\w[\w.-]{0,59}")


def open_task(config: "TaskConfig") -> Task:
    """Return the task that a job has.

    Raises:
        UserError: there is none, or it cannot be had as it is configured.
    """
    task = get_task(config.name, config.module)
    return task if task.configure is None else task.configure(config)


def get_task(name: str, module: str | None = None) -> Task:
    """Return the task called `name`.

    Args:
        name: of one of the tasks here, or of the task that `module` brings.
        module: a Python module of the user's with the task as its TASK.

    Raises:
        UserError: there is none; the message lists the known tasks, or says what the module lacks.
    """
    if module is not None:
        return _brought(name, module)
    if name not in TASKS:
        known = ", ".join(sorted(TASKS))
        raise UserError(f"task={name}: there is no such task; choose one of {known}.")
    return TASKS[name]


def _brought(name: str, module: str) -> Task:
    try:
        task = getattr(import_module(module), "TASK", None)
    except ModuleNotFoundError as error:
        raise UserError(
            f"task.module={module} cannot be imported ({error}); run the command in the module's folder, or put that "
            "folder on PYTHONPATH."
        ) from error
    if not isinstance(task, Task):
        raise UserError(
            f"task.module={module} has no TASK of the type quantexp.tasks.Task; see docs/how-to/own-task.md."
        )
    for grader in task.graders.values():
        if _NAME.fullmatch(grader.name) is None:
            raise UserError(
                f"task.module={module} has a grader with the name {one_line(grader.name)!r}, which cannot be the name "
                "of files and metrics: write letters, digits, - and _, at most 60 of them."
            )
    if task.is_named_by_user and (name == task.name or name not in TASKS or task.configure is not None):
        _check_name(name)
        return replace(task, name=name)
    if task.is_named_by_user:
        raise UserError(f"task.name={name} is a task of quantexp's own: give yours another name, with task.name=NAME.")
    if task.name != name:
        raise UserError(f"task.module={module} brings the task {task.name}, not {name}; set task.name={task.name}.")
    return task


def _check_name(name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise UserError(
            f"task.name={one_line(name)} cannot be a task's name: write letters, digits, - and _, at most 60 of them."
        )
