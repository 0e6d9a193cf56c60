"""Kind of constraint: its arguments, and the function that says if a text keeps it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Arguments = Mapping[str, Any]
"""What a constraint says beside its kind, such as {"at_most": 40}."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a kind.

    Attributes:
        words: what it must be, to end a sentence.
        accepts: whether a value is that.
        is_required: whether it has to be there.
    """

    words: str
    accepts: Callable[[object], bool]
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of constraint.

    Attributes:
        name: as items have it.
        description: what a text must be like, for readers of tables.
        keeps: (text, arguments) -> whether the text keeps it. Pure, and total: it returns for any text whatsoever.
        takes: its arguments by name.
    """

    name: str
    description: str
    keeps: Callable[[str, Arguments], bool]
    takes: Mapping[str, Argument] = field(default_factory=lambda: MappingProxyType({}))

    def check(self, arguments: Arguments) -> None:
        """Refuse arguments that the kind does not take.

        Raises:
            ValueError: one is missing, unknown or unusable; the sentence names it.
        """
        if unknown := sorted(map(str, arguments.keys() - self.takes.keys())):
            known = f"it takes {', '.join(self.takes)}" if self.takes else "it takes none"
            raise ValueError(f"the constraint {self.name!r} has {', '.join(unknown)}, which it does not take; {known}")
        for name, argument in self.takes.items():
            if name not in arguments:
                if argument.is_required:
                    raise ValueError(f"the constraint {self.name!r} needs {name!r}, {argument.words}")
            elif not argument.accepts(arguments[name]):
                raise ValueError(
                    f"{name!r} of the constraint {self.name!r} must be {argument.words}, not {arguments[name]!r}"
                )
        if self.takes.keys() >= RANGE.keys() and arguments.keys().isdisjoint(RANGE):
            raise ValueError(f"the constraint {self.name!r} needs one of {', '.join(RANGE)}")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_text, value))


COUNT = Argument("a whole number from 0 on", lambda value: type(value) is int and value >= 0)
TEXT = Argument("non-blank text", _is_text)
TEXTS = Argument("a list of non-blank texts", _is_texts)
CHARACTERS = Argument("text of at least one character", lambda value: isinstance(value, str) and bool(value))
LETTER = Argument("one letter", lambda value: isinstance(value, str) and len(value) == 1 and value.isalpha())
LETTERS = Argument("one letter or more", lambda value: isinstance(value, str) and value.isalpha())

RANGE = MappingProxyType(
    {name: Argument(COUNT.words, COUNT.accepts, is_required=False) for name in ("exactly", "at_least", "at_most")}
)
"""The arguments of kinds that count; at least one is needed."""


def one_of(*words: str) -> Argument:
    """Return an argument that is one of these words."""
    return Argument(f"one of {', '.join(words)}", lambda value: value in words)


def optional(argument: Argument) -> Argument:
    """Return the argument as one that may be missing."""
    return Argument(argument.words, argument.accepts, is_required=False)


def is_within(count: int, arguments: Arguments) -> bool:
    """Return whether a count is as the arguments of `RANGE` have it."""
    exactly = arguments.get("exactly", count)
    return bool(count == exactly and arguments.get("at_least", 0) <= count <= arguments.get("at_most", count))


def counting(name: str, description: str, count: Callable[[str], int]) -> Kind:
    """Return a kind that bounds how many of something a text has."""
    return Kind(name, description, lambda text, arguments: is_within(count(text), arguments), RANGE)
