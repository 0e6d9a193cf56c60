"""Divergence from what is known of two distributions: some tokens' probabilities, and the sum of all others'.

A server tells of the k likeliest tokens of each place. Over the tokens of which both probabilities are known the
divergence is exact. Of all others only sums are: r, the baseline's, and s, the quant's. They add at least
r ln(r/s) (the log sum inequality, Cover and Thomas 2006, "Elements of Information Theory", theorem 2.7.1), and where
single probabilities of the baseline are known, more. No token that the quant's list leaves out is likelier than the
last in it, c. So what they add is least where each has the probability min(c, λ p), with the λ that makes the sum s.

There is no upper bound without an assumption: a token that is left out may have any probability under the quant. What
is reported adds `stats.divergence.AT_MOST` nats for each unit of r. It holds if the two distributions of what is left
out, each scaled to a sum of 1, diverge by no more than that.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from quantexp.engines.sequences import Likeliest, TokenSequence, hash_sequences
from quantexp.evaluation.kl_divergence.encoding import blocks
from quantexp.evaluation.kl_divergence.llama_file import LlamaFile, LlamaRows
from quantexp.evaluation.kl_divergence.measures import TokenMeasures
from quantexp.util.errors import UserError
from quantexp.util.files import open_atomically

ROUNDING = 1e-6
"""Sums of probabilities that are sent as decimal numbers are no more exact."""

SINGLE = 64
"""Tokens of a whole distribution that are looked at one by one where the quant's list leaves them out."""

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Known:
    """Known probabilities of a baseline at n places.

    Attributes:
        actual_logprob: log-probability of the token that stands there, in nats, shape (n,).
        top: the likeliest token, shape (n,).
        ids: tokens, shape (n, m); -1 where there are fewer.
        logprobs: their log-probabilities, shape (n, m); -inf where there are fewer.
        rest: the sum of all others' probabilities, shape (n,).
    """

    actual_logprob: NDArray[np.float64]
    top: NDArray[np.int32]
    ids: NDArray[np.int32]
    logprobs: NDArray[np.float64]
    rest: NDArray[np.float64]


def take_likeliest(baseline: Likeliest) -> Known:
    """Return what is known of a baseline that a server has told of."""
    rest = np.maximum(0.0, 1.0 - np.exp(baseline.of_ids).sum(axis=1))
    return Known(baseline.logprobs, baseline.ids[:, 0], baseline.ids, baseline.of_ids, rest)


def take_rows(rows: LlamaRows, quant: Likeliest) -> Known:
    """Return what a file knows of a baseline: the tokens that the quant tells of, and the likeliest of the others."""
    logprobs = rows.log_probabilities().astype(np.float64)
    size = logprobs.shape[1]
    if quant.ids.max() >= size:
        raise UserError(
            f"The server tells of token {quant.ids.max():,}, and divergence_base holds distributions over {size:,} "
            "tokens: give a file of this model."
        )
    listed = np.where(quant.ids >= 0, quant.ids, quant.ids[:, :1]).astype(np.intp)  # the likeliest is always told of
    of_listed = np.where(quant.ids >= 0, np.take_along_axis(logprobs, listed, 1), -np.inf)
    actual = np.take_along_axis(logprobs, quant.tokens[:, None].astype(np.intp), 1)[:, 0]
    top = logprobs.argmax(axis=1)
    np.put_along_axis(logprobs, listed, -np.inf, 1)
    single = min(SINGLE, size - 1)
    others = np.argpartition(logprobs, size - 1 - single, axis=1)[:, -single:]
    of_others = np.take_along_axis(logprobs, others, 1)
    np.put_along_axis(logprobs, others, -np.inf, 1)
    ids = np.concatenate([quant.ids, np.where(np.isfinite(of_others), others, -1)], axis=1).astype(np.int32)
    return Known(
        actual, top.astype(np.int32), ids, np.concatenate([of_listed, of_others], axis=1), np.exp(logprobs).sum(axis=1)
    )


def bound_divergence(baseline: Known, quant: Likeliest, most: int) -> tuple[TokenMeasures, NDArray[np.float64]]:
    """Bound the divergence of a quant from below.

    Args:
        baseline: n places.
        quant: the same places.
        most: tokens that the quant was asked to tell of, besides the one that stands there.

    Returns:
        The measures, whose divergence is the lower bound; and at each place r, the baseline's probability of what is
        left out, shape (n,).
    """
    log_q, is_common = _match(baseline, quant)
    p = np.exp(baseline.logprobs)
    with np.errstate(invalid="ignore"):
        exact = np.where(is_common, p * (baseline.logprobs - log_q), 0.0).sum(axis=1)
    left = np.maximum(ROUNDING, 1.0 - np.where(is_common, np.exp(log_q), 0.0).sum(axis=1))
    last = np.minimum(most, (quant.ids >= 0).sum(axis=1)) - 1
    cap = np.exp(np.take_along_axis(quant.of_ids, last[:, None], 1)[:, 0])
    alone = np.where(is_common, 0.0, p)
    added, left_out = _add_least(alone, baseline.rest, left, cap)
    measures = TokenMeasures(
        divergence=exact + added,
        same_top=baseline.top == quant.ids[:, 0],
        baseline_logprob=baseline.actual_logprob,
        quant_logprob=quant.logprobs,
        quant_top=quant.ids[:, 0],
    )
    return measures, left_out


def _match(baseline: Known, quant: Likeliest) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the quant's log-probabilities of the baseline's tokens, shape (n, m), and which of them it tells of."""
    places = np.arange(len(quant))[:, None] << 32
    theirs = np.where(quant.ids >= 0, places + quant.ids, -1).ravel()
    order = theirs.argsort(kind="stable")
    wanted = np.where(baseline.ids >= 0, places + baseline.ids, -2)
    found = order[np.minimum(np.searchsorted(theirs, wanted, sorter=order), theirs.size - 1)]
    is_common = theirs[found] == wanted
    return np.where(is_common, quant.of_ids.ravel()[found], -np.inf), is_common


def _add_least(
    alone: NDArray[np.float64], rest: NDArray[np.float64], left: NDArray[np.float64], cap: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least that tokens without a probability under the quant can add, and their sum under the baseline.

    Args:
        alone: the baseline's probability of each, 0 for none, shape (n, m).
        rest: of all others together, shape (n,).
        left: the quant's probability of all of them, shape (n,).
        cap: the most that a single one can have, shape (n,).
    """
    p = -np.sort(-alone, axis=1)
    n, m = p.shape
    total = p.sum(axis=1) + rest
    # With the j likeliest at the cap, λ is what is left for the others; the first j at which none exceeds the cap.
    before = np.concatenate([np.zeros((n, 1)), np.cumsum(p, axis=1)], axis=1)
    remains, room = total[:, None] - before, left[:, None] - np.arange(m + 1) * cap[:, None]
    following = np.concatenate([p, np.zeros((n, 1))], axis=1)
    fits = room * following <= cap[:, None] * np.maximum(remains, 0.0)
    capped = fits.argmax(axis=1)[:, None]
    remaining = np.maximum(np.take_along_axis(remains, capped, 1), 0.0)
    room = np.maximum(np.take_along_axis(room, capped, 1), ROUNDING)
    scale = np.where(remaining > 0, room / np.where(remaining > 0, remaining, 1.0), 1.0)
    q = np.where(np.arange(m) < capped, cap[:, None], scale * p)
    some = p > 0
    logs = np.log(np.where(some, p, 1.0)) - np.log(np.where(some, q, 1.0))
    together = np.where(rest > 0, -rest * np.log(scale[:, 0]), 0.0)
    return np.where(some, p * logs, 0.0).sum(axis=1) + together, total


def bound_from_file(
    file: LlamaFile, numbers: Sequence[int], quant: Sequence[Likeliest], most: int
) -> tuple[TokenMeasures, NDArray[np.float64]]:
    """Bound a quant's divergence from a file's distributions; see `bound_divergence`.

    Args:
        file: the file.
        numbers: which of its windows each sequence is, counted from 0.
        quant: of each sequence.
        most: tokens that the quant was asked to tell of.

    Raises:
        UserError: the file has become shorter, or is of another model.
    """
    found = [
        bound_divergence(take_rows(rows.part(part), each.part(part)), each.part(part), most)
        for number, each in zip(numbers, quant, strict=True)
        for rows in [file.rows(number)]
        for part in blocks(*rows.steps.shape)  # which stay in the cache
    ]
    return TokenMeasures.join([measures for measures, _ in found]), np.concatenate([left for _, left in found])


def write_likeliest(path: Path, told: Likeliest, sequences: Sequence[TokenSequence]) -> None:
    """Keep what a server has told of a baseline.

    Args:
        path: the file; it appears whole or not at all.
        told: of all sequences, one after the other.
        sequences: what was read.

    Raises:
        OSError: the file cannot be written.
    """
    columns = {
        "actual": pa.array(told.tokens),
        "logprob": pa.array(told.logprobs),
        "ids": pa.array(list(told.ids)),
        "of_ids": pa.array(list(told.of_ids)),
    }
    meaning = {"likeliest": FORMAT, "sequences": hash_sequences(sequences)}
    table = pa.table(columns).replace_schema_metadata({"quantexp": json.dumps(meaning)})
    with open_atomically(path) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def read_likeliest(path: Path, sequences: Sequence[TokenSequence]) -> Likeliest:
    """Read what `write_likeliest` wrote.

    Raises:
        UserError: the file is damaged, or of other sequences.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        meaning = json.loads((table.schema.metadata or {}).get(b"quantexp", b"{}"))
        ids, of_ids = (np.stack(table.column(name).to_numpy()) for name in ("ids", "of_ids"))
        told = Likeliest(table.column("actual").to_numpy(), table.column("logprob").to_numpy(), ids, of_ids)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{path} is damaged ({reason}); run the baseline again with force=true.") from error
    if meaning != {"likeliest": FORMAT, "sequences": hash_sequences(sequences)}:
        raise UserError(f"{path} was made from other texts than these; run the baseline again with force=true.")
    return told
