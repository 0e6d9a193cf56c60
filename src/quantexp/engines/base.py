"""What every engine takes and gives."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "context"]
"""`stop`: the model ended its answer, or wrote a stop string. `length`: it was still writing at
max_tokens. `context`: the prompt and max_tokens do not fit the context, so nothing was generated."""

Message = Mapping[str, str]
"""One turn of a chat: its `role` and its `content`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, ready to be generated from.

    Attributes:
        item_id: the item that it asks about.
        text: the whole prompt after the chat template.
        tokens: its token ids.
        shared: how many leading tokens every prompt of the task has in common, so that an engine
            may compute them once. It depends on the task and this prompt only, never on which other items are run.
    """

    item_id: str
    text: str
    tokens: tuple[int, ...]
    shared: int


@dataclass(frozen=True, slots=True)
class Decoding:
    """When an answer ends; greedy throughout.

    Attributes:
        max_tokens: at most so many tokens.
        stop: the answer ends before the first of these strings; they are not part of it.
    """

    max_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    Attributes:
        item_id: the prompt's.
        text: the answer without end-of-generation tokens and stop strings; bytes that are not
            UTF-8 become U+FFFD.
        tokens: the token ids generated, those of a stop string included.
        finish_reason: why it ended.
        prompt_seconds: time spent on reading the prompt.
        generation_seconds: time spent on writing the answer.
    """

    item_id: str
    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_seconds: float
    generation_seconds: float


class Engine(Protocol):
    """A loaded model."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What an answer depends on besides the file and the prompt, e.g. the library's version."""

    @property
    def chat_template(self) -> str:
        """The template that `render` uses."""

    def render(self, messages: list[Message]) -> str:
        """The prompt's text: the chat, up to where the model's answer begins."""

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of a rendered prompt."""

    def complete(self, prompts: Iterable[Prompt], decoding: Decoding) -> Iterator[Completion]:
        """Completions, each as it is finished, in any order."""

    def close(self) -> None:
        """Release the model; nothing else may be called afterwards."""
