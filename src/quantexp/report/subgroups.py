"""Paired differences by field, by category and by difficulty: where a quant loses."""

from itertools import product

from quantexp.comparison.subgroups import DIFFICULTY, FIELDS
from quantexp.comparison.summary import Summary
from quantexp.comparison.wording import difference_text, interval_names
from quantexp.report.columns import Grid
from quantexp.report.forest import Row, draw_forest, span
from quantexp.report.svg import Chart, Panel
from quantexp.report.tables import range_text
from quantexp.tracking.tags import CATEGORY

_CALLED = {FIELDS: "{}", CATEGORY: "{}", DIFFICULTY: "difficulty {}"}


def categories(summary: Summary) -> Chart | None:
    """Return a panel for each task and way of taking it apart; None where the answers were not looked at."""
    shown = [part.difference for c in summary.comparisons for part in c.parts if part.by in _CALLED]
    if not shown:
        return None
    limits = span(shown)
    panels: list[Panel] = []
    rows: list[tuple[str, ...]] = []
    for (model, task), by in product(summary.places(), _CALLED):
        section = summary.make_title(model, task)
        parts = [(c.quant, part) for c in summary.select_comparisons(model, task) for part in c.parts if part.by == by]
        drawn, told = [], []
        for name in dict.fromkeys(part.name for _, part in parts):
            here = [(quant, part.difference) for quant, part in parts if part.name == name]
            called = _CALLED[by].format(name)
            drawn += [Row(f"{called} (n={range_text(d.n for _, d in here)})"), *(Row(quant, d) for quant, d in here)]
            for quant, d in here:
                difference = " ".join(difference_text(d))
                told.append(f"{called}, {quant} {difference}")
                cells = (f"{100 * d.baseline_mean:.1f}", f"{100 * d.quant_mean:.1f}", difference)
                rows.append((section, called, quant, str(d.n), *cells))
        if drawn:
            title = f"{section}, by {by}"
            alternative = f"Baseline minus quant in points, {title}: {'; '.join(told)}."
            panels.append(draw_forest(drawn, limits, model, title, alternative))
    about = (
        f"Baseline minus quant on part of what was asked, with {interval_names(summary)} intervals. Exploratory: "
        "nothing here is corrected for the number of parts, so some intervals leave 0 by chance, and none is a verdict."
    )
    if any(c.difference.population is not None for c in summary.comparisons):
        about += " They are about the items that the data sample, not about the data's own items alone."
    header = ("task", "part", summary.noun, "n", "baseline", "quant's", "baseline - quant, points")
    return Chart(
        "parts", "By field, category and difficulty", about, tuple(panels), Grid(header, "lllrrrr", tuple(rows))
    )
