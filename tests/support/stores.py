"""The runs in a folder's MLflow store, as tests look at them."""

from pathlib import Path

import mlflow
from mlflow.entities import Run

from quantexp.tracking.location import database_uri


def client_of(folder: Path) -> mlflow.MlflowClient:
    """MLflow's client of the store in a folder."""
    return mlflow.MlflowClient(database_uri(folder / "mlruns" / "mlflow.db"))


def runs_of(folder: Path, kind: str) -> list[Run]:
    """The runs of a kind, oldest first."""
    client = client_of(folder)
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`quantexp.kind` = '{kind}'")
    return sorted(found, key=lambda run: run.info.start_time)


def runs_so_far(folder: Path, kind: str) -> list[Run]:
    """The same; none where there is no store yet."""
    if not (folder / "mlruns" / "mlflow.db").is_file() or client_of(folder).get_experiment_by_name("quantexp") is None:
        return []
    return runs_of(folder, kind)


JOB_TAGS = {"model": "m", "quant": "Q8_0", "task": "t", "data": "d", "seed": "0", "identity.grader": '{"id": "g-v1"}'}
"""Tags without which a finished run is no job that can be compared."""

JOB_METRICS = {
    **{"score": 0.5, "items": 2, "items_not_asked": 0, "items_cut_at_max_tokens": 0, "completion_tokens": 8},
    **{"bits_per_weight": 8.5, "run.tokens_per_second": 10.0},
}
"""Metrics likewise; and a parameter, file.sha256."""
