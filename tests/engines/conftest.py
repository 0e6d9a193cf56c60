"""A model that costs next to nothing, for tests to which it does not matter what it writes."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile


@pytest.fixture(scope="session")
def tiny(small: Path) -> tuple[ModelFile, ModelConfig]:
    """The small model, in F32, and its configuration."""
    config = ModelConfig(name="tiny", source="path", path=str(small))
    return models.resolve(config, QuantConfig("F32", None))[0], config


@pytest.fixture(scope="session")
def tiny_q8_0(tiny: tuple[ModelFile, ModelConfig], cache: Path) -> tuple[ModelFile, ModelConfig]:
    """The same at Q8_0."""
    config = replace(tiny[1], quantize=True, cache=str(cache))
    return models.resolve(config, QuantConfig("Q8_0", "MOSTLY_Q8_0"))[0], config


@pytest.fixture(scope="session")
def tiny_engine(tiny_q8_0: tuple[ModelFile, ModelConfig]) -> Iterator[LlamaCpp]:
    """The same, loaded as `engine` is."""
    with closing(LlamaCpp(*tiny_q8_0, EngineConfig("llama_cpp", context=1024, threads=1, lanes=8))) as loaded:
        yield loaded
