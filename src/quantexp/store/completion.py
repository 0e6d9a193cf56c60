"""A model's answer to one prompt, as an engine gives it and the store keeps it."""

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "context"]
"""`stop`: the model ended its answer, or wrote a stop string. `length`: it was still writing at
max_tokens. `context`: the prompt and max_tokens do not fit the context, so nothing was generated."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer; which prompt it belongs to is known beside it.

    Attributes:
        tokens: the token ids generated, those of a stop string and the end-of-generation token included; none where
            only a server knows them. Each fits 32 bits.
        logprobs: natural logarithm of the probability that the model gave to each of these tokens (before penalties,
            temperature and what narrows a draw), each a float32 in value; none where a server does not give them.
        text: the answer without end-of-generation tokens and stop strings; bytes that are not
            UTF-8 become U+FFFD.
        finish_reason: why it ended.
        prompt_seconds: time spent on reading the prompt.
        generation_seconds: this answer's share of the time in which it was written beside others, so that the sum over
            answers is the time that passed.
        counted: how many tokens a server says it read and wrote; None where the tokens themselves are known.
        reasoning: what a server sent beside the answer as the model's reasoning; None if it sent none.
        reasoning_tokens: how many of the counted tokens were reasoning, as the server says; None if it does not.
        likeliest: of given tokens, whether each was the likeliest in its place; None of an answer.
        created: when it was stored, in seconds since 1970; None before that, and where an earlier version stored it.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    prompt_seconds: float
    generation_seconds: float
    counted: tuple[int, int] | None = None
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    likeliest: bool | None = None
    created: float | None = None

    @property
    def length(self) -> int:
        """Tokens written."""
        return len(self.tokens) if self.counted is None else self.counted[1]
