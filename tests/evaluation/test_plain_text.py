"""`task=text` in a sweep: what is read, scored, compared and refused, with the real engine."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.stores import client_of, runs_of
from tests.support.variants import mark_slow

from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.evaluation.kl_divergence.windows import windows
from quantexp.tasks.requests import Read

Command = Callable[..., tuple[int, str, str]]

TEXT = " ".join(f"On day {n} the {n + 1} cats of the harbour ate {n + 2} fish and slept in the sun." for n in range(30))
READ = ("task=text", "data=files", "data.path=harbour.txt", "task.window=64", "engine.threads=1")


def test_windows_of_a_text_are_read_scored_and_compared(
    command: Command, small_model: tuple[str, ...], small_engine: LlamaCpp, tmp_path: Path
) -> None:
    (tmp_path / "harbour.txt").write_text(TEXT)
    arguments = ("-m", "quant=F32,Q4_0", "stats.baseline=F32", *READ, "task.limit=5", *small_model)
    status, out, err = command(tmp_path, "quantexp", *arguments)
    assert status == 0, err
    assert "Divergence" in out

    client = client_of(tmp_path)
    jobs = {run.data.tags["quant"]: run for run in runs_of(tmp_path, "job")}
    tables = {
        quant: pd.read_parquet(client.download_artifacts(run.info.run_id, "items.parquet"))
        for quant, run in jobs.items()
    }
    baseline = tables["F32"].set_index("item_id")
    assert [*tables["Q4_0"]["item_id"]] == [*tables["F32"]["item_id"]]
    assert len(baseline) == 5

    # The same, read by hand.
    cut = {f"1-{number}": each for number, each in enumerate(windows(small_engine, Read(TEXT, 64)), start=1)}
    assert jobs["F32"].data.metrics["items_in_data"] == len(cut) > 5
    sequences = [cut[str(name)] for name in baseline.index]
    read = [(part.tokens, part.logits.copy()) for part in small_engine.distributions(sequences)]
    for (_, row), (actual, logits) in zip(baseline.iterrows(), read, strict=True):
        right = logits.argmax(axis=1) == actual
        assert row["score"] == right.mean()
        shares = logits - np.log(np.exp(logits - logits.max()).sum(axis=1, keepdims=True)) - logits.max()
        logprobs = np.take_along_axis(shares, actual[:, None].astype(np.intp), 1)[:, 0]
        assert row["mean_logprob"] == pytest.approx(logprobs.mean(), abs=1e-4)
        assert "".join(json.loads(row["reference"])) in TEXT
        assert row["prompt"] in TEXT
        held = json.loads(row["output"])
        assert [one == other for one, other in zip(held, json.loads(row["reference"]), strict=True)] == [*right]

    [report] = tmp_path.glob("multirun/*/*/report")
    [found] = csv.DictReader((report / "divergence.csv").read_text().splitlines())
    assert found["tokens"] == str(5 * 31)
    # How the perplexity changes is what the two tables of items say.
    change = (baseline["mean_logprob"] - tables["Q4_0"].set_index("item_id")["mean_logprob"]).mean()
    assert float(found["log_perplexity_ratio"]) == pytest.approx(change, abs=1e-5)
    page = (report / "report.md").read_text()
    assert "Over the tokens of plain text" in page
    assert not (report / "first_divergence.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    mark_slow(
        [
            (("task.window=4096",), "task.window=4096 must be at least 4 tokens and at most engine.context=2048."),
            (("task.window=2000",), "No text of files has one window of 2000 tokens; give longer ones, or lower"),
            (("task.limit=900",), "task.limit=900 asks for more items than the"),
            (("stats=sequential",), "task=text is read, not answered, so it cannot have stats.method=sequential"),
            (("engine.floor=true",), "task=text is read, not answered, so it cannot have engine.floor=true"),
            (("data=bundled",), "No items of text ship with quantexp; bring yours: data=files data.path=FILE."),
            (
                ("engine=openai", "engine.url=http://127.0.0.1:9/v1", "engine.threads=null", "model.examples=turns"),
                "No connection to http://127.0.0.1:9/v1",
            ),
            (("quant=Q3_K_M",), "has no finished run that left them: run it first"),
        ],
        after=2,
    ),
)
def test_what_cannot_be_read_is_told(
    command: Command, cache: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "harbour.txt").write_text(TEXT)
    given = [each for each in READ if not (each.startswith("data") and "data=bundled" in arguments)]
    status, _, err = command(tmp_path, "quantexp", *given, f"model.cache={cache}", *arguments)
    assert status != 0
    assert sentence in " ".join(err.split())
    assert "Traceback" not in err
