"""Experiments over all tasks, small: each job finishes, and one report has them all.

The options are those of the embedded model, with random weights instead of its own: what they answer does not matter.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.small_models import find_small_model

from quantexp.models import ModelFile

Command = Callable[..., tuple[int, str, str]]
EVERYDAY = {
    *("gsm8k", "triviaqa", "extraction", "choice", "languages", "instructions"),
    *("chat", "tools", "code", "summary", "long"),
}


@pytest.fixture
def model(q8_0: ModelFile, cache: Path) -> tuple[str, ...]:
    path = find_small_model(cache, q8_0.path)
    return ("model.source=path", f"model.path={path}", "model.sha256=null", f"model.cache={cache}")


def read(folder: Path, name: str) -> list[dict[str, str]]:
    [file] = folder.glob(f"multirun/*/*/report/{name}.csv")
    return list(csv.DictReader(file.read_text().splitlines()))


@pytest.mark.slow
def test_everyday(command: Command, model: tuple[str, ...], tmp_path: Path) -> None:
    small = ("quant=Q8_0,Q3_K_M", "data.limit=2", "engine.threads=1", "task.max_tokens=8")
    status, out, err = command(tmp_path, "quantexp", "experiment=everyday", *model, *small)
    assert status == 0, err
    assert {row["task"] for row in read(tmp_path, "comparisons")} == EVERYDAY
    [pool] = read(tmp_path, "pools")
    assert pool["quant"] == "Q3_K_M"
    assert "pool" in out


@pytest.mark.slow
def test_the_published_experiment_with_what_it_left_open(
    command: Command, model: tuple[str, ...], tmp_path: Path
) -> None:
    model = ("model=smollm2-135m-instruct", *model, "model.sampling.non_thinking={temperature: 0.7}")
    items = ("data=bundled", "data.limit=2", *(f"data.own.{task}.limit=2" for task in ("chat", "long", "summary")))
    small = (
        "quant=BF16,Q4_K_M",
        "seed=0",
        "engine.context=2048",
        "engine.gpu_layers=0",
        "engine.threads=1",
        "task.max_tokens=8",
    )
    status, _, err = command(tmp_path, "quantexp", "experiment=quant-cliff-2", *model, *items, *small)
    assert status == 0, err
    compared = read(tmp_path, "comparisons")
    assert len(compared) == 14  # seven tasks, greedy and as the publisher recommends
    assert {row["baseline"] for row in compared} == {"BF16"}
