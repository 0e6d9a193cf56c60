"""Token sequences that a model is made to read, of which a part is scored."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        size: how many there are.
        sha256: of their texts in order: two models with as many tokens may still mean others by them.
    """

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Tokens that are read in order, alone in a context.

    Attributes:
        tokens: ids in the model's vocabulary.
        first: index of the first scored token; it and all that follow are scored, each given the tokens before it. At
            least 1, because nothing predicts the first token.

    Raises:
        ValueError: no token is scored, or one that nothing predicts.
    """

    tokens: tuple[int, ...]
    first: int

    def __post_init__(self) -> None:
        if not 1 <= self.first < len(self.tokens):
            raise ValueError(f"first must be in 1 ... {len(self.tokens) - 1}, but is {self.first}.")

    @property
    def scored(self) -> int:
        """Number of scored tokens."""
        return len(self.tokens) - self.first


@dataclass(frozen=True, slots=True)
class Distributions:
    """A model's predictions at n scored tokens that follow each other in one sequence.

    Attributes:
        sequence: which sequence, counted from 0.
        tokens: the scored tokens, shape (n,).
        logits: of the places that predict them, shape (n, vocabulary size). They may be the engine's own memory: use
            them before the next step, and copy what is to stay.
    """

    sequence: int
    tokens: NDArray[np.int32]
    logits: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TokenScores:
    """A model's judgement of n scored tokens.

    Attributes:
        top: the token that it holds likeliest at each place, shape (n,).
        logprobs: log-probabilities of the tokens that stand there, in nats, shape (n,).
    """

    top: NDArray[np.int32]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rows:
    """Base of what is known of n places: every field is an array, whose first axis has the length n."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def part(self, places: slice) -> Self:
        """Return some of the places, as views."""
        return replace(self, **{field.name: getattr(self, field.name)[places] for field in fields(self)})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return one after the other.

        Raises:
            ValueError: there are no parts, or their arrays differ in another axis.
        """
        return cls(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        )


@dataclass(frozen=True, slots=True)
class Likeliest(Rows):
    """What a server tells of a model's predictions at n scored tokens that follow each other in one sequence.

    Attributes:
        tokens: the scored tokens, shape (n,).
        logprobs: their log-probabilities in nats, shape (n,).
        ids: the likeliest tokens of each place, the likeliest first, and the scored one, shape (n, k + 1); -1 where
            there are fewer.
        of_ids: their log-probabilities in nats, shape (n, k + 1); -inf where there are fewer.
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float64]
    ids: NDArray[np.int32]
    of_ids: NDArray[np.float64]

    @property
    def scores(self) -> TokenScores:
        """The judgement of the scored tokens."""
        return TokenScores(self.ids[:, 0], self.logprobs.astype(np.float32))


def hash_sequences(sequences: Iterable[TokenSequence]) -> str:
    """sha256 of all tokens and of which are scored, in order."""
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(np.array([len(sequence.tokens), sequence.first, *sequence.tokens], "<i4").tobytes())
    return digest.hexdigest()


def first_divergence(a: Sequence[object], b: Sequence[object]) -> int | None:
    """Index of the first token, or character of a text, in which two answers differ; None if they are equal.

    Where one is the beginning of the other, they differ at the end of the shorter.
    """
    shorter = min(len(a), len(b))
    for index in range(shorter):
        if a[index] != b[index]:
            return index
    return None if len(a) == len(b) else shorter
