"""Fingerprints: what changes them, and that a new key of the schema does not."""

from dataclasses import field, fields, is_dataclass, make_dataclass, replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.config import (
    Config,
    DataConfig,
    EngineConfig,
    ModelConfig,
    ModelSampling,
    PromptConfig,
    QuantConfig,
    Recommendation,
    SamplingConfig,
    TaskConfig,
)
from quantexp.config.choices import Forced
from quantexp.config.fingerprint import (
    SCHEME,
    config_fingerprint,
    job_fingerprint,
    pair_fingerprint,
    sweep_fingerprint,
)
from quantexp.config.schema import ClaimConfig, HypothesisConfig

JOB = Config(
    model=ModelConfig("some-model", "hub", repository="owner/name", shots=6),
    quant=QuantConfig("Q8_0", "MOSTLY_Q8_0"),
    task=TaskConfig("gsm8k", prompt=PromptConfig(1, "Solve it.", "{question}"), grader="gsm8k", max_tokens=64),
    data=DataConfig("hub", "hub"),
    engine=EngineConfig("llama_cpp", threads=3),
    hypothesis=HypothesisConfig("a cliff", {"h1": ClaimConfig("it is there", {"gsm8k": {"Q3_K_M": 1}})}),
)


def prints(job: Config) -> list[str]:
    """Every fingerprint that a job, or a sweep of it, has."""
    facts = {"data": "d", "grader": "g-v1"}
    return [
        config_fingerprint(job),
        job_fingerprint(job, **facts),
        pair_fingerprint(job, **facts),
        sweep_fingerprint([job], job.stats),
    ]


def widened(section: Any, name: str, default: object, value: object) -> Any:
    """The same section of a schema that has one more key."""
    spec = field(default_factory=lambda: default) if isinstance(default, list | dict) else field(default=default)
    wider = make_dataclass("Wider", [(name, Any, spec)], bases=(type(section),))
    return wider(**{each.name: getattr(section, each.name) for each in fields(section)}, **{name: value})


SECTIONS = [each.name for each in fields(Config) if is_dataclass(getattr(JOB, each.name))]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()), st.sampled_from(Forced),
)  # fmt: skip


@given(st.sampled_from([*SECTIONS, "task.prompt", "task.sampling", "hypothesis.claims.h1", ""]), VALUES, VALUES)
def test_a_new_key_at_its_default_changes_no_fingerprint(place: str, default: object, value: object) -> None:
    def wider(value: object) -> Config:
        section, *inner = place.split(".")
        if not section:
            job: Config = widened(JOB, "new_key", default, value)
            return job
        there = getattr(JOB, section)
        if inner == ["claims", "h1"]:
            changed = replace(there, claims={"h1": widened(there.claims["h1"], "new_key", default, value)})
        elif inner:
            changed = replace(there, **{inner[0]: widened(getattr(there, inner[0]), "new_key", default, value)})
        else:
            changed = widened(there, "new_key", default, value)
        return replace(JOB, **{section: changed})

    assert prints(wider(default)) == prints(JOB)
    decides_jobs = place.partition(".")[0] not in {"tracking", "stats", "store", "hypothesis"}
    if value != default and decides_jobs:
        assert prints(wider(value))[:2] != prints(JOB)[:2]


def changed(section: str, **values: object) -> Config:
    return replace(JOB, **{section: replace(getattr(JOB, section), **values)})


@pytest.mark.parametrize(
    ("same_job", "other"),
    [
        (True, changed("engine", threads=1, lanes=5, url="http://127.0.0.1")),
        (True, changed("tracking", folder="elsewhere")),
        (True, changed("model", note="a note", cache="/elsewhere")),
        (True, changed("model", sampling=ModelSampling(Recommendation(0.6), greedy_warning=True))),
        (True, replace(JOB, force=True, divergence_over=Forced.gold)),
        (False, changed("engine", lanes=1)),
        (False, changed("engine", context=1024)),
        (False, changed("engine", floor=True)),
        (False, changed("task", stop=["\n"])),
        (False, changed("task", sampling=SamplingConfig(presence_penalty=0.5))),
        (False, changed("model", shots=5)),
        (False, replace(JOB, seed=1)),
        (False, replace(JOB, divergence=True)),
        (False, replace(JOB, divergence=True, divergence_over=Forced.gold)),
    ],
)
def test_only_what_decides_answers_and_grades_makes_another_job(same_job: bool, other: Config) -> None:
    assert (config_fingerprint(other) == config_fingerprint(JOB)) == same_job
    assert (job_fingerprint(other, data="d") == job_fingerprint(JOB, data="d")) == same_job


DEFAULTS: dict[str, object] = {
    "model.package": None,
    "model.file": None,
    "model.repository": None,
    "model.revision": "main",
    "model.path": None,
    "model.checkpoint": None,
    "model.sha256": None,
    "model.quantize": False,
    "model.imatrix": None,
    "model.output_type": None,
    "model.embedding_type": None,
    "model.tensor_types": {},
    "model.chat_template": None,
    "model.template": {},
    "model.context": 4096,
    "model.shots": 0,
    "model.examples": "turns",
    "quant.file_type": None,
    "quant.method": None,
    "quant.label": None,
    "quant.bits_per_weight": None,
    "task.module": None,
    "task.prompt.answer": "Answer:",
    "task.stop": [],
    "task.sampling.temperature": 0.0,
    "task.sampling.top_p": 1.0,
    "task.sampling.min_p": 0.0,
    "task.sampling.top_k": 0,
    "task.sampling.presence_penalty": 0.0,
    "task.sampling.frequency_penalty": 0.0,
    "task.sampling.repetition_penalty": 1.0,
    "task.sampling.penalty_last_n": 64,
    "task.sampling.samples": 1,
    "task.sampling.seed": 0,
    "task.shots": 0,
    "task.limit": None,
    "task.window": None,
    "data.source": "bundled",
    "data.repository": None,
    "data.subset": None,
    "data.split": "test",
    "data.revision": "main",
    "data.path": None,
    "data.columns": {},
    "data.examples": None,
    "data.limit": None,
    "engine.context": 4096,
    "engine.gpu_layers": 0,
    "engine.lanes": None,
    "engine.kv_key": "f16",
    "engine.kv_value": "f16",
    "engine.flash_attention": "auto",
    "engine.floor": False,
    "engine.url": None,
    "engine.model": None,
    "engine.prompt": "messages",
    "engine.extra_body": {},
    "engine.prompt_logprobs": 20,
    "seed": 0,
    "divergence": False,
    "divergence_over": "answer",
    "divergence_base": None,
    "divergence_write": None,
}
"""Defaults that jobs of the present `SCHEME` were fingerprinted with."""


@pytest.mark.parametrize(("key", "default"), DEFAULTS.items())
def test_a_default_changes_only_with_the_scheme(key: str, default: object) -> None:
    found: Any = Config()
    for name in key.split("."):
        found = getattr(found, name)
    value = found.value if isinstance(found, Enum) else found
    assert (SCHEME, value) == (2, default), "jobs at the old default and at the new one count as the same: raise SCHEME"


def test_a_fingerprint_stays_what_it_is() -> None:
    assert [each[:12] for each in map(config_fingerprint, (JOB, changed("engine", context=1024)))] == [
        "8b1ebbf0d753",
        "2d90852fccd0",
    ]


@pytest.mark.parametrize(
    "recipe",
    [{"imatrix": "a.gguf"}, {"output_type": "Q8_0"}, {"embedding_type": "F16"}, {"tensor_types": {"ffn": "Q8_0"}}],
)
def test_a_recipe_makes_another_job_with_the_same_baseline(recipe: dict[str, object]) -> None:
    other = changed("model", **recipe)
    assert config_fingerprint(other) != config_fingerprint(JOB)
    assert job_fingerprint(other, data="d") != job_fingerprint(JOB, data="d")
    assert pair_fingerprint(other, data="d") == pair_fingerprint(JOB, data="d")
