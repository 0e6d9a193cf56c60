"""Quality against what it costs: the mean score over all tasks against the size of the file and the speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from quantexp.comparison.summary import Condition, Summary
from quantexp.comparison.wording import interval_names
from quantexp.report.columns import Grid
from quantexp.report.labels import GRID, MUTED, measure_width
from quantexp.report.svg import (
    LINE,
    PAPER,
    SIZE,
    WIDTH,
    Chart,
    Panel,
    blank,
    render_panel,
    scale_scores,
    shorten,
    words,
    write_below,
)
from quantexp.report.tables import megabytes, speed_text
from quantexp.stats import Interval, average

BUSY = 0.1
"""Share of the processor that other work may take before a reader is told."""

_HEIGHT, _LEFT, _BELOW, _RIGHT, _ABOVE = 2.5, 0.5, 0.45, 0.15, 0.12


@dataclass(frozen=True)
class Offer:
    """A quant of a model: what it costs and how well it does over all tasks.

    Attributes:
        score: Mean over the model's tasks.
        bytes: Of the file; and of the KV cache of one whole context, if conditions differ in it. None where only a
            server has the file.
        tokens_per_second: Mean over the tasks; None where it was not measured on all of them.
        speed_range: Means over the tasks of the 10th and of the 90th percentile of the answers, likewise.
        busy: The largest share of the processor that other work took on any task.
    """

    quant: str
    score: Interval
    bits_per_weight: float
    bytes: int | None
    tokens_per_second: float | None
    speed_range: tuple[float, float] | None = None
    busy: float = 0.0


def offers(summary: Summary, model: str) -> tuple[list[Offer], list[str]]:
    """Return the quants with a score on every task of the model, the most bits first, and the names of the others."""
    tasks = summary.tasks(model)
    of_model = [c for c in summary.conditions if c.model == model]
    has_caches = compares_caches(summary, model)
    found, partial = [], []
    for quant in dict.fromkeys(c.quant for c in of_model):
        own = [c for c in of_model if c.quant == quant]
        if {c.task for c in own} != set(tasks):
            partial.append(quant)
            continue
        speeds = [c.tokens_per_second for c in own if c.tokens_per_second is not None]
        speed = sum(speeds) / len(speeds) if len(speeds) == len(own) else None
        ranges = [c.speed_range for c in own if c.speed_range is not None]
        spread = None
        if speed is not None and len(ranges) == len(own):
            spread = sum(low for low, _ in ranges) / len(own), sum(high for _, high in ranges) / len(own)
        score = average([c.estimate for c in own])
        found.append(
            Offer(
                *(quant, score, own[0].bits_per_weight, _count_bytes(own[0], has_caches=has_caches), speed, spread),
                busy=max(c.busy for c in own),
            )
        )
    return sorted(found, key=lambda offer: -offer.bits_per_weight), partial


def compares_caches(summary: Summary, model: str) -> bool:
    """Tell if a model's conditions have KV caches of different sizes, all of which are known."""
    of_model = [c for c in summary.conditions if c.model == model]
    sizes = {None if c.kv_bytes is None or c.context is None else c.kv_bytes * c.context for c in of_model}
    return len(sizes) > 1 and None not in sizes


def _count_bytes(condition: Condition, *, has_caches: bool) -> int | None:
    if condition.file_bytes is None:
        return None
    return condition.file_bytes + (round((condition.kv_bytes or 0.0) * (condition.context or 0)) if has_caches else 0)


def front(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Mark the choices on the Pareto front: no other costs as little and scores as much, and better in one.

    Args:
        costs: What each costs; less is better.
        scores: How well each does; more is better.
    """
    pairs = list(zip(costs, scores, strict=True))
    return [
        not any(c <= cost and s >= score and (c < cost or s > score) for c, s in pairs)
        for cost, score in pairs
    ]  # fmt: skip


def find_overlap(timed: Sequence[Offer]) -> str:
    """Say why the offers have no order by speed; empty if they have one."""
    if unknown := [offer.quant for offer in timed if offer.speed_range is None]:
        return f"how far it spreads is not known of {', '.join(unknown)}"
    ranges = sorted((*offer.speed_range, offer.quant) for offer in timed if offer.speed_range is not None)
    for (_, high, slow), (low, _, fast) in pairwise(ranges):
        if low <= high:
            return f"the ranges of {slow} and {fast} overlap"
    return ""


def tradeoff(summary: Summary) -> Chart | None:
    """Two panels for each model, size and speed, with the numbers; None where no model has two quants."""
    if all(len(offers(summary, model)[0]) < 2 for model in summary.models()):
        return None
    panels: list[Panel] = []
    missing, rows = [], []
    several = len(summary.models()) > 1
    for model in summary.models():
        found, partial = offers(summary, model)
        of = f" of {model}" if several else ""
        tasks = summary.tasks(model)
        where = "on every task" if len(tasks) > 1 else f"on {tasks[0]}"
        if partial:
            missing.append(f"Without a score {where}, and so left out: {', '.join(partial)}{of}.")
        unmeasured = [offer.quant for offer in found if offer.tokens_per_second is None]
        if unmeasured:
            missing.append(f"Speed was not measured {where}: {', '.join(unmeasured)}{of}.")
        timed = [offer for offer in found if offer.tokens_per_second is not None]
        sized = [offer for offer in found if offer.bytes is not None]
        if len(sized) < len(found):
            unsized = ", ".join(offer.quant for offer in found if offer.bytes is None)
            missing.append(f"The size of the file is not known: {unsized}{of}.")
        sizes = [(offer.bytes or 0) / 1e6 for offer in sized]
        by_size = front(sizes, [offer.score.value for offer in sized])
        speeds = [offer.tokens_per_second or 0.0 for offer in timed]
        by_speed: list[bool] | None = front([-speed for speed in speeds], [o.score.value for o in timed])
        if overlap := find_overlap(timed):
            by_speed = None
            missing.append(f"No front of speed is drawn{of}: {overlap}.")
        if busy := [f"{offer.quant} {offer.busy:.0%}" for offer in timed if offer.busy > BUSY]:
            missing.append(
                f"Other work took a share of the processor while speeds were measured{of}: {', '.join(busy)}."
            )
        if sized:
            panels.append(_panel(_name_size(compares_caches(summary, model)), sized, sizes, by_size, model, several))
        if timed:
            panels.append(_panel("tokens/s", timed, speeds, by_speed, model, several))
        fast = {offer.quant for offer, on in zip(timed, by_speed or [False] * len(timed), strict=True) if on}
        small = {offer.quant for offer, on in zip(sized, by_size, strict=True) if on}
        for offer in found:
            score = 100 * offer.score.value, 100 * offer.score.low, 100 * offer.score.high
            rows.append(
                (
                    *([model] if several else []),
                    *(offer.quant, "{:.1f} [{:.1f}, {:.1f}]".format(*score), megabytes(offer.bytes)),
                    speed_text(offer.tokens_per_second, offer.speed_range),
                    " and ".join(["size"] * (offer.quant in small) + ["speed"] * (offer.quant in fast)) or "neither",
                )
            )
    size = _name_size(any(compares_caches(summary, model) for model in summary.models()))
    header = (*(["model"] if several else []), summary.noun, "mean score, points", size, "tokens/s", "on the front of")
    sides = "l" * several + "lrrrl"
    about = (
        f"Mean score over the tasks, in points, with its {interval_names(summary)} interval (of each quant alone, not "
        "of the paired difference). Filled marks are on the Pareto front: nothing else in this sweep costs as little "
        "and scores as much. Hollow ones are not, as far as these means go; where intervals overlap, the order may be "
        "chance. Speed is that of the machine named below, and the mean over the tasks; its line, and its brackets, go "
        "from the 10th to the 90th percentile of the answers. Where these overlap, the order may be the load of the "
        "machine, and there is no front."
    )
    return Chart(
        "tradeoff",
        "Quality against size and speed",
        about,
        tuple(panels),
        Grid(header, sides, tuple(rows)),
        tuple(missing),
    )


def _name_size(has_caches: bool) -> str:
    return "file and KV cache, MB" if has_caches else "file, MB"


def _panel(
    cost: str, found: Sequence[Offer], costs: Sequence[float], on: Sequence[bool] | None, model: str, several: bool
) -> Panel:
    """Draw the scores against a cost, and the front, if there is one."""
    has_front, on = on is not None, on or [False] * len(found)
    figure, axes = blank(_HEIGHT, _LEFT, _BELOW, _RIGHT, _ABOVE)
    scores = [offer.score for offer in found]
    ranges = [offer.speed_range if cost == "tokens/s" else None for offer in found]
    ends = [*costs, *(end for each in ranges if each is not None for end in each)]
    room = 0.14 * (max(ends) - min(ends)) or 0.1 * max(ends) or 1.0
    axes.set_xlim(min(ends) - room, max(ends) + room)
    scale_scores(axes, min(s.low for s in scores), max(s.high for s in scores))
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    for score, spread in zip(scores, ranges, strict=True):
        if spread is not None:
            axes.plot(spread, [score.value, score.value], color=MUTED, linewidth=1.0, zorder=1)
    line = sorted((x, s.value) for x, s, chosen in zip(costs, scores, on, strict=True) if chosen)
    if line:
        axes.step(
            *zip(*line, strict=True),
            where="post" if cost.startswith("file") else "pre",
            color=LINE,
            linewidth=1.2,
            alpha=0.6,
            zorder=1,
        )
    for x, score, chosen in zip(costs, scores, on, strict=True):
        axes.plot([x, x], [score.low, score.high], color=MUTED, linewidth=1.0, zorder=1)
        face: dict[str, Any] = {
            "markerfacecolor": LINE if chosen else PAPER,
            "markeredgecolor": LINE,
            "markeredgewidth": 1.4,
        }
        axes.plot(
            [x],
            [score.value],
            linestyle="none",
            marker="o" if chosen or not has_front else "s",
            markersize=7 if chosen else 6,
            zorder=3,
            **face,
        )
    _names(axes, [shorten(offer.quant, 18) for offer in found], costs, [s.value for s in scores])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    write_below(axes, f"{'← smaller, ' if cost.startswith('file') else 'faster →, '}{cost}")
    off = ", not on the front" if has_front else ""
    told = "; ".join(
        f"{offer.quant} {100 * offer.score.value:.1f} at {x:,.1f}{'' if chosen else off}"
        for offer, x, chosen in zip(found, costs, on, strict=True)
    )
    title = f"{model}, {cost}" if several else cost
    return render_panel(figure, model, title, f"Mean score in points against {title}: {told}.")


def _names(axes: Axes, names: Sequence[str], xs: Sequence[float], ys: Sequence[float]) -> None:
    """Place a name beside each mark: the first place of several where it hides neither a mark nor another name."""
    wide, high = WIDTH - _LEFT - _RIGHT, _HEIGHT - _BELOW - _ABOVE
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    marks = [
        ((x - left) / (right - left) * wide, (y - bottom) / (top - bottom) * high) for x, y in zip(xs, ys, strict=True)
    ]
    taken = [Bbox.from_extents(x - 0.06, y - 0.06, x + 0.06, y + 0.06) for x, y in marks]
    tall = SIZE / 72
    for name, (x, y) in zip(names, marks, strict=True):
        width = measure_width(name, SIZE)
        right_of, left_of = x + 0.09, x - 0.09 - width
        corners = [(right_of, y + 0.02), (left_of, y + 0.02), (right_of, y - 0.02 - tall), (left_of, y - 0.02 - tall)]
        corners += [(x - width / 2, y + 0.1 + step) for step in (0.0, 0.14, 0.28)]
        corners += [(x - width / 2, y - 0.1 - tall - step) for step in (0.0, 0.14, 0.28)]
        boxes = [Bbox.from_bounds(*corner, width, tall) for corner in corners]
        inside = [
            box for box in boxes if box.x0 >= -0.1 and box.x1 <= wide + 0.12 and box.y1 <= high + 0.1 and box.y0 > 0
        ]
        free = [box for box in inside if not any(box.overlaps(other) for other in taken)]
        chosen = (free or inside or boxes)[0]
        taken.append(chosen)
        words(
            *(axes, chosen.x0 / wide, chosen.y0 / high, name),
            transform=axes.transAxes,
            fontsize=SIZE,
            ha="left",
            va="bottom",
        )
