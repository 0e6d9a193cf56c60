"""Resources of graders: opened for a grader that needs them, and closed when it has graded."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from quantexp.tasks.graders.base import GradeAnswer, Grader, Need


@dataclass(frozen=True, slots=True)
class ResourceSettings:
    """The settings that resources are opened by; a job and `quantexp.regrade` fill them in.

    Attributes:
        name: of what is graded, for the terminal.
    """

    name: str


class Resource(Protocol):
    """A resource that is open.

    Attributes:
        facts: recorded with the grades, as tags of the run.
    """

    @property
    def facts(self) -> Mapping[str, str]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class OpenGrader:
    """A grader that is open.

    Attributes:
        grade: an answer and the item's fields in, a grade out.
        facts: of its resources.
    """

    grade: GradeAnswer
    facts: Mapping[str, str] = field(default_factory=dict)


OPENERS: Mapping[Need, Callable[[ResourceSettings], AbstractContextManager[Resource]]] = MappingProxyType({})
"""Opens a resource, by the need that it meets; it imports what it takes only when it is called."""


@contextmanager
def open_grader(grader: Grader, settings: ResourceSettings) -> Iterator[OpenGrader]:
    """Open a grader with the resources that it needs, and no others.

    Args:
        grader: who is to grade.
        settings: what its resources are opened by.

    Raises:
        UserError: one that it needs cannot be had.
    """
    with ExitStack() as stack:
        opened = {need: stack.enter_context(OPENERS[need](settings)) for need in sorted(grader.needs & OPENERS.keys())}
        facts = {name: value for resource in opened.values() for name, value in resource.facts.items()}
        yield OpenGrader(stack.enter_context(grader.open(opened)), facts)
