"""The numbers in docs/explanation/statistics.md are what the code gives."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published
import pytest
import simulation

from quantexp.stats import minimal_detectable_difference, power_within, required_items, required_items_within

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "statistics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("table", [published.planner_tables, published.cells_table, published.claims_table])
def test_the_published_experiment_and_the_planner(table: Callable[[], str]) -> None:
    assert table() in PAGE


def test_the_planner_example() -> None:
    assert f"# {minimal_detectable_difference(600, 0.05):.4f}: what 600 items find" in PAGE
    assert f"# {required_items(0.02, 0.05)} items to find a drop of 2 points" in PAGE
    assert f"# {required_items_within(0.02, 0.05)} items to show" in PAGE
    assert f"# {power_within(600, 0.05, 0.02):.2f}: the probability that 600 items show it" in PAGE
    closed, exact = ([required_items_within(0.02, psi, exact=each) for psi in (0.05, 0.02)] for each in (False, True))
    assert (
        f"{closed[0]} instead of {exact[0]} at ψ = 5% and 2 points, {closed[1]} instead of {exact[1]} at ψ = 2%" in PAGE
    )


def test_a_line_of_each_exact_table() -> None:
    # All tables are compared by the slow test below; these lines take no time.
    for rows in (
        simulation.accuracy_rows(quick=False),
        simulation.fixed_set_rows(),
        simulation.within_rows(quick=False),
    ):
        assert simulation.markdown("", rows).split("\n", 1)[1] in PAGE


@pytest.mark.slow
def test_the_measured_tables() -> None:
    rng = np.random.default_rng(0)
    for title, rows in simulation.sections(rng, quick=False):
        assert simulation.markdown(title, rows) in PAGE, title


def test_lines_are_wrapped() -> None:
    assert not [line for line in PAGE.splitlines() if len(line) > 150 and not line.startswith("|")]
    assert not re.search(r"\b(SIMULATION|CELLS|CLAIMS|PLANNER)\b", PAGE)
