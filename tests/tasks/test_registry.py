"""The registry of tasks, and what every task promises."""

import pytest

from quantexp.tasks import TASKS, get_task
from quantexp.util.errors import UserError


def test_tasks_by_name() -> None:
    assert sorted(TASKS) == [
        "chat",
        "choice",
        "code",
        "extraction",
        "gsm8k",
        "instructions",
        "languages",
        "long",
        "qa",
        "summary",
        "text",
        "tools",
        "triviaqa",
    ]
    assert all(get_task(name).name == name for name in TASKS)


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(UserError, match=rf"gsm9k.*{', '.join(sorted(TASKS))}"):
        get_task("gsm9k")


def test_unknown_grader_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"fuzzy.*extraction, extraction-contains, extraction-nofence"):
        get_task("extraction").grader("fuzzy")


def test_grader_ids_are_stable() -> None:
    # Score sets are stored under these: a change here orphans them.
    assert {name: [g.id for g in task.graders.values()] for name, task in TASKS.items()} == {
        "gsm8k": [
            *("gsm8k-v2", "gsm8k-strict-v2", "gsm8k-first-v1", "gsm8k-strict-first-v1"),
            *("lm-eval-strict-v1", "lm-eval-flexible-v1"),
        ],
        "triviaqa": ["triviaqa-v1", "triviaqa-unicode-v1", "triviaqa-contains-v1", "lm-eval-v1"],
        "extraction": [
            *("extraction-v2", "extraction-nofence-v1", "extraction-contains-v1"),
            *("requested-action-judge-v1", "requested-action-embedding-v1"),
        ],
        "choice": ["acc-v1", "acc_norm-v1", "acc_token-v1", "acc_unconditional-v1"],
        "languages": [
            *("acc-v1", "acc_norm-v1", "acc_token-v1", "acc_unconditional-v1"),
            *("languages-v2", "languages-contains-v2"),
        ],
        "instructions": ["instructions-v1"],
        "chat": ["chat-v1"],
        "code": ["code-v1"],
        "long": ["long-v1"],
        "summary": ["summary-v1", "summary-judge-v1"],
        "tools": ["tools-v1"],
        "qa": ["qa-v2", "qa-contains-v2", "qa-number-v1"],
        "text": ["text-v1"],
    }


@pytest.mark.parametrize("name", sorted(TASKS))
def test_default_grader_is_named_after_its_task(name: str) -> None:
    task = get_task(name)
    assert task.grader() is task.grader(task.default_grader)
    assert task.grader().name == ("acc" if name in ("choice", "languages") else name)  # everybody calls it so


@pytest.mark.parametrize("name", sorted(TASKS))
def test_graders_are_keyed_by_their_names(name: str) -> None:
    assert all(grader.name == key for key, grader in get_task(name).graders.items())
    assert all(grader.description for grader in get_task(name).graders.values())
