"""The models that have a name: each option says what a job needs to know of its model, and can be taken at its word."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.support.composing import compose_job, initialize_hydra

from quantexp.config import ModelConfig, Recommendation, SamplingConfig
from quantexp.engines.registry import check_engine
from quantexp.tasks.reasoning import get_format
from quantexp.util.errors import UserError

MODELS = Path(str(files("quantexp.conf"))) / "model"
NAMED = sorted(file.stem for file in MODELS.glob("*.yaml") if "\nrepository: ???" not in file.read_text())
FETCHED = [name for name in NAMED if "\nsource: hub\n" in (MODELS / f"{name}.yaml").read_text()]
OFF = "model.template={enable_thinking: false}"
FAMILIES = (
    *("qwen3", "qwen3.5", "gpt-oss", "gemma-3", "gemma-4", "llama-3.2", "deepseek-r1", "phi-4", "mistral-small"),
    *("ministral-3", "smollm3", "glm-4"),
)


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_hydra():
        yield


composed = cache(compose_job)


def said(recommendation: Recommendation) -> dict[str, Any]:
    return {key: value for key, value in asdict(recommendation).items() if value is not None}


def reasons(model: ModelConfig) -> bool:
    """True if the option says that its model may think."""
    form = get_format(model.reasoning)
    return form is not None and bool(form.marks)


def test_the_families_of_today_are_there() -> None:
    for family in FAMILIES:
        assert any(name.startswith(f"{family}-") for name in FETCHED), family


@pytest.mark.parametrize("name", FETCHED)
def test_an_option_says_where_its_files_are_and_under_which_licence(name: str) -> None:
    config = composed(f"model={name}")
    check_engine(config)
    model, text = config.model, (MODELS / f"{name}.yaml").read_text()
    assert model.name == name
    assert model.licence
    assert re.fullmatch(r"[\w.-]+/[\w.-]+-GGUF", str(model.repository))
    is_pinned = re.fullmatch("[0-9a-f]{40}", model.revision) is not None
    assert is_pinned or model.revision == "main"
    assert is_pinned != ("its revision is not pinned.\n" in text)
    fetch = rf"\n#   python -m quantexp\.models fetch model={re.escape(name)} quant=Q8_0,(\w+,)*Q4_K_M\b"
    assert re.search(fetch, text)
    assert re.match(r"# .+: Q8_0 \d+\.\d GB, .*Q4_K_M \d+\.\d", text), "the sizes"


@pytest.mark.parametrize("name", FETCHED)
def test_an_option_says_how_its_model_reasons_and_how_it_is_sampled(name: str) -> None:
    model = composed(f"model={name}").model
    assert model.reasoning == "auto" or get_format(model.reasoning) is not None
    assert reasons(model) == (model.reasoning_tokens is not None)
    assert reasons(model) == bool(said(model.sampling.thinking))
    for recommendation in (model.sampling.thinking, model.sampling.non_thinking):
        assert 0 < said(recommendation).get("temperature", 1) <= 1, "a recommendation is to draw"
    if isinstance(warning := model.sampling.greedy_warning, str):
        assert not warning.endswith("."), "it ends the sentence of a report"


@pytest.mark.parametrize("name", FETCHED)
def test_what_is_recommended_is_taken(name: str) -> None:
    model = composed(f"model={name}").model
    usual = said(model.sampling.thinking) or said(model.sampling.non_thinking)
    greedy = asdict(SamplingConfig())
    cases = [((), usual), ((OFF,), said(model.sampling.non_thinking))]
    for overrides, recommended in cases if reasons(model) else cases[:1]:
        asked = (f"model={name}", "task.sampling=model", *overrides)
        if not recommended:
            with pytest.raises(UserError, match=f"the publisher of {name} recommends"):
                composed(*asked)
            continue
        taken = asdict(composed(*asked).task.sampling)
        assert {key: taken[key] for key in recommended} == recommended
        others = taken.keys() - recommended.keys() - {"temperature"}
        assert all(taken[key] == greedy[key] for key in others)


def test_a_template_argument_of_an_option_can_be_turned_round() -> None:
    assert composed("model=qwen3.5-4b").model.template == {"enable_thinking": True}
    assert composed("model=qwen3.5-4b", OFF).model.template == {"enable_thinking": False}
