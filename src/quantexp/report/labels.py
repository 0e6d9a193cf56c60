"""Words on a chart: measured, wrapped, and moved apart where they would hide one another."""

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from quantexp.util.terminal import printable

FONT = "DejaVu Sans"
INK, MUTED, LEADER, GRID = "#1b1f25", "#59626e", "#a9b0b8", "#d8dde3"
NAME_SIZE = 8.5
LINE_SPACING = 1.35

_OVERHANG = 0.3
"""Inches that a quant's name may stand beyond the plot's sides."""


def make_line(text: str) -> str:
    """Return a text on one line, without what does not print."""
    return printable(" ".join(text.split()))


@lru_cache(maxsize=1000)
def measure_width(text: str, size: float, weight: str = "normal") -> float:
    """Inches that a line of plain text takes; `$` and `_` have no meaning in it."""
    font = FontProperties(family=FONT, size=size, weight=weight)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


def measure_height(lines: Sequence[str], size: float) -> float:
    """Inches that lines take."""
    return len(lines) * size * LINE_SPACING * 1.1 / 72


def wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Return the text on one line, or on as many as it takes to be no wider than that many inches."""
    line = make_line(text)
    measured = measure_width(line, size, weight)
    if measured <= width:
        return [line]
    return textwrap.wrap(line, max(1, int(0.95 * width * len(line) / measured)))


class QuantNames:
    """The names above the plot: level while they fit, upright when they do not."""

    def __init__(self, names: Sequence[tuple[float, str]], baseline: str, plot: tuple[float, float]) -> None:
        """Names with the bits of each, from few to many; width and height of the plot in inches."""
        self._width, self._plot_height = plot
        self._bits = [bits for bits, _ in names]
        self._labels = [make_line(quant) for _, quant in names]
        self._is_baseline = [quant == baseline for _, quant in names]
        self._weights = ["bold" if of_baseline else "normal" for of_baseline in self._is_baseline]
        widths = [
            measure_width(label, NAME_SIZE, weight) for label, weight in zip(self._labels, self._weights, strict=True)
        ]
        self._level = sum(widths) + 0.14 * len(widths) <= self._width
        across = NAME_SIZE * LINE_SPACING / 72
        self._extents = [w + 0.14 if self._level else across for w in widths]
        self._leader = 0.22
        self.height = self._leader + (across if self._level else max(widths) + 0.05)

    def draw(self, axes: Axes) -> None:
        """Write the names above a plot whose limits are set, and a line from each to its place."""
        left, right = axes.get_xlim()
        wanted = [(bits - left) / (right - left) * self._width for bits in self._bits]
        placed = spread(wanted, self._extents, -_OVERHANG, self._width + _OVERHANG)
        top = 1 + self._leader / self._plot_height
        for i, label in enumerate(self._labels):
            start, end = wanted[i] / self._width, placed[i] / self._width
            common: dict[str, Any] = {
                "linewidth": 0.9,
                "transform": axes.transAxes,
                "clip_on": False,
                # A file of the baseline's size must not hide that this is where the baseline is.
                "zorder": 0.6 if self._is_baseline[i] else 0.5,
            }
            line: dict[str, Any] = (
                {"color": MUTED, "linestyle": (0, (4, 3))} if self._is_baseline[i] else {"color": GRID}
            )
            axes.plot([start, start], [0, 1], **line, **common)
            heights = (0.0, 0.03, self._leader - 0.06, self._leader - 0.02)
            axes.plot(
                [start, start, end, end],
                [1 + height / self._plot_height for height in heights],
                color=LEADER,
                **common,
            )
            axes.text(
                end,
                top,
                label,
                fontsize=NAME_SIZE,
                weight=self._weights[i],
                color=INK,
                ha="center",
                va="bottom",
                rotation=0 if self._level else 90,
                transform=axes.transAxes,
                parse_math=False,
            )


def spread(wanted: Sequence[float], extents: Sequence[float], low: float, high: float) -> list[float]:
    """Move labels apart along a line, each as little as the others allow.

    Labels keep the order of their wanted places. The squared distances are minimised by merging
    neighbours that collide into blocks centred on their mean (pool adjacent violators; Best and
    Chakravarti 1990), then blocks are kept between the ends; labels that cannot all fit share the
    overlap at the high end.

    Args:
        wanted: Wanted centre of each label.
        extents: Length each label needs, room to its neighbours included.
        low: Where the line begins.
        high: Where the line ends.

    Returns:
        The centre of each label, in the order given.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Measured from where each label would be if all stood side by side, no label may be left of its
    # predecessor: the closest sequence that never falls is an isotonic regression.
    offsets, total = [], 0.0
    for i in order:
        offsets.append(total + extents[i] / 2)
        total += extents[i]
    blocks: list[list[float]] = []  # [sum, count]
    for i, offset in zip(order, offsets, strict=True):
        blocks.append([wanted[i] - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            last = blocks.pop()
            blocks[-1] = [blocks[-1][0] + last[0], blocks[-1][1] + last[1]]
    starts = [s / n for s, n in blocks for _ in range(int(n))]
    furthest = max(low, high - total)
    placed = [0.0] * len(wanted)
    for i, offset, start in zip(order, offsets, starts, strict=True):
        placed[i] = min(max(start, low), furthest) + offset
    return placed
