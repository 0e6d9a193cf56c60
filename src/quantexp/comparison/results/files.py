"""Files and folders of results: what they are, and all that is in them."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from quantexp.comparison.results import lighteval, llama_eval, lm_eval, nemo_evaluator
from quantexp.comparison.results.base import Results, Selection, TaskResults, begins_with, hash_files, hash_text
from quantexp.comparison.results.tables import read_frame, read_table
from quantexp.tasks.data.files import read_rows
from quantexp.util.errors import UserError

TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
"""Ends of the names of tables; text may be packed as .gz too."""

_DATED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}-\d{2}")
"""In the names that harnesses give their files, which say nothing of the condition."""


def read_results(source: "str | Path | pd.DataFrame", selection: Selection, name: str) -> Results:
    """Read all that a file, a folder or a data frame holds.

    Args:
        source: the path, or the frame itself.
        selection: which scores.
        name: of the condition, for sentences.

    Raises:
        UserError: it is not there, cannot be read, or holds no results.
    """
    if isinstance(source, pd.DataFrame):
        digest = hash_text(str(pd.util.hash_pandas_object(source.astype(str)).tolist()))
        return Results(name, tuple(read_frame(source, selection, name)), digest)
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(f"{source}: there is no such file or folder; paths are relative to {Path.cwd()}.")
    return _read_folder(path, selection, name) if path.is_dir() else _read_file(path, selection, name)


def _read_folder(folder: Path, selection: Selection, name: str) -> Results:
    samples, notes = lm_eval.choose_files(folder, f"{name}={folder}")
    if samples:
        return _make_results(name, *lm_eval.read_samples(samples, selection, name), notes)
    if details := lighteval.choose_details(folder, f"{name}={folder}"):
        return _make_results(name, *lighteval.read_details(details, selection, name))
    if results := nemo_evaluator.find_results(folder, name):
        return _read_nemo(results, selection, name)
    logs = [*folder.rglob("*.eval"), *(path for path in folder.rglob("*.json") if is_log(path))]
    if logs:
        return _read_logs(logs, selection, name)
    if states := [path for path in sorted(folder.iterdir()) if llama_eval.is_state(path)]:
        return _read_states(states, selection, name)
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLES]
    if len(tables) == 1:
        return _read_file(tables[0], selection, name)
    nemo_evaluator.check_sums(folder, name)
    raise UserError(
        f"{name}={folder} holds no results that are known: samples_*.jsonl of lm-evaluation-harness (--log_samples), "
        "details of lighteval, logs of Inspect, results.jsonl of NeMo Evaluator, states of llama-eval, or one table."
    )


def _read_file(path: Path, selection: Selection, name: str) -> Results:
    if path.suffix == ".eval" or is_log(path):
        return _read_logs([path], selection, name)
    if llama_eval.is_state(path):
        return _read_states([path], selection, name)
    if nemo_evaluator.is_bundle(path):
        return _read_nemo([nemo_evaluator.find_beside(path, name)], selection, name)
    if path.suffix == ".json" and path.name.startswith("results") and (beside := _find_samples(path)):
        return _make_results(name, *lm_eval.read_samples(beside, selection, name))
    rows = read_rows(str(path), name)
    if lm_eval.is_sample(rows[0]):
        return _make_results(name, *lm_eval.read_samples([lm_eval.parse_name(path)], selection, name))
    if lighteval.is_detail(rows[0]):
        return _make_results(name, *lighteval.read_details([path], selection, name))
    if nemo_evaluator.is_result(rows[0]):
        return _read_nemo([path], selection, name)
    return _make_results(name, read_table(rows, selection, name, "items"), [], [path])


def _find_samples(path: Path) -> list[lm_eval.SampleFile]:
    """Find the samples of the run that a file of results describes."""
    date = path.stem.removeprefix("results").removeprefix("_")
    found = map(lm_eval.parse_name, sorted(path.parent.glob(lm_eval.PATTERN)))
    return [each for each in found if each.date == date and each.task is not None]


def _read_logs(paths: Sequence[Path], selection: Selection, name: str) -> Results:
    from quantexp.comparison.results.inspect_logs import read_logs

    return _make_results(name, *read_logs(paths, selection, name))


def _read_nemo(paths: Sequence[Path], selection: Selection, name: str) -> Results:
    tasks, files, notes = nemo_evaluator.read_runs(paths, selection, name)
    return _make_results(name, tasks, [], files, notes)


def _read_states(paths: Sequence[Path], selection: Selection, name: str) -> Results:
    tasks, left_out = llama_eval.read_states(paths, selection, name)
    return _make_results(name, tasks, left_out, paths)


def _make_results(
    name: str, tasks: Iterable[TaskResults], left_out: Iterable[str], files: Sequence[Path], notes: Iterable[str] = ()
) -> Results:
    return Results(name, tuple(tasks), hash_files(files), tuple(left_out), tuple(notes))


def is_log(path: Path) -> bool:
    """Tell if a JSON file is a log of Inspect, by its first keys."""
    return begins_with(path, "eval", "status", "version")


def name_sources(paths: Sequence[str]) -> list[str]:
    """Name each path by as much of its end as tells it from the others.

    Files whose names are a harness's own are named by their folder, if that is enough.
    """
    places = [Path(path).expanduser().absolute() for path in paths]
    plain = [_plain_parts(place) for place in places]
    short = [parts[:-1] if _DATED.search(parts[-1]) and len(parts) > 1 else parts for parts in plain]
    parts = short if len(set(map(tuple, short))) == len(short) else plain
    while min(map(len, parts)) > 1 and len({each[-1] for each in parts}) == 1 and len(parts) > 1:
        parts = [each[:-1] for each in parts]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-depth:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(each) for each in parts]


def _plain_parts(place: Path) -> list[str]:
    """Return the parts of a path below the root, without the end of a file's name."""
    stem = place.name
    if not place.is_dir():
        for ending in (".gz", ".eval", *TABLES):
            stem = stem.removesuffix(ending)
    return [*place.parts[1:-1], stem]
