"""What every engine takes and gives."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

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
        text: the whole prompt after the chat template; where a server applies that, the chat itself.
        tokens: its token ids; none where only a server knows them.
        shared: how many leading tokens every prompt of the task has in common, so that an engine
            may compute them once. It depends on the task and this prompt only, never on which other items are run.
        sample: 0, 1, ... for the answers to one prompt that are to be drawn independently of each other.
        messages: the chat that the text was made of.
    """

    item_id: str
    text: str
    tokens: tuple[int, ...]
    shared: int
    sample: int = 0
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next token is chosen, and when an answer ends.

    Attributes:
        max_tokens: at most so many tokens.
        stop: the answer ends before the first of these strings; they are not part of it.
        temperature: 0 takes the likeliest token (greedy); above it, one is drawn, and top_p, min_p and seed count.
        top_p: drawn from the likeliest tokens that together have this probability.
        min_p: drawn from the tokens that have at least this share of the likeliest one's probability.
        seed: of the draws; each prompt and each of its samples gets random numbers of its own from it.
    """

    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0


def decisive(prompt: Prompt, decoding: Decoding) -> dict[str, Any]:
    """What decides an answer besides the prompt's words, for its key; less where nothing is drawn."""
    drawn = {"sample": prompt.sample, **asdict(decoding)}
    if decoding.temperature == 0:
        for unused in ("sample", "top_p", "min_p", "seed"):
            del drawn[unused]
    return drawn


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    Attributes:
        item_id: the prompt's.
        text: the answer without end-of-generation tokens and stop strings; bytes that are not
            UTF-8 become U+FFFD.
        tokens: the token ids generated, those of a stop string and the end-of-generation token included; none where
            only a server knows them.
        logprobs: natural logarithm of the probability that the model gave to each of these tokens (before temperature,
            top_p and min_p), as float32; none where a server does not give them.
        finish_reason: why it ended.
        prompt_seconds: time spent on reading the prompt.
        generation_seconds: this answer's share of the time in which it was written beside others, so that the sum over
            answers is the time that passed.
        sample: the prompt's.
        counted: how many tokens a server says it read and wrote; None where the tokens themselves are known.
    """

    item_id: str
    text: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    prompt_seconds: float
    generation_seconds: float
    sample: int = 0
    counted: tuple[int, int] | None = None

    @property
    def length(self) -> int:
        """Tokens written."""
        return len(self.tokens) if self.counted is None else self.counted[1]


class Answering(Protocol):
    """Anything that completes prompts."""

    def complete(self, prompts: Iterable[Prompt], decoding: Decoding) -> Generator[Completion, None, None]:
        """Completions, each as it is finished, in any order; close it to have no more."""


class Variant(Answering, Protocol):
    """A model under another valid arithmetic than the engine's own.

    Attributes:
        words: which one, to end a sentence.
    """

    words: str

    def close(self) -> None:
        """Release the model."""


class Engine(Protocol):
    """A loaded model, in this process or in a server."""

    @property
    def settings(self) -> Mapping[str, str]:
        """What runs must have in common to be compared, e.g. the library's version."""

    @property
    def machine(self) -> Mapping[str, str]:
        """What an answer depends on besides the file, the prompt and the settings, e.g. the processor's features."""

    @property
    def chat_template(self) -> str:
        """The template that `render` uses; empty where a server applies one of its own."""

    def render(self, messages: Sequence[Message], begun: str = "") -> str:
        """The prompt's text: the chat, up to where the model's answer begins, and how that is to begin.

        Raises:
            UserError: the template refuses the chat, or answers cannot be begun.
        """

    def worded(self, messages: Sequence[Message], begun: str = "") -> tuple[str, tuple[int, ...]]:
        """The same text, and its token ids; none where only a server knows them.

        The name of a special token in a message is text, so that an item cannot end its turn and begin another's.

        Raises:
            UserError: as `render`; or the prompt cannot be sent so that such a name stays text.
        """

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of any text, in which names of special tokens are these; none where only a server knows them."""

    def complete(self, prompts: Iterable[Prompt], decoding: Decoding) -> Generator[Completion, None, None]:
        """Completions, each as it is finished, in any order; close it to have no more."""

    def key(self, prompt: Prompt, decoding: Decoding) -> bytes:
        """sha256 of all that the prompt's completion depends on; equal keys, equal tokens and log-probabilities.

        A server promises no more than equal chances.
        """

    def open_variant(self) -> "Variant | None":
        """The same model under another valid arithmetic, to be closed by the caller; None if there is none to choose.

        Raises:
            UserError: there is no memory for it.
        """

    def close(self) -> None:
        """Release the model; nothing else may be called afterwards."""
