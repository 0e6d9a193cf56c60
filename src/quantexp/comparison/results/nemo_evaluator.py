"""Results of NeMo Evaluator 0.3: a folder a benchmark with `results.jsonl`, and the bundle `eval-*.json` of its run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

from quantexp.comparison.results.base import (
    Selection,
    TaskResults,
    as_text,
    check_choice,
    check_model,
    choose,
    describe_choice,
    hash_text,
    look_up,
    make_table,
    read_number,
    read_own_rows,
    read_score,
    read_summary,
)
from quantexp.tasks.data.files import read_rows
from quantexp.util.errors import UserError

FORMAT = "NeMo Evaluator"

RESULTS, BUNDLES = "results.jsonl", "eval-*.json"

OLD = "results.yml"
"""What versions before 0.3 write: scores of whole tasks alone."""

REWARD = "reward"
"""The score that a benchmark gives; those of further scorers have their names."""

_SCORER = "scorer:"

_BROKEN = ("infra_error", "system")
"""Categories of errors in which the endpoint or the harness failed, and no model answered."""

_OF_A_RUN = {"benchmark", "model", "base_url", "repeats", "max_problems", "shuffle", "shuffle_seed", "scorers"}
"""Keys of a run's configuration that are no setting of generation."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Run:
    """Results of a benchmark, and what its bundle says of the run.

    Attributes:
        files: that were read.
    """

    path: Path
    rows: Sequence[Row]
    bundle: Mapping[str, Any]
    files: tuple[Path, ...]

    @property
    def task(self) -> str:
        """Name of the benchmark: the bundle's, else that in the rows, else the folder's."""
        named = look_up(self.bundle, "benchmark", "name") or look_up(self.rows[0], "metadata", "benchmark")
        return str(named or self.path.parent.name)

    @property
    def metrics(self) -> list[str]:
        """Scores of single answers: the reward, then further scorers."""
        rewards = [each for row in self.rows if isinstance(each := row.get("scorer_rewards"), dict)]
        there = {key: None for each in rewards for key in each}
        return [REWARD, *(key.removeprefix(_SCORER) for key in there)]


def is_result(row: Row) -> bool:
    """Tell if a row is one of NeMo Evaluator's results."""
    return {"problem_idx", "repeat", REWARD, "model_response"} <= row.keys()


def is_bundle(path: Path) -> bool:
    """Tell if a JSON file is the bundle of a run."""
    if path.suffix != ".json" or not path.name.startswith("eval-"):
        return False
    bundle = read_summary(path)[0]
    return "run_id" in bundle and isinstance(bundle.get("benchmark"), dict)


def find_results(folder: Path, name: str) -> list[Path]:
    """Find the files of results in a folder of output."""
    return [path for path in sorted(folder.rglob(RESULTS)) if is_result(read_rows(str(path), name)[0])]


def find_beside(bundle: Path, name: str) -> Path:
    """Return the results that a bundle sums up.

    Raises:
        UserError: they are not there.
    """
    if not (path := bundle.parent / RESULTS).is_file():
        raise UserError(f"{name}={bundle} has sums alone; {RESULTS}, which has the answers, must be beside it.")
    return path


def check_sums(folder: Path, name: str) -> None:
    """Refuse a folder in which there are scores of whole tasks alone.

    Raises:
        UserError: it is one.
    """
    if (old := next(folder.rglob(OLD), None)) is not None:
        raise UserError(
            f"{name}={old} has the scores of whole tasks alone, as NeMo Evaluator wrote them before version 0.3: there "
            "is no answer to compare; run it again with 0.3 or newer."
        )
    if (bundle := next(folder.rglob(BUNDLES), None)) is not None and is_bundle(bundle):
        find_beside(bundle, name)


def read_runs(
    paths: Sequence[Path], selection: Selection, name: str
) -> tuple[list[TaskResults], list[Path], list[str]]:
    """Read files of results, of each benchmark the newest.

    Args:
        paths: of the files `results.jsonl`.
        selection: which scores.
        name: of the condition, for sentences.

    Returns:
        The tasks, the files that count, and sentences on the choice.

    Raises:
        UserError: one cannot be read, they are of several models or of a part of a run, or none has what is asked for.
    """
    newest: dict[str, _Run] = {}
    several: dict[str, None] = {}
    runs = sorted((_read_run(path, name) for path in paths), key=lambda run: str(run.bundle.get("timestamp", "")))
    check_model((str(model) for run in runs if (model := look_up(run.bundle, "config", "model")) is not None), name)
    for run in runs:
        if run.task in newest:
            several[run.task] = None
        newest[run.task] = run
    notes = [f"{name} has several runs of {', '.join(several)}: the newest of each counts."] if several else []
    check_choice("metric", selection.metric, [run.metrics for run in newest.values()], name)
    tasks = [_read_task(run, selection, name) for run in newest.values()]
    return tasks, [file for run in newest.values() for file in run.files], notes


def _read_run(path: Path, name: str) -> _Run:
    rows = read_own_rows(path, name, is_result, f"results of {FORMAT}")
    bundles = [read_summary(each) for each in path.parent.glob(BUNDLES)]
    bundle, files = max(bundles, key=lambda each: str(each[0].get("timestamp", "")), default=({}, []))
    if look_up(bundle, "config", "shard") is not None:
        raise UserError(f"{name}={path} is a part of a run; put its parts together first, by nel eval merge.")
    return _Run(path, rows, bundle, (path, *files))


def _read_task(run: _Run, selection: Selection, name: str) -> TaskResults:
    metric = choose(selection.metric, run.metrics)
    where = f"{run.task} of {name}"
    size = look_up(run.bundle, "config", "shuffle", "ds_full_size")
    return TaskResults(
        task=run.task,
        is_named=True,
        format=FORMAT,
        metric=metric,
        table=make_table([_read_row(row, metric, where) for row in run.rows], where, metric),
        facts={"metric": metric},
        settings=dict(_list_settings(run.bundle)),
        notes=(*describe_choice("metric", metric, run.metrics, selection.metric), *_describe_broken(run.rows)),
        items_in_data=size if isinstance(size, int) else None,
    )


def _read_row(row: Row, metric: str, where: str) -> dict[str, Any]:
    prompt, expected = as_text(row.get("prompt")), as_text(row.get("expected_answer"))
    question = look_up(row, "metadata", "question")
    problem = f"{where} has no number as {metric} of problem {row['problem_idx']}."
    return {
        "id": str(row["problem_idx"]),
        "document": None if prompt is None else hash_text(json.dumps([prompt, expected])),
        "question": question if isinstance(question, str) else None,
        "prompt_key": prompt,
        "sample": read_number(row.get("repeat"), "repeat", where),
        "score": nan if _is_broken(row) else read_score(_find_reward(row, metric), problem),
        "output": as_text(row.get("model_response")),
        "extracted": as_text(row.get("extracted_answer")),
        "reference": expected,
        "prompt": prompt,
    }


def _find_reward(row: Row, metric: str) -> object:
    """Return an answer's score; of a further scorer that failed, none."""
    if metric == REWARD:
        return row[REWARD]
    details = look_up(row, "scoring_details", _SCORER + metric)
    if look_up(details, "error") is not None:
        return nan
    return look_up(row, "scorer_rewards", _SCORER + metric)


def _is_broken(row: Row) -> bool:
    """Tell if an answer has a reward of 0 because something else than the model failed."""
    details = row.get("scoring_details")
    return look_up(details, "error_category") in _BROKEN or look_up(details, "judge", "error") is not None


def _describe_broken(rows: Sequence[Row]) -> Iterator[str]:
    if broken := sum(map(_is_broken, rows)):
        yield (
            f"{broken} of {len(rows)} answers have no score, because the endpoint, the harness or the judge failed; "
            "NeMo Evaluator counts them as wrong"
        )


def _list_settings(bundle: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "sdk_version" in bundle:
        yield "version of the harness", str(bundle["sdk_version"])
    config = bundle.get("config")
    given = config if isinstance(config, dict) else {}
    chosen = {key: value for key, value in given.items() if not key.startswith(("_", "shard")) and value is not None}
    if settings := {key: value for key, value in chosen.items() if key not in _OF_A_RUN}:
        yield "generation settings", json.dumps(settings, sort_keys=True, default=str)
