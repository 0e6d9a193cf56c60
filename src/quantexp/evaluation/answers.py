"""Answer readers: they split an output into the answer and the reasoning before it.

Outputs never change, the way in which they are read does: a reader has a version, which is recorded with each run, and
`quantexp.regrade` reads again before it grades.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quantexp.tasks.graders.base import Answer
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """A named, versioned way to read an output; one that reads any output otherwise gets a new version.

    Attributes:
        name: what the run's identity calls it.
        version: a positive integer.
        read: (output, whether it was cut off at max_tokens) -> Answer. Pure, and total.
    """

    name: str
    version: int
    read: Callable[[str, bool], Answer]

    @property
    def id(self) -> str:
        """Name and version in one word, e.g. "none-v1"."""
        return f"{self.name}-v{self.version}"


def _take_whole(output: str, is_cut: bool) -> Answer:
    return Answer(output, is_cut=is_cut)


NONE = AnswerReader("none", 1, _take_whole)
"""The whole output is the answer, as it was for all runs before readers were recorded."""

READERS: Mapping[str, AnswerReader] = MappingProxyType({reader.name: reader for reader in (NONE,)})
"""All readers by their names."""


def find_reader(recorded: str) -> AnswerReader:
    """Find the current version of the reader with a recorded id, such as "none-v1".

    Raises:
        UserError: this version of quantexp has no such reader.
    """
    name = recorded.rpartition("-v")[0]
    if name not in READERS:
        raise UserError(
            f"its answers were read by {one_line(recorded)}, which this version of quantexp does not have; grade it "
            "with the version that ran it."
        )
    return READERS[name]
