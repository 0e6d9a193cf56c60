"""The headline chart: score against measured bits per weight, one line per task.

Drawn with Matplotlib's objects on an Agg canvas, never through pyplot, so that it needs no display
and leaves no figure behind. The figure is laid out in inches around the plot, whose size is fixed:
long names and long notes make the picture larger instead of squeezing the data.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

from quantexp.comparison.summary import Condition, Summary, interval_names, margin_text
from quantexp.report.caveats import MOST, shorten_note
from quantexp.report.labels import GRID, INK, LINE_SPACING, MUTED, NAME_SIZE, Pen, QuantNames, measure_height, spread
from quantexp.stats import Decision, Verdict
from quantexp.util.files import write_atomically

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#333333")
"""Colours that stay apart under the common colour vision deficiencies: Okabe and Ito (2008),
"Color Universal Design", without the yellow that vanishes on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""One shape per task as well, so that the lines can be told apart without colour. Seven colours and
eight shapes repeat together only after 56 tasks."""

SIGNS = {
    Verdict.within_margin: "\u2713",
    Verdict.worse: "\u2717",
    Verdict.worse_within_margin: "\u2248",
    Verdict.inconclusive: "?",
    Verdict.nothing_to_lose: "\u2205",
}
"""What stands in a mark for each verdict: check mark, ballot X, almost equal to, question mark, empty set."""

_DPI = 160
_PLOT_WIDTH, _PLOT_HEIGHT = 6.6, 3.7  # inches
_LEFT, _GAP = 0.85, 0.16
_TITLE_SIZE, _SUBTITLE_SIZE, _NOTE_SIZE = 13.0, 9.5, 7.5
_MARK, _SIGN_SIZE = 11.0, 7.0
_SMALLEST_SPAN = 0.1  # of the score axis: less would magnify noise into a landscape


@dataclass(frozen=True)
class _Ladder:
    """One task's points, from few bits to many."""

    task: str
    color: str
    marker: str
    points: tuple[Condition, ...]


def headline_chart(summary: Summary, model: str) -> Figure:
    """Draw one model's scores against the measured bits per weight of its files.

    Lines are means, bands their intervals, the dashed vertical line the baseline. Quant
    names stand above the plot, moved apart where files have nearly the same size and joined to
    their place by a thin line.

    Raises:
        ValueError: The summary has no condition for the model.
    """
    ladders = [
        _Ladder(
            task,
            PALETTE[i % len(PALETTE)],
            MARKERS[i % len(MARKERS)],
            tuple(sorted(summary.ladder(model, task), key=lambda c: c.bits_per_weight)),
        )
        for i, task in enumerate(summary.tasks(model))
    ]
    if not ladders:
        raise ValueError(f"The summary has no score of {model} to draw.")
    with own_style():
        return _draw(summary, model, ladders)


def save_chart(figure: Figure, folder: Path, stem: str) -> tuple[Path, Path]:
    """Write a chart as PNG and SVG; the same chart gives the same bytes.

    Raises:
        OSError: A file cannot be written.
    """
    # What varies between two runs is left out: dates, and the random ids of SVG elements.
    png, svg = io.BytesIO(), io.BytesIO()
    with own_style():
        figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    paths = folder / f"{stem}.png", folder / f"{stem}.svg"
    for path, content in zip(paths, (png, svg), strict=True):
        write_atomically(path, content.getvalue())
    return paths


@contextmanager
def own_style() -> Iterator[None]:
    """Matplotlib's own defaults, whatever the user's matplotlibrc says, and restored after."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.hashsalt": "quantexp", "font.family": "DejaVu Sans"})
        yield


def _draw(summary: Summary, model: str, ladders: Sequence[_Ladder]) -> Figure:
    figure = Figure(dpi=_DPI, facecolor="white")
    pen = Pen(figure)
    names = {(c.bits_per_weight, c.quant): None for line in ladders for c in line.points}
    quants = QuantNames(sorted(names), summary.baseline, pen, (_PLOT_WIDTH, _PLOT_HEIGHT))

    right = 2 * _GAP + 0.2 + max(pen.width(line.task, NAME_SIZE, "bold") for line in ladders)
    width = _LEFT + _PLOT_WIDTH + right
    text_width = width - 2 * _GAP
    title = pen.wrap(model, text_width, _TITLE_SIZE, "bold")
    subtitle = pen.wrap(f"{summary.title}: score against measured bits per weight", text_width, _SUBTITLE_SIZE)
    notes = [line for note in _notes(summary, ladders) for line in pen.wrap(note, text_width, _NOTE_SIZE)]
    bottom = 1.5 * _GAP + measure_height(notes, _NOTE_SIZE) + 0.55
    head = measure_height(title, _TITLE_SIZE) + measure_height(subtitle, _SUBTITLE_SIZE)
    height = bottom + _PLOT_HEIGHT + quants.height + 2 * _GAP + head
    figure.set_size_inches(width, height)

    axes = figure.add_axes((_LEFT / width, bottom / height, _PLOT_WIDTH / width, _PLOT_HEIGHT / height))
    _scales(axes, ladders)
    quants.draw(axes)
    _lines(axes, ladders)
    _verdicts(axes, ladders, summary)
    _task_names(axes, ladders)

    left, below = _GAP / width, height - _GAP - measure_height(title, _TITLE_SIZE)
    pen.write(title, left, 1 - _GAP / height, _TITLE_SIZE, weight="bold", color=INK)
    pen.write(subtitle, left, below / height, _SUBTITLE_SIZE, color=MUTED)
    foot = (_GAP + measure_height(notes, _NOTE_SIZE)) / height
    pen.write(notes, left, foot, _NOTE_SIZE, color=MUTED)
    return figure


def _notes(summary: Summary, ladders: Sequence[_Ladder]) -> list[str]:
    estimates = [c.estimate for line in ladders for c in line.points]
    counts = []
    for line in ladders:
        sizes = sorted({c.estimate.n for c in line.points})
        counts.append(f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else str(sizes[0]))
    if len(set(counts)) == 1:
        count = f"n = {counts[0]} {summary.unit}s" + (" in each task" if len(counts) > 1 else "")
    else:
        named = zip((line.task for line in ladders), counts, strict=True)
        count = f"{summary.unit.capitalize()}s: " + ", ".join(f"{task} {number}" for task, number in named)
    banded = any(len(line.points) > 1 for line in ladders)
    methods = " or ".join(sorted({e.interval_method for e in estimates}))
    how = (
        f"{count}. {'Bands' if banded else 'Bars'}: {interval_names(summary)} interval of each score over "
        f"{summary.unit}s ({methods})."
    )
    if banded:
        how += " Bands that overlap do not show that quants are equal: see the paired differences."
    if any(e.zero_width for e in estimates):
        how += " Hollow marks: all items scored the same, so the bootstrap has no interval to show."
    shown = {decision.verdict for line in ladders for c in line.points if (decision := _decision(summary, c))}
    if shown:
        signs = ", ".join(f"{sign} {verdict.value}" for verdict, sign in SIGNS.items() if verdict in shown)
        how += f" Verdicts at a margin of {margin_text(summary)}: {signs}."
    return [how, *map(shorten_note, summary.notes[:MOST])]


def _decision(summary: Summary, condition: Condition) -> Decision | None:
    comparison = summary.comparison(condition)
    return comparison.decision if comparison else None


def _scales(axes: Axes, ladders: Sequence[_Ladder]) -> None:
    bits = np.array([c.bits_per_weight for line in ladders for c in line.points])
    pad = max(0.06 * float(np.ptp(bits)), 0.4)
    axes.set_xlim(float(bits.min()) - pad, float(bits.max()) + pad)
    low = min(c.estimate.low for line in ladders for c in line.points)
    high = max(c.estimate.high for line in ladders for c in line.points)
    bottom, top = score_range(low, high)
    axes.set_ylim(bottom, top)
    label = "score in points"
    if (bottom, top) != (0.0, 1.0):
        label += f" (axis from {100 * bottom:.0f} to {100 * top:.0f}, not 0 to 100)"
    axes.set_ylabel(label, fontsize=_SUBTITLE_SIZE, color=INK)
    axes.set_xlabel("measured bits per weight", fontsize=_SUBTITLE_SIZE, color=INK, labelpad=6)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    axes.tick_params(colors=MUTED, labelsize=NAME_SIZE, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)


def score_range(low: float, high: float) -> tuple[float, float]:
    """Limits of the score axis in whole points: all of 0 to 1, or the data with some room."""
    if high - low > 0.6 or low < 0.0 or high > 1.0:
        return min(low, 0.0), max(high, 1.0)
    missing = max(0.0, _SMALLEST_SPAN - (high - low)) / 2
    room = 0.08 * max(high - low, _SMALLEST_SPAN) + missing
    bottom = float(np.floor(100 * (low - room))) / 100
    top = float(np.ceil(100 * (high + room))) / 100
    return max(bottom, 0.0), min(top, 1.0)


def _lines(axes: Axes, ladders: Sequence[_Ladder]) -> None:
    single = [line.task for line in ladders if len(line.points) == 1]
    for order, line in enumerate(ladders):
        estimates = [c.estimate for c in line.points]
        x = [c.bits_per_weight for c in line.points]
        mean = [e.mean for e in estimates]
        low, high = [e.low for e in estimates], [e.high for e in estimates]
        shared: dict[str, Any] = {"color": line.color, "clip_on": False}
        place = axes.transData
        if line.task in single:
            # One point has no band, and the points of several tasks would hide one another.
            shift = 12 * (single.index(line.task) - (len(single) - 1) / 2) / 72
            place += ScaledTranslation(shift, 0, axes.figure.dpi_scale_trans)
            axes.plot(x * 2, [low[0], high[0]], linewidth=1.6, transform=place, **shared)
        else:
            axes.fill_between(x, low, high, color=line.color, alpha=0.16, linewidth=0)
        axes.plot(
            x,
            mean,
            marker=line.marker,
            markersize=_MARK,
            markeredgecolor="white",
            markeredgewidth=0.9,
            linewidth=2,
            zorder=3 + order / 100,
            transform=place,
            **shared,
        )
        hollow = [i for i, e in enumerate(estimates) if e.zero_width]
        axes.plot(
            [x[i] for i in hollow],
            [mean[i] for i in hollow],
            linestyle="none",
            marker=line.marker,
            markersize=_MARK - 1,
            markerfacecolor="white",
            markeredgewidth=1.4,
            zorder=4,
            transform=place,
            **shared,
        )


def _verdicts(axes: Axes, ladders: Sequence[_Ladder], summary: Summary) -> None:
    """Draw a sign in each mark that was decided, so that no verdict depends on colour."""
    for order, line in enumerate(ladders):
        for condition in line.points:
            decision = _decision(summary, condition)
            if decision is not None and len(line.points) > 1:
                axes.text(
                    condition.bits_per_weight,
                    condition.estimate.mean,
                    SIGNS[decision.verdict],
                    fontsize=_SIGN_SIZE,
                    weight="bold",
                    color="white",
                    ha="center",
                    va="center_baseline",
                    zorder=3 + (order + 0.5) / 100,
                    clip_on=False,
                )


def _task_names(axes: Axes, ladders: Sequence[_Ladder]) -> None:
    """Name each line at its right end, in its colour, with its marker."""
    bottom, top = axes.get_ylim()
    wanted = [(line.points[-1].estimate.mean - bottom) / (top - bottom) for line in ladders]
    step = NAME_SIZE * LINE_SPACING / 72 / _PLOT_HEIGHT
    placed = spread(wanted, [step] * len(ladders), -step / 2, 1 + step / 2)
    x = 1 + _GAP / _PLOT_WIDTH
    for line, y in zip(ladders, placed, strict=True):
        shared: dict[str, Any] = {"color": line.color, "transform": axes.transAxes}
        axes.plot([x], [y], marker=line.marker, markersize=6, clip_on=False, **shared)
        axes.text(
            x + 0.12 / _PLOT_WIDTH,
            y,
            line.task,
            fontsize=NAME_SIZE,
            weight="bold",
            va="center_baseline",
            parse_math=False,
            **shared,
        )
