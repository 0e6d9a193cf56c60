"""Two outputs side by side: what only one of them says, word by word."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

HEAD, TAIL = 2500, 1000
"""Characters that are shown of an output's beginning and of its end, where graders look for the answer."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of an output.

    Attributes:
        text: As the model wrote it.
        only_here: Whether the other output does not have it there.
    """

    text: str
    only_here: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """An output, whole or its beginning and its end.

    Attributes:
        head: The beginning, or all of it.
        cut: Number of characters left out after it.
        tail: The end; empty where nothing was left out.
    """

    head: tuple[Piece, ...]
    cut: int
    tail: tuple[Piece, ...]


def side_by_side(before: str, after: str) -> tuple[Shown, Shown]:
    """Both outputs, with what differs; each is compared as far as it is shown, so that no text takes long."""
    (first, cut, last), (other_first, other_cut, other_last) = _clipped(before), _clipped(after)
    heads, tails = _pieces(first, other_first), _pieces(last, other_last)
    return Shown(heads[0], cut, tails[0]), Shown(heads[1], other_cut, tails[1])


def _clipped(text: str) -> tuple[str, int, str]:
    """Return the beginning, how much is left out, and the end."""
    cut = len(text) - HEAD - TAIL
    return (text, 0, "") if cut <= 0 else (text[:HEAD], cut, text[-TAIL:])


def _pieces(before: str, after: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    left, right = _words(before), _words(after)
    differs = _unmatched(left, right)
    return tuple(_joined(zip(left, differs[0], strict=True))), tuple(_joined(zip(right, differs[1], strict=True)))


def _unmatched(left: Sequence[str], right: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """Mark the words that are not in a longest common subsequence of both.

    The usual dynamic program, a row at a time: n rows of m words, whatever they are. `difflib` takes a minute where a
    model has repeated one word for a page, which small models do.
    """
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*left, *right]))}
    mine, other = (np.array([numbers[word] for word in side], dtype=np.int64) for side in (left, right))
    # common[i, j]: how many words the rest of the left from i and that of the right from j have in common.
    common = np.zeros((len(left) + 1, len(right) + 1), dtype=np.int16)
    for i in range(len(left) - 1, -1, -1):
        extended = np.maximum(common[i + 1, :-1], common[i + 1, 1:] + (other == mine[i]))
        common[i, :-1] = np.maximum.accumulate(extended[::-1])[::-1]
    unmatched = [True] * len(left), [True] * len(right)
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            unmatched[0][i] = unmatched[1][j] = False
            i, j = i + 1, j + 1
        elif common[i + 1, j] >= common[i, j + 1]:
            i += 1
        else:
            j += 1
    return unmatched


def _words(text: str) -> list[str]:
    """Words, numbers and single signs, each with the white space before it; joined they are the text."""
    return re.findall(r"\s*(?:\w+|[^\w\s])|\s+\Z", text)


def _joined(words: Iterable[tuple[str, bool]]) -> Iterator[Piece]:
    for only_here, run in groupby(words, key=lambda word: word[1]):
        yield Piece("".join(word for word, _ in run), only_here)
