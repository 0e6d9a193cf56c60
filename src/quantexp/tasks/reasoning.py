"""Reasoning formats: the marks by which families of models set their reasoning apart from the answer.

A mark is a token. The same characters in ordinary tokens are text, so that a model can speak of marks. Only where the
vocabulary has no such token, or a server sends nothing but text, a mark is found by its characters.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from quantexp.config import Config, ModelConfig

Start = Literal["open", "closed", "free"]
"""Where an output begins: inside reasoning that the prompt has opened, after reasoning that it has closed, or where the
model is free to reason or not."""

Part = Literal["reasoning", "answer", "header"]
"""What a piece of an output belongs to; a header is neither reasoning nor answer."""

Effect = Literal["text", "mark", "late"]
"""What a mark turned out to be: text like any other, a mark, or one that makes all before it reasoning."""


class Tracker(Protocol):
    """Follows one output, piece by piece.

    Attributes:
        part: what belongs to the place that was reached.
        has_reasoned: whether there was any reasoning, an unfinished one included.
        has_answered: whether an answer has begun for certain: after the end of reasoning.
        is_over: whether the answer has ended, though the output has not.
        opening: words with which the answer begins that a header says; empty if there are none.
    """

    part: Part
    has_reasoned: bool
    has_answered: bool
    is_over: bool
    opening: str

    def feed(self, text: str) -> None:
        """Take a piece of text."""

    def mark(self, name: str) -> Effect:
        """Take a mark."""


class TagTracker:
    """One stretch of reasoning between two marks, at the beginning of an output."""

    is_over = False
    opening = ""

    def __init__(self, opens: str, closes: str, start: Start) -> None:
        self._opens, self._closes = opens, closes
        self._before = ""
        self.part: Part = "reasoning" if start == "open" else "answer"
        self.has_reasoned = start == "open"
        self.has_answered = start == "closed"

    def feed(self, text: str) -> None:
        """Take a piece of text."""
        if not self.has_reasoned and len(self._before) < len(self._opens):
            self._before = (self._before + text).lstrip()

    def mark(self, name: str) -> Effect:
        """Take a mark; once an answer has begun, all marks are its text."""
        if self.has_answered:
            return "text"
        if name == self._closes:
            late = self.part == "answer"  # the opening mark was left to the prompt, which has not written it
            self.part, self.has_reasoned, self.has_answered = "answer", True, True
            return "late" if late else "mark"
        # A mark that is written as words was fed as text before it was known.
        if name != self._opens or self.has_reasoned or self._before not in ("", self._opens):
            return "text"
        self.part, self.has_reasoned = "reasoning", True
        return "mark"


class HarmonyTracker:
    """Messages, each with a header that names its channel; the one in the channel `final` is the answer.

    So is one to a function, `to=functions.NAME`, whose name the answer then begins with.
    """

    def __init__(self, start: Start) -> None:
        self.part: Part = "reasoning" if start == "open" else "answer"
        self.has_reasoned = start == "open"
        self.has_answered = start == "closed"
        self._header = self._role = ""
        self.is_over = False
        self.opening = ""

    def feed(self, text: str) -> None:
        """Take a piece of text."""
        if self.part == "header" or not (self.has_reasoned or self.has_answered):
            self._header += text

    def mark(self, name: str) -> Effect:
        """Take a mark; those inside the answer, up to its end, are its text."""
        if self.has_answered and not self.is_over and name not in _ENDS:
            return "text"
        effect: Effect = "mark" if self.has_reasoned or self.has_answered else "late"
        self.has_reasoned = True
        if name == _MESSAGE and self.part == "header" and not self.is_over:
            called = _RECIPIENT.search(f"{self._role} {self._header}")
            self.opening = f"{called[0]} " if called else ""
            self.has_answered = called is not None or self._header.split()[:1] == ["final"]
            self.part, self._header = "answer" if self.has_answered else "reasoning", ""
        else:
            self.is_over = self.has_answered
            self._role = self._header if name == _CHANNEL else ""
            self.part, self._header = "header", ""
        return effect


_CHANNEL, _MESSAGE, _START = "<|channel|>", "<|message|>", "<|start|>"
_RECIPIENT = re.compile(r"to=functions\.[\w.-]+")
_ENDS = ("<|end|>", "<|return|>", "<|call|>")


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """One way to mark reasoning.

    Attributes:
        name: as `model.reasoning` has it.
        marks: of tags, the one that opens and the one that closes; none if nothing is marked.
        forced: what is written to end reasoning that is too long, so that the answer begins; marks in it are tokens.
        label: what reasoning begins with, which is none of it.
        is_hidden: whether the marks are tokens that texts leave out.
        revision: of the way in which outputs are split by them; raised with a change that reads any output otherwise.
    """

    name: str
    marks: tuple[str, ...] = ()
    forced: str = ""
    label: str = ""
    is_hidden: bool = False
    revision: int = 0

    def track(self, start: Start) -> Tracker:
        """Return a tracker for an output that begins there."""
        if self is HARMONY:
            return HarmonyTracker(start)
        return TagTracker(self.marks[0], self.marks[1], start) if self.marks else TagTracker("", "", "closed")

    def find_start(self, ending: str) -> Start:
        """Find where an output begins, by what a chat template writes after the last turn of the chat."""
        if not self.marks:
            return "closed"
        if self is HARMONY:
            found = re.search(r"<\|channel\|>\s*(\w+)[^<]*<\|message\|>[^<]*$", ending)
            return "free" if not found else "closed" if found[1] == "final" else "open"
        opened, closed = (ending.rfind(mark) for mark in self.marks)
        return "free" if opened == closed else "open" if opened > closed else "closed"


NONE = ReasoningFormat("none")
"""The whole output is the answer."""

HARMONY = ReasoningFormat(
    "harmony",
    (_CHANNEL, _MESSAGE, _START, *_ENDS),
    "<|end|><|start|>assistant<|channel|>final<|message|>",
    is_hidden=True,
    revision=1,
)
"""gpt-oss: messages in the channels analysis, commentary and final."""

THINK = ReasoningFormat("think", ("<think>", "</think>"), "\n</think>\n\n")
"""Qwen3 and later, DeepSeek-R1 and its distillates, GLM, Kimi, Nemotron, SmolLM3, MiniMax, Phi-4."""

FORMATS: dict[str, ReasoningFormat] = {
    each.name: each
    for each in (
        NONE,
        HARMONY,
        ReasoningFormat("gemma", ("<|channel>", "<channel|>"), "\n<channel|>", "thought", is_hidden=True),
        ReasoningFormat("magistral", ("[THINK]", "[/THINK]"), "[/THINK]"),
        ReasoningFormat("command", ("<|START_THINKING|>", "<|END_THINKING|>"), "<|END_THINKING|>", is_hidden=True),
        ReasoningFormat("seed", ("<seed:think>", "</seed:think>"), "\n</seed:think>"),
        THINK,
    )
}
"""The formats in use by name, in the order in which they are looked for in a model's file."""


TOKENS = 8192
"""Tokens of reasoning before an answer, unless the configuration says otherwise; most problems of school need fewer."""


def apply_task_budget(config: Config) -> ModelConfig:
    """Return a job's model with the tokens of reasoning that its task asks for."""
    tokens = config.task.reasoning_tokens
    return config.model if tokens is None else replace(config.model, reasoning_tokens=tokens)


def get_reasoning_tokens(model: ModelConfig) -> int:
    """Return the most tokens of reasoning before an answer, for a model that reasons."""
    return TOKENS if model.reasoning_tokens is None else model.reasoning_tokens


def get_format(name: str) -> ReasoningFormat | None:
    """Return a format by its name, or of marks of one's own, `OPEN...CLOSE`; None if it is neither."""
    if name in FORMATS:
        return FORMATS[name]
    own = re.fullmatch(r"(\S+?)\.\.\.(\S+)", name)
    return ReasoningFormat(name, (own[1], own[2]), f"\n{own[2]}\n\n") if own and own[1] != own[2] else None


def choose_format(template: str, tokens: Collection[str]) -> ReasoningFormat:
    """Choose the format of a model's reasoning.

    Args:
        template: the source of its chat template.
        tokens: how its vocabulary writes the tokens that may be marks.
    """
    for each in FORMATS.values():
        needed = each.marks[:2]
        if needed and (any(mark in template for mark in needed) or all(mark in tokens for mark in needed)):
            return each
    return NONE


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark in an output.

    Attributes:
        start: the character of the output's text at which it stands.
        end: the first character after it; the same as `start` if the text leaves the mark out.
        name: how the vocabulary writes it.
        tokens: number of tokens up to and with it; None if only the text is known.
    """

    start: int
    end: int
    name: str
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """An output, ready to be read.

    Attributes:
        text: all that the model wrote; special tokens may be left out.
        marks: the marks in it, in order.
        start: where it begins.
        tokens: number of its tokens; None if that is not known.
    """

    text: str
    marks: tuple[Mark, ...] = ()
    start: Start = "free"
    tokens: int | None = None


def find_marks(text: str, names: Collection[str]) -> tuple[Mark, ...]:
    """Find marks by their characters."""
    if not names:
        return ()
    pattern = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return tuple(Mark(found.start(), found.end(), found[0]) for found in re.finditer(pattern, text))


@dataclass(frozen=True, slots=True)
class Split:
    """An output in its parts.

    Attributes:
        reasoning: what came before the answer.
        answer: the answer.
        ended_in_reasoning: whether the output ended before an answer began.
        reasoning_tokens: number of tokens of the reasoning with its marks; None if that is not known.
    """

    reasoning: str
    answer: str
    ended_in_reasoning: bool
    reasoning_tokens: int | None


def split_output(output: Output, form: ReasoningFormat) -> Split:
    """Split an output into reasoning and answer, without white space around the one and before the other.

    An output without reasoning is the answer, to the letter.
    """
    tracker = form.track(output.start)
    pieces: list[tuple[Part, str]] = []
    place, reasoning_tokens = 0, output.tokens
    for mark in output.marks:
        text = output.text[place : mark.start]
        tracker.feed(text)
        pieces.append((tracker.part, text))
        place = mark.start
        if (effect := tracker.mark(mark.name)) != "text":
            place = mark.end
            if effect == "late":
                pieces = [("reasoning", piece) for _, piece in pieces]
            if tracker.part == "answer":
                reasoning_tokens = mark.tokens
                pieces.append(("answer", tracker.opening))
    rest = output.text[place:]
    tracker.feed(rest)
    pieces.append((tracker.part, rest))
    if not tracker.has_reasoned:
        return Split("", output.text, ended_in_reasoning=False, reasoning_tokens=0)
    reasoning, answer = (
        "".join(piece for part, piece in pieces if part == wanted) for wanted in ("reasoning", "answer")
    )
    first, _, rest = reasoning.strip().partition("\n")
    reasoning = rest.strip() if form.label and first.strip() == form.label else reasoning.strip()
    return Split(reasoning, answer.lstrip(), not tracker.has_answered, reasoning_tokens)
