"""The harness's tasks that run code: its own humaneval and mbpp, on rows made here, in the sandbox."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.harness_tasks import write_task

from quantexp.config import TaskConfig
from quantexp.evaluation.resources import ResourceSettings, open_grader
from quantexp.tasks import Grade, open_task
from quantexp.tasks.graders.base import Answer, JointGrading
from quantexp.tasks.own_words import OwnWordsTask

pytest.importorskip("lm_eval")

FUNCTIONS: list[dict[str, Any]] = [
    {
        "task_id": "Own/0",
        "prompt": 'def twice(x):\n    return 2 * x\n\n\ndef quadruple(x):\n    """Return 4 * x."""\n',
        "canonical_solution": "    return twice(twice(x))\n",
        "test": "def check(candidate):\n    assert candidate(1) == 4\n    assert candidate(twice(1)) == 8\n",
        "entry_point": "quadruple",
    }
]
PROBLEMS: list[dict[str, Any]] = [
    {
        "task_id": 11,
        "text": "Write a function to find the longer of two words.",
        "code": "def longer(a, b):\n    return max(a, b, key=len)",
        "test_list": [f"assert longer({a!r}, {b!r}) == {c!r}" for a, b, c in (("a", "bb", "bb"), ("ab", "", "ab"))]
        + ["import math\nassert math.isclose(len(longer('a', 'b')), 1)"],
    }
]


def grade(folder: Path, name: str, rows: list[dict[str, Any]], answers: list[str]) -> list[Grade]:
    """Grades by one of the harness's tasks."""
    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    write_task(folder, name, rows)
    path = folder / f"{name}.yaml"
    own = yaml.safe_load(path.read_text())
    included = Path(spec.origin).parent / "tasks" / name / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"include": str(included), **own, "task": f"own_{name}", "dataset_name": None}))
    config = TaskConfig(f"own_{name}", module="quantexp.tasks.lm_eval", grader="first", max_tokens=64, shots=None)
    config.include_path, config.unsafe_code = str(folder), True
    task = open_task(config)
    assert isinstance(task, OwnWordsTask)
    [item] = task.load().items
    with open_grader(task.grader(), ResourceSettings("a test", shows=False)) as opened:
        assert isinstance(opened.grade, JointGrading)
        return [*opened.grade.grade_all([(Answer(answer), item.fields) for answer in answers])]


def test_humaneval(tmp_path: Path) -> None:
    answers = [FUNCTIONS[0]["canonical_solution"], "    return 3 * x\n", "    return y\n", "    return (\n"]
    grades = grade(tmp_path, "humaneval", FUNCTIONS, answers)

    assert [each.score for each in grades] == [1, 0, 0, 0]
    assert [[*each.outcomes.values()].index(1) for each in grades[1:]] == [2, 1, 0]
    assert grades[0].extracted == FUNCTIONS[0]["prompt"] + FUNCTIONS[0]["canonical_solution"]
    assert grades[2].explanation == "NameError: name 'y' is not defined"


def test_mbpp(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    answers = [
        PROBLEMS[0]["code"],
        "def longer(a, b):\n    return a",
        f"open({str(outside)!r}, 'w')\ndef longer(a, b):\n    return max(a, b, key=len)",
        "class Same(str):\n    def __eq__(self, other):\n        return True\ndef longer(a, b):\n    return Same()",
    ]
    grades = grade(tmp_path, "mbpp", PROBLEMS, answers)

    assert [each.score for each in grades] == [1, 0, 0, 0]
    assert not outside.exists()
