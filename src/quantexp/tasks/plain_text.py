"""Plain text, cut into windows: is the next token the one that the model holds likeliest?"""

import json
from collections.abc import Mapping
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.requests import Read


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    try:
        held = json.loads(output)
    except (ValueError, RecursionError):
        held = None
    tokens = fields["tokens"]
    if not isinstance(held, list) or len(held) != len(tokens):
        return Grade.unreadable(f"not a list of {len(tokens)} tokens")
    right = sum(one == other for one, other in zip(held, tokens, strict=True))
    return Grade(score=right / len(tokens), extracted=f"{right} of {len(tokens)}")


NEXT_TOKEN = Grader(
    name="text",
    version=1,
    description="share of a window's scored tokens that the model holds likeliest, each given the text before it",
    grade=_grade,
)
"""Top-1 accuracy of next-token prediction. An output is the list of the likeliest tokens' texts, as JSON."""


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "text")


TASK = Task(
    name="text",
    asks="text",
    required_fields=("text",),
    target=lambda fields: json.dumps(fields["tokens"], ensure_ascii=False),
    check=_check,
    graders=index_by_name(NEXT_TOKEN),
    default_grader=NEXT_TOKEN.name,
    request=Read,
)
"""A corpus of the user's own: an item of the data is a document, an item that is scored is a window of one."""
