"""From the columns of a data set to the fields of a task."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from quantexp.util.errors import UserError
from quantexp.util.terminal import one_line


def sources(fields: Iterable[str], columns: Mapping[str, Any], there: Collection[str] = ()) -> list[str]:
    """Return the top-level columns that the fields are made from.

    Args:
        fields: the fields that the task needs.
        columns: as for `rename_columns`.
        there: the columns that the data have; "a.b" is one of these before it is b inside a.
    """
    wanted = [columns.get(field, field) for field in dict.fromkeys([*fields, *columns])]
    paths = [str(path) for one in wanted if one is not None for path in (one if isinstance(one, list) else [one])]
    return list(dict.fromkeys(path if path in there else path.partition(".")[0] for path in paths))


def rename_columns(
    row: Mapping[str, Any], fields: Iterable[str], columns: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return the row under the task's names.

    Values that JSON does not have, such as dates and bytes, become text, except in the fields that the task needs: what
    these may hold is the task's to say.

    Args:
        row: one row of the data.
        fields: the fields that the task needs.
        columns: for a field, the column that holds it ("a.b" is b inside a, unless there is a column "a.b"; "a.0" the
            first of the list a), or a list of columns: their values in one list, lists among them opened, without
            repeats and blanks; or None, for a field that the row is not to have.
        where: what the data are called in an error.

    Raises:
        UserError: there is no such column; the sentence names all that are missing.
    """
    needed = list(fields)
    given = {field: column for field, column in columns.items() if column is not None}
    made = {
        field: _joined(row, column, where) if isinstance(column, list) else _value(row, str(column), where)
        for field, column in given.items()
    }
    taken = {*sources((), given, row), *(columns.keys() - given.keys())}
    kept = {column: value for column, value in row.items() if column not in taken or column in needed}
    missing = [field for field in needed if field not in made and field not in kept]
    if missing:
        several = len(missing) > 1
        raise UserError(
            f"{where} has no column{'s' * several} {', '.join(map(repr, missing))}; name the "
            f"{'ones that hold them' if several else 'one that holds it'}, as in "
            f"data.columns='{{{', '.join(f'{field}: COLUMN' for field in missing)}}}' "
            f"(its columns: {format_columns(row)})."
        )
    return {field: value if field in needed else _as_json_has_it(value) for field, value in (kept | made).items()}


def format_columns(columns: Iterable[str]) -> str:
    """Names of columns, as an error shows them."""
    return one_line(", ".join(map(str, columns)), 500)


def _value(row: Mapping[str, Any], path: str, where: str) -> Any:
    if path in row:
        return row[path]
    value: Any = row
    for key in path.split("."):
        if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
            continue
        if not isinstance(value, Mapping) or key not in value:
            raise UserError(
                f"data.columns names {one_line(path)}, which {where} has not (its columns: {format_columns(row)}); "
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
    # Lists and objects cannot be keys; whether they may be here is the task's to say.
    nested = {number: repr(value) for number, value in enumerate(kept) if isinstance(value, list | dict)}
    first: dict[Any, Any] = {}
    for number, value in enumerate(kept):
        first.setdefault((number in nested, nested.get(number, value)), value)
    return list(first.values())


def _as_json_has_it(value: Any) -> Any:
    """Return the value, with text for what JSON has no form of."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json_has_it(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json_has_it(each) for each in value]
    return str(value)
