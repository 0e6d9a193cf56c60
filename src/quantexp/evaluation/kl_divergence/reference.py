"""A file with a baseline's distributions, and the two passes: the baseline writes it, each quant is held against it.

Only one model needs to be in memory at a time. The file is Parquet, one row for each scored token, with checksums.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from quantexp.engines.base import Predictor
from quantexp.engines.sequences import TokenScores, TokenSequence, hash_sequences
from quantexp.evaluation.kl_divergence.encoding import STEP, ReferenceRows, encode
from quantexp.evaluation.kl_divergence.measures import TokenMeasures, measure
from quantexp.util.errors import UserError
from quantexp.util.files import open_atomically

FORMAT = 1
"""Raise it with a change after which files are to be read otherwise."""

BYTES_PER_TOKEN = 630
"""Of a file, for each scored token: measured, see docs/explanation/divergence.md. A model that is surer of its words
takes less."""

GROUP = 4096
"""Places in a row group, about: what is read at once."""

_LISTS = ("ids", "steps", "drawn", "drawn_steps")
_TYPES = {
    "actual": pa.int32(), "logprob": pa.float32(), "top": pa.int32(), "rest": pa.float32(),
    "ids": pa.list_(pa.int32()), "steps": pa.list_(pa.uint16()),
    "drawn": pa.list_(pa.int32()), "drawn_steps": pa.list_(pa.uint16()),
}  # fmt: skip

_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What reading a damaged file raises: the last two where the names in it are damaged, which have no checksum."""


def predicted_bytes(tokens: int) -> int:
    """Predict the size of a file for this many scored tokens, about."""
    return tokens * BYTES_PER_TOKEN


def write_reference(
    path: Path, model: Predictor, sequences: Sequence[TokenSequence], facts: Mapping[str, str] | None = None
) -> None:
    """Write the baseline's pass: read the sequences and keep what the model would have said.

    Args:
        path: the file; it appears whole or not at all.
        model: the baseline.
        sequences: at least one.
        facts: kept in the file, for `read_facts`; such as the model's sha256.

    Raises:
        OSError: the file cannot be written.
        UserError, ValueError: see `Predictor.distributions`.
    """
    meaning = {
        "format": FORMAT,
        "step": STEP,
        "vocabulary": model.vocabulary.sha256,
        "sequences": hash_sequences(sequences),
        "facts": dict(facts or {}),
    }
    schema = pa.schema(list(_TYPES.items()), metadata={"quantexp": json.dumps(meaning)})
    with (
        open_atomically(path) as part,
        pq.ParquetWriter(
            part,
            schema,
            compression="zstd",
            use_dictionary=["steps.list.element", "drawn_steps.list.element"],
            column_encoding={f"{name}.list.element": "DELTA_BINARY_PACKED" for name in ("ids", "drawn")},
            write_statistics=False,
            write_page_checksum=True,
        ) as writer,
        closing(model.distributions(sequences)) as parts,
    ):
        waiting: list[ReferenceRows] = []
        for _, of_sequence in groupby(parts, key=lambda part: part.sequence):
            waiting += [encode(part.logits, part.tokens) for part in of_sequence]
            if sum(map(len, waiting)) >= GROUP:
                writer.write_table(_table(ReferenceRows.join(waiting), schema))
                waiting = []
        if waiting:
            writer.write_table(_table(ReferenceRows.join(waiting), schema))


def compare(path: Path, model: Predictor, sequences: Sequence[TokenSequence]) -> TokenMeasures:
    """Measure a quant's pass: read the same sequences and measure how far it is from the baseline.

    Args:
        path: what `write_reference` wrote.
        model: the quant.
        sequences: the same as there, in the same order.

    Returns:
        Measures of every scored token of every sequence, in order.

    Raises:
        UserError: the file is missing or damaged, or it is of another vocabulary or other sequences.
        ValueError: see `Predictor.distributions`.
    """
    meaning = _meaning(path)
    if meaning["vocabulary"] != model.vocabulary.sha256:
        raise UserError(
            f"{path} holds distributions over another vocabulary than this model's; "
            "compare quants with a baseline of the same model."
        )
    if meaning["sequences"] != hash_sequences(sequences):
        raise UserError(f"{path} was made from other texts than these; delete it to have it made again.")
    places = _Places(path)
    with closing(model.distributions(sequences)) as parts:
        return TokenMeasures.join([measure(places.take(part.tokens), part.logits) for part in parts])


def read_baseline_scores(path: Path) -> TokenScores:
    """Return the baseline's scores of all scored tokens.

    Raises:
        UserError: the file is missing or damaged.
    """
    _meaning(path)
    groups = list(_groups(path))
    return TokenScores(np.concatenate([rows.top for rows in groups]), np.concatenate([rows.logprob for rows in groups]))


class _Places:
    """The file's places, from first to last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._groups = _groups(path)
        self._rows: ReferenceRows | None = None
        self._next = 0

    def take(self, actual: NDArray[np.int32]) -> ReferenceRows:
        """Return the next places, at which these tokens stand."""
        parts, wanted = [], actual.size
        while wanted:
            if self._rows is None or self._next == len(self._rows):
                self._rows, self._next = next(self._groups, None), 0
                if self._rows is None:
                    raise _damaged(self._path, "it ends too early")
            stop = min(self._next + wanted, len(self._rows))
            parts.append(self._rows.part(slice(self._next, stop)))
            wanted -= stop - self._next
            self._next = stop
        taken = ReferenceRows.join(parts)
        if not np.array_equal(taken.actual, actual):
            raise _damaged(self._path, "its tokens are not those of the text")
        return taken


def _table(rows: ReferenceRows, schema: pa.Schema) -> pa.Table:
    n, k = rows.drawn.shape
    strides = np.arange(n + 1) * k
    columns = []
    for name, kind in _TYPES.items():
        values = pa.array(getattr(rows, name).ravel())
        if name in _LISTS:
            offsets = rows.offsets if name in ("ids", "steps") else strides
            values = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
        columns.append(values.cast(kind))
    return pa.Table.from_arrays(columns, schema=schema)


def _meaning(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} is not there; the baseline's distributions must be written first.")
    try:
        metadata = pq.read_schema(path).metadata or {}
        meaning: dict[str, Any] = json.loads(metadata.get(b"quantexp", b"null"))
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    if meaning is None:
        raise UserError(f"{path} holds no distributions; delete it to have it made again.")
    if missing := {"format", "step", "vocabulary", "sequences", "facts"} - meaning.keys():
        raise _damaged(path, f"it does not say its {missing.pop()}")
    if (meaning["format"], meaning["step"]) != (FORMAT, STEP):
        raise UserError(f"{path} was written by another version of quantexp; delete it to have it made again.")
    return meaning


def _groups(path: Path) -> Iterator[ReferenceRows]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(pa.schema(list(_TYPES.items()))):
                raise _damaged(path, "its columns are not as they should be")
            for group in range(file.num_row_groups):
                yield _rows(file.read_row_group(group), path)
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def _rows(table: pa.Table, path: Path) -> ReferenceRows:
    columns = {name: table.column(name).combine_chunks() for name in _TYPES}
    arrays = {
        name: (column.values if name in _LISTS else column).to_numpy(zero_copy_only=False)
        for name, column in columns.items()
    }
    offsets = columns["ids"].offsets.to_numpy().astype(np.int64)
    if not np.array_equal(offsets, columns["steps"].offsets.to_numpy()) or arrays["drawn"].size % len(table):
        raise _damaged(path, "its columns do not fit together")
    for name in ("drawn", "drawn_steps"):
        arrays[name] = arrays[name].reshape(len(table), -1)
    return ReferenceRows(**arrays, offsets=offsets)


def _damaged(path: Path, why: object) -> UserError:
    reason = " ".join(str(why).split()).rstrip(".")
    return UserError(f"{path} is damaged ({reason}); delete it to have it made again.")
