"""A model that costs next to nothing, for tests to which it does not matter what it writes."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.architectures import write_architecture

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile


@pytest.fixture(scope="session")
def tiny(q8_0: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, ModelConfig]:
    """A model of random weights with heads of 64 numbers, and the vocabulary of the embedded one."""
    path = write_architecture("llama", q8_0.path, tmp_path_factory.mktemp("tiny") / "model.gguf", head=64)
    config = ModelConfig(name="tiny", source="path", path=str(path))
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
