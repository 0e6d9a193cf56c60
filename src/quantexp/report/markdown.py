"""The report as one short markdown page (GitHub's dialect, for its tables), to paste where markdown is read."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from quantexp.comparison.summary import DIFFERENCES, Summary
from quantexp.comparison.wording import answer_text, declaration_text
from quantexp.report.caveats import list_first_caveats
from quantexp.report.columns import Grid
from quantexp.report.conclusions import sentences, task_outcome, verdict
from quantexp.report.depths import FILE, has_depths
from quantexp.report.divergence import divergence_grid, has_divergence, has_partings, order_text, ranking
from quantexp.report.divergence_limits import LIMITS, RANK_NOTE, direction_grid, limit_notes, ranks_table
from quantexp.report.factor_grid import GRID_NOTE, INTERACTION_NOTE, interactions_table, list_factor_grids
from quantexp.report.outcomes import OUTCOMES_NOTE, outcomes_grid
from quantexp.report.pools import (
    MODELS,
    MODELS_NOTE,
    POOLS,
    model_outcomes,
    models_grid,
    pool_notes,
    pool_outcomes,
    pools_grid,
)
from quantexp.report.sampled import SAMPLED_NOTE, sampled_grid
from quantexp.report.settling import settling_grid, settling_line, settling_notes
from quantexp.report.tables import (
    FLIPS_NOTE,
    POSTERIOR_NOTE,
    comparisons_grid,
    conditions_grid,
    divergence_note,
    flips_grid,
    how_to_read,
    pairing_text,
    posteriors,
    rules_grid,
)


def report_markdown(summary: Summary) -> str:
    """Write the whole report; it links the other files that `write_report` puts beside it.

    Names, notes and other outside text appear as written: characters with a meaning in markdown are
    escaped and line breaks become spaces.
    """
    parts = [
        f"# {escape(summary.title)}",
        *_outcome(summary),
        *_pools(summary),
        *_models(summary),
        *_comparisons(summary),
        *_caveats(summary),
        *_factor_grids(summary),
        *_settling(summary),
        *_charts(summary),
        *_link_charts(summary, FILE, "accuracy by length and depth", lambda model: has_depths(summary, model)),
        *_divergence(summary),
        *_divergence_limits(summary),
        *_table("Flips", flips_grid(summary), FLIPS_NOTE),
        *_table("Besides right or wrong", outcomes_grid(summary), OUTCOMES_NOTE, "outcomes.csv"),
        *_table("Several answers to an item", sampled_grid(summary), SAMPLED_NOTE, "samples.csv"),
        *_rules(summary),
        *_registered(summary),
        *_how_to_read(summary),
        *("## Conditions", write_table(conditions_grid(summary)) if summary.conditions else "None."),
        *_listing("Notes", summary.notes, "None."),
        *_listing("Not compared", summary.refusals, pairing_text(summary)),
        *_listing("Failed jobs", summary.failures, "None."),
        *_protocol(summary),
    ]
    return "\n\n".join(parts) + "\n"


def description(summary: Summary) -> str:
    """Write the verdict and the table in short, to describe a sweep where only markdown can be shown."""
    parts = [
        " ".join(f"**{escape(said)}**" if not place else escape(said) for place, said in enumerate(sentences(summary))),
        *_tables(summary),
        _list_caveats(summary),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def escape(text: str) -> str:
    """Escape text so that markdown shows it as written, on one line, in a table cell or outside."""
    line = " ".join(text.split())
    line = re.sub(r"([\\`*<>|\[\]#~$!&])", r"\\\1", line)
    # An underscore inside a word (Q4_K_M) is plain text and stays readable in the source.
    line = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)
    # At the start of a line these would open a list, or draw a rule or the line under a heading.
    line = re.sub(r"^([-+=])(?=[-=\s]|$)", r"\\\1", line)
    return re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", line)


def _outcome(summary: Summary) -> list[str]:
    lines = [
        f"- **{escape(summary.make_title(*place))}**: {escape(task_outcome(summary, *place))}"
        for place in summary.places()
    ]
    found, meaning = verdict(summary)
    whole = "The whole report, with the answers that changed: [report.html](report.html)"
    told = f"**{escape(found)}** {escape(' '.join(filter(None, [meaning, order_text(summary)])))}"
    return ["## Outcome", told, "\n".join(lines) or "No score was recorded.", whole]


def _charts(summary: Summary) -> list[str]:
    words, kind = "score against measured bits per weight", "score_vs_bits"
    if not summary.has_bits:
        words, kind = "paired differences", DIFFERENCES
    return _link_charts(summary, kind, words, lambda model: summary.has_bits or bool(summary.select_comparisons(model)))


def _link_charts(summary: Summary, kind: str, words: str, is_drawn: Callable[[str], bool]) -> list[str]:
    """Show the charts of one kind of the models that have one."""
    stems = summary.chart_stems(kind)
    return [_link_chart(f"{escape(model)}: {words}", stem) for model, stem in stems.items() if is_drawn(model)]


def _link_chart(about: str, stem: str) -> str:
    return f"![{about}]({stem}.png)\n\n[The same chart as SVG]({stem}.svg)"


def _comparisons(summary: Summary) -> list[str]:
    parts = ["## Comparison", *_tables(summary)]
    if not summary.conditions:
        parts.append("No score to compare.")
    parts.append("Full precision: [comparisons.csv](comparisons.csv), [conditions.csv](conditions.csv)")
    return parts


def _tables(summary: Summary) -> list[str]:
    """Every condition with its comparison, a table a model."""
    parts: list[str] = []
    for model in summary.models():
        parts += [f"### {escape(model)}", write_table(comparisons_grid(summary, model))]
        told = [f"- {escape(name)}: {value}" for name, value in posteriors(summary, model)]
        parts += [POSTERIOR_NOTE, "\n".join(told)] if told else []
    return parts


def _pools(summary: Summary) -> list[str]:
    if not summary.pools and not summary.unpooled:
        return []
    parts = ["## Pool", *map(escape, [*pool_outcomes(summary), *summary.unpooled])]
    if summary.pools:
        notes = "\n".join(f"- {escape(note)}" for note in pool_notes(summary))
        pooled = {pool.model for pool in summary.pools}
        charts = _link_charts(summary, POOLS, "the tasks and their pool", pooled.__contains__)
        parts += [write_table(pools_grid(summary)), notes, *charts, "Full precision: [pools.csv](pools.csv)"]
    return parts


def _models(summary: Summary) -> list[str]:
    if not summary.across:
        return []
    told = "\n".join(f"- {escape(each)}" for each in model_outcomes(summary, is_whole=True))
    link = _link_chart("What each model loses", MODELS)
    csv = "Full precision: [models.csv](models.csv)"
    return ["## Over models", told, write_table(models_grid(summary)), escape(MODELS_NOTE), link, csv]


def _caveats(summary: Summary) -> list[str]:
    found = _list_caveats(summary)
    return ["## Caveats", found] if found else []


def _factor_grids(summary: Summary) -> list[str]:
    grids = list_factor_grids(summary)
    if not grids:
        return []
    parts = ["## Grid", GRID_NOTE]
    for each in grids:
        parts += [f"### {escape(each.title)}", write_table(each.grid)]
    if summary.interactions:
        parts += [write_table(interactions_table(summary).show()), INTERACTION_NOTE]
    return parts


def _settling(summary: Summary) -> list[str]:
    told, grid = settling_line(summary), settling_grid(summary)
    notes = "\n".join(f"- {escape(note)}" for note in settling_notes(summary))
    return ["## What would settle it", escape(told), *([write_table(grid), notes] if grid.rows else [])] if told else []


def _list_caveats(summary: Summary) -> str:
    """Return the caveats that are read first."""
    return "\n".join(f"- {escape(each)}" for each in list_first_caveats(summary))


def _table(heading: str, grid: Grid, note: str, file: str = "") -> list[str]:
    """Write a section that is a table, what is said of it, and a link to its file; nothing without rows."""
    link = [f"Full precision: [{file}]({file})"] if file else []
    return [f"## {heading}", write_table(grid), escape(note), *link] if grid.rows else []


def _rules(summary: Summary) -> list[str]:
    grid = rules_grid(summary)
    header = tuple(map(escape, grid.header))
    return ["## Rules that read the answers", write_table(replace(grid, header=header))] if grid.rows else []


def _registered(summary: Summary) -> list[str]:
    if summary.registered is None:
        return []
    registered = summary.registered
    parts = ["## Declaration", escape(declaration_text(registered))]
    if registered.hypothesis:
        parts.append(f"> {escape(registered.hypothesis)}")
    if registered.answers:
        header = ("claim", "answer: sum of losses in points, interval, p (Holm over the claims)")
        parts.append(
            write_table(Grid(header, "ll", tuple((each.claim, answer_text(each)) for each in registered.answers)))
        )
    changes = "\n".join(f"- {escape(change)}" for change in registered.changes)
    return [*parts, f"Changed since:\n\n{changes}" if changes else "Nothing has changed since."]


def _how_to_read(summary: Summary) -> list[str]:
    lines = [f"- {f'*{escape(term)}*: ' if term else ''}{escape(text)}" for term, text in how_to_read(summary)]
    return ["## How to read this", "\n".join(lines)]


def _protocol(summary: Summary) -> list[str]:
    grid = Grid(("fact", "value"), "ll", tuple(summary.protocol.items()))
    return ["## Protocol", write_table(grid) if grid.rows else "Not recorded."]


def _divergence(summary: Summary) -> list[str]:
    if not has_divergence(summary):
        return []
    return [
        "## Divergence",
        ranking(summary),
        write_table(divergence_grid(summary)),
        escape(divergence_note(summary)),
        *_link_charts(
            summary,
            "divergence_vs_bits",
            "mean divergence against measured bits per weight",
            lambda model: has_divergence(summary, model),
        ),
        *_link_charts(
            summary,
            "first_divergence",
            "the token at which answers leave the baseline's",
            lambda model: has_partings(summary, model),
        ),
        "Full precision: [divergence.csv](divergence.csv)",
    ]


def _divergence_limits(summary: Summary) -> list[str]:
    notes = limit_notes(summary)
    if not notes:
        return []
    parts = [f"## {LIMITS}", *map(escape, notes), write_table(direction_grid(summary))]
    if summary.rank_agreements:
        parts += [
            escape(RANK_NOTE),
            write_table(ranks_table(summary).show()),
            "Full precision: [rank_agreement.csv](rank_agreement.csv)",
        ]
    return parts


def _listing(heading: str, sentences: Sequence[str], empty: str) -> list[str]:
    return [f"## {heading}", "\n".join(f"- {escape(s)}" for s in sentences) or empty]


def write_table(grid: Grid) -> str:
    """Write a table, its text as it is: names and notes are escaped cell by cell."""
    rule = ["---:" if side == "r" else "---" for side in grid.sides]
    lines = [grid.header, rule, *([_cell(cell) for cell in row] for row in grid.rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Escape a cell's text; numbers stay readable, where nothing but the mark `*` could be misread."""
    number = re.fullmatch(r"-|[-+<]?[\d.,]+( \[[-+\d., ]+\]\*?)?", text)
    return text.replace("*", r"\*") if number else escape(text)
