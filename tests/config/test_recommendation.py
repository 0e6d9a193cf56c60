"""task.sampling=model, as a user types it: the publisher's recommendation in the place of the task's sampling."""

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import pytest
from hydra import compose
from omegaconf import OmegaConf
from tests.support.composing import compose_job, compose_sweep, initialize_hydra

from quantexp.config import Recommendation, SamplingConfig
from quantexp.config.composition import compose_jobs, job_of
from quantexp.util.errors import UserError

THINKING = "model.sampling.thinking={temperature: 0.6, top_k: 20, presence_penalty: 1.5}"
PLAIN = "model.sampling.non_thinking={temperature: 0.7, top_p: 0.8}"
OFF = "model.template={enable_thinking: false}"
GREEDY = asdict(SamplingConfig())


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_hydra():
        yield


def sampling(*overrides: str) -> dict[str, Any]:
    """What differs from greedy."""
    found = asdict(compose_job(*overrides).task.sampling)
    return {key: value for key, value in found.items() if value != GREEDY[key]}


@pytest.mark.parametrize("spelling", ["task.sampling", "task/sampling"])
def test_a_thinking_models_recommendation_counts_unless_it_is_told_not_to_think(spelling: str) -> None:
    chosen = f"{spelling}=model"
    thinking = {"temperature": 0.6, "top_k": 20, "presence_penalty": 1.5}
    plain = {"temperature": 0.7, "top_p": 0.8}
    assert sampling(chosen, THINKING, PLAIN) == thinking
    assert sampling(chosen, THINKING, PLAIN, "model.template={enable_thinking: true}") == thinking
    assert sampling(chosen, THINKING, PLAIN, OFF) == plain
    assert sampling(chosen, PLAIN) == plain
    assert sampling(f"{spelling}=greedy", THINKING, PLAIN) == {}
    assert sampling(THINKING, PLAIN) == {}


def test_what_is_set_beside_it_wins() -> None:
    found = sampling("task.sampling=model", PLAIN, "task.sampling.temperature=0.3", "task.sampling.samples=4")
    assert found == {"temperature": 0.3, "top_p": 0.8, "samples": 4}
    assert sampling("task.sampling=model", "model.sampling.non_thinking.top_k=5") == {"temperature": 1.0, "top_k": 5}


@pytest.mark.parametrize("spelling", ["task.sampling", "task/sampling"])
def test_it_takes_the_place_of_what_an_experiment_says(spelling: str) -> None:
    assert sampling("experiment=quant-cliff") == {}
    found = sampling("experiment=quant-cliff", f"{spelling}=model", "model.sampling.non_thinking={temperature: 0.7}")
    assert found["temperature"] == 0.7


def test_the_printed_configuration_can_show_it() -> None:
    printed = compose("config", ["task.sampling=model", THINKING])
    OmegaConf.resolve(printed)
    assert (printed.task.sampling.temperature, printed.task.sampling.top_p) == (0.6, 1.0)


def test_a_sweep_takes_both() -> None:
    for spelling in ("task.sampling", "task/sampling"):
        sweep = compose_sweep(f"{spelling}=greedy,model", "seed=0,1", THINKING)
        assert [job.task.sampling.temperature for job in compose_jobs(sweep)] == [0.0, 0.0, 0.6, 0.6]


def test_every_key_can_be_recommended_and_is_taken() -> None:
    given = {"temperature": 0.5, "top_p": 0.5, "min_p": 0.5, "top_k": 5, "presence_penalty": 0.5}
    given |= {"frequency_penalty": 0.5, "repetition_penalty": 1.5, "penalty_last_n": 5}
    assert set(given) == {field.name for field in fields(Recommendation)}
    written = ", ".join(f"{key}: {value}" for key, value in given.items())
    assert sampling("task.sampling=model", f"model.sampling.thinking={{{written}}}") == given


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ([], "the publisher of smollm2-135m-instruct recommends; add it, as in 'model.sampling.non_thinking="),
        ([THINKING, OFF], "the publisher of smollm2-135m-instruct recommends without thinking; add it"),
        (["model.sampling.thinking.temperature=-1"], "model.sampling.thinking.temperature=-1.0 is too small"),
    ],
)
def test_what_cannot_be_taken_is_said_in_a_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("{", r"\{")):
        sampling("task.sampling=model", *overrides)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("top_k=-1", "task.sampling.top_k=-1 is too small; it must be at least 0."),
        ("repetition_penalty=0", "task.sampling.repetition_penalty=0.0 must be above 0 and at most 10, such as 1.05."),
        ("presence_penalty=3", "task.sampling.presence_penalty=3.0 must be at least -2 and at most 2."),
        ("frequency_penalty=nan", "task.sampling.frequency_penalty=nan must be at least -2 and at most 2."),
        ("penalty_last_n=-2", "task.sampling.penalty_last_n=-2 is too small; it must be at least -1."),
    ],
)
def test_a_value_without_a_meaning_is_refused(override: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        sampling(f"task.sampling.{override}")
    assert str(caught.value) == sentence


def test_a_job_takes_one_way_of_sampling() -> None:
    for spelling in ("task.sampling", "task/sampling"):
        with pytest.raises(UserError, match="a job takes one option"):
            job_of(compose("config", [f"{spelling}=[greedy,model]"], return_hydra_config=True))


def test_the_models_that_come_with_a_recommendation() -> None:
    assert sampling("model=qwen2.5-7b-instruct", "task.sampling=model") == {
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05,
    }  # fmt: skip
    assert sampling("model=llama-3.1-8b-instruct", "task.sampling=model") == {"temperature": 0.6, "top_p": 0.9}
