"""Instructions with constraints that can be checked: so many words, as JSON, without commas, in French, and so on.

An item has `prompt` and `constraints`: objects with a `kind` and its arguments. It may have `answer`, a text that keeps
them all, which is shown if the item is a worked example.
The way of grading is that of IFEval: Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models",
arXiv:2311.07911.
"""

from collections.abc import Mapping
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.constraints import check_constraint, keeps_constraint
from quantexp.tasks.graders.base import Grade, Grader

STRICT_SHARE, LOOSE, LOOSE_SHARE = "instruction_strict", "prompt_loose", "instruction_loose"
"""Fields of a grade."""


def list_loosened(output: str) -> list[str]:
    """Return the output and the forms of it that a loose reading accepts as well.

    Without its first line, its last line, or both ("Sure, here it is:", "I hope this helps!"), and each of these
    without asterisks; those that are blank are left out.
    """
    lines = output.strip().split("\n")
    cut = [lines, lines[1:], lines[:-1], lines[1:-1]]
    texts = [output, *("\n".join(each).strip() for each in cut)]
    return [text for text in dict.fromkeys([*texts, *(text.replace("*", "") for text in texts)]) if text.strip()]


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    constraints = fields["constraints"]
    if not output.strip():
        return Grade.unreadable("empty output", (STRICT_SHARE, LOOSE, LOOSE_SHARE))
    forms = list_loosened(output)
    strict = [keeps_constraint(output, each) for each in constraints]
    loose = [any(keeps_constraint(form, each) for form in forms) for each in constraints]
    broken = [each["kind"] for each, kept in zip(constraints, strict, strict=True) if not kept]
    return Grade(
        score=float(all(strict)),
        extracted=f"broken: {', '.join(broken)}" if broken else "all kept",
        fields={
            STRICT_SHARE: sum(strict) / len(strict),
            LOOSE: float(all(loose)),
            LOOSE_SHARE: sum(loose) / len(loose),
        },
    )


INSTRUCTIONS = Grader(
    name="instructions",
    version=1,
    description="the answer keeps every constraint of its prompt",
    grade=_grade,
)
"""The default, IFEval's prompt-level strict accuracy: right if the output keeps all constraints, to the letter.

Three fields stand beside it. `instruction_strict` is the share of an item's constraints that the output keeps.
`prompt_loose` and `instruction_loose` are the same two of a loose reading, in which a constraint is kept if any form of
the output keeps it (`list_loosened`). IFEval's instruction-level accuracy counts each constraint once; the mean here
counts each item once. An empty output keeps nothing. One that was cut off is graded as it stands.
"""


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "prompt")
    constraints = fields["constraints"]
    if not isinstance(constraints, list | tuple) or not constraints:
        raise ValueError(f"the field 'constraints' must be a list of one constraint or more, not {constraints!r}")
    for constraint in constraints:
        check_constraint(constraint)
    if fields.get("answer") is None:
        return
    answer = require_text(fields, "answer")
    if broken := [each["kind"] for each in constraints if not keeps_constraint(answer, each)]:
        raise ValueError(f"the field 'answer' must keep all constraints, and breaks {', '.join(broken)}")


TASK = Task(
    name="instructions",
    asks="prompt",
    required_fields=("prompt", "constraints"),
    target=lambda fields: str(fields.get("answer") or ""),
    check=_check,
    graders=index_by_name(INSTRUCTIONS),
    default_grader=INSTRUCTIONS.name,
    is_bundled=True,
)
"""Prompts with constraints; a worked example is shown with an answer that keeps them."""
