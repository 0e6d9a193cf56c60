"""Sweeps of more than quants: each condition is run, named, paired with the one baseline, and tabulated."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tests.support.stores import runs_so_far

from quantexp.stats.comparison import E_VALUE

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def quick(small_model: tuple[str, ...]) -> tuple[str, ...]:
    return (
        "task=triviaqa",
        "task.limit=2",
        "task.shots=0",
        "task.max_tokens=4",
        "engine.threads=1",
        "stats.resamples=100",
        *small_model,
    )


def report(folder: Path, name: str) -> pd.DataFrame:
    """A table of the newest report."""
    return pd.read_csv(max(folder.glob(f"multirun/*/*/report/{name}.csv"), key=lambda path: path.stat().st_mtime))


def test_two_factors_are_a_grid_against_one_baseline(command: Command, tmp_path: Path, quick: tuple[str, ...]) -> None:
    grid = ("quant=Q8_0,Q3_K_M", "engine.context=1024,1536")
    status, out, err = command(tmp_path, "quantexp", "-m", *grid, *quick, "task.limit=2", "divergence=true")
    assert status == 0, err
    assert "4 jobs: Q8_0, Q8_0 context=1536, Q3_K_M, Q3_K_M context=1536 of" not in err
    assert "4 jobs: Q8_0, Q8_0 context=1536, Q3_K_M, Q3_K_M context=1536 on triviaqa" in err
    assert "task, condition" in out
    compared = report(tmp_path, "comparisons").set_index("quant")
    assert list(compared.index) == ["Q8_0 context=1536", "Q3_K_M", "Q3_K_M context=1536"]
    assert set(compared["baseline"]) == {"Q8_0"}
    # A longer context changes nothing for prompts that fit the shorter one.
    diverged = report(tmp_path, "divergence").set_index("quant")["mean"]
    assert 0 <= diverged["Q8_0 context=1536"] < 1e-6  # as exactly as distributions are kept
    assert diverged["Q3_K_M"] == diverged["Q3_K_M context=1536"] > 1e-3
    [interaction] = report(tmp_path, "interactions").to_dict("records")
    assert interaction["condition"] == "Q3_K_M context=1536"
    assert interaction["interaction"] == 0

    runs = {run.info.run_name: run.data.tags for run in runs_so_far(tmp_path, "job")}
    [name] = [name for name in runs if "Q3_K_M context=1536" in name]
    assert runs[name]["quant"] == "Q3_K_M"
    assert runs[name]["factor.context"] == "1536"

    # What was asked for in another order, or as another baseline, is the same runs.
    status, out, err = command(tmp_path, "quantexp.aggregate", 'stats.baseline="Q8_0 context=1536"')
    assert status == 0, err
    compared = report(tmp_path, "comparisons").set_index("quant")
    assert list(compared.index) == ["Q8_0 context=1024", "Q3_K_M context=1024", "Q3_K_M context=1536"]

    # Without the factor each context has its own baseline.
    status, out, err = command(tmp_path, "quantexp.aggregate", "stats.factors=[weights]")
    assert status == 0, err
    compared = report(tmp_path, "comparisons")
    assert list(compared["quant"]) == ["Q3_K_M", "Q3_K_M"]
    assert sorted(compared["task"]) == ["triviaqa (settings.context=1024)", "triviaqa (settings.context=1536)"]


def test_types_of_the_kv_cache_are_compared_over_its_bytes(
    command: Command, tmp_path: Path, quick: tuple[str, ...]
) -> None:
    types = ("engine.kv_key=f16,q4_0", "engine.kv_value=${engine.kv_key}")
    status, _, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0", *types, *quick)
    assert status == 0, err
    [compared] = report(tmp_path, "comparisons").to_dict("records")
    assert compared["quant"] == "Q8_0 kv=q4_0"
    [page] = tmp_path.glob("multirun/*/*/report/report.html")
    assert "KV cache, bytes a token" in page.read_text()
    assert "file and KV cache, MB" in page.read_text()


def test_a_condition_is_judged_while_it_runs_against_the_baselines_run(
    command: Command, tmp_path: Path, quick: tuple[str, ...]
) -> None:
    of_one = ("quant=Q8_0", "engine.context=1024,1536", *quick, "stats=sequential", "stats.margin=0.2")
    status, _, err = command(tmp_path, "quantexp", "-m", *of_one)
    assert status == 0, err
    [compared] = report(tmp_path, "comparisons").to_dict("records")
    assert compared["quant"] == "Q8_0 context=1536"
    assert compared["test"] == E_VALUE
    status, _, err = command(
        tmp_path,
        "quantexp",
        "-m",
        *of_one[:1],
        "engine.context=1536,1024",
        *of_one[2:],
        'stats.baseline="Q8_0 context=1024"',
    )
    assert status == 2
    assert "stats=sequential compares with Q8_0 context=1024 while the others run: put it first" in err


def test_arguments_of_the_template_are_compared_like_weights(
    command: Command, tmp_path: Path, quick: tuple[str, ...]
) -> None:
    template = "{% for m in messages %}{{ m.content }}{% if brief %} Be brief.{% endif %}{% endfor %}\n"
    (tmp_path / "brief.jinja").write_text(template)
    status, _, err = command(
        tmp_path, "quantexp", "-m", "quant=Q8_0", "model.chat_template=brief.jinja", "model.template={},{brief: true}",
        *quick,
    )  # fmt: skip
    assert status == 0, err
    [compared] = report(tmp_path, "comparisons").to_dict("records")
    assert compared["quant"] == "Q8_0 brief=true"
    assert compared["n"] == 2


def test_the_declared_baseline_is_that_of_every_later_comparison(
    command: Command, tmp_path: Path, quick: tuple[str, ...]
) -> None:
    status, _, err = command(tmp_path, "quantexp", "-m", "quant=F16,Q3_K_M", *quick, "stats.baseline=F16")
    assert status == 0, err
    for module in ("quantexp.aggregate", "quantexp.gate"):
        status, out, err = command(tmp_path, module)
        assert "Q3_K_M" in out, err
        assert "nothing" not in out.replace("nothing to lose", "").lower()
    [compared] = report(tmp_path, "comparisons").to_dict("records")
    assert (compared["baseline"], compared["quant"]) == ("F16", "Q3_K_M")


def test_a_baseline_that_is_not_there_is_told_before_anything_runs(
    command: Command, tmp_path: Path, quick: tuple[str, ...]
) -> None:
    status, _, err = command(
        tmp_path,
        "quantexp",
        "-m",
        "quant=Q8_0",
        "engine.context=1024,1536",
        *quick,
        'stats.baseline="Q8_0 context=512"',
    )
    assert status == 1
    assert (
        "the baseline Q8_0 context=512 is not among the conditions of this sweep "
        "(Q8_0 context=1024, Q8_0 context=1536): nothing will be compared"
    ) in err
    status, _, err = command(tmp_path, "quantexp", "-m", "quant=Q8_0", *quick, "stats.factors=[contxt]")
    assert status == 2
    assert "stats.factors: there is no factor contxt; there are weights, kv_key, " in err
