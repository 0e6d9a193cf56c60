"""The runs in a folder's MLflow store, as tests look at them."""

from pathlib import Path

import mlflow
from mlflow.entities import Run


def client_of(folder: Path) -> mlflow.MlflowClient:
    """MLflow's client of the store in a folder."""
    return mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")


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
