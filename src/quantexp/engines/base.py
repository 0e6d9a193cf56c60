"""Interface of every engine."""

import hashlib
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, cast

from quantexp.engines.sequences import Distributions, Likeliest, TokenSequence, Vocabulary
from quantexp.models.footprint import Footprint
from quantexp.store.completion import Completion
from quantexp.tasks.reasoning import Output, ReasoningFormat, Start
from quantexp.util.errors import UserError

Capability = Literal["generate", "score", "distributions", "likeliest"]
"""A kind of request that an engine can serve: `generate` completes prompts (`Engine.complete`), `score` gives the
log-probabilities of given tokens (`ScoringEngine`), `distributions` whole distributions (`ReadingEngine`), `likeliest`
those of the likeliest tokens of a plain text's places (`LikeliestEngine`, or from the distributions)."""

READS: frozenset[Capability] = frozenset({"generate", "score", "distributions", "likeliest"})
"""What a `ReadingEngine` can."""

TELLS: frozenset[Capability] = frozenset({"generate", "score", "likeliest"})
"""What a `LikeliestEngine` can."""

MOST_FORCED = 32
"""Tokens that may be written to end reasoning, for which there is room beside it."""

Tool = Mapping[str, Any]
"""A function that a model may call, in the form that chat templates and servers take: its `type` and the `function`."""

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
        start: where the output begins, as far as the prompt decides it.
        tools: the functions that the chat template, or the server, was given with the chat.
    """

    item_id: str
    text: str
    tokens: tuple[int, ...]
    shared: int
    sample: int = 0
    messages: tuple[Message, ...] = ()
    start: Start = "free"
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class Continuation(Prompt):
    """A plain text and a continuation of it, whose tokens are to be scored.

    Attributes:
        continuation: the tokens after the prompt's; at least one.
        written: their text.
    """

    continuation: tuple[int, ...] = ()
    written: str = ""


@dataclass(frozen=True, slots=True)
class Thinking:
    """Decoding of a model that may reason before it answers.

    Attributes:
        form: the name of the format in which reasoning is marked (`ReasoningFormat`).
        max_tokens: reasoning has at most so many tokens, its marks included.
        forced: what is then written to end it, so that the answer begins; empty: the output ends.
    """

    form: str
    max_tokens: int
    forced: str = ""


@dataclass(frozen=True, slots=True)
class Decoding:
    """Decoding settings: how the next token is chosen, and when an answer ends.

    Attributes:
        max_tokens: the answer has at most so many tokens.
        stop: the answer ends before the first of these strings; they are not part of it. In reasoning they are text.
        temperature: 0 takes the likeliest token (greedy); above it, one is drawn, and top_k, top_p, min_p and seed
            count.
        top_p: drawn from the likeliest tokens that together have this probability.
        min_p: drawn from the tokens that have at least this share of the likeliest one's probability.
        seed: of the draws; each prompt and each of its samples gets random numbers of its own from it.
        top_k: drawn from so many of the likeliest tokens; 0: from all.
        presence_penalty: subtracted from the logit of each token in the window; with temperature 0 too, like the two
            below.
        frequency_penalty: subtracted once for each time that the token is there.
        repetition_penalty: such a token's logit is divided by it, or multiplied if it is negative; 1 does nothing.
        penalty_last_n: the window: so many of the last tokens of prompt and answer together; -1: all of them.
        thinking: of the reasoning before the answer; None for a model that does not mark any.
    """

    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int = 0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    penalty_last_n: int = 64
    thinking: Thinking | None = None

    @property
    def penalizes(self) -> bool:
        """True if a penalty changes any logit."""
        given = (self.presence_penalty, self.frequency_penalty, self.repetition_penalty)
        return given != (0.0, 0.0, 1.0) and self.penalty_last_n != 0

    @property
    def longest(self) -> int:
        """Tokens of the longest output, without what is written to end reasoning."""
        return self.max_tokens + (self.thinking.max_tokens if self.thinking else 0)


def decisive(prompt: Prompt, decoding: Decoding) -> dict[str, Any]:
    """Return what decides an answer besides the prompt's words, for its key; less where nothing is drawn."""
    decides = {"sample": prompt.sample, **asdict(decoding)}
    unused = ["sample", "top_p", "min_p", "seed", "top_k"] if decoding.temperature == 0 else []
    # Left out if they do nothing: the keys of completions from before these were there stay as they were.
    if decoding.top_k == 0:
        unused.append("top_k")
    if not decoding.penalizes:
        unused += ["presence_penalty", "frequency_penalty", "repetition_penalty", "penalty_last_n"]
    if decoding.thinking is None:
        unused.append("thinking")
    else:  # it decides which tokens are reasoning
        decides["start"] = prompt.start
    return {name: value for name, value in decides.items() if name not in unused}


def hash_key(parts: Mapping[str, Any]) -> bytes:
    """sha256 of all that a result depends on: the key under which it is kept, whichever kind of request it answers."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


PromptCompletion = tuple[Prompt, Completion]
"""A prompt, as it was given to an engine, and its completion."""


class Answering(Protocol):
    """Anything that completes prompts."""

    def complete(self, prompts: Iterable[Prompt], decoding: Decoding) -> Generator[PromptCompletion, None, None]:
        """Prompts with their completions, each as it is finished, in any order; close it to have no more."""


class Variant(Answering, Protocol):
    """A model under another valid arithmetic than the engine's own.

    Attributes:
        words: which one, to end a sentence.
    """

    words: str

    def close(self) -> None:
        """Release the model."""


class Engine(Answering, Protocol):
    """A loaded model, in this process or in a server."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The kinds of request that it can serve."""

    @property
    def settings(self) -> Mapping[str, str]:
        """Settings that runs must have in common to be compared, e.g. the library's version."""

    @property
    def machine(self) -> Mapping[str, str]:
        """Facts that an answer depends on besides file, prompt and settings, e.g. the processor's features."""

    @property
    def sizes(self) -> Mapping[str, float]:
        """Sizes of the loaded model that follow from its configuration, by the names of metrics; none of a server's."""

    @property
    def footprints(self) -> tuple[Footprint, ...]:
        """Memory of one conversation beside the weights, by context; empty if nobody can tell, as of a server's."""

    @property
    def shares_beginnings(self) -> bool:
        """True if tokens that prompts have in common are read once, as far as `Prompt.shared` says."""

    @property
    def chat_template(self) -> str:
        """The template that `render` uses; empty where a server applies one of its own."""

    @property
    def reasoning(self) -> ReasoningFormat:
        """The format in which the model marks its reasoning."""

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of reasoning for which there is room; 0: reasoning counts as a part of the answer."""

    def read_output(self, prompt: Prompt, completion: Completion) -> Output:
        """Return what the model wrote, with the marks in it."""

    @property
    def takes_tools(self) -> bool:
        """True if functions can be given beside a chat; otherwise its words have to describe them."""

    def render(self, messages: Sequence[Message], begun: str = "", tools: Sequence[Tool] = ()) -> str:
        """Return the prompt's text: the chat, up to where the model's answer begins, and how that is to begin.

        Raises:
            UserError: the template refuses the chat, or answers cannot be begun.
        """

    def encode_chat(
        self, messages: Sequence[Message], begun: str = "", tools: Sequence[Tool] = ()
    ) -> tuple[str, tuple[int, ...]]:
        """Return the same text, and its token ids; none where only a server knows them.

        The name of a special token in a message is text, so that an item cannot end its turn and begin another's.

        Raises:
            UserError: as `render`; or the prompt cannot be sent so that such a name stays text.
        """

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of any text, in which names of special tokens are these; none where only a server knows them."""

    def key(self, prompt: Prompt, decoding: Decoding) -> bytes:
        """sha256 of all that the prompt's completion depends on; equal keys, equal tokens and log-probabilities.

        A server promises no more than equal chances.
        """

    def open_variant(self) -> "Variant | None":
        """Open the same model under another valid arithmetic, to be closed by the caller; None if there is none.

        Raises:
            UserError: there is no memory for it.
        """

    def close(self) -> None:
        """Release the model; nothing else may be called afterwards."""


class Predictor(Protocol):
    """A model whose distributions can be seen."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary."""

    def distributions(self, sequences: Iterable[TokenSequence]) -> Generator[Distributions, None, None]:
        """Return the distributions over all scored tokens of the sequences, some at a time; close it to end early.

        Those of a sequence do not depend on what is read before or after it.

        Raises:
            ValueError: a sequence is longer than the context, or holds a token that the vocabulary lacks.
            UserError: they cannot be computed.
        """


class TextEngine(Engine, Protocol):
    """An engine that takes plain text apart into tokens."""

    @property
    def bos(self) -> tuple[int, ...]:
        """The token with which a plain text begins, if the vocabulary adds one."""

    def tokenize_plain(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, `bos` before it; names of special tokens are text."""

    def text_of(self, tokens: Iterable[int]) -> str:
        """Return the tokens' text; bytes that are not UTF-8 become U+FFFD."""

    def reading_facts(self, sequences: Iterable[TokenSequence]) -> Mapping[str, str]:
        """All that the predictions over these sequences depend on, for their key (`hash_key`)."""


class LikeliestEngine(TextEngine, Protocol):
    """An engine with the capability `likeliest` and no distributions."""

    @property
    def most(self) -> int:
        """Tokens that are told of at each place, besides the one that stands there."""

    def likeliest(self, sequences: Sequence[TokenSequence]) -> list[Likeliest]:
        """Return the likeliest tokens at the scored places of each sequence.

        Raises:
            UserError: they cannot be had.
        """


class ScoringEngine(TextEngine, Protocol):
    """An engine with the capability `score`."""

    @property
    def beginning(self) -> tuple[int, ...]:
        """The token that stands for a context of no words."""

    def score(self, prompts: Iterable[Continuation]) -> Generator[tuple[Continuation, Completion], None, None]:
        """Prompts with their continuations as completions, in any order; close it to have no more.

        The log-probabilities do not depend on what is read before or after. Prompts with the same tokens that follow
        each other are read once. The finish reason of one that does not fit the context is `context`.

        Raises:
            UserError: they cannot be computed.
        """

    def score_key(self, prompt: Continuation) -> bytes:
        """sha256 of all that the continuation's log-probabilities depend on."""


class ReadingEngine(ScoringEngine, Predictor, Protocol):
    """An engine that reads given tokens: one with the capabilities `score` and `distributions`."""


def as_teller(engine: Engine) -> LikeliestEngine | None:
    """Return the engine, if it tells of the likeliest tokens only; None if it has whole distributions."""
    return None if "distributions" in engine.capabilities else cast(LikeliestEngine, engine)


def reading_problem(what: str) -> str:
    """Say that an engine cannot read what something asks of it."""
    return f"{what} needs a model in this process: set engine=llama_cpp."


def as_scoring(engine: Engine, what: str) -> ScoringEngine:
    """Return the engine, if it can score given tokens.

    Args:
        engine: any.
        what: what it is to score, to begin a sentence.

    Raises:
        UserError: it cannot.
    """
    if "score" not in engine.capabilities:
        raise UserError(reading_problem(what))
    return cast(ScoringEngine, engine)


def as_reading(engine: Engine, what: str) -> ReadingEngine:
    """Return the engine, if it can read.

    Args:
        engine: any.
        what: what it is to read for, to begin a sentence.

    Raises:
        UserError: it cannot.
    """
    if not engine.capabilities >= READS:
        raise UserError(reading_problem(what))
    return cast(ReadingEngine, engine)
