"""States of llama-eval, the script in llama.cpp's examples: one JSON file a data set."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from quantexp.comparison.results.base import (
    Selection,
    TaskResults,
    as_text,
    begins_with,
    check_choice,
    hash_text,
    look_up,
    make_table,
    read_number,
)
from quantexp.util.errors import UserError

FORMAT = "llama-eval"

METRIC = "correct"

CUT = "error: finish_reason="
"""Begins the status of an answer that did not end by itself, which llama-eval counts as wrong."""

Case = Mapping[str, Any]


def is_state(path: Path) -> bool:
    """Tell if a JSON file is a state of llama-eval, by its first keys."""
    return begins_with(path, "model_name", "tasks", "id")


def read_states(paths: Sequence[Path], selection: Selection, name: str) -> tuple[list[TaskResults], list[str]]:
    """Read states, each of another data set.

    Args:
        paths: of the files.
        selection: which scores; there is one.
        name: of the condition, for sentences.

    Returns:
        The tasks, and a sentence for each that cannot be compared.

    Raises:
        UserError: one cannot be read, two are of the same data set, or something else than `correct` is asked for.
    """
    check_choice("metric", selection.metric, [[METRIC]], name)
    tasks: list[TaskResults] = []
    left_out = []
    for path in paths:
        state = _read_state(path, name)
        task = _read_task(path, state, name)
        if task is None:
            left_out.append(f"{state['id']} of {name} has no case that was answered.")
        elif any(each.task == task.task for each in tasks):
            raise UserError(f"{name} has several states of {task.task}; give the file of one.")
        else:
            tasks.append(task)
    return tasks, left_out


def _read_state(path: Path, name: str) -> Mapping[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{name}={path} is not JSON ({error}); put back the file, or run llama-eval again.") from error
    cases = look_up(state, "task_states", "cases")
    if not isinstance(cases, dict) or not all(isinstance(each, dict) for each in cases.values()):
        raise UserError(f"{name}={path} looks like a state of llama-eval and has no cases (task_states.cases).")
    if not isinstance(state.get("id"), str):
        raise UserError(f"{name}={path} looks like a state of llama-eval and does not name its data set (id).")
    return dict(state)


def _read_task(path: Path, state: Mapping[str, Any], name: str) -> TaskResults | None:
    """Read a data set; None if nothing was answered."""
    cases: Mapping[str, Case] = state["task_states"]["cases"]
    if all(_is_pending(each) for each in cases.values()):
        return None
    where = f"{name}={path}"
    graders = sorted({grader for each in cases.values() if (grader := _name_grader(each))})
    return TaskResults(
        task=state["id"],
        is_named=True,
        format=FORMAT,
        metric=METRIC,
        table=make_table([_read_case(key, each, where) for key, each in cases.items()], where, METRIC),
        facts={"grader": " and ".join(graders)} if graders else {},
        settings={"sampling": json.dumps(state.get("sampling_config") or {}, sort_keys=True)},
        notes=tuple(_describe_grading(list(cases.values()), graders)),
    )


def _read_case(key: str, case: Case, where: str) -> dict[str, Any]:
    prompt, expected = as_text(case.get("prompt")), as_text(case.get("expected"))
    return {
        "id": key.rpartition("_")[2] if case.get("problem_idx") is None else str(case["problem_idx"]),
        "document": None if prompt is None else hash_text(json.dumps([prompt, expected])),
        "prompt_key": prompt,
        "sample": read_number(case.get("chunk_idx"), "chunk_idx", where),
        "score": nan if _is_pending(case) else float(case.get("correct") is True),
        "output": as_text(case.get("response")),
        "extracted": as_text(case.get("answer")),
        "reference": expected,
        "prompt": prompt,
    }


def _is_pending(case: Case) -> bool:
    """Tell if a case has no answer: it was not asked yet, or the server gave none."""
    status = str(case.get("status"))
    return status != "ok" and not status.startswith(CUT)


def _name_grader(case: Case) -> str:
    log = case.get("grader_log")
    parts = [look_up(log, "grader_type"), look_up(log, "pattern")]
    return " ".join(str(each) for each in parts if each is not None)


def _describe_grading(cases: Sequence[Case], graders: Sequence[str]) -> Iterator[str]:
    if cut := sum(str(each.get("status")).startswith(CUT) for each in cases):
        yield f"{cut} of {len(cases)} answers did not end and count as wrong, as {FORMAT} has it"
    if any(each.startswith("llm") for each in graders):
        yield "the answers were graded by a model that the file does not name"
