"""`quantexp.load`, on a finished sweep."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tests.support.copies import copied

import quantexp
from quantexp.config import StatsConfig

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "notebook.md"


@pytest.fixture(scope="module")
def result(swept: Path) -> quantexp.Result:
    return quantexp.load(folder=swept / "mlruns")


def test_tables_hold_what_the_report_holds(result: quantexp.Result) -> None:
    assert len(result.conditions) == len(result.summary.conditions) == 4
    assert len(result.comparisons) == len(result.summary.comparisons) == 2
    assert set(result.comparisons["quant"]) == {"Q3_K_M"}
    assert result.divergence.empty
    assert {"task", "quant", "tokens", "mean"} <= set(result.divergence)
    means = result.items.groupby(["task", "quant"])["score"].mean()
    for row in result.conditions.to_dict("records"):
        assert means[row["task"], row["quant"]] == pytest.approx(row["mean"])
    assert list(result.items)[:5] == ["model", "task", "quant", "seed", "run_id"]
    assert len(result.items) == 4 * 3
    assert len(result.flips) == sum(
        each.flips.lost + each.flips.gained + each.flips.both_wrong_different + each.flips.both_right_different
        for each in result.summary.comparisons
        if each.flips is not None
    )


def test_a_notebook_shows_the_verdict_and_the_table(result: quantexp.Result) -> None:
    shown = result._repr_markdown_()
    assert shown.startswith("**")
    assert "| triviaqa | Q3_K_M |" in shown
    assert repr(result).startswith(f"<sweep {result.sweep[:8]}: ")
    assert len(repr(result)) < 500


def test_the_comparison_is_the_sweeps_own_unless_told_otherwise(swept: Path, result: quantexp.Result) -> None:
    turned = quantexp.load(result.sweep, swept / "mlruns", stats=StatsConfig(baseline="Q3_K_M", resamples=100))
    assert set(turned.comparisons["quant"]) == {"Q8_0"}
    assert result.summary.baseline == "Q8_0"


def test_what_is_not_there_is_a_users_mistake_and_nothing_is_made(swept: Path, tmp_path: Path) -> None:
    with pytest.raises(quantexp.UserError, match="give the folder or the server that a sweep was tracked in"):
        quantexp.load(folder=tmp_path / "mlruns")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(quantexp.UserError, match="There is no run nope"):
        quantexp.load("nope", swept / "mlruns")


def test_the_page_on_notebooks(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(swept, tmp_path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) >= 3
    assert isinstance(names["lost"], pd.DataFrame)


def test_the_package_itself_is_light() -> None:
    program = "import quantexp, sys; dir(quantexp); print({'mlflow', 'pandas', 'numpy', 'hydra'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = quantexp.nope
