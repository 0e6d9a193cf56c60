"""Which factors vary, what the reference is, and how each condition is called."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from quantexp.config import StatsConfig
from quantexp.config.condition import FACTORS, Case, Conditions, find_factor_problems, parse_baseline

PLAIN = {
    "kv_key": "f16",
    "kv_value": "f16",
    "context": "4096",
    "lanes": "several",
    "gpu_layers": "0",
    "chat_template": "the file's",
    "imatrix": "none",
}


def case(weights: str = "Q8_0", *, model: str = "m", task: str = "t", context: str = "4096", **levels: str) -> Case:
    return Case(model, task, weights, {**PLAIN, **levels}, context)


def conditions(*cases: Case, baseline: str = "Q8_0", factors: list[str] | None = None) -> Conditions:
    return Conditions(cases, StatsConfig(baseline=baseline, factors=factors))


def labels(*cases: Case, baseline: str = "Q8_0", factors: list[str] | None = None) -> list[str]:
    found = conditions(*cases, baseline=baseline, factors=factors)
    return [found.label(each) for each in cases]


def test_quants_alone_are_called_by_their_names() -> None:
    assert labels(case(), case("Q4_K_M")) == ["Q8_0", "Q4_K_M"]
    assert labels(case(context="8192"), case("Q4_K_M", context="8192")) == ["Q8_0", "Q4_K_M"]


def test_what_is_not_as_the_baselines_is_named() -> None:
    grid = [case(), case(lanes="1"), case("Q4_K_M"), case("Q4_K_M", lanes="1")]
    assert labels(*grid) == ["Q8_0", "Q8_0 lanes=1", "Q4_K_M", "Q4_K_M lanes=1"]
    assert conditions(*grid).baseline == "Q8_0"


def test_the_reference_is_the_default_if_it_is_there_and_else_what_was_asked_for_first() -> None:
    def with_context(level: str) -> Case:
        return dataclasses.replace(case(), levels={**PLAIN, "context": level})

    assert labels(with_context("8192"), with_context("4096")) == ["Q8_0 context=8192", "Q8_0"]
    assert labels(with_context("8192"), with_context("16384")) == ["Q8_0", "Q8_0 context=16384"]


def test_a_baseline_may_name_its_levels() -> None:
    grid = [case(), case(lanes="1"), case("Q4_K_M")]
    found = conditions(*grid, baseline="Q8_0 lanes=1")
    assert [found.label(each) for each in grid] == ["Q8_0 lanes=several", "Q8_0 lanes=1", "Q4_K_M lanes=several"]
    assert found.baseline == "Q8_0 lanes=1"


def test_the_baselines_own_level_is_the_reference_though_others_were_run_at_the_default() -> None:
    grid = [case("Q4_K_M"), case("Q4_K_M", lanes="1"), case(lanes="1")]
    assert labels(*grid) == ["Q4_K_M lanes=several", "Q4_K_M", "Q8_0"]


def test_keys_and_values_of_one_type_are_one_word() -> None:
    grid = [case(), case(kv_key="q8_0", kv_value="q8_0"), case(kv_key="q8_0"), case(kv_value="q4_0", lanes="1")]
    assert labels(*grid) == ["Q8_0", "Q8_0 kv=q8_0", "Q8_0 kv_key=q8_0", "Q8_0 kv_value=q4_0 lanes=1"]
    found = conditions(*grid, baseline="Q8_0 kv=q8_0")
    assert found.label(grid[1]) == found.baseline == "Q8_0 kv=q8_0"
    assert found.label(grid[2]) == "Q8_0 kv_key=q8_0 kv_value=f16"


def test_only_declared_factors_count() -> None:
    grid = [case(), case(lanes="1", **{"template.enable_thinking": "true"})]
    assert labels(*grid, factors=["weights"]) == ["Q8_0", "Q8_0"]
    assert labels(*grid, factors=["lanes"]) == ["Q8_0", "Q8_0 lanes=1"]
    assert labels(*grid, factors=["template"]) == ["Q8_0", "Q8_0 enable_thinking=true"]
    assert labels(*grid, factors=["enable_thinking"]) == labels(*grid, factors=["template.enable_thinking"])


def test_what_differs_between_models_or_tasks_alone_is_no_factor() -> None:
    grid = [case(), case("Q4_0"), case(model="n", lanes="1"), case("Q4_0", model="n", lanes="1"), case(task="u")]
    assert labels(*grid) == ["Q8_0", "Q4_0", "Q8_0", "Q4_0", "Q8_0"]


def test_an_argument_of_the_template_that_is_not_given_is_a_level() -> None:
    grid = [case(), case(**{"template.enable_thinking": "false"})]
    assert labels(*grid) == ["Q8_0", "Q8_0 enable_thinking=false"]


def test_a_placebo_is_the_baseline_by_another_arithmetic() -> None:
    grid = [case(), case(lanes="1"), case("Q4_0"), case("Q4_0", lanes="1"), case(chat_template="b", lanes="1")]
    found = conditions(*grid)
    assert [found.is_placebo(each) for each in grid] == [False, True, False, False, False]


def test_a_factor_that_there_is_not() -> None:
    [problem] = find_factor_problems(StatsConfig(factors=["weights", "contxt"]))
    assert problem.startswith("stats.factors: there is no factor contxt; there are weights, ")
    assert all(name in problem for name in FACTORS)


levels = st.fixed_dictionaries(
    {},
    optional={
        "context": st.sampled_from(["2048", "4096", "8192"]),
        "lanes": st.sampled_from(["1", "several"]),
        "chat_template": st.sampled_from(["the-files", "a.jinja"]),
        "template.effort": st.sampled_from(["low", "high"]),
    },
)
cases = st.lists(
    st.builds(case, st.sampled_from(["Q8_0", "Q4_K_M", "IQ2_XS"]), task=st.sampled_from("tu")).flatmap(
        lambda each: levels.map(lambda own: dataclasses.replace(each, levels={**PLAIN, **own}))
    ),
    min_size=1,
    max_size=12,
)


@given(cases, st.sampled_from(["Q8_0", "Q4_K_M", "Q8_0 lanes=1", "none"]))
def test_conditions_that_differ_have_different_names(grid: list[Case], baseline: str) -> None:
    found = conditions(*grid, baseline=baseline)
    named = {(each.place, found.label(each)) for each in grid}
    full = {
        (each.place, each.weights, *sorted(({**each.levels, "template.effort": "unset"} | {**each.levels}).items()))
        for each in grid
    }
    assert len(named) == len(full)


@given(cases)
def test_a_label_names_its_condition_as_the_baseline(grid: list[Case]) -> None:
    """Whatever condition is taken from the tables as the new baseline, it is found, and is the one that was meant."""
    before = conditions(*grid)
    for each in grid:
        after = conditions(*grid, baseline=before.label(each))
        named = parse_baseline(before.label(each)).levels
        at = {name: level for name, level in after.select_varying(each).items() if name in named}
        assert at == {name: level for name, level in named.items() if name in at}
