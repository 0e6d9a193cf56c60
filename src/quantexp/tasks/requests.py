"""Kinds of request: what a task asks of a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

SEPARATOR = "\n\n"
"""Between the parts of a prompt; the end of an answer where examples stand in the answer."""


Message = Mapping[str, str]
"""One turn of a chat: its `role` and its `content`."""


@dataclass(frozen=True, slots=True)
class Generate:
    """An answer to be written.

    Attributes:
        messages: the chat that asks for it; of each turn the `role` and the `content`.
        max_tokens: the answer has at most so many tokens.
        stop: it ends before the first of these strings.
        begun: the beginning of the answer, if that is given.
        tools: functions that the chat template, or the server, is to tell the model of.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"generate"})
    """Capabilities of an engine that can serve it; so of every kind."""

    messages: tuple[Mapping[str, str], ...]
    max_tokens: int
    stop: tuple[str, ...] = ()
    begun: str = ""
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Choose:
    """Choices for how a plain text goes on, each to be scored by the probability of its tokens.

    Attributes:
        context: the text.
        choices: continuations of it, with the white space before them.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"score"})

    context: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """A plain text to be read, window by window, in each of which the second half is scored.

    Attributes:
        text: the text.
        window: tokens in a window.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"likeliest"})

    text: str
    window: int


@dataclass(frozen=True, slots=True)
class Converse:
    """A dialogue to be held, turn by turn, of which the last answer counts.

    Attributes:
        turns: what the user says.
        replies: what stands for the model's answers to all turns but the last; None for its own.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"generate"})

    turns: tuple[str, ...]
    replies: tuple[str, ...] | None = None


Request = Generate | Choose | Read | Converse
"""Any of them."""


@dataclass(frozen=True, slots=True)
class Context:
    """Words that a model goes on from.

    Attributes:
        text: plain text; after a chat, the beginning of the answer.
        messages: the chat before it; of each turn the `role` and the `content`. None for plain text.
    """

    text: str
    messages: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ItemRequests:
    """Requests of an item, in words of the task's own.

    Attributes:
        question: what they ask, without examples.
        contexts: one for each continuation, or a single one from which an answer is written.
        continuations: the texts that are scored, with the white space before them; none if an answer is written.
        alike: contexts of items of the same kind, always the same ones; what all begin with is read once.
    """

    question: str
    contexts: tuple[Context, ...]
    continuations: tuple[str, ...] = ()
    alike: tuple[Context, ...] = ()


def join_parts(*parts: str | None) -> str:
    """Return the parts of a turn, such as the model's system words before the task's; empty ones leave nothing."""
    return SEPARATOR.join(words for words in parts if words)


def open_chat(system: str) -> tuple[Message, ...]:
    """Return the system turn, if there is one."""
    return ({"role": "system", "content": system},) if system else ()


def write_user(content: str) -> Message:
    """Return a user's turn."""
    return {"role": "user", "content": content}


def write_answer(content: str) -> Message:
    """Return a turn of the model's."""
    return {"role": "assistant", "content": content}
