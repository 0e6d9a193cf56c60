"""A model of random weights with the embedded model's tokenizer, for what does not depend on an answer's content."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models.gguf import identify


@pytest.fixture(scope="session")
def small_engine(small: Path) -> Iterator[LlamaCpp]:
    """The model, loaded."""
    config = EngineConfig("llama_cpp", context=1024, threads=1, lanes=8)
    with closing(LlamaCpp(identify(small, small.parent), ModelConfig("small", "path"), config)) as loaded:
        yield loaded
