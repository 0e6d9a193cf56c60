"""Task objects of lm-evaluation-harness: found by name, loaded, and refused if they cannot be measured here."""

import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
from jinja2 import TemplateError
from yaml import YAMLError

from quantexp.tasks.lm_eval.code_eval import NAME, replace_code_eval, uses_code_eval
from quantexp.util.errors import UserError
from quantexp.util.huggingface import first_line, quiet_unless_terminal
from quantexp.util.terminal import one_line

FOREIGN = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError),
    *(TemplateError, YAMLError),
)
"""Errors of a task's own code, which is not quantexp's to mend."""

_SHOWN = 8
"""Names that a sentence lists."""


@dataclass(frozen=True)
class Harness:
    """A task of lm-evaluation-harness, or several in a group.

    Attributes:
        name: what it is selected by.
        tasks: the task objects by their names; their random numbers are set before each use.
        groups: those that the tasks are in, the one with this name first; none of a single task.
        seed: by which worked examples are drawn.
    """

    name: str
    tasks: Mapping[str, Any]
    groups: tuple[Any, ...]
    seed: int


@cache
def load_harness(
    name: str, include_path: str | None, shots: int | None, seed: int, unsafe_code: bool = False
) -> Harness:
    """Load a task or a group, and its data.

    Args:
        name: as lm-evaluation-harness knows it.
        include_path: a folder with further definitions.
        shots: worked examples; None: as many as each task has.
        seed: by which they are drawn.
        unsafe_code: whether tasks may run code that the model writes, in the sandbox.

    Raises:
        UserError: the harness or the data are not there, there is no such task, or it cannot be measured here.
    """
    manager = _open_manager(include_path, with_others=include_path is None)
    if include_path is not None and (name not in manager.all_tasks or not _is_complete(manager, name)):
        manager = _open_manager(include_path, with_others=True)  # which takes seconds: there are thousands
    _check_name(name, manager)
    _check_definition(name, manager.task_index[name].cfg or {}, unsafe_code)  # before its data are fetched
    quiet_unless_terminal()
    # The libraries' exceptions, not built in: the harness, which needs them, is there.
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with seeded(), quiet(), replace_code_eval() if unsafe_code else nullcontext():
            found = manager.load(name)
    except ImportError as error:
        raise UserError(f"task.name={name} needs a further package ({first_line(error)}): install that.") from error
    except (OSError, DatasetsError, HfHubHTTPError) as error:
        raise UserError(
            f"The data of task.name={name} cannot be read ({one_line(first_line(error), 200)}): they come from where "
            "its definition says, mostly the Hugging Face Hub, once; without a network only from its cache."
        ) from error
    except (*FOREIGN, RuntimeError) as error:
        raise UserError(
            f"lm-evaluation-harness cannot make task.name={name} ({describe_error(error)}); correct its definition, or "
            "choose another task."
        ) from error
    tasks = dict(found["tasks"])
    for task_name, task in tasks.items():
        _check_definition(task_name, {**vars(task.config), "output_type": task.OUTPUT_TYPE}, unsafe_code)
        if task.config.unsafe_code and not uses_code_eval(task):
            raise UserError(
                f"task.name={task_name} runs code that the model writes by itself, and not by the metric {NAME}, which "
                "is what the sandbox stands for: choose another task."
            )
        _set_shots(task_name, task, shots)
    groups = found.get("groups", {})
    ordered = sorted(groups.values(), key=lambda group: str(group.name) != name)
    return Harness(name, tasks, tuple(ordered), seed)


def describe_error(error: BaseException) -> str:
    """Name such an error in a clause: its kind, and its first line."""
    return f"{type(error).__name__}: {one_line(first_line(error), 200)}"


@contextmanager
def seeded() -> Iterator[None]:
    """Give random numbers that are the same each time, to code that uses the process's own."""
    if (detection := sys.modules.get("langdetect")) is not None:  # it draws, and IFEval grades by it
        detection.DetectorFactory.seed = 0
    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(1234)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def quiet() -> redirect_stderr[StringIO]:
    """Keep the harness's progress bars and notes from the terminal."""
    return redirect_stderr(StringIO())


@cache
def _open_manager(include_path: str | None, with_others: bool) -> Any:
    """Read the definitions of a folder, with or without those that the harness brings."""
    try:
        from lm_eval.tasks import TaskManager
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lm_eval":
            raise UserError(f"lm-evaluation-harness cannot be imported ({error}): install that, too.") from error
        raise UserError('task=lm-eval needs lm-evaluation-harness: pip install "quantexp[lm-eval]".') from error
    if not hasattr(TaskManager, "load"):
        raise UserError(
            f"lm-evaluation-harness {version('lm_eval')} is too old for quantexp: "
            'pip install --upgrade "quantexp[lm-eval]".'
        )
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tqdm.set_lock(RLock())  # its own is shared by processes, and left behind by one that is killed
    folder = None if include_path is None else Path(include_path).expanduser().absolute()
    if folder is not None and not folder.is_dir():
        raise UserError(f"task.include_path={include_path} is no folder; name the one with the tasks' YAML files.")
    try:
        return TaskManager(include_path=None if folder is None else str(folder), include_defaults=with_others)
    except (*FOREIGN, OSError) as error:
        raise UserError(
            f"lm-evaluation-harness cannot read task.include_path={include_path} ({one_line(first_line(error), 200)}); "
            "correct the YAML files there."
        ) from error


def _is_complete(manager: Any, name: str) -> bool:
    """Return whether all tasks of a group are among a folder's own."""
    entry = manager.task_index[name]
    held = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else ()
    return all(isinstance(each, str) and each in manager.all_tasks for each in held or ())


def _check_name(name: str, manager: Any) -> None:
    if name in manager.all_tags:
        held = manager.task_index[name].tags
        known = sorted(str(each) for each in held)[:_SHOWN]
        raise UserError(
            f"task.name={name} stands for several tasks without a score in common; name those that you want, as in "
            f"task.name={','.join(known)}."
        )
    if name not in manager.all_tasks:
        near = get_close_matches(name, manager.all_tasks, n=4)
        hint = f"did you mean {', '.join(near)}?" if near else "see lm-eval ls tasks."
        raise UserError(f"task.name={name}: lm-evaluation-harness has no such task; {hint}")


def _check_definition(name: str, definition: Mapping[str, Any], unsafe_code: bool) -> None:
    """Refuse a task that is not measured here, and say why."""
    why = None
    if definition.get("unsafe_code", False) is not False and not unsafe_code:
        raise UserError(
            f"task.name={name} runs code that the model writes: add task.unsafe_code=true, and it runs in the sandbox."
        )
    if definition.get("doc_to_image") is not None or definition.get("doc_to_audio") is not None:
        why = "asks about images or sound, and quantexp gives models text only"
    elif definition.get("output_type") == "loglikelihood_rolling":
        why = "has perplexities of the whole corpus, of which no document has a score; read texts with task=text"
    elif definition.get("repeats") not in (1, None):
        why = "asks each document several times, of which the harness's filters make one answer"
    if why is not None:
        raise UserError(f"task.name={name} {why}: choose another task.")


def _set_shots(name: str, task: Any, shots: int | None) -> None:
    own = task.config.num_fewshot
    if shots and own == 0:
        raise UserError(f"task.shots={shots}: {name} is defined to be asked without examples; leave task.shots out.")
    task.set_config(key="num_fewshot", value=(own or 0) if shots is None else shots)


def list_shots(tasks: Sequence[Any]) -> list[int]:
    """Return the numbers of worked examples that tasks have, each once."""
    return sorted({int(task.config.num_fewshot) for task in tasks})
