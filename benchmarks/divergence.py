"""Divergences against llama.cpp's own `llama-perplexity`: the same figures on the same windows, and speed, in one run.

The embedded ladder is held against its Q8_0. Exits with 1 where a figure is out of tolerance. Speed: tokens read a
second, from a loaded model to the last figure, both passes; the tool's time begins where its log says that it has
loaded the model. Only the ratio means anything elsewhere.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import config, model_file
from numpy.typing import NDArray

from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.llama_cpp.teacher_forcing import Forcing
from quantexp.evaluation.kl_divergence.measures import TokenMeasures
from quantexp.evaluation.kl_divergence.reference import compare, write_reference
from quantexp.evaluation.kl_divergence.windows import windows
from quantexp.tasks.requests import Read
from quantexp.util.native.threads import usable_cores

BASELINE = "Q8_0"
QUANTS = ("F16", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
LENGTH = 512
"""Tokens in a window, the tool's default."""

CHARACTERS = 8
"""Of text for each token that is wanted: more than enough, so that both tokenize the same few windows."""

ROUNDING = 2e-5
"""In nats: what the tool's 16 bits for 16 nats or more, and its single precision, do to a divergence near 0."""

PERCENTS = (99.9, 99.0, 95.0, 90.0, 10.0, 5.0, 1.0, 0.1)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as both have it.

    Attributes:
        ours, theirs: its values.
        tolerance: by how much they may differ; None where it is shown only.
    """

    name: str
    ours: float
    theirs: float
    tolerance: float | None

    @property
    def agrees(self) -> bool:
        """Whether the difference is tolerable."""
        return self.tolerance is None or abs(self.ours - self.theirs) <= self.tolerance


def main() -> None:
    """Both, on the whole ladder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="UTF-8, such as wikitext-2's wiki.test.raw")
    parser.add_argument("--perplexity", type=Path, required=True, help="the binary llama-perplexity")
    parser.add_argument("--windows", type=int, default=12)
    options = parser.parse_args()
    # Its line ends as they are: the tool reads them so.
    text = options.text.read_bytes().decode()[: options.windows * LENGTH * CHARACTERS]
    tokens = options.windows * LENGTH
    agree = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "text").write_bytes(text.encode())
        tool = [str(options.perplexity), "-f", str(folder / "text"), "-c", str(LENGTH), "-t", str(usable_cores())]
        tool += ["--chunks", str(options.windows), "--kl-divergence-base", str(folder / "theirs")]
        seconds, _ = _ours(BASELINE, text, options.windows, folder)
        their_seconds, log = _theirs(BASELINE, tool)
        speed = {"ours": [seconds], "theirs": [their_seconds]}
        perplexity = float(re.findall(r"Final estimate: PPL = ([\d.]+)", log)[0])
        scored = options.windows * (LENGTH // 2 - 1)
        sizes = [(folder / file).stat().st_size / scored for file in ("ours", "theirs")]
        print(f"{BASELINE}: {sizes[0]:.0f} bytes a scored token, llama-perplexity's file {sizes[1]:.0f}", flush=True)
        for quant in QUANTS:
            seconds, compared = _ours(quant, text, options.windows, folder)
            their_seconds, log = _theirs(quant, [*tool, "--kl-divergence"])
            assert compared is not None
            speed["ours"].append(seconds)
            speed["theirs"].append(their_seconds)
            figures = _figures(compared, log, perplexity)
            _print(quant, figures)
            agree &= all(figure.agrees for figure in figures)
    for what, part in (("baseline's pass", slice(0, 1)), ("quants' passes", slice(1, None)), ("all", slice(None))):
        ours, theirs = (tokens * len(each[part]) / sum(each[part]) for each in speed.values())
        print(f"{what:16}{ours:7.0f} tokens/s, llama-perplexity {theirs:6.0f}, ratio {ours / theirs:.2f}")
    raise SystemExit(0 if agree else 1)


def _ours(quant: str, text: str, most: int, folder: Path) -> tuple[float, TokenMeasures | None]:
    job = config(f"quant={quant}", "engine.lanes=1")
    engine = LlamaCpp(model_file(job), job.model, job.engine)
    try:
        started = time.perf_counter()
        sequences = windows(engine, Read(text, LENGTH))[:most]
        compared = None
        with Forcing(engine.model, context=LENGTH, threads=engine.threads) as forcing:
            if quant == BASELINE:
                write_reference(folder / "ours", forcing, sequences)
            else:
                compared = compare(folder / "ours", forcing, sequences)
        return time.perf_counter() - started, compared
    finally:
        engine.close()


def _theirs(quant: str, command: Sequence[str]) -> tuple[float, str]:
    """Seconds from the loaded model to the end, and what it printed."""
    job = config(f"quant={quant}")
    run = subprocess.Popen(
        [*command, "-m", model_file(job).path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.stdout is not None
    started, lines = None, []
    for line in run.stdout:
        if started is None and "system_info:" in line:
            started = time.perf_counter()
        lines.append(line)
    ended = time.perf_counter()
    if run.wait() != 0 or started is None:
        print("".join(lines), file=sys.stderr)
        raise SystemExit(f"{command[0]} failed with status {run.returncode}")
    return ended - started, "".join(lines)


def _figures(found: TokenMeasures, log: str, perplexity: float) -> list[Figure]:
    """All figures.

    Args:
        found: ours.
        log: theirs.
        perplexity: the baseline's, from its own pass. In its file the tool cuts log-probabilities off 16 nats below the
            likeliest token, so the ratio that it prints is too high where the text has such a token.
    """
    kl, change = found.divergence, 100 * (np.exp(found.quant_logprob) - np.exp(found.baseline_logprob))
    printed = {
        re.sub(" +", " ", name.strip()): (float(value), float(error or 0))
        for name, value, error in re.findall(r"^ *([^:\n]+?) *: +(-?[\d.]+)%?(?: ± +([\d.]+))?", log, re.MULTILINE)
    }

    def figure(name: str, ours: float, tolerance: float | None, *, own_error: bool = False) -> Figure:
        theirs, error = printed[name]
        return Figure(name, float(ours), theirs, max(tolerance or 0.0, error) if own_error else tolerance)

    mean = printed["Mean KLD"][0]
    ratio = float((found.baseline_logprob - found.quant_logprob).mean())
    ratio_error = printed["Mean ln(PPL(Q)/PPL(base))"][1]
    quantiles = [figure(f"{percent}% KLD", np.percentile(kl, percent), _between(kl, percent)) for percent in PERCENTS]
    return [
        figure("Mean KLD", kl.mean(), 0.01 * mean, own_error=True),
        figure("Median KLD", np.median(kl), _between(kl, 50.0)),
        *quantiles,
        figure("Maximum KLD", kl.max(), None),
        figure("Mean Δp", change.mean(), 0.0, own_error=True),
        figure("RMS Δp", np.sqrt((change**2).mean()), 0.0, own_error=True),
        figure("Same top p", 100 * found.same_top.mean(), 0.1),
        Figure("ln(PPL(Q)/PPL(base))", ratio, np.log(printed["Mean PPL(Q)"][0] / perplexity), ratio_error),
    ]


def _between(values: NDArray[np.float64], percent: float) -> float:
    """Return a standard error of a percentile: half the way between those one binomial deviation beside it."""
    deviation = 100 * np.sqrt(percent / 100 * (1 - percent / 100) / values.size)
    low, high = np.percentile(values, np.clip([percent - deviation, percent + deviation], 0, 100))
    return float(max((high - low) / 2, 0.01 * np.percentile(values, percent), ROUNDING))


def _print(quant: str, figures: Sequence[Figure]) -> None:
    print(f"\n{quant:28}{'ours':>12}{'llama.cpp':>12}{'difference':>12}")
    for figure in figures:
        mark = "" if figure.agrees else "  out of tolerance"
        difference = figure.ours - figure.theirs
        print(f"{figure.name:28}{figure.ours:12.5f}{figure.theirs:12.5f}{difference:12.5f}{mark}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
