"""Tables as CSV: a column is a name and what it shows of a row."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Row = TypeVar("Row")


def csv_of(columns: Mapping[str, Callable[[Row], object]], rows: Iterable[Row]) -> str:
    """The rows under a header; floats have full precision, None is an empty cell."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([value(row) for value in columns.values()] for row in rows)
    return out.getvalue()
