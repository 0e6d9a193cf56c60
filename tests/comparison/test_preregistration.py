"""What a sweep declares before its first answer, and what its report says of it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from quantexp.comparison.preregistration import report, write_declaration
from quantexp.comparison.summary import Registered
from quantexp.comparison.wording import answer_text, declaration_text
from quantexp.config import ClaimConfig, Config, HypothesisConfig, Pool, QuantConfig, StatsConfig, TaskConfig
from quantexp.tracking.registration import Registration, digest, read_time
from quantexp.util.errors import UserError

CLAIMS = {
    "more": ClaimConfig("s loses more than t at Q3", {"s": {"Q3": 1}, "t": {"Q3": -1}}),
    "step": ClaimConfig("on s, Q3 loses more than Q4", {"s": {"Q3": 1, "Q4": -1}}),
    "never": ClaimConfig("Q2 loses", {"s": {"Q2": 1}}),
}

JOBS = [
    Config(quant=QuantConfig(quant), task=TaskConfig(task), hypothesis=HypothesisConfig("In words.", CLAIMS), seed=seed)
    for quant in ("Q8_0", "Q4", "Q3")
    for task in ("s", "t")
    for seed in (0, 1)
]

FAMILY = ["s/Q4", "t/Q4", "s/Q3", "t/Q3"]

Scores = dict[tuple[str, str], "pd.Series[float]"]


def scores(wrong: dict[tuple[str, str], int], items: int = 400) -> Scores:
    """All right under the baseline; under the quants, the first items of each task wrong."""
    ids = [f"i{number:03}" for number in range(items)]
    of = {(task, "Q8_0"): 0 for task in "st"} | wrong
    return {key: pd.Series([0.0] * n + [1.0] * (items - n), index=ids) for key, n in of.items()}


def registration(stats: StatsConfig = StatsConfig()) -> Registration:  # noqa: B008 - never changed
    text = write_declaration(JOBS, stats)
    return Registration(text, digest(text), "2026-01-02T03:04:05+00:00", "c" * 40, 0)


def reported(found: Scores, stats: StatsConfig | None = None, compared: list[str] | None = None) -> Registered:
    compared = FAMILY if compared is None else compared
    return report(registration(), stats or StatsConfig(), {"m": found}, {"m": compared})


def test_the_declaration_holds_hypothesis_family_margins_and_rule() -> None:
    content = OmegaConf.to_container(OmegaConf.create(write_declaration(JOBS, StatsConfig(margins={"s": 0.05}))))
    assert isinstance(content, dict)
    assert content["hypothesis"]["text"] == "In words."
    assert content["hypothesis"]["claims"]["more"]["contrast"] == {"s": {"Q3": 1}, "t": {"Q3": -1}}
    assert content["family"] == FAMILY
    assert content["comparisons"] == 4
    assert content["analysis"]["margin"] == 0.02
    assert content["analysis"]["margins"] == {"s": 0.05}
    assert content["seeds"] == [0, 1]


def test_each_way_of_running_a_task_is_a_comparison_of_its_own() -> None:
    ways = [replace(job, task=replace(job.task, shots=shots)) for job in JOBS for shots in (0, 3)]
    text = write_declaration(ways, StatsConfig())
    assert Registration(text, digest(text), "", "", 0).comparisons == 8


@pytest.mark.parametrize(
    ("wrong", "more", "step"),
    [
        ({("s", "Q3"): 40, ("t", "Q3"): 4, ("s", "Q4"): 4, ("t", "Q4"): 0}, "supported", "supported"),
        ({("s", "Q3"): 4, ("t", "Q3"): 40, ("s", "Q4"): 40, ("t", "Q4"): 0}, "falsified", "falsified"),
        ({("s", "Q3"): 6, ("t", "Q3"): 4, ("s", "Q4"): 5, ("t", "Q4"): 0}, "undecided", "undecided"),
    ],
)
def test_claims_are_answered(wrong: dict[tuple[str, str], int], more: str, step: str) -> None:
    first, second, third = reported(scores(wrong)).answers
    assert (first.answer, second.answer, third.answer) == (more, step, "undecided")
    assert first.contrast is not None
    assert first.contrast.estimate == pytest.approx((wrong["s", "Q3"] - wrong["t", "Q3"]) / 400)
    assert first.contrast.low < first.contrast.estimate < first.contrast.high
    assert first.p_adjusted is not None
    assert first.p_adjusted >= first.contrast.p_value  # for the two that could be tested
    assert third.contrast is None
    assert answer_text(first).startswith(f"{more}: ")
    assert "not every quant" in answer_text(third)


def test_only_items_that_all_quants_answered_count() -> None:
    found = scores({("s", "Q3"): 10, ("s", "Q4"): 10})
    found["s", "Q4"] = found["s", "Q4"][5:]
    second = reported(found).answers[1]
    assert second.contrast is not None
    assert second.contrast.n == (395,)
    assert second.contrast.estimate == 0


def test_later_changes_are_named() -> None:
    found = scores({})
    assert reported(found).changes == ()
    assert reported(found, StatsConfig(margin=0.05, resamples=50)).changes == (
        "stats.margin was declared as 0.02 and is 0.05.",
    )
    assert reported(found, StatsConfig(pool=Pool.tasks)).changes == ("stats.pool was declared as none and is tasks.",)
    assert reported(found, compared=["s/Q4", "t/Q4", "s/Q3", "s/Q6"]).changes == (
        "s/Q6 is compared, but was not declared.",
        "t/Q3 was declared, but is not compared.",
    )
    forged = replace(registration(), text=write_declaration(JOBS, StatsConfig(margin=0.1)))
    [first, second] = report(forged, StatsConfig(), {"m": found}, {"m": FAMILY}).changes
    assert first == "The declaration itself has been changed: its sha256 is another one."
    assert second == "stats.margin was declared as 0.1 and is 0.02."


def test_models_are_declared_and_answered_apart() -> None:
    jobs = [replace(job, model=replace(job.model, name=model)) for model in ("n", "m") for job in JOBS]
    text = write_declaration(jobs, StatsConfig())
    made = Registration(text, digest(text), "2026-01-02T03:04:05+00:00", "c" * 40, 0)
    assert list(made.models) == ["n", "m"]
    harmed = scores({("s", "Q3"): 40, ("t", "Q3"): 4, ("s", "Q4"): 4, ("t", "Q4"): 0})
    spared = scores({("s", "Q3"): 0, ("t", "Q3"): 0, ("s", "Q4"): 0, ("t", "Q4"): 0})
    found = report(made, StatsConfig(), {"n": harmed, "m": spared}, {"n": FAMILY, "m": FAMILY[1:]})
    assert found.changes == ("s/Q4 of m was declared, but is not compared.",)
    told = {answer.claim: answer.answer for answer in found.answers}
    assert told["n: s loses more than t at Q3"] == "supported"
    assert told["m: s loses more than t at Q3"] == "undecided"
    assert len(told) == 2 * len(CLAIMS)


@pytest.mark.parametrize(
    ("late", "earlier", "words"),
    [
        (0, 0, "Declared before the first answer, on 2026-01-02 03:04:05 UTC"),
        (3, 0, "when 3 of its jobs had finished already: not a pre-registration."),
        (0, 40, "when 40 of 41 answers existed already: not a pre-registration."),
        (1, 40, "when 1 of its jobs had finished and 40 of 41 answers existed already: not a pre-registration."),
    ],
)
def test_what_existed_before_the_declaration_is_counted(late: int, earlier: int, words: str) -> None:
    found = report(replace(registration(), late=late), StatsConfig(), {}, {}, earlier, 41)
    assert words in declaration_text(found)


def test_the_commit_of_what_was_installed_without_one_is_not_told() -> None:
    made = replace(registration(), commit="none: not a git checkout")
    assert "commit" not in declaration_text(report(made, StatsConfig(), {}, {}))


def test_a_declaration_whose_time_was_edited_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"registration\.time is damaged \('yesterday'\)"):
        read_time("yesterday")


def test_a_declaration_after_results_is_called_what_it_is() -> None:
    late = report(replace(registration(), late=3), StatsConfig(), {"m": scores({})}, {"m": FAMILY})
    assert "when 3 of its jobs had finished already: not a pre-registration" in declaration_text(late)
    assert declaration_text(reported(scores({}))).startswith("Declared before the first answer, on 2026-01-02 03:04:05")


@pytest.fixture
def run(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]], small_model: tuple[str, ...]
) -> Callable[..., str]:
    """Run a sweep with a hypothesis, or another module on it."""
    sweep = (
        "quantexp", "-m", "quant=Q8_0,Q3_K_M", "task=triviaqa", "task.limit=2", "task.shots=0", "task.max_tokens=4",
        "engine.threads=1", "engine.context=256", "stats.resamples=50", *small_model,
        "hypothesis.claims={loss: {text: Q3_K_M loses on triviaqa, contrast: {triviaqa: {Q3_K_M: 1}}}}",
    )  # fmt: skip

    def run(*more: str, module: tuple[str, ...] = sweep) -> str:
        status, out, err = command(tmp_path, *module, *more)
        assert status == 0, err
        return " ".join(out.split())

    return run


def test_a_sweep_declares_before_it_runs_and_another_margin_afterwards_is_late(
    tmp_path: Path, run: Callable[..., str]
) -> None:
    first = run()
    assert "Declared before the first answer, on " in first
    assert "Claim: Q3_K_M loses on triviaqa - " in first
    assert "Changed since" not in first
    page = next((tmp_path / "multirun").glob("*/*/report/report.md")).read_text()
    assert "## Declaration" in page
    assert "Nothing has changed since." in page
    assert "stats.margin was declared as 0.02 and is 0.5." in run("stats.margin=0.5", module=("quantexp.aggregate",))
    assert "Declared before the first answer" in run()  # the same sweep again
    both = "when 2 of its jobs had finished and 4 of 4 answers existed already: not a pre-registration"
    assert both in run("stats.margin=0.5")


@pytest.mark.slow
def test_answers_to_other_jobs_count_as_existing(run: Callable[..., str]) -> None:
    run()
    # Other jobs, for it is measured how far distributions move, and the same answers.
    assert "when 4 of 4 answers existed already: not a pre-registration" in run("divergence=true")
    assert "when 2 of 6 answers existed already: not a pre-registration" in run("task.limit=3", "quant=Q8_0,F16")
