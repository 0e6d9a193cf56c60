"""Tables: as CSV, where a column is a name and what it shows of a row, and as text."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Row = TypeVar("Row")


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


def format_csv(columns: Mapping[str, Callable[[Row], object]], rows: Iterable[Row]) -> str:
    """Return the rows under a header; floats have full precision, None is an empty cell."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([value(row) for value in columns.values()] for row in rows)
    return out.getvalue()
