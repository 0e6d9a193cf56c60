"""Words of a command that name results: PATH or NAME=PATH, the baseline first."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path

from quantexp.util.errors import UserError


def list_keys(schema: type) -> list[str]:
    """Return the keys at the top of a configuration."""
    return [field.name for field in fields(schema)]


def rewrite_words(arguments: Sequence[str], schema: type) -> list[str]:
    """Make the key `results` of the paths among the arguments, PATH or NAME=PATH; keys and flags stay.

    Raises:
        UserError: a word is neither a key nor a path.
    """
    return _rewrite_paths(arguments, schema, lambda paths: f"results=[{','.join(map(_quote, paths))}]")


def rewrite_file(arguments: Sequence[str], schema: type) -> list[str]:
    """Make the key `file` of the one path among the arguments; keys and flags stay.

    Raises:
        UserError: there are several, or a word is neither a key nor a path.
    """

    def name_file(paths: Sequence[str]) -> str:
        if len(paths) > 1:
            raise UserError(f"{' and '.join(paths)}: one file at a time.")
        return f"file={_quote(paths[0])}"

    return _rewrite_paths(arguments, schema, name_file)


def _rewrite_paths(arguments: Sequence[str], schema: type, name: Callable[[Sequence[str]], str]) -> list[str]:
    from quantexp.config.composition import replace_overrides  # Hydra, only now

    def rewrite(words: Sequence[str]) -> list[str]:
        paths = [each for each in words if not is_override(each, schema)]
        for each in paths:
            _check_path(each, schema)
        return [*(each for each in words if each not in paths), *([name(paths)] if paths else [])]

    return replace_overrides(arguments, rewrite)


def _quote(path: str) -> str:
    from hydra.core.override_parser.types import Quote

    from quantexp.config.composition import quote_value

    return quote_value(path, Quote.double)


def is_override(word: str, schema: type) -> bool:
    """Tell if a word sets a key of the command or of Hydra; one that is a file's name does not."""
    key = word.lstrip("+~").partition("=")[0]
    return not _exists(word) and (key.split(".")[0].split("/")[0] in {*list_keys(schema), "hydra"})


def _check_path(word: str, schema: type) -> None:
    name, path = _split_name(word)
    if name and not _exists(path):
        close = get_close_matches(name, list_keys(schema), 1)
        meant = f"did you mean {close[0]}?" if close else f"paths are relative to {Path.cwd()}."
        raise UserError(f"{word}: there is neither a file {path} nor a key {name}; {meant}")


def _split_name(word: str) -> tuple[str, str]:
    """Return the name and the path in a word; no name where the whole word is a path."""
    if _exists(word):
        return "", word
    parts = word.split("=")
    splits = [("=".join(parts[:place]), "=".join(parts[place:])) for place in range(1, len(parts))]
    return next((split for split in splits if _exists(split[1])), splits[0] if splits else ("", word))


def _exists(path: str) -> bool:
    return Path(path).expanduser().exists()


def split_names(words: Sequence[str], command: str) -> list[tuple[str, str]]:
    """Return the name and the path of each; what has no name of its own is named by its path.

    Raises:
        UserError: there are not two of them.
    """
    if len(words) < 2:
        raise UserError(
            f"Name a baseline and another file or folder of results at least: python -m {command} BASELINE OTHER"
        )
    from quantexp.comparison.results.files import name_sources  # pandas, only now

    split = [_split_name(word) for word in words]
    places = [Path(path).expanduser().resolve() for _, path in split]
    for place, (_, path) in enumerate(split):
        if places[place] in places[:place]:
            raise UserError(f"{path} is given twice; compare with another file.")
    found = name_sources([path for _, path in split])
    return [(name or own, path) for (name, path), own in zip(split, found, strict=True)]


def put_first(baseline: str, sources: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put the baseline first, if one is named.

    Raises:
        UserError: nothing is called so.
    """
    names = [name for name, _ in sources]
    if baseline and baseline not in names:
        raise UserError(f"stats.baseline={baseline}: no results are called so; choose one of {', '.join(names)}.")
    return sorted(sources, key=lambda source: source[0] != baseline) if baseline else sources
