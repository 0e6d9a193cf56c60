"""Memory that one conversation takes beside a model's weights, by its tokens of context."""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Self

from quantexp.util.errors import UserError

CELLS = 256
"""Tokens by which llama.cpp lengthens a cache, and by which the part of it grows that attention looks at."""

CONTEXTS = (2048, 4096, 8192, 16384, 32768, 65536, 131072)
"""Tokens of context for which runs record it; between them, and beyond, the next two are connected by a line."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory beside the weights.

    Attributes:
        context: tokens of context.
        cache: bytes of the KV cache, and of the states of recurrent layers.
        buffers: bytes in which llama.cpp computes, and in which it leaves its output.
    """

    context: int
    cache: int
    buffers: int

    @classmethod
    def between(cls, first: Self, second: Self, context: int) -> Self:
        """Return the point at a context on the line through two others."""
        share = (context - first.context) / (second.context - first.context)
        cache, buffers = (
            round(one + share * (other - one))
            for one, other in ((first.cache, second.cache), (first.buffers, second.buffers))
        )
        return cls(context, cache, buffers)


def write_footprints(known: Sequence[Footprint]) -> str:
    """Write footprints as a text to be kept with a run."""
    return json.dumps([list(astuple(each)) for each in known])


def read_footprints(text: str) -> tuple[Footprint, ...]:
    """Read footprints, in the order of their contexts.

    Raises:
        UserError: the text is damaged.
    """
    try:
        rows = json.loads(text)
        found = [Footprint(*row) for row in rows]
        valid = all(type(number) is int and number >= 0 for each in found for number in astuple(each))
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise UserError(f"The memory that a run has recorded cannot be read ({text[:80]}); run it again.")
    return tuple(sorted({each.context: each for each in found}.values(), key=lambda each: each.context))


def find_footprint(known: Sequence[Footprint], context: int) -> Footprint | None:
    """Return the footprint at a context from those that are known; None if none is.

    The cache grows by a constant for each token, from the longest window of attention on. The buffers grow by ever
    larger steps. So what lies between two known contexts is exact or a little too much. Below the shortest known
    context stands what that one takes.

    Args:
        known: in the order of their contexts, which are multiples of `CELLS`.
        context: tokens.
    """
    if not known:
        return None
    context = -(-context // CELLS) * CELLS
    if context <= known[0].context or len(known) == 1:
        return known[0] if context <= known[0].context else None
    for first, second in pairwise(known):
        if context <= second.context:
            return Footprint.between(first, second, context)
    return Footprint.between(known[-2], known[-1], context)
