"""Answer readers: they split an output into the answer and the reasoning before it.

Outputs never change, the way in which they are read does: a reader has a version, which is recorded with each run, and
`quantexp.regrade` reads again before it grades.
"""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from quantexp.tasks.graders.base import Answer
from quantexp.tasks.reasoning import (
    FORMATS,
    Mark,
    Output,
    ReasoningFormat,
    Start,
    find_marks,
    get_format,
    split_output,
)
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

VERSION = 1
"""Raise it with a change of `split_output` that reads outputs of every format otherwise; of one, its `revision`."""


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """A versioned way to read an output.

    Attributes:
        form: the format in which reasoning is marked.
    """

    form: ReasoningFormat

    @property
    def id(self) -> str:
        """Name and version in one word, e.g. "none-v1"."""
        return f"{self.form.name}-v{VERSION + self.form.revision}"

    @property
    def splits(self) -> bool:
        """True if it looks for reasoning."""
        return bool(self.form.marks)

    def read(self, output: Output, is_cut: bool) -> Answer:
        """Read an output; pure, and total.

        Args:
            output: any.
            is_cut: whether it was cut off at its longest.
        """
        parts = split_output(output, self.form)
        return Answer(parts.answer, parts.reasoning, is_cut, parts.ended_in_reasoning, parts.reasoning_tokens)


def get_reader(name: str) -> AnswerReader:
    """Return the reader of a format.

    Raises:
        UserError: there is no such format.
    """
    form = get_format(name)
    if form is None:
        raise UserError(
            f"reader={one_line(name)} is unknown; choose {', '.join(FORMATS)}, or marks of your own as OPEN...CLOSE."
        )
    return AnswerReader(form)


def find_reader(recorded: str) -> AnswerReader:
    """Find the current version of the reader with a recorded id, such as "none-v1".

    Raises:
        UserError: this version of quantexp has no such reader.
    """
    form = get_format(recorded.rpartition("-v")[0])
    if form is None:
        raise UserError(
            f"its answers were read by {one_line(recorded)}, which this version of quantexp does not have; grade it "
            "with the version that ran it."
        )
    return AnswerReader(form)


def encode_marks(output: Output, reader: AnswerReader) -> str:
    """Return all that a reader knows of an output besides its text, for a column of the item table."""
    known = {"form": reader.form.name, "start": output.start, "tokens": output.tokens}
    return json.dumps(known | {"marks": [astuple(mark) for mark in output.marks]})


def decode_output(row: Mapping[str, Any], reader: AnswerReader) -> Output:
    """Return the output in a row of an item table; the marks of a format that was not looked for are searched."""
    text, marks = str(row["output"]), row.get("marks")
    known = json.loads(marks) if isinstance(marks, str) else {}
    if known.get("form") == reader.form.name:
        return Output(text, tuple(Mark(*mark) for mark in known["marks"]), known["start"], known["tokens"])
    found = find_marks(text, reader.form.marks)
    return Output(text, found, _find_start(row, reader.form), row.get("completion_tokens"))


def _find_start(row: Mapping[str, Any], form: ReasoningFormat) -> Start:
    """Find where an output began, by what the template has written after the last turn of its prompt."""
    prompt, messages = row.get("prompt"), row.get("messages")
    if not isinstance(prompt, str) or not isinstance(messages, str):
        return "free"  # a table of an earlier version
    last = json.loads(messages)[-1]
    _, said, written = prompt.rpartition(str(last["content"]).strip() or "\n")
    return form.find_start(written) if said and last["role"] != "assistant" else "free"
