"""A job's scores without the texts: what a comparison reads of each run, some kilobytes instead of a megabyte.

Many runs ask the same items, so that what was asked is held once for all of them. Texts are needed only to be told
apart: each is held as a hash of 64 bits, so that ten million answers fit into memory. Two that differ have the same one
with a probability of 2**-64.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from quantexp.tracking.tags import CATEGORY, FIELD, LENGTHS, OUTCOME, PLACE

SCORES = "scores.arrow"
"""Name of the file: Arrow's IPC format, which is read ten times as fast as Parquet where tables are small."""

_NEEDED = ("item_id", "cluster", "score")
_ASKED = ("item_id", "cluster", "sample", "difficulty", CATEGORY, PLACE)
_KEPT = {*_ASKED, *_NEEDED, "extracted", "grading_error"}

FACTS = b"quantexp.run"
"""Key in the file's schema under which JSON, compressed, says what the run is."""

_LONGEST = 1 << 24
"""Bytes of that JSON; a run has some kilobytes of it."""

NOTHING = np.uint64(0)
"""Stands for a gap where hashes of texts do; no text has it."""


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """Questions of a run, in order; runs that asked the same in the same order share one.

    Attributes:
        items: id of each answer's item, shape (m,), among the categories of all tables that were read together.
        clusters: what the answers to items that ask the same share, likewise.
        samples: number of each answer among those to its item, shape (m,); None where the table does not say.
        difficulty: of each answer's item, shape (m,), NaN where it has none; None where no item has.
        words: of each answer's item, shape (m,), its category and place, by the name of the column; None where it has
            none; without what no item has.
        index: the items, each once, in the order in which they were asked.
        places: of each answer its item in `index`; None where every item has one answer.
        of_item: the cluster of each item.
    """

    items: NDArray[np.int32]
    clusters: NDArray[np.int32]
    samples: NDArray[np.int64] | None
    difficulty: NDArray[np.float64] | None
    words: Mapping[str, NDArray[np.object_]]
    index: pd.Index
    places: NDArray[np.intp] | None
    of_item: Mapping[str, str]

    @property
    def item_ids(self) -> pd.Index:
        """Id of each answer's item, shape (m,)."""
        return self.index if self.places is None else self.index[self.places]


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """Outcomes of a run's answers: arrays of shape (m,).

    Attributes:
        score: NaN where the item could not be asked.
        fields: the score of each field, by the name of its column.
        read: a hash of what the grader read, `NOTHING` where it read nothing; None where the table does not say.
        misread: a hash of the reading error, likewise.
        outcomes: what an answer is besides right or wrong, and its lengths, by the name of the column; an outcome that
            none of them has is left out.
        shared: the names behind the numbers of items and clusters.
    """

    asked: Asked
    score: NDArray[np.float64]
    fields: Mapping[str, NDArray[np.float64]]
    read: NDArray[np.uint64] | None
    misread: NDArray[np.uint64] | None
    shared: "Names"
    outcomes: Mapping[str, NDArray[np.float32]]

    @property
    def item_scores(self) -> "pd.Series[float]":
        """The score of each item, the mean over its samples, in the order in which they were asked."""
        if self.asked.places is None:
            return pd.Series(self.score, index=self.asked.index, name="score")
        means = pd.Series(self.score).groupby(self.asked.places).mean().to_numpy()
        return pd.Series(means, index=self.asked.index, name="score")


class Names:
    """Names as numbers, in the order in which they first came."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def numbers(self, names: list[str]) -> NDArray[np.int32]:
        """Return the number of each; new ones get the next."""
        known = self._numbers
        return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int32)

    @property
    def all(self) -> list[str]:
        """The names, by number."""
        return list(self._numbers)


class ScoreTables:
    """Tables of scores that are read together, and what they share. For one thread."""

    def __init__(self) -> None:
        self._names = Names()
        self._asked: dict[bytes, Asked] = {}
        self._clusters: dict[frozenset[tuple[str, str]], Mapping[str, str]] = {}
        self._gaps: dict[int, NDArray[np.uint64]] = {}

    def answers(self, table: pa.Table) -> Answers:
        """Return the answers in a table that `read_scores` has read."""
        asked = self._what(table.select([name for name in _ASKED if name in table.column_names]))
        return Answers(
            asked=asked,
            score=_floats(table["score"]),
            fields={name: _floats(table[name]) for name in table.column_names if name.startswith(FIELD)},
            read=self._hashes(table, "extracted"),
            misread=self._hashes(table, "grading_error"),
            shared=self._names,
            outcomes={
                name: _floats(table[name]).astype(np.float32) for name in table.column_names if name.startswith(OUTCOME)
            },
        )

    def _what(self, columns: pa.Table) -> Asked:
        content = columns.combine_chunks().replace_schema_metadata(None)
        key = hashlib.sha256()
        for batch in content.to_batches():
            key.update(batch.serialize())
        known = self._asked.get(key.digest())
        if known is None:
            known = self._asked[key.digest()] = self._new(content)
        return known

    def _new(self, columns: pa.Table) -> Asked:
        items, clusters = columns["item_id"].to_pylist(), columns["cluster"].to_pylist()
        of_item = dict(zip(items, clusters, strict=True))
        places, unique = pd.factorize(np.array(items, dtype=np.object_))
        said = columns.column_names
        rated = "difficulty" in said and columns["difficulty"].null_count < len(items)
        return Asked(
            items=self._names.numbers(items),
            clusters=self._names.numbers(clusters),
            samples=columns["sample"].to_numpy() if "sample" in said else None,
            difficulty=_floats(columns["difficulty"]) if rated else None,
            words={name: _texts(columns[name]) for name in (CATEGORY, PLACE) if name in said},
            index=pd.Index(unique, dtype="str", name="item_id"),
            places=None if len(unique) == len(items) else places,
            of_item=self._clusters.setdefault(frozenset(of_item.items()), of_item),
        )

    def _hashes(self, table: pa.Table, name: str) -> NDArray[np.uint64] | None:
        if name not in table.column_names:
            return None
        column = table[name]
        if column.null_count == len(column):
            return self._gaps.setdefault(len(column), np.full(len(column), NOTHING))
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            column = pa.chunked_array([pa.array([None if each is None else str(each) for each in column.to_pylist()])])
        texts = pc.fill_null(column, "").to_numpy()
        hashed = pd.util.hash_array(texts, categorize=False)
        if column.null_count:
            hashed = np.where(column.is_null().to_numpy(), NOTHING, hashed)
        return hashed


def replace_scores(answers: Answers, table: pd.DataFrame) -> Answers:
    """Return a run's answers as a per-item table of the same answers has them, which were graded again."""
    return replace(ScoreTables().answers(_select(table)), asked=answers.asked, shared=answers.shared)


def write_scores(table: pd.DataFrame, path: Path) -> None:
    """Write what a comparison needs of a per-item table.

    Args:
        table: in the order in which it was asked.
        path: of the file.

    Raises:
        OSError: the file cannot be written.
    """
    _write(_select(table), path)


def _select(table: pd.DataFrame) -> pa.Table:
    # One that no answer has is left out, but for the one by which a reader knows that outcomes were recorded.
    outcomes = [
        str(name) for name in table if str(name).startswith(OUTCOME) and (table[name].any() or str(name) == LENGTHS[-1])
    ]
    kept = [str(name) for name in table if name in _KEPT or str(name).startswith(FIELD) or name in outcomes]
    narrow = table[kept].astype(dict.fromkeys(outcomes, np.float32))
    return pa.Table.from_pandas(narrow, preserve_index=False).replace_schema_metadata(None)


def add_facts(source: Path, path: Path, facts: Mapping[str, Any]) -> None:
    """Write such a file again, with what it says of the run besides, as JSON has it.

    Raises:
        OSError: a file cannot be read or written.
    """
    content = read_scores(source.read_bytes(), source.name)
    _write(content.replace_schema_metadata({FACTS: zlib.compress(json.dumps(facts).encode())}), path)


def _write(content: pa.Table, path: Path) -> None:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, content.schema, options=options) as writer:
        writer.write_table(content, max_chunksize=max(len(content), 1))


def read_scores(content: bytes, name: str) -> pa.Table:
    """Return the same columns again, from the content of such a file or of a whole per-item table (.parquet).

    Raises:
        OSError, ValueError: the content is damaged, or lacks a column.
    """
    if name.endswith(".parquet"):
        with parquet.ParquetFile(pa.BufferReader(content)) as file:
            names = [name for name in file.schema_arrow.names if name in _KEPT or name.startswith((FIELD, OUTCOME))]
            table = file.read(columns=names, use_threads=False)
    else:
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    missing = [name for name in _NEEDED if name not in table.column_names]
    if missing:
        raise ValueError(f"it has no column {missing[0]}")
    for name in ("item_id", "cluster"):
        if table[name].null_count or not (
            pa.types.is_string(table[name].type) or pa.types.is_large_string(table[name].type)
        ):
            raise ValueError(f"its column {name} is not all text")
    if np.isinf(_floats(table["score"])).any():
        raise ValueError("a score is infinite")
    return table


def read_facts(table: pa.Table) -> dict[str, Any]:
    """Return what a file that `read_scores` has read says of its run: its name and tags.

    Raises:
        ValueError: nothing, or nothing readable.
    """
    try:
        told = dict(json.loads(zlib.decompressobj().decompress((table.schema.metadata or {})[FACTS], _LONGEST)))
    except (KeyError, TypeError, RecursionError, zlib.error) as error:
        raise ValueError("it says nothing of its run") from error
    if not isinstance(told.get("tags"), dict):
        raise ValueError("it says nothing of its run")
    return told


def answer_frame(conditions: Mapping[str, Sequence[tuple[int, Answers]]]) -> Iterator[pd.DataFrame]:
    """Yield the answers of the runs of each condition of a task, one per row, as `report.flips` takes them.

    Items and clusters are categories, the same ones for all conditions; what was read and the reading error are numbers
    that stand for texts; `row` is the place among the answers of the condition.

    Args:
        conditions: for each the seed and the answers of its runs.
    """
    every = [answers for runs in conditions.values() for _, answers in runs]
    asked = {id(answers.asked): answers.asked for answers in every}.values()
    known = np.unique(np.concatenate([np.append(each.items, each.clusters) for each in asked]))
    names = every[0].shared.all
    categories = pd.CategoricalDtype([names[number] for number in known])
    codes = {
        id(each): tuple(np.searchsorted(known, numbers) for numbers in (each.items, each.clusters)) for each in asked
    }
    for runs in conditions.values():
        of_run = [codes[id(answers.asked)] for _, answers in runs]
        items, clusters = (np.concatenate([each[side] for each in of_run]) for side in (0, 1))
        columns: dict[str, Any] = {
            "seed": np.concatenate([np.full(len(answers.score), seed) for seed, answers in runs]),
            "item_id": pd.Categorical.from_codes(items, dtype=categories),
            "cluster": pd.Categorical.from_codes(clusters, dtype=categories),
            "score": np.concatenate([answers.score for _, answers in runs]),
        }
        optional: dict[str, list[NDArray[Any] | None]] = {
            "sample": [answers.asked.samples for _, answers in runs],
            "extracted": [answers.read for _, answers in runs],
            "grading_error": [answers.misread for _, answers in runs],
        }
        for name, parts in optional.items():
            there = [part for part in parts if part is not None]
            if len(there) == len(parts):  # whoever needs the column will miss it by name
                columns[name] = np.concatenate(there)
        rated = [{} if (each := answers.asked.difficulty) is None else {"difficulty": each} for _, answers in runs]
        recorded = [answers.outcomes for _, answers in runs]
        gapped: list[tuple[Sequence[Mapping[str, NDArray[Any]]], object]] = [
            (rated, np.nan),
            ([answers.asked.words for _, answers in runs], None),
            ([answers.fields for _, answers in runs], np.nan),
            # Of earlier versions nothing is known; of others an outcome that is missing is one that no answer has.
            (recorded if all(recorded) else [], np.float32(0)),
        ]
        for of_runs, gap in gapped:
            for name in dict.fromkeys(name for each in of_runs for name in each):
                both = zip(of_runs, runs, strict=True)
                columns[name] = np.concatenate(
                    [each.get(name, np.full(len(answers.score), gap)) for each, (_, answers) in both]
                )
        yield pd.DataFrame(columns | {"row": np.arange(len(columns["score"]))})


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    found: Any = column.cast(pa.float64()).to_numpy()
    return np.asarray(found, dtype=np.float64)


def _texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    return np.array([None if each is None else str(each) for each in column.to_pylist()], dtype=np.object_)
