"""`python -m quantexp.compare`: compare results that another harness has written, item by item."""

import re
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.config import CompareConfig, TrackingConfig
from quantexp.config.command_line import hydra_command
from quantexp.config.validation import validated
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    from quantexp.comparison.analysis import JobComparison

_KEYS = [field.name for field in fields(CompareConfig)]


def rewrite_words(arguments: Sequence[str]) -> list[str]:
    """Make the key `results` of the paths among the arguments, PATH or NAME=PATH; keys and flags stay.

    Raises:
        UserError: a word is neither a key nor a path.
    """
    paths = [each for each in arguments if not each.startswith("-") and not is_override(each)]
    for each in paths:
        _check_path(each)
    kept = [each for each in arguments if each not in paths]
    return [*kept, f"results=[{','.join(map(_quote, paths))}]"] if paths else kept


def is_override(word: str) -> bool:
    """Tell if a word sets a key of the command or of Hydra; one that is a file's name does not."""
    key = word.lstrip("+~").partition("=")[0]
    return not _exists(word) and (key.split(".")[0].split("/")[0] in {*_KEYS, "hydra"})


def _check_path(word: str) -> None:
    name, path = _split_name(word)
    if name and not _exists(path):
        close = get_close_matches(name, _KEYS, 1)
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


def _quote(word: str) -> str:
    """Quote a path, so that Hydra takes each of its characters as it is."""
    # Only backslashes before a quote, or at the end, mean something.
    escaped = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + ('\\"' if found[2] else ""), word)
    return f'"{escaped}"'


def _split_names(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the name and the path of each; what has no name of its own is named by its path.

    Raises:
        UserError: there are not two of them.
    """
    if len(words) < 2:
        raise UserError(
            "Name a baseline and another file or folder of results at least: python -m quantexp.compare BASELINE OTHER"
        )
    from quantexp.results.files import name_sources

    split = [_split_name(word) for word in words]
    places = [Path(path).expanduser().resolve() for _, path in split]
    for place, (_, path) in enumerate(split):
        if places[place] in places[:place]:
            raise UserError(f"{path} is given twice; compare with another file.")
    found = name_sources([path for _, path in split])
    return [(name or own, path) for (name, path), own in zip(split, found, strict=True)]


def _put_first(baseline: str, sources: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put the baseline first, if one is named.

    Raises:
        UserError: nothing is called so.
    """
    names = [name for name, _ in sources]
    if baseline and baseline not in names:
        raise UserError(f"stats.baseline={baseline}: no results are called so; choose one of {', '.join(names)}.")
    return sorted(sources, key=lambda source: source[0] != baseline) if baseline else sources


def _record(compared: "JobComparison", files: Sequence[Path], tracking: TrackingConfig) -> str:
    """Record the report in a run of its own, and return the command that shows it."""
    from quantexp.report.mlflow_pages import describe_comparison
    from quantexp.tracking.store import Store
    from quantexp.tracking.tags import FLIPS

    store = Store(tracking)
    with store.start("compare", "aggregate", None, {"results": compared.summary.title}) as run:
        run.log_files(files)
        run.log_items(compared.changed, FLIPS)
        describe_comparison(compared.summary, run)
    return store.browse


@hydra_command("quantexp.compare", lambda composed: validated(composed, CompareConfig), rewrite=rewrite_words)
def main(config: CompareConfig) -> None:
    """Entry point."""
    from quantexp.comparison.results_analysis import compare_results
    from quantexp.report import PAGE, write_report
    from quantexp.report.terminal import show
    from quantexp.results.base import Selection
    from quantexp.results.files import read_results

    selection = Selection(config.metric, config.filter, config.columns)
    sources = _put_first(config.stats.baseline, _split_names(config.results))
    results = [read_results(path, selection, name) for name, path in sources]
    compared = compare_results(results, config.stats)
    summary, folder = compared.summary, Path(config.out).expanduser()
    files = write_report(summary, folder, compared.changed, is_alone=True)
    browse = _record(compared, files, config.tracking) if config.mlflow else None
    show(summary, folder / PAGE, browse)
    if summary.refusals or summary.failures or not summary.comparisons:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
