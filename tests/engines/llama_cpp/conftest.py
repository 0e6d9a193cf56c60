"""A model that costs next to nothing, for tests to which it does not matter what it writes."""

import pytest
from tests.support.architectures import write_architecture

from quantexp import models
from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import ModelFile


@pytest.fixture(scope="session")
def tiny(q8_0: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFile, ModelConfig]:
    """A model of random weights with heads of 64 numbers, and the vocabulary of the embedded one."""
    path = write_architecture("llama", q8_0.path, tmp_path_factory.mktemp("tiny") / "model.gguf", head=64)
    config = ModelConfig(name="tiny", source="path", path=str(path))
    return models.resolve(config, QuantConfig("F32", None))[0], config
