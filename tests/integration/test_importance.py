"""Importance matrices that are made here, held to llama-imatrix's on the same text."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from common import llama_tool
from tests.support.architectures import write_architecture

from quantexp import models
from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import ModelFile
from quantexp.models.calibration import find_calibration, read_calibration
from quantexp.models.importance_matrix import Weights, read_importance_matrix
from quantexp.models.importance_measurement import CHUNK, measure_importance
from quantexp.util.native.threads import THREADS

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sums in one order."""
    monkeypatch.setenv(THREADS, "1")


TEXT = read_calibration(find_calibration(ModelConfig("any", "path")))[:6000]


def of_llama(model: Path, folder: Path, *flags: str) -> Weights:
    """llama-imatrix's matrix."""
    (folder / "text.txt").write_text(TEXT)
    out = folder / "theirs.gguf"
    command = [str(llama_tool("llama-imatrix")), "-m", str(model), "-f", str(folder / "text.txt"), "-o", str(out)]
    command += ["-t", "1", "-tb", "1", "-c", str(CHUNK), "--no-ppl", *flags]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    return read_importance_matrix(out)


def test_the_embedded_model(demo: ModelConfig, tmp_path: Path) -> None:
    model = Path(models.resolve(demo, QuantConfig("F16", "MOSTLY_F16"))[0].path)
    ours = measure_importance(model, TEXT, "model")
    # By the same kernels on the same rows: equal but for the order of sums, theirs in 32 bits.
    theirs = of_llama(model, tmp_path, "--no-repack", "-b", str(CHUNK), "-ub", str(CHUNK))
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-4, err_msg=name)
    # As it is called by everybody else: other kernels, which round otherwise.
    usual = of_llama(model, tmp_path)
    for name, values in ours.items():
        assert np.abs(values - usual[name]).sum() < 0.02 * usual[name].sum(), name


def test_a_mixture_of_experts(q8_0: ModelFile, tmp_path: Path) -> None:
    model = write_architecture("qwen3moe", q8_0.path, tmp_path / "experts.gguf")
    ours = measure_importance(model, TEXT, "model")
    theirs = of_llama(model, tmp_path, "--no-repack", "-b", str(CHUNK), "-ub", str(CHUNK))
    assert ours.keys() == theirs.keys()
    assert any("exps" in name for name in ours)
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-3, err_msg=name)
