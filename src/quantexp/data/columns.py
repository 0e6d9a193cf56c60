"""From the columns of a data set to the fields of a task."""

from collections.abc import Iterable, Mapping
from typing import Any

from quantexp.errors import UserError


def sources(fields: Iterable[str], columns: Mapping[str, Any]) -> list[str]:
    """The top-level columns that the fields are made from."""
    wanted = [columns.get(field, field) for field in dict.fromkeys([*fields, *columns])]
    paths = [path for one in wanted for path in (one if isinstance(one, list) else [one])]
    return list(dict.fromkeys(str(path).partition(".")[0] for path in paths))


def named(row: Mapping[str, Any], fields: Iterable[str], columns: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The row under the task's names.

    Args:
        row: one row of the data.
        fields: the fields that the task needs.
        columns: for a field, the column that holds it ("a.b" is b inside a), or a list of columns: their values in
            one list, lists among them opened, without repeats and blanks.
        where: what the data are called in an error.

    Raises:
        UserError: there is no such column.
    """
    made = {
        field: _joined(row, column, where) if isinstance(column, list) else _value(row, str(column), where)
        for field, column in columns.items()
    }
    needed = set(fields)
    taken = set(sources((), columns))
    kept = {column: value for column, value in row.items() if column not in taken or column in needed}
    for field in needed - made.keys() - kept.keys():
        raise UserError(
            f"{where} has no column {field!r}; name the one that holds it, as in data.columns='{{{field}: COLUMN}}' "
            f"(its columns: {', '.join(map(str, row))})."
        )
    return kept | made


def _value(row: Mapping[str, Any], path: str, where: str) -> Any:
    value: Any = row
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            raise UserError(
                f"data.columns names {path}, which {where} has not (its columns: {', '.join(map(str, row))}); "
                "correct the name."
            )
        value = value[key]
    return value


def _joined(row: Mapping[str, Any], paths: Iterable[object], where: str) -> list[Any]:
    values: list[Any] = []
    for path in paths:
        value = _value(row, str(path), where)
        values += value if isinstance(value, list) else [value]
    kept = [value for value in values if value is not None and value != "" and not str(value).isspace()]
    return list(dict.fromkeys(kept))
