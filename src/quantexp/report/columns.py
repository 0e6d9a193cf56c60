"""Columns of tables: what people read of a row, and the value behind it; each format chooses those that it shows."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")

Cell = str | tuple[str, ...]
"""A text, or a figure and what belongs to it, such as its interval, which a format puts beside or below each other."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    Attributes:
        key: Its name in a file, by which formats choose it.
        value: What a file holds of a row, at full precision; None if no file has the column.
        name: Its heading for people; empty if only files have the column.
        text: What people read of a row; None if that is the value.
        side: Where it is aligned: l or r.
    """

    key: str
    value: Callable[[Row], object] | None = None
    name: str = ""
    text: Callable[[Row], Cell] | None = None
    side: str = "r"

    def read(self, row: Row) -> Cell:
        """Return what people read of a row."""
        if self.text is not None:
            return self.text(row)
        return "" if self.value is None else str(self.value(row))


def list_attributes(of: Callable[[Row], object], *names: str, prefix: str = "") -> list[Column[Row]]:
    """Return a column for files alone of each attribute of what a row has, under its name; empty where it has none."""

    def read(name: str) -> Callable[[Row], object]:
        return lambda row: getattr(found, name) if (found := of(row)) is not None else None

    return [Column(prefix + name, read(name)) for name in names]


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        header: Names of the columns.
        sides: Where each column is aligned: l or r.
        rows: Cells, as many in each row as there are columns.
    """

    header: tuple[str, ...]
    sides: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class DataTable(Generic[Row]):
    """All columns of a table, of which each format shows some; a row each of what they are read of."""

    columns: Sequence[Column[Row]]
    rows: Sequence[Row]

    def show(self, *keys: str) -> Grid:
        """Return the columns with these keys, in their order, as people read them; without keys all with a heading."""
        columns = choose(self.columns, *keys) if keys else [each for each in self.columns if each.name]
        return Grid(
            tuple(column.name for column in columns),
            "".join(column.side for column in columns),
            tuple(tuple(join_cell(column.read(row)) for column in columns) for row in self.rows),
        )

    def format_csv(self) -> str:
        """Return the columns that have a value, under a header; floats have full precision, None is an empty cell."""
        values = {column.key: column.value for column in self.columns if column.value is not None}
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(values)
        writer.writerows([value(row) for value in values.values()] for row in self.rows)
        return out.getvalue()


def choose(columns: Iterable[Column[Row]], *keys: str) -> list[Column[Row]]:
    """Return the columns with these keys, in the order of the keys."""
    by_key = {column.key: column for column in columns}
    return [by_key[key] for key in keys]


def omit_nan(value: float) -> float | None:
    """Return what a file holds of a figure: nothing if it is not known."""
    return None if math.isnan(value) else value


def join_cell(cell: Cell) -> str:
    """Return the text of a cell on one line."""
    return cell if isinstance(cell, str) else " ".join(cell)
