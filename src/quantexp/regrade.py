"""`python -m quantexp.regrade`: grade the stored outputs of any earlier sweep again, without the model."""

import hashlib
import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf.errors import OmegaConfBaseException

from quantexp.comparison.analysis import chosen_sweep, compare, finished_jobs, open_store
from quantexp.config import DataConfig, RegradeConfig, StatsConfig, TaskConfig
from quantexp.config.command_line import hydra_command
from quantexp.util.error_reports import explain_error
from quantexp.util.errors import UserError
from quantexp.util.files import write_atomically

if TYPE_CHECKING:
    from quantexp.evaluation.resources import ResourceSettings
    from quantexp.tasks import Grader, Task
    from quantexp.tasks.items import Dataset
    from quantexp.tracking.reader import JobRecord
    from quantexp.tracking.store import Store

log = logging.getLogger(__name__)

SHOWN = 40
"""Lines of the changes that the terminal shows; a screen or so, the rest is in the file."""


@dataclass(frozen=True, slots=True)
class Regraded:
    """A job under another grader.

    Attributes:
        record: the job with the new grader in its identity, and the new scores.
        graders: id of the old one and of the new one, as in `gsm8k-v1..gsm8k-v2`.
        diff: the verdicts that changed.
        line: what the log says of it.
    """

    record: "JobRecord"
    graders: str
    diff: str
    line: str


def regrade(
    stats: StatsConfig,
    store: "Store",
    sweep: str,
    runs: list[str],
    name: str | None,
    folder: Path,
    reading: str | None = None,
    asking: RegradeConfig | None = None,
) -> bool:
    """Grade again, write the new scores beside the old ones, and report on both.

    Args:
        stats: baseline and bootstrap.
        store: where the runs are.
        sweep: the sweep whose jobs are graded, unless `runs` is given.
        runs: ids of single runs to grade.
        name: the grader's name; None: the one that each run was graded by, in its current version.
        folder: where the report goes.
        reading: the reader's name; None: the one that each run was read by.
        asking: what graders may ask, and where a judge's replies are kept; None: by default.

    Returns:
        Whether every job had finished, could be graded again, and could be compared.

    Raises:
        UserError: there is nothing to grade, or no task has the grader.
    """
    from quantexp.comparison.pairing import check_stopping
    from quantexp.report import PAGE, write_report
    from quantexp.report.mlflow_pages import show_in_mlflow
    from quantexp.report.terminal import show
    from quantexp.tracking.tags import FLIPS
    from quantexp.util.progress import bar

    found, failures = finished_jobs(store, sweep, list(dict.fromkeys(runs)), "grade")
    check_stopping(found, stats)
    records = found if name is None else _with_grader(found, name, store)
    grading = Grading(store, stats, asking)
    done: list[Regraded] = []
    already: dict[str, list[str]] = defaultdict(list)
    with bar("grading", len(records)) as advance:
        for record in records:
            try:
                new = grading.grade(record, name, reading)
            except (UserError, OmegaConfBaseException) as error:
                failures.append(f"{record.name} (run {record.run_id[:8]}) is not graded again: {explain_error(error)}")
            else:
                if new is None:
                    already[f"{record.tags['task']}: {_grader_id(record)}"].append(record.run_id[:8])
                else:
                    done.append(new)
            advance(1)
    # Only now: the bar and the log share the terminal.
    for line in [new.line for new in done]:
        log.info("%s", line)
    for grader, ids in already.items():
        log.info("%s has graded already: run %s", grader, ", ".join(ids))
    for failure in failures:
        log.error("%s", failure)
    if not done:
        log.info("nothing was graded again")
        return not failures

    folder.mkdir(parents=True, exist_ok=True)
    changes = folder / "changes.diff"
    diff = "".join(new.diff for new in done)
    write_atomically(changes, diff.encode())
    compared = compare([*records, *(new.record for new in done)], failures, stats, store, None)
    summary = compared.summary
    files = write_report(summary, folder, compared.changed)
    source = {"runs": ",".join(runs)} if runs else {"sweep": sweep}
    graders = ", ".join(sorted({new.graders for new in done}))
    with store.start("regrade", "regrade", None, source | {"graders": graders}) as run:
        run.log_files([*files, changes])
        run.log_items(compared.changed, FLIPS)
        page = show_in_mlflow(summary, run, store)
    _print_changes(diff, changes)
    show(summary, folder / PAGE, store.browse, page)
    return not (summary.refusals or summary.failures)


def _with_grader(records: Sequence["JobRecord"], name: str, store: "Store") -> list["JobRecord"]:
    """Return the jobs of the tasks that have the grader; a line for each task that has not."""
    kept, lines = [], []
    tasks = {record.tags["task"]: _task_of(record, store) for record in records}
    for task in tasks.values():
        of_task = [record for record in records if record.tags["task"] == task.name]
        if name in task.graders:
            kept += of_task
        else:
            lines.append(f"{task.name} has no grader {name}: left out ({len(of_task)} jobs)")
    if not kept:
        known = "; ".join(f"{task.name} has {', '.join(sorted(task.graders))}" for task in tasks.values())
        raise UserError(f"grader={name}: no task of these jobs has such a grader; choose one that it has: {known}.")
    for line in lines:
        log.info("%s", line)
    return kept


def _task_of(record: "JobRecord", store: "Store") -> "Task":
    from quantexp.tasks import get_task, open_task
    from quantexp.tracking.artifacts import read_section

    module = record.params.get("task.module", "None")  # MLflow keeps params as text
    task = get_task(record.tags["task"], None if module == "None" else module)
    if task.configure is None:
        return task
    with store.file(record.run_id, "config.yaml") as path:
        if not path.is_file():
            raise UserError("its config.yaml is not in the store, so nobody knows its task; run it again.")
        return open_task(read_section(path, "task", TaskConfig))


class Grading:
    """Grades one job after the other; data that several of them share are read once."""

    def __init__(self, store: "Store", stats: StatsConfig, asking: RegradeConfig | None = None) -> None:
        self._store = store
        self._stats = stats
        self._asking = asking or RegradeConfig()
        self._data: dict[str, Dataset] = {}

    def grade(self, record: "JobRecord", name: str | None, reading: str | None = None) -> Regraded | None:
        """Read and grade a job's outputs and record the scores; None, and nothing is written, if it has these already.

        Args:
            record: the job.
            name: the grader's name; None: the one that it was graded by.
            reading: the reader's name; None: the one that it was read by.

        Raises:
            UserError: its data, its outputs, its reader or its grader are not there any more, or not the same.
        """
        from quantexp.evaluation.answers import find_reader, get_reader
        from quantexp.evaluation.regrade_diff import changes_diff, count_changes
        from quantexp.evaluation.resources import open_grader
        from quantexp.evaluation.scoring import regrade_table, score_metrics
        from quantexp.tasks.choice import check_outputs
        from quantexp.tasks.items import check_gradable
        from quantexp.tasks.requests import Choose, Read
        from quantexp.tracking.artifacts import read_table
        from quantexp.tracking.scores import replace_scores
        from quantexp.tracking.tags import ITEMS, RULE

        task = _task_of(record, self._store)
        old = _grader_id(record)
        if task.request is Read:
            raise UserError("plain text has no answers to be graded")
        grader = task.grader(old.rpartition("-v")[0] if name is None else name)
        read_by = str(record.identity["reader"]["id"])
        reader = find_reader(read_by) if reading is None else get_reader(reading)
        if (reader.id, grader.id) == (read_by, old) and not grader.needs:
            return None
        items = self._items(record, task)
        check_gradable(items, grader)
        with self._store.file(record.run_id, f"{ITEMS}.parquet") as path:
            table = read_table(path)
        scored = record.answers
        assert scored is not None, "the store reads them"
        if scored.asked.item_ids.tolist() != table["item_id"].tolist():
            raise UserError("its items.parquet is not the table that was scored; run it again.")
        if task.request is Choose:
            check_outputs(grader, table["output"])
        with self._resources(record, grader) as settings, open_grader(grader, settings) as opened:
            after = regrade_table(table, reader, opened.grade, items)
        metrics = score_metrics(after, self._stats)
        # Scores by another reader stand beside those of the same grader.
        new = grader.id if reader.id == read_by else f"{grader.id}.{_file_name(reader.id)}"
        if opened.identity:  # and those of one judge beside those of another
            new += f".{hashlib.sha256(json.dumps(opened.identity, sort_keys=True).encode()).hexdigest()[:8]}"
        answers = replace_scores(scored, after)
        diff = changes_diff(table, after, old, new, f"{record.name} (run {record.run_id[:8]})")

        line = (
            f"{record.name}: {old} {record.metrics['score']:.3f}, {new} {metrics['score']:.3f}; "
            f"{count_changes(diff)} of {len(after)} verdicts changed"
        )
        with self._store.file(record.run_id, f"{ITEMS}.{new}.parquet") as path:
            if path.is_file() and not read_table(path)["score"].equals(after["score"]):
                line += f"; replaces other scores of {new}, which has changed without a new version"
        run = self._store.run(record.run_id)
        run.log_items(after, f"{ITEMS}.{new}")
        run.log_yaml(diff, f"regrade/{old}..{new}.diff")
        run.log(
            metrics={f"{new}/{key}": value for key, value in metrics.items()},
            tags={**opened.facts, f"grader.{new}": f"regraded {datetime.now(UTC).isoformat(timespec='seconds')}"},
        )
        return Regraded(
            record=replace(
                record,
                identity={
                    **record.identity,
                    "reader": {"id": reader.id},
                    "grader": {"id": grader.id, **opened.identity},
                },
                tags={**record.tags, **opened.facts},
                metrics={key: value for key, value in record.metrics.items() if not key.startswith(RULE)} | metrics,
                scores=answers.item_scores,
                answers=answers,
                table=f"{ITEMS}.{new}",
            ),
            graders=f"{old}..{new}",
            diff=diff,
            line=line,
        )

    @contextmanager
    def _resources(self, record: "JobRecord", grader: "Grader") -> Iterator["ResourceSettings"]:
        """Yield what a grader of this job may ask; the completion store is opened for judges only."""
        from quantexp.evaluation.judge_engine import ModelUnderTest
        from quantexp.evaluation.resources import ResourceSettings
        from quantexp.store import CompletionStore

        model = record.identity["model"]
        tested = ModelUnderTest(
            str(model["name"]),
            record.params.get("file.sha256", ""),
            str(model.get("architecture", "")),
            record.tags.get("engine.url", ""),
            record.tags.get("engine.model", ""),
        )
        asking = self._asking
        with CompletionStore(Path(asking.store.folder)) if "judge" in grader.needs else nullcontext() as known:
            yield ResourceSettings(
                record.name, asking.judge, asking.embedder, known, tested, shows=False, unsafe_code=asking.unsafe_code
            )

    def _items(self, record: "JobRecord", task: "Task") -> Mapping[str, Mapping[str, Any]]:
        """Return the fields of the items that the job was run on, by their ids."""
        from quantexp.tasks.data import load
        from quantexp.tracking.artifacts import read_section

        with self._store.file(record.run_id, "config.yaml") as path:
            if not path.is_file():
                raise UserError("its config.yaml is not in the store, so nobody knows its data; run it again.")
            config = read_section(path, "data", DataConfig)
        key = f"{task.name} {config}"
        if key not in self._data:
            self._data[key] = load(config, task)
        data = self._data[key]
        recorded = str(record.identity.get("data", {}).get("fingerprint"))
        version = record.tags.get("quantexp.version", "as it was then")
        if data.fingerprint != recorded:
            raise UserError(
                f"the {data.name} data of {task.name} have changed since it ran (fingerprint {recorded[:8]}, now "
                f"{data.fingerprint[:8]}); grade it with quantexp {version}, or run it again."
            )
        return {item.id: item.fields for item in data.items}


def _grader_id(record: "JobRecord") -> str:
    return str(record.identity["grader"]["id"])


def _file_name(reader: str) -> str:
    """Return a reader's id as a part of a file's name; marks of one's own may hold anything."""
    if re.fullmatch(r"[A-Za-z0-9-]+", reader):
        return reader
    return f"own-{hashlib.sha256(reader.encode()).hexdigest()[:12]}"


def _print_changes(diff: str, path: Path) -> None:
    """Print the changes, as far as they fit."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    lines = diff.splitlines() or ["No verdict changed."]
    # A last line alone would take the place of the line that stands for it.
    shown = lines if len(lines) <= SHOWN + 1 else lines[:SHOWN]
    colours = {"-": "red", "+": "green", "@": "cyan"}
    for line in shown:
        console.print(Text(line, style=colours.get(line[0], "")), soft_wrap=True)
    if len(shown) < len(lines):
        console.print(Text(f"... and {len(lines) - len(shown)} more lines in {path}"), soft_wrap=True)
    console.print()


@hydra_command("quantexp.regrade", RegradeConfig)
def main(config: RegradeConfig) -> None:
    """Entry point."""
    # Only now: composing, --help and shell completion do without these heavy imports.
    from quantexp.tracking.backend import Access

    store = open_store(config.tracking, Access.write)
    folder = Path(HydraConfig.get().runtime.output_dir) / "report"
    sweep = chosen_sweep(config.sweep, config.runs, store)
    if not regrade(config.stats, store, sweep, config.runs, config.grader, folder, config.reader, config):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
