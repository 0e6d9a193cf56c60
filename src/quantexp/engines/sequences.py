"""What a model is made to read: token sequences, of which a part is scored."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


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
        """How many tokens are scored."""
        return len(self.tokens) - self.first


def digest_of(sequences: Iterable[TokenSequence]) -> str:
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
