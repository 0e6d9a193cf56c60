"""The embedded model with a few of its layers, for tests of how answers come about, not of what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from tests.conftest import DEMO
from tests.support.gguf_files import write_cut

from quantexp import models
from quantexp.config import EngineConfig, ModelConfig, QuantConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models import ModelFile

LAYERS = 3
Q8_0 = QuantConfig("Q8_0", "MOSTLY_Q8_0")
ENGINE = EngineConfig("llama_cpp", context=1024, threads=1, lanes=8)


@pytest.fixture(scope="session")
def demo(whole_demo: ModelConfig, cache: Path) -> ModelConfig:
    """The embedded model cut to three layers of its thirty: what is asked takes a third of the time."""
    path = cache / "cut.gguf"
    with FileLock(cache / "cut.lock"):  # one for all workers
        if not path.is_file():
            write_cut(models.find_source(whole_demo, Q8_0).path, path.with_suffix(".part"), LAYERS).rename(path)
    return ModelConfig("cut", "path", path=str(path), quantize=True, context=whole_demo.context, cache=whole_demo.cache)


@pytest.fixture(scope="session")
def q8_0(demo: ModelConfig) -> ModelFile:
    """The cut model at Q8_0."""
    return models.resolve(demo, Q8_0)[0]


@pytest.fixture(scope="session")
def engine(q8_0: ModelFile, demo: ModelConfig) -> Iterator[LlamaCpp]:
    """The cut model at Q8_0, loaded."""
    loaded = LlamaCpp(q8_0, demo, ENGINE)
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def whole_demo(cache: Path) -> ModelConfig:
    """The embedded model."""
    return ModelConfig(**{**vars(DEMO), "cache": str(cache)})


@pytest.fixture(scope="session")
def whole_q8_0(whole_demo: ModelConfig) -> ModelFile:
    """The embedded model at Q8_0."""
    return models.resolve(whole_demo, Q8_0)[0]


@pytest.fixture(scope="session")
def whole_engine(whole_q8_0: ModelFile, whole_demo: ModelConfig) -> Iterator[LlamaCpp]:
    """The embedded model at Q8_0, loaded."""
    loaded = LlamaCpp(whole_q8_0, whole_demo, ENGINE)
    yield loaded
    loaded.close()
