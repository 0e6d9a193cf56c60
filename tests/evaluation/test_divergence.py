"""`divergence=true` on a sweep: what is measured, kept, reported and refused, with the real engine."""

import csv
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run as RunEntity

from quantexp.evaluation.divergence import find_partings

Command = Callable[..., tuple[int, str, str]]

QUICK = ("task=triviaqa", "task.limit=3", "task.shots=0", "task.max_tokens=8", "engine.threads=1", "divergence=true")


def jobs_of(folder: Path) -> tuple[mlflow.MlflowClient, dict[str, RunEntity]]:
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quantexp")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`quantexp.kind` = 'job'")
    return client, {run.data.tags["quant"]: run for run in runs if run.info.status == "FINISHED"}


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sweep_measures_reports_and_keeps_divergence(
    command: Command, cache: Path, tmp_path: Path, whole: bool
) -> None:
    arguments = (*QUICK, f"model.cache={cache}")
    status, out, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q3_K_M", *arguments)
    assert status == 0, err
    assert "Divergence" in out
    assert "Divergence ranks quants" in out
    assert "Of smollm2-135m-instruct the order is an artefact: its quants were made from a file that is itself" in (
        " ".join(out.split())
    )

    client, jobs = jobs_of(tmp_path)
    tokens = pd.read_parquet(client.download_artifacts(jobs["Q3_K_M"].info.run_id, "divergence.parquet"))
    answers = pd.read_parquet(client.download_artifacts(jobs["Q8_0"].info.run_id, "answers.parquet"))
    baseline, quant = (
        pd.read_parquet(client.download_artifacts(jobs[name].info.run_id, "items.parquet"))
        for name in ("Q8_0", "Q3_K_M")
    )
    # A row for each token that the baseline wrote; teacher forcing gives it the probability it was written with.
    assert (
        tokens.groupby("item_id", sort=False).size().to_dict()
        == baseline.set_index("item_id")["completion_tokens"].to_dict()
    )
    mean = tokens.groupby("item_id", sort=False)["baseline_logprob"].mean()
    np.testing.assert_allclose(mean, baseline["mean_logprob"], atol=0.05)
    assert tokens["divergence"].min() >= -1e-6
    assert tokens["divergence"].mean() > 0.01
    assert jobs["Q3_K_M"].data.metrics["divergence"] == pytest.approx(tokens["divergence"].mean(), rel=1e-5)

    means = pd.read_parquet(client.download_artifacts(jobs["Q3_K_M"].info.run_id, "divergence_items.parquet"))
    assert [*means["item_id"]] == [*baseline["item_id"]]
    assert [*means["tokens"]] == [*baseline["completion_tokens"]]
    assert np.average(means["divergence"], weights=means["tokens"]) == pytest.approx(
        tokens["divergence"].mean(), rel=1e-5
    )

    # Where the answers part is where their texts do.
    table = pd.read_parquet(client.download_artifacts(jobs["Q3_K_M"].info.run_id, "parted.parquet"))
    assert [*(table["agreed"] + table["baseline"])] == [*answers["output"]]
    assert [*(table["agreed"] + table["quant"])] == [*quant["output"]]
    assert [*table["token"].isna()] == [*(baseline["output"] == quant["output"])]

    [report] = tmp_path.glob("multirun/*/*/report")
    [row] = csv.DictReader((report / "divergence.csv").read_text().splitlines())
    assert float(row["mean"]) == pytest.approx(tokens["divergence"].mean(), rel=1e-5)
    assert float(row["mean_low"]) < float(row["mean"]) < float(row["mean_high"])
    page = (report / "report.md").read_text()
    assert f"| triviaqa | Q3_K_M | {len(tokens)} |" in page
    assert "Over the tokens of the baseline's own answers" in page
    for chart in ("divergence_vs_bits", "first_divergence"):
        assert (report / f"{chart}.png").is_file()
        assert f"]({chart}.svg)" in page

    [kept] = (tmp_path / "mlruns" / "completions" / "references").iterdir()
    if whole:  # again: the same file serves, and the same figures come out
        written = kept.stat().st_mtime_ns
        assert command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q3_K_M", "force=true", *arguments)[0] == 0
        assert kept.stat().st_mtime_ns == written
        client, jobs = jobs_of(tmp_path)
        again = pd.read_parquet(client.download_artifacts(jobs["Q3_K_M"].info.run_id, "divergence.parquet"))
        pd.testing.assert_frame_equal(again, tokens)

    # What is gone is missed in a sentence.
    kept.unlink()
    status, _, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0,Q4_1", *arguments)
    assert status == 1
    assert "run the baseline again with force=true" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_the_gold_answers_are_read_where_they_are_asked_for(command: Command, cache: Path, tmp_path: Path) -> None:
    arguments = ("-m", "quant=Q8_0,Q3_K_M", *QUICK, "divergence_over=gold", f"model.cache={cache}")
    status, _, err = command(tmp_path, "quantexp", *arguments)
    assert status == 0, err
    client, jobs = jobs_of(tmp_path)
    items = pd.read_parquet(client.download_artifacts(jobs["Q8_0"].info.run_id, "items.parquet")).set_index("item_id")
    gold = pd.read_parquet(client.download_artifacts(jobs["Q8_0"].info.run_id, "gold.parquet"))
    tokens = pd.read_parquet(client.download_artifacts(jobs["Q3_K_M"].info.run_id, "divergence.parquet"))
    assert [*gold["item_id"]] == [*items.index]
    assert [*tokens["item_id"]] == [
        item for item, each in zip(gold["item_id"], gold["tokens"], strict=True) for _ in each
    ]
    # No model wrote these: they are longer or shorter than the answers, and less likely.
    assert tokens["baseline_logprob"].mean() < items["mean_logprob"].mean()
    [report] = tmp_path.glob("multirun/*/*/report")
    assert "Over the tokens of gold answers" in (report / "report.md").read_text()

    arguments = ("-m", "quant=Q8_0", *QUICK, "divergence_over=gold,answer", f"model.cache={cache}")
    status, _, err = command(tmp_path, "quantexp", *arguments)
    assert status == 2
    assert "divergence_over must be the same for all jobs of a sweep" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("quant=Q3_K_M",), "has no finished run that left them: run it first"),
        (("quant=Q8_0", "store.references_gb=0.000001"), "store.references_gb=1e-06 allows no more"),
    ],
)
def test_what_cannot_be_measured_is_told(
    command: Command, cache: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    status, _, err = command(tmp_path, "quantexp", *QUICK, f"model.cache={cache}", *arguments)
    assert status != 0
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err


def test_where_answers_part() -> None:
    def answers(*rows: tuple[str, list[int], str]) -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=["item_id", "tokens", "output"])
        return frame.assign(sample=0)

    baseline = answers(("a", [1, 2, 3], "one two three"), ("b", [4], "four"), ("c", [5, 6], "five six"))
    quant = answers(("b", [4], "four"), ("a", [1, 2, 9], "one two nine"), ("c", [5], "five"), ("d", [7], "seven"))
    found = find_partings(baseline, quant)
    assert [*found["item_id"]] == ["a", "b", "c"]
    assert [*found["token"].fillna(-1)] == [2, -1, 1]
    assert [*found["agreed"]] == ["one two ", "four", "five"]
    assert [*found["baseline"]] == ["three", "", " six"]
    assert [*found["quant"]] == ["nine", "", ""]
