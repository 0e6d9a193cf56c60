"""Rows of a file on this machine."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quantexp.tasks.data.formats import TEXT_READERS, check_columns, decode
from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line

DEEPEST = 100
"""Levels of lists and objects in one row; Python's own functions give up at some hundreds."""

_SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
_ARCHIVES = (".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz")


def read_rows(name: str, key: str, hint: str = "") -> list[dict[str, Any]]:
    """Read the rows of a JSON, JSONL, CSV, TSV or Parquet file; a .txt or .raw file is one row with a column "text".

    Text files may end in .gz too. In a CSV file an empty cell is null, and a cell that is a JSON list is that list;
    every other cell is text.

    Args:
        name: the file; the end of its name says what it is.
        key: what it is called on the command line.
        hint: what to do where it is not there; ends the sentence.

    Raises:
        UserError: there is no such file, or it is not what its name says; the sentence says where.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{key}={name} is not a file; {hint or f'give a path, absolute or relative to {Path.cwd()}'}.")
    is_packed = path.suffix.lower() == ".gz"
    ending = (Path(path.stem) if is_packed else path).suffix.lower()
    if ending not in TEXT_READERS and (ending != ".parquet" or is_packed):
        raise UserError(f"{key}={name}: {_cure(ending)}.")
    try:
        if ending == ".parquet":
            rows = list(_read_parquet(path))
        else:
            content = gzip.decompress(path.read_bytes()) if is_packed else path.read_bytes()
            rows = list(TEXT_READERS[ending](decode(content), path))
    except UnicodeDecodeError as error:
        encoding = error.encoding.upper()
        raise UserError(
            f"{key}={name} is not {encoding} text (byte {error.start}: {error.reason}); convert it to UTF-8."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{key}={name} is not a whole gzip file ({error}); make it again.") from error
    except ValueError as error:  # json's, csv's and pyarrow's errors are, or are made to be
        raise UserError(f"{key}={name}: {one_line(str(error)).rstrip('.')}.") from error
    for number, row in enumerate(rows, start=1):
        if _is_deep(row):
            raise UserError(f"{key}={name}: row {number} is nested more than {DEEPEST} levels deep; make it flatter.")
    if not rows:
        raise UserError(f"{key}={name} has no rows.")
    return rows


def _cure(ending: str) -> str:
    if ending in _SPREADSHEETS:
        return "a spreadsheet is not read as it is; save its sheet as CSV (UTF-8), and give that file"
    if ending in _ARCHIVES or ending == ".parquet":
        return "it is packed; unpack it, and give the file that was in it"
    endings = ", ".join([*TEXT_READERS, ".parquet"])
    return f"the file's name must end in one of {endings}; all but the last may end in .gz too"


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    # Only now: pyarrow is a heavy import, and most data are text.
    import pyarrow
    from pyarrow import parquet

    try:
        check_columns(parquet.read_schema(path).names)
        yield from parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's; those of a damaged file have none
            raise
        raise ValueError(f"it is not a whole Parquet file ({str(error).splitlines()[0].rstrip('.')})") from error


def _is_deep(row: dict[str, Any]) -> bool:
    """Return whether it is nested too deeply to be worked with."""
    inside: list[Any] = [row]
    for _ in range(DEEPEST):
        inside = [
            each
            for one in inside
            for each in (one.values() if isinstance(one, dict) else one)
            if isinstance(each, list | dict)
        ]
        if not inside:
            return False
    return True
