"""The report as one markdown page (GitHub's dialect, for its tables)."""

import re
from collections.abc import Iterable, Sequence

from quantexp.report.divergence import HEADER, divergence_rows, has_divergence, ranking
from quantexp.report.summary import (
    FLOOR_COUNTS,
    REPEATS,
    ZERO_WIDTH_NOTE,
    Condition,
    Summary,
    answer_text,
    declaration_text,
    difference_text,
    has_verdicts,
    has_zero_width,
    interval_names,
    margin_text,
    outcome,
    p_text,
    reading,
    score_text,
)
from quantexp.stats import E_VALUE


def report_markdown(summary: Summary) -> str:
    """Write the whole report; it links the chart files `write_report` puts beside it.

    Names, notes and other outside text appear as written: characters with a meaning in markdown are
    escaped and line breaks become spaces.
    """
    parts = [
        f"# {escape(summary.title)}",
        *_outcome(summary),
        *_charts(summary),
        *_comparisons(summary),
        *_divergence(summary),
        *_flips(summary),
        *_registered(summary),
        *_how_to_read(summary),
        *_conditions(summary),
        *_listing("Notes", summary.notes, "None."),
        *_listing("Not compared", summary.refusals, "Every run could be paired."),
        *_listing("Failed jobs", summary.failures, "None."),
        *_protocol(summary),
    ]
    return "\n\n".join(parts) + "\n"


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
    lines = []
    several = len(summary.models()) > 1
    for model in summary.models():
        for task in summary.tasks(model):
            name = f"{model}, {task}" if several else task
            lines.append(f"- **{escape(name)}**: {_task_outcome(summary, model, task)}")
    said = outcome(summary)
    first = [f"**{escape(said)}** The margin is {margin_text(summary)}."] if said else []
    return ["## Outcome", *first, "\n".join(lines) or "No score was recorded."]


def _task_outcome(summary: Summary, model: str, task: str) -> str:
    ladder = summary.ladder(model, task)
    scored = [c for c in ladder if c.quant == summary.baseline]
    compared = [c for c in map(summary.comparison, ladder) if c is not None]
    against = f"the baseline {escape(summary.baseline)}"
    start = f"{against} has no score" if not scored else f"against {against}"
    if scored:
        start += f" at {score_text(scored[0].estimate)[0]} points"
    if not compared:
        return f"{start}; nothing was compared."
    told = [f"{escape(c.quant)} {_clause(reading(c))}" for c in compared]
    return f"{start}, {'; '.join(told)}."


def _clause(words: str) -> str:
    """A reading as it continues a sentence that began with the quant's name."""
    if words.startswith("undecided: "):
        return words.replace("undecided: ", "is undecided, ", 1)
    if words.startswith(("worse", "better", "within", "inconclusive")):
        return f"is {words}"
    return f"has no usable interval: {words}"


def _charts(summary: Summary) -> list[str]:
    return [
        f"![{escape(model)}: score against measured bits per weight]({stem}.png)\n\n[The same chart as SVG]({stem}.svg)"
        for model, stem in summary.chart_stems().items()
    ]


def _comparisons(summary: Summary) -> list[str]:
    level = interval_names(summary)
    parts = ["## Comparison"]
    for model in summary.models():
        rows = []
        for task in summary.tasks(model):
            rows += [_row(summary, condition) for condition in summary.ladder(model, task)]
        header = ["task", "quant", "bits/weight", f"score, points [{level}]"]
        p = "p, Holm" if has_verdicts(summary) else "p"
        header += [f"baseline - quant, points [{level}]", p, "lost", "gained", "the quant is"]
        parts += [f"### {escape(model)}", _table(header, "llrrrrrrl", rows)]
        parts += _posteriors(summary, model)
    if not summary.conditions:
        parts.append("No score to compare.")
    parts.append("Full precision: [comparisons.csv](comparisons.csv), [conditions.csv](conditions.csv)")
    return parts


def _posteriors(summary: Summary, model: str) -> list[str]:
    told = [
        f"- {escape(each.task)}, {escape(each.quant)}: {each.posterior.within:.3f}"
        for each in summary.comparisons
        if each.model == model and each.posterior is not None
    ]
    if not told:
        return []
    first = "Probability that the loss is below the margin, under a uniform prior on what can happen to an item:"
    return [first, "\n".join(told)]


def _row(summary: Summary, condition: Condition) -> list[str]:
    comparison = summary.comparison(condition)
    cells = [
        escape(condition.task),
        escape(condition.quant),
        f"{condition.bits_per_weight:.2f}",
        _marked(score_text(condition.estimate)),
    ]
    if condition.quant == summary.baseline:
        return [*cells, "", "", "", "", "the baseline"]
    if comparison is None:
        return [*cells, "-", "-", "-", "-", "not compared"]
    d = comparison.difference
    counts = [f"{count} of {d.n}" for count in (d.lost, d.gained)]
    return [*cells, _marked(difference_text(d)), p_text(comparison), *counts, reading(comparison)]


def _marked(value_and_interval: tuple[str, str]) -> str:
    return " ".join(value_and_interval).replace("*", r"\*")


def _flips(summary: Summary) -> list[str]:
    from quantexp.report.flips import anchor

    rows = []
    for one in summary.conditions:
        if one.floor is not None:
            name = one.task if len(summary.models()) == 1 else f"{one.model}, {one.task}"
            counts = [str(one.floor[key]) for key in FLOOR_COUNTS]
            rows.append([escape(name), f"{escape(one.quant)}, a second time", *counts, "noise of the engine"])
    for each in summary.comparisons:
        if (found := each.flips) is not None:
            section = summary.section(each)
            listed = found.changed + found.both_wrong_different + found.both_right_different
            counts = [str(getattr(found, key)) for key in FLOOR_COUNTS]
            link = f"[read them](flips.md#{anchor(section, each.quant)})" if listed else "none changed"
            rows.append([escape(section), escape(each.quant), *counts, link])
    if not rows:
        return []
    header = ["task", "quant", "answers", "lost", "gained", "both wrong, but different", "answer churn", "items"]
    note = (
        "Answers, not items: an item that several seeds ask has several. Lost and gained: the score fell or rose. "
        "Churn: another answer was read, whatever the scores."
    )
    return ["## Flips", _table(header, "llrrrrrl", rows), note]


def _registered(summary: Summary) -> list[str]:
    if summary.registered is None:
        return []
    registered = summary.registered
    parts = ["## Declared before the run", escape(declaration_text(registered))]
    if registered.declaration.hypothesis:
        parts.append(f"> {escape(registered.declaration.hypothesis)}")
    if registered.answers:
        rows = [[escape(each.claim), escape(answer_text(each))] for each in registered.answers]
        parts.append(
            _table(["claim", "answer: sum of losses in points, interval, p (Holm over the claims)"], "ll", rows)
        )
    changes = "\n".join(f"- {escape(change)}" for change in registered.changes)
    return [*parts, f"Changed since:\n\n{changes}" if changes else "Nothing has changed since."]


def _how_to_read(summary: Summary) -> list[str]:
    level = interval_names(summary)
    count = len(summary.comparisons)
    lines = [
        "Scores and differences are in points: the score from 0 to 1, times 100.",
        f"A difference is the baseline ({escape(summary.baseline)}) minus the quant on the same "
        "items: positive means the baseline is better.",
        f"Brackets hold the {level} interval over {summary.unit}s: {REPEATS[summary.unit]}.",
        f"Lost: {summary.unit}s on which the baseline scores higher; gained: on which the quant does.",
    ]
    if has_verdicts(summary):
        lines += [
            f"*Within margin*: the one-sided {level} upper bound of the loss is below the margin "
            f"({margin_text(summary)}). This is a claim for each comparison alone.",
            "*Worse*: the baseline is better, and significantly so at the level that the intervals leave, after "
            f"Holm's correction for all {count} comparisons of this report. *Worse, but within margin*: both; the "
            "loss is real, and too small to matter.",
            "*Inconclusive*: neither. That is not evidence that the quant is as good as the baseline; the interval "
            "says how much worse it may be. The further items are what would give a verdict with 80% probability if "
            f"the difference and its spread are those seen here. {_more_items(summary)}",
        ]
    else:
        lines += [
            "p is two-sided and stands for its comparison alone. It is not corrected for the number "
            f"of comparisons, here {count}: with 20 comparisons and no true difference, about one is "
            "expected below 0.05.",
            "Undecided means that the interval holds 0: the data allow no difference at all. They do "
            "not show that the quant is as good as the baseline; the interval says how much worse it "
            "may be.",
        ]
    if has_zero_width(summary):
        lines.append(f"\\* {ZERO_WIDTH_NOTE}.")
    return ["## How to read this", "\n".join(f"- {line}" for line in lines)]


def _conditions(summary: Summary) -> list[str]:
    rows = [
        [
            escape(c.model),
            escape(c.quant),
            escape(c.task),
            f"{c.bits_per_weight:.4f}",
            "-" if c.file_bytes is None else f"{c.file_bytes / 1e6:,.1f}",
            str(c.estimate.answers),
            str(c.estimate.n),
            f"{c.estimate.design_effect:.2f}",
            escape(c.grader),
            "-" if c.tokens_per_second is None else f"{c.tokens_per_second:,.1f}",
        ]
        for c in summary.conditions
    ]
    header = ["model", "quant", "task", "bits/weight", "file, MB", "answers", f"n ({summary.unit}s)", "design effect"]
    header += ["grader", "tokens/s"]
    table = _table(header, "lllrrrrrlr", rows) if rows else "None."
    return ["## Conditions", table]


def _protocol(summary: Summary) -> list[str]:
    rows = [[escape(key), escape(value)] for key, value in summary.protocol.items()]
    return ["## Protocol", _table(["fact", "value"], "ll", rows) if rows else "Not recorded."]


def _listing(heading: str, sentences: Sequence[str], empty: str) -> list[str]:
    return [f"## {heading}", "\n".join(f"- {escape(s)}" for s in sentences) or empty]


def _table(header: Sequence[str], alignment: str, rows: Iterable[Sequence[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in alignment]
    lines = [header, rule, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _divergence(summary: Summary) -> list[str]:
    if not has_divergence(summary):
        return []
    rows = [[escape(cell) for cell in row] for row in divergence_rows(summary)]
    about = (
        f"Over the tokens of the baseline's own answers: KL({escape(summary.baseline)} || quant); how often both hold "
        "the same token likeliest; how the probability of the answer's token changes. Brackets: intervals over items. "
        "An answer parts where the quant's own first differs from the baseline's."
    )
    return [
        "## Divergence",
        ranking(summary),
        _table([*HEADER], "llrrrrrrrrrr", rows),
        about,
        "Full precision: [divergence.csv](divergence.csv)",
    ]


def _more_items(summary: Summary) -> str:
    """What may be done with the number of further items."""
    if all(comparison.difference.test_method == E_VALUE for comparison in summary.comparisons):
        return "Raise task.limit and go on: e-values allow a look after every item."
    return (
        "They are the plan of a new study: adding items and testing again is a second look, which errs more often than "
        "one."
    )
