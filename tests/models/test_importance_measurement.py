"""Importance matrices that are made here, of what a model does with a text."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.support.architectures import write_architecture
from tests.support.gguf_files import open_gguf

from quantexp import models
from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import ModelFile
from quantexp.models.calibration import find_calibration, read_calibration
from quantexp.models.importance_matrix import read_importance_matrix
from quantexp.models.importance_measurement import CHUNK, measure_importance, write_matrix
from quantexp.util.errors import UserError
from quantexp.util.native.file_types import list_quants


def quant_of(name: str) -> QuantConfig:
    return QuantConfig(name, list_quants()[name])


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of two parts, and a little more."""
    path = tmp_path_factory.mktemp("calibration") / "text.txt"
    path.write_text(read_calibration(find_calibration(ModelConfig("any", "path")))[:4500])
    return path


@pytest.fixture(scope="module")
def tiny(q8_0: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in 32 bits that reads texts as the embedded one does."""
    return write_architecture("llama", q8_0.path, tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> ModelConfig:
    """The small model, with a cache of its own."""
    return ModelConfig("tiny", "path", path=str(tiny), quantize=True, cache=str(tmp_path / "cache"))


def test_a_matrix_has_every_weight_of_every_block(tiny: Path, text: Path, tmp_path: Path) -> None:
    found = measure_importance(tiny, text.read_text(), "model")
    weights = {
        tensor.name: int(tensor.shape[0])
        for tensor in open_gguf(str(tiny)).tensors
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1
    }
    assert {name: values.size for name, values in found.items()} == weights
    assert all(np.isfinite(values).all() and (values >= 0).all() and values.any() for values in found.values())
    # What three weights of a block are multiplied by is one and the same.
    assert (found["blk.3.attn_q.weight"] == found["blk.3.attn_k.weight"]).all()
    write_matrix(tmp_path / "matrix.dat", found)
    written = read_importance_matrix(tmp_path / "matrix.dat")
    assert all((written[name] == values).all() for name, values in found.items())


def test_quants_that_need_a_matrix_are_made_with_one_that_is_made_here(
    model: ModelConfig, text: Path, tmp_path: Path
) -> None:
    made = replace(model, imatrix="auto", calibration=str(text))
    wanted = [(made, quant_of("IQ4_NL")), (model, quant_of("IQ4_NL"))]
    models.prepare(wanted)
    with_matrix, without = (models.resolve(*each)[0] for each in wanted)
    assert with_matrix.sha256 != without.sha256
    # Once: the next quant takes the matrix that is there.
    [matrix] = (tmp_path / "cache").rglob("imatrix-*.dat")
    before = matrix.stat().st_mtime_ns
    models.resolve(made, quant_of("Q4_0"))
    assert matrix.stat().st_mtime_ns == before
    # Another text makes another quant.
    other = tmp_path / "other.txt"
    other.write_text(text.read_text().upper())
    source = models.find_source(made, quant_of("IQ4_NL"))
    described = {
        models.describe_source(replace(made, calibration=path), quant_of("IQ4_NL"), source)
        for path in (str(text), str(other), None)
    }
    assert len(described) == 3


def test_what_is_no_calibration_text(model: ModelConfig, tiny: Path, tmp_path: Path) -> None:
    made = replace(model, imatrix="auto")
    with pytest.raises(UserError, match=r"model\.calibration=nowhere is not a file"):
        models.prepare([(replace(made, calibration="nowhere"), quant_of("Q4_0"))])
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"model\.calibration=.*bytes is not text in UTF-8"):
        models.resolve(replace(made, calibration=str(tmp_path / "bytes")), quant_of("Q4_0"))
    with pytest.raises(UserError, match=rf"the text has \d+ tokens, and an importance matrix takes {CHUNK} at least"):
        measure_importance(tiny, "too short", "model")


def test_the_bundled_text_is_long_and_of_many_scripts() -> None:
    text = read_calibration(find_calibration(ModelConfig("any", "path")))
    assert len(text.encode()) > 36_000
    scripts = {unicodedata.name(letter).split()[0] for letter in text if letter.isalpha()}
    assert {"LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI", "CJK", "HIRAGANA", "HANGUL"} <= scripts
