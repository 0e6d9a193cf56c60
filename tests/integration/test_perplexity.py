"""Files of distributions exchanged with llama.cpp's own llama-perplexity, in both directions."""

import csv
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from common import llama_tool

from quantexp import models
from quantexp.config import ModelConfig, QuantConfig
from quantexp.models.calibration import find_calibration, read_calibration

pytestmark = pytest.mark.integration

WINDOWS, WINDOW = 4, 128


def run_tool(demo: ModelConfig, quant: str, folder: Path, *flags: str) -> str:
    """Return what llama-perplexity says of a quant."""
    file = models.resolve(demo, QuantConfig(quant, f"MOSTLY_{quant}"))[0]
    command = [str(llama_tool("llama-perplexity")), "-m", file.path, "-f", str(folder / "text.txt"), "-t", "1"]
    command += ["-c", str(WINDOW), "--chunks", str(WINDOWS), *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    return done.stdout + done.stderr


def read_figures(said: str) -> dict[str, float]:
    """Return what it prints, by the names of columns; probabilities and shares as fractions."""
    lines = re.findall(r"^ *([^:\n]+?) *: +(-?[\d.]+)", said, re.MULTILINE)
    printed = {re.sub(" +", " ", name): float(value) for name, value in lines}
    return {
        "mean": printed["Mean KLD"],
        "median": printed["Median KLD"],
        "maximum": printed["Maximum KLD"],
        "log_perplexity_ratio": printed["Mean ln(PPL(Q)/PPL(base))"],
        "probability_change_rms": printed["RMS Δp"] / 100,
        "same_top": printed["Same top p"] / 100,
    }


def assert_alike(ours: dict[str, float], theirs: dict[str, float]) -> None:
    """The same sums over the same windows; the two compute a window in other calls, which round otherwise."""
    tokens = WINDOWS * (WINDOW // 2 - 1)
    tolerances = {"mean": 0.02, "median": 0.05, "maximum": 0.1, "probability_change_rms": 0.02}
    for name, value in theirs.items():
        least = {"same_top": 2 / tokens, "log_perplexity_ratio": 0.005}.get(name, 1e-4)
        assert ours[name] == pytest.approx(value, rel=tolerances.get(name, 0), abs=least), name


def test_both_read_what_the_other_has_written(
    demo: ModelConfig, cache: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "text.txt").write_text(read_calibration(find_calibration(demo))[:8000])
    base = ("--kl-divergence-base", str(tmp_path / "theirs.kld"))
    run_tool(demo, "Q8_0", tmp_path, *base)
    theirs = read_figures(run_tool(demo, "Q3_K_M", tmp_path, *base, "--kl-divergence"))

    # Ours from their file.
    arguments: tuple[str, ...] = (
        "-m",
        "quant=Q8_0,Q3_K_M",
        "task=text",
        "data=files",
        "data.path=text.txt",
        f"task.window={WINDOW}",
    )
    arguments = (*arguments, "engine.threads=1", f"model.cache={cache}", "stats.resamples=100")
    status, _, err = command(tmp_path, "quantexp", *arguments, "divergence_base=theirs.kld")
    assert status == 0, err
    report = max(tmp_path.glob("multirun/*/*/report"))
    baseline, quant = (
        {name: float(row[name]) for name in theirs}
        for row in csv.DictReader((report / "divergence.csv").read_text().splitlines())
    )
    assert_alike(quant, theirs)
    # The same model: what is left is the rounding of two ways to compute, and of 16 bits.
    assert abs(baseline["mean"]) < 0.003

    # Theirs from our file.
    status, _, err = command(tmp_path, "quantexp", *arguments, "divergence_write=ours.kld")
    assert status == 0, err
    base = ("--kl-divergence-base", str(tmp_path / "ours.kld"))
    said = run_tool(demo, "Q3_K_M", tmp_path, *base, "--kl-divergence", "--chunks", "-1")
    windows = int(re.findall(r"computing over (\d+) chunks", said)[0])
    report = max(tmp_path.glob("multirun/*/*/report"))
    [row] = csv.DictReader((report / "divergence.csv").read_text().splitlines())
    assert int(row["tokens"]) == windows * (WINDOW // 2 - 1)
    theirs = read_figures(said)
    del theirs["maximum"]  # ours is of what is kept of the baseline, where a single token's divergence is estimated
    assert_alike({name: float(row[name]) for name in theirs}, theirs)
