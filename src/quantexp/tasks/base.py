"""Task: the fields of an item, its gold text, and its graders."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from quantexp.tasks.graders.base import Grader
from quantexp.tasks.requests import Generate, Request
from quantexp.util.errors import UserError


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        name: as a user selects it, e.g. `task=gsm8k`.
        asks: the field that says what is asked, e.g. "question"; items with the same words there are the same question.
        required_fields: columns every item must have, e.g. ("question", "answer").
        target: the assistant's text for an item used as a worked example; it scores 1 under
            the default grader.
        check: raises ValueError, in one sentence, when the value of a required field is unusable.
        graders: the graders by name.
        default_grader: the name of the grader used when the user names none.
        request: the kind of request that its items make: an answer to be generated, choices to be scored, or a text to
            be read.
        is_bundled: whether items of it ship with quantexp.
        is_named_by_user: whether it takes any name that the user gives it.
        examples_by: the field whose value an item shares with its worked examples, such as its language; None: all
            items have the same examples.
        list_tools: returns the functions that an item's request may call, as chat templates and servers take them; None
            if items have none.
        configure: returns the task as its `TaskConfig` has it; None if that is this one.
    """

    name: str
    asks: str
    required_fields: tuple[str, ...]
    target: Callable[[Mapping[str, Any]], str]
    check: Callable[[Mapping[str, Any]], None]
    graders: Mapping[str, Grader]
    default_grader: str
    request: type[Request] = Generate
    is_bundled: bool = False
    is_named_by_user: bool = False
    examples_by: str | None = None
    list_tools: "Callable[[Mapping[str, Any]], tuple[Mapping[str, Any], ...]] | None" = None
    configure: "Callable[[Any], Task] | None" = None

    def validate(self, fields: Mapping[str, Any]) -> None:
        """Refuse an item that cannot be prompted or graded.

        Raises:
            ValueError: one sentence naming the missing or invalid field.
        """
        for name in self.required_fields:
            if name not in fields:
                raise ValueError(f"an item of {self.name} needs the field {name!r}, which is missing")
        self.check(fields)

    def grader(self, name: str | None = None) -> Grader:
        """Return the grader called `name`, or the default one.

        Raises:
            UserError: the task has no such grader; the message lists those it has.
        """
        chosen = self.default_grader if name is None else name
        if chosen not in self.graders:
            known = ", ".join(sorted(self.graders))
            raise UserError(f"task.grader={chosen}: {self.name} has no such grader; choose one of {known}.")
        return self.graders[chosen]


def index_by_name(*graders: Grader) -> Mapping[str, Grader]:
    """Return a read-only mapping from each grader's name to the grader."""
    return MappingProxyType({grader.name: grader for grader in graders})


def require_text(fields: Mapping[str, Any], name: str) -> str:
    """Return the field `name`, which must be a non-blank string.

    Raises:
        ValueError: it is something else.
    """
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"the field {name!r} must be non-blank text, not {value!r}")
    return value
