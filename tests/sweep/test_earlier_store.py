"""A store that an earlier version has made (tests/data/README.md): loaded, aggregated, graded again and swept over."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.stores import runs_of

import quantexp

STORE = Path(__file__).parents[1] / "data" / "earlier_store.tar.gz"
SWEEP = ("-m", "quant=Q8_0,Q3_K_M", "task=triviaqa,extraction", "seed=2", "task.limit=4", "task.shots=1")
QUICK = ("task.max_tokens=48", "engine.threads=1", "stats.resamples=100")

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder with the store in it."""
    with tarfile.open(STORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def scores_in(folder: Path) -> dict[tuple[str, str], float]:
    """The newest score of each quant and task."""
    return {
        (run.data.tags["quant"], run.data.tags["task"]): round(run.data.metrics["score"], 3)
        for run in runs_of(folder, "job")
        if run.info.status == "FINISHED"
    }


SCORES = {
    ("Q8_0", "triviaqa"): 0.25,
    ("Q8_0", "extraction"): 0.5,
    ("Q3_K_M", "triviaqa"): 0.0,
    ("Q3_K_M", "extraction"): 0.167,
}


def test_it_is_loaded_and_aggregated(store: Path, command: Command) -> None:
    items = quantexp.load(folder=store / "mlruns").items
    assert len(items) == 16
    assert items.groupby(["quant", "task"])["score"].mean().round(3).to_dict() == SCORES
    status, out, err = command(store, "quantexp.aggregate", "stats.resamples=100")
    assert status == 0, err
    assert "extraction" in out
    assert "16.7" in out
    [report] = (store / "multirun").glob("*/*/report/report.html")
    assert "a right angle" in report.read_text(), "the answers are shown, with what was asked"


def test_it_is_graded_again(store: Path, command: Command) -> None:
    status, _, err = command(store, "quantexp.regrade", "grader=triviaqa-contains", "stats.resamples=100")
    assert status == 0, err
    graded = [run for run in runs_of(store, "job") if "triviaqa-contains-v1/score" in run.data.metrics]
    assert len(graded) == 2
    again, _, err = command(store, "quantexp.regrade", "stats.resamples=100")
    assert again == 0, err
    assert "nothing was graded again" in err, "each was graded by its grader's current version"


@pytest.mark.slow
def test_a_sweep_over_it_generates_nothing_anew(store: Path, command: Command, cache: Path) -> None:
    arguments = (*SWEEP, *QUICK, f"model.cache={cache}")
    status, _, err = command(store, "quantexp", *arguments)
    assert status == 0, err
    made, new = runs_of(store, "job")[:4], runs_of(store, "job")[4:]
    assert len(new) == 4, "fingerprints have changed since: each job is run again, from the completions that are there"
    # A completion's key holds the library and the processor: on a machine unlike the first one all are generated.
    if new[0].data.tags["engine.system"] == made[0].data.tags["engine.system"]:
        assert sum(run.data.metrics["run.completions_generated"] for run in new) == 0
        assert scores_in(store) == SCORES
    status, _, err = command(store, "quantexp", *arguments)
    assert status == 0, err
    assert err.count("finished before") == 4
