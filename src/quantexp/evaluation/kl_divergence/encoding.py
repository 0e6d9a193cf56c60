"""A baseline's distributions, small enough to keep: the likely tokens, and a sample of the others.

Of each distribution p the tokens with log p > max log p - TAU are kept, their distance from the maximum rounded to
STEP. Of all others the sum of their probabilities, r, is kept, and DRAWN of them, drawn in proportion to p: by
systematic sampling (Madow 1949, Annals of Mathematical Statistics 20(3)), so that a token twice as likely is drawn
twice as often. From the sum alone a divergence would come out too low (the log sum inequality, Cover and Thomas 2006,
"Elements of Information Theory", theorem 2.7.1); the sample says by how much, without bias. See `measures`.

Decoded, the kept probabilities and r are scaled to sum to 1, so that rounding enters a divergence only in second order:
that of a model from itself is about STEP²/24.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantexp.engines.sequences import Rows
from quantexp.util.errors import NOT_NUMBERS, UserError

TAU = 6.0
"""In nats below the likeliest token; chosen with DRAWN by measurement, see docs/explanation/divergence.md."""

DRAWN = 64
"""Tokens drawn of those that are not kept."""

LEAST_REST = 1e-12
"""Less than this share of the likeliest token's probability counts as nothing: no draw can be made from it."""

STEP = 1.0 / 512.0
"""In nats. Finer steps would change a mean divergence by less than 2e-7 and take more bytes."""

GOLDEN = (5.0**0.5 - 1.0) / 2.0
"""Multiples of it, modulo 1, are spread evenly (Knuth, "The Art of Computer Programming", vol. 3, section 6.4)."""

STRETCH = 64
"""Tokens whose shares are summed together before the search for what is drawn."""

SMALLEST_SHARE = np.float32(np.finfo(np.float32).tiny)
"""87 nats below the likeliest token."""

BLOCK_FLOATS = 1 << 18
"""Logits worked on at once, 1 MiB, which stays in a core's second cache."""

_KEPT = frozenset({"ids", "steps"})
"""Arrays with an entry for each kept token, not for each place."""


@dataclass(frozen=True, slots=True)
class ReferenceRows(Rows):
    """Encoded distributions at n places, with m kept tokens in all.

    Attributes:
        actual: the token that stands there in the text, shape (n,).
        logprob: its log-probability in nats, not rounded to steps, shape (n,).
        top: the likeliest token, shape (n,).
        rest: log of the other tokens' probabilities' sum divided by the likeliest token's; -inf if there are none;
            shape (n,).
        ids: kept tokens, ascending within a place, shape (m,).
        steps: how far each is below the likeliest, in STEPs, shape (m,).
        offsets: place i has the kept tokens offsets[i] ... offsets[i + 1] - 1, shape (n + 1,).
        drawn: tokens drawn from the others, ascending, one perhaps several times, shape (n, k); of no meaning where
            there are none.
        drawn_steps: how far each is below the likeliest, in STEPs, shape (n, k).
    """

    actual: NDArray[np.int32]
    logprob: NDArray[np.float32]
    top: NDArray[np.int32]
    rest: NDArray[np.float32]
    ids: NDArray[np.int32]
    steps: NDArray[np.uint16]
    offsets: NDArray[np.int64]
    drawn: NDArray[np.int32]
    drawn_steps: NDArray[np.uint16]

    def part(self, places: slice) -> Self:
        """Return some of the places, from `start` up to `stop` of the slice, as views."""
        offsets = self.offsets[places.start : places.stop + 1]
        kept = slice(offsets[0], offsets[-1])
        cut = {each.name: getattr(self, each.name)[kept if each.name in _KEPT else places] for each in fields(self)}
        return type(self)(**cut | {"offsets": offsets - offsets[0]})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return one after the other; see `Rows.join`."""
        ends = np.cumsum([0, *(part.ids.size for part in parts)])
        offsets = [part.offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
        joined = {each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)}
        return cls(**joined | {"offsets": np.concatenate([np.zeros(1, np.int64), *offsets])})

    def log_probabilities(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return those of the kept tokens, shape (m,), of the rest's sum, (n,), and of the drawn tokens, (n, k).

        The exponentials of a place's kept tokens and of its rest sum to 1.
        """
        below = self.steps * -STEP
        kept = np.add.reduceat(np.exp(below), self.offsets[:-1])
        rest = self.rest.astype(np.float64)
        total = np.log(kept + np.exp(rest))
        return below - np.repeat(total, np.diff(self.offsets)), rest - total, self.drawn_steps * -STEP - total[:, None]


def encode(
    logits: NDArray[np.float32], actual: NDArray[np.int32], *, tau: float = TAU, drawn: int = DRAWN
) -> ReferenceRows:
    """Encode distributions.

    Args:
        logits: shape (n, vocabulary size), n at least 1.
        actual: the token that stands at each place, shape (n,).
        tau: how far below the likeliest token others are kept, in nats; less than 128.
        drawn: how many of those that are not kept are drawn; at least 1.

    Raises:
        UserError: logits are not numbers.
    """
    return ReferenceRows.join([_encoded(logits[part], actual[part], tau, drawn) for part in blocks(*logits.shape)])


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Rows in parts that stay in the cache."""
    height = max(1, BLOCK_FLOATS // columns)
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))


def below_top(logits: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the likeliest token of each row, shape (n,), and each logit minus its logit, shape (n, v).

    Raises:
        UserError: logits are not numbers.
    """
    top = logits.argmax(axis=1)
    highest = np.take_along_axis(logits, top[:, None], 1)
    if not np.isfinite(highest).all():
        raise UserError(NOT_NUMBERS)
    return top, logits - highest


def _encoded(logits: NDArray[np.float32], actual: NDArray[np.int32], tau: float, draws: int) -> ReferenceRows:
    top, below = below_top(logits)
    of_actual = np.take_along_axis(below, actual[:, None].astype(np.intp), 1)[:, 0]
    places, ids = np.divmod(np.flatnonzero(below > -tau), below.shape[1])  # np.nonzero takes ten times as long
    kept = below[places, ids]
    offsets = np.searchsorted(places, np.arange(len(logits) + 1))
    shares = np.exp(below, out=below)
    of_kept = np.add.reduceat(shares[places, ids], offsets[:-1], dtype=np.float64)
    shares[places, ids] = 0.0  # summed apart: the difference of two sums near 1 would be noise
    of_rest = shares.sum(axis=1).astype(np.float64)  # pairwise, so exact to 1e-7
    some = of_rest > LEAST_REST
    rest = np.full(len(logits), -np.inf, np.float32)
    np.log(of_rest, out=rest, where=some, casting="same_kind")
    drawn = _drawn(shares, actual, draws)
    drawn_shares = np.take_along_axis(shares, drawn, 1)
    # Rounding may end a stride on a token without a share, such as a kept one: the likeliest of the others stands in.
    missed = (drawn_shares == 0.0) & some[:, None]
    if missed.any():
        drawn = np.where(missed, shares.argmax(axis=1)[:, None], drawn)
        drawn_shares = np.take_along_axis(shares, drawn, 1)
    drawn_shares = np.where(some[:, None], np.maximum(drawn_shares, SMALLEST_SHARE), np.float32(1.0))
    return ReferenceRows(
        actual=actual.astype(np.int32),
        logprob=(of_actual - np.log(of_kept + of_rest)).astype(np.float32),
        top=top.astype(np.int32),
        rest=rest,
        ids=ids.astype(np.int32),
        steps=_steps(kept),
        offsets=offsets.astype(np.int64),
        drawn=drawn.astype(np.int32),
        drawn_steps=_steps(np.log(drawn_shares)),
    )


def _drawn(shares: NDArray[np.float32], actual: NDArray[np.int32], draws: int) -> NDArray[np.intp]:
    """Columns drawn from each row in proportion to its shares: equal strides over their running sum, shape (n, k)."""
    rows, columns = shares.shape
    # Summed by stretches first; the running sum itself is needed only in those that are hit.
    whole = columns // STRETCH * STRETCH
    sums = np.empty((rows, -(-columns // STRETCH)))
    sums[:, : whole // STRETCH] = shares[:, :whole].reshape(rows, -1, STRETCH).sum(axis=2)
    if whole < columns:
        sums[:, -1] = shares[:, whole:].sum(axis=1)
    running = np.cumsum(sums)  # over all rows: one search finds everything
    ends = running[sums.shape[1] - 1 :: sums.shape[1], None]
    starts = np.concatenate([np.zeros((1, 1)), ends[:-1]])
    # Where the strides begin is drawn too, from the place itself, so that no other place matters to it.
    begin = np.modf(actual * GOLDEN)[0]
    targets = starts + (np.arange(draws) + begin[:, None]) / draws * (ends - starts)
    hit = np.minimum(running.searchsorted(targets, side="right"), running.size - 1)
    left = targets - (running - sums.ravel())[hit]
    first = np.clip(hit - sums.shape[1] * np.arange(rows)[:, None], 0, sums.shape[1] - 1) * STRETCH
    stretches = np.minimum(first[:, :, None] + np.arange(STRETCH), columns - 1)
    inside = np.take_along_axis(shares, stretches.reshape(rows, -1), 1).reshape(stretches.shape)
    passed = (np.cumsum(inside, axis=2, dtype=np.float64) <= left[:, :, None]).sum(axis=2)
    found = first + np.minimum(passed, STRETCH - 1)
    return np.asarray(np.minimum(found, columns - 1), np.intp)


def _steps(below: NDArray[np.float32]) -> NDArray[np.uint16]:
    return np.asarray(np.rint(below * (-1.0 / STEP)), np.uint16)
