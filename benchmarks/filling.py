"""A sweep that was never run, written straight into MLflow's tables and artifacts: ten thousand runs in a minute.

Every run has as many parameters, metrics and tags as a real job, of the same sizes. Items look like GSM8K's: a prompt
of some 2,500 characters that begins with worked examples, and an answer of some 300.
"""

import json
import os
import uuid
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import sqlalchemy
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag

from quantexp.tracking.scores import SCORES, add_facts, read_scores, write_scores
from quantexp.tracking.tags import IDENTITY, ITEMS, JOBS, KIND, OF_SWEEP

QUANTS, TASKS = 10, 10
VARIANTS = 10
"""Distinct tables of a quant's task; the seeds share them as hard links, for the disk's sake."""

BATCH = 200
"""Runs whose rows are written at once."""

FILE = f"{ITEMS}.parquet"

PARAMETERS, METRICS, TAGS = 86, 17, 37
"""What a job of the default model has."""

BEGUN = 1_700_000_000_000


def fill(client: mlflow.MlflowClient, database: str, experiment: str, files: Path, runs: int, items: int) -> str:
    """Write a sweep of finished jobs: ten quants of up to ten tasks, the rest are seeds.

    Args:
        client: of the store.
        database: address of its database, as SQLAlchemy has it.
        experiment: id of an experiment that exists.
        files: the folder where the experiment's artifacts are kept.
        runs: how many jobs.
        items: how many each has answered.

    Returns:
        The id of the sweep's run.
    """
    sweep = client.create_run(experiment, run_name=f"sweep of {runs}", tags={KIND: "sweep", "model": "m"}).info.run_id
    with redirect_stdout(StringIO()):  # on a server MLflow prints where to look at the run
        client.set_terminated(sweep)
    location = client.get_experiment(experiment).artifact_location
    tables = Tables(files / f"tables of {sweep}", items)
    of_jobs = files / sweep / "artifacts" / JOBS
    of_jobs.mkdir(parents=True)
    engine = sqlalchemy.create_engine(database)
    rows: dict[Any, list[dict[str, Any]]] = {table: [] for table in (SqlRun, SqlTag, SqlParam, SqlMetric)}
    for number in range(runs):
        quant, task, seed = number % QUANTS, number // QUANTS % TASKS, number // (QUANTS * TASKS)
        run = uuid.uuid4().hex
        score, scores = tables.link(files / run / "artifacts", quant, task, seed)
        told: dict[str, Any] = {
            "run_id": run,
            "experiment_id": experiment,
            "run_name": f"task{task} Q{quant} seed {seed}",
        }
        told |= {"start_time": BEGUN + number, "artifact_uri": f"{location}/{run}/artifacts"}
        named: dict[str, Any] = {"tags": _tags(sweep, quant, task, seed), "params": _parameters(quant, task, seed)}
        named |= {"metrics": _metrics(quant, items, score)}
        file = files / run / "artifacts" / SCORES
        write_scores(scores, file)
        add_facts(file, file, {"run_name": told["run_name"], "tags": named["tags"]})
        os.link(file, of_jobs / f"{run}.arrow")
        rows[SqlRun].append(
            {"run_uuid": run, "name": told["run_name"], "experiment_id": int(experiment), "status": "FINISHED"}
            | {"start_time": told["start_time"], "end_time": told["start_time"] + 1, "lifecycle_stage": "active"}
            | {"artifact_uri": told["artifact_uri"], "user_id": "someone", "source_type": "UNKNOWN"}
            | {"source_name": "", "entry_point_name": "", "source_version": ""}
        )
        for table, kind in ((SqlTag, "tags"), (SqlParam, "params"), (SqlMetric, "metrics")):
            rows[table] += [{"run_uuid": run, "key": key, "value": value} for key, value in named[kind].items()]
        if (number + 1) % BATCH == 0 or number + 1 == runs:
            with engine.begin() as connection:
                for table in rows:
                    if table is SqlMetric:
                        rows[table] = [{**row, "timestamp": BEGUN, "step": 0, "is_nan": False} for row in rows[table]]
                        connection.execute(sqlalchemy.insert(SqlLatestMetric), rows[table])
                    connection.execute(sqlalchemy.insert(table), rows[table])
                    rows[table] = []
    engine.dispose()
    return str(sweep)


class Tables:
    """The item tables of jobs, each variant made when it is first asked for."""

    def __init__(self, folder: Path, items: int) -> None:
        self._folder, self._random = folder, np.random.default_rng(0)
        self._ids = [f"item-{each:05d}" for each in range(items)]
        words = np.array([line[: 3 + len(line) % 7] for line in (uuid.UUID(int=n << 96).hex for n in range(99, 4000))])
        self._texts = [" ".join(self._random.choice(words, 40)) for _ in range(500)]
        self._head = " ".join(self._texts[:9])
        self._made: dict[Path, tuple[float, pd.DataFrame]] = {}

    def link(self, folder: Path, quant: int, task: int, seed: int) -> tuple[float, pd.DataFrame]:
        """Put a job's table into its folder; its score, and the columns that are compared."""
        made = self._folder / f"{task}-{quant}-{seed % VARIANTS}"
        if made not in self._made:
            made.mkdir(parents=True)
            self._made[made] = self._make(made / FILE, quant, task, seed % VARIANTS)
        folder.mkdir(parents=True)
        os.link(made / FILE, folder / FILE)
        score, scores = self._made[made]
        return score, scores

    def _make(self, path: Path, quant: int, task: int, variant: int) -> tuple[float, pd.DataFrame]:
        n = len(self._ids)
        order = np.random.default_rng((task, variant)).permutation(n)  # a seed's, the same for all quants
        right = self._random.random(n) < 0.6 - 0.02 * quant
        read = np.where(right, order, self._random.integers(10_000, 10_010, n))
        ids = [f"task{task}-{self._ids[place]}" for place in order]
        texts = [self._texts[place % len(self._texts)] for place in order]
        table = pd.DataFrame(
            {
                "item_id": ids,
                "cluster": ids,
                "sample": 0,
                "difficulty": order % 5 + 1,
                "prompt": [f"{self._head} Question: {each} {text}" for each, text in zip(ids, texts, strict=True)],
                "output": [f"{text} #### {number}" for text, number in zip(texts, read, strict=True)],
                "reference": [str(place) for place in order],
                "extracted": [str(number) for number in read],
                "score": right.astype(float),
                "grading_error": None,
                "finish_reason": "stop",
                "prompt_tokens": 800,
                "completion_tokens": 100,
                "mean_logprob": self._random.random(n),
            }
        )
        table.to_parquet(path, index=False)
        return float(right.mean()), read_scores(path.read_bytes(), path.name).to_pandas()


def _tags(sweep: str, quant: int, task: int, seed: int) -> dict[str, str]:
    named = {KIND: "job", "model": "m", "quant": f"Q{quant}", "task": f"task{task}", "data": "made up"}
    named |= {"seed": str(seed), "mlflow.parentRunId": sweep, OF_SWEEP: sweep, "mlflow.user": "someone"}
    named |= {"mlflow.runName": f"task{task} Q{quant} seed {seed}", SCORES: "1"}
    named |= {f"{each}.sha256": f"{quant:020d}{task:020d}{seed:024d}" for each in ("config", "job")}
    named |= {"pair.sha256": f"{task:032d}{seed:032d}"}
    for aspect in ("model", "data", "prompt", "grader", "settings"):
        named[IDENTITY + aspect] = json.dumps({"id": "g-v1", "fingerprint": f"{task:064d}", "version": 1})
    named |= {"quantexp.version": "0", "quantexp.commit": "0" * 40, "quantexp.dirty": "false"}
    named |= {"engine.system": "CPU : " + "SSE3 = 1 | " * 14, "host.processor": "a processor"}
    return named | {f"further.{each}": f"some value {each}" for each in range(TAGS - len(named))}


def _parameters(quant: int, task: int, seed: int) -> dict[str, str]:
    named = {"file.sha256": f"{quant:064d}", "seed": str(seed), "task.name": f"task{task}", "model.note": ""}
    named |= {"task.prompt.instructions": "Solve the problem step by step, with short calculations. " * 3}
    return named | {f"section.parameter_{each}": f"value {each}" for each in range(PARAMETERS - len(named))}


def _metrics(quant: int, items: int, score: float) -> dict[str, float]:
    named = {"score": score, "score_low": score - 0.03, "score_high": score + 0.03}
    named |= {"items": items, "items_in_data": items, "items_not_asked": 0, "items_cut_at_max_tokens": 0}
    named |= {"completion_tokens": 100 * items, "bits_per_weight": 9 - 0.5 * quant, "model_bytes": 1e8}
    named |= {"run.tokens_per_second": 50, "run.completions_generated": items, "run.completions_from_store": 0}
    named |= {"run.wall_seconds": 2 * items}
    return {key: float(value) for key, value in named.items()} | {
        f"further_{each}": float(each) for each in range(METRICS - len(named))
    }
