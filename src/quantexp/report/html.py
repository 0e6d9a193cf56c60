"""The whole report as one HTML page that needs nothing else: no script, no network, no other file.

What models wrote comes from outside, and so do names. Every value goes through one gate (`_environment`): what does not
print becomes visible, then it is escaped. The page's own policy forbids everything but its one style sheet, by hash.
"""

import base64
import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from quantexp.comparison.flips import CHANGES, GAINED, LOST, OTHER_SAME, OTHER_WRONG, anchor, as_text
from quantexp.comparison.summary import Summary
from quantexp.comparison.wording import answer_text, declaration_text, has_verdicts, margin_text, points
from quantexp.report.caveats import select_caveats
from quantexp.report.columns import Column, choose
from quantexp.report.conclusions import verdict
from quantexp.report.divergence import divergence_grid, has_divergence, order_text, ranking
from quantexp.report.divergence_limits import LIMITS, RANK_NOTE, direction_grid, limit_notes, ranks_table
from quantexp.report.factor_grid import GRID_NOTE, INTERACTION_NOTE, interactions_table, list_factor_grids
from quantexp.report.outcomes import OUTCOMES_NOTE, outcomes_grid
from quantexp.report.pick import PickReport
from quantexp.report.pools import (
    MODELS_NOTE,
    model_outcomes,
    models_grid,
    pool_notes,
    pool_outcomes,
    pools_grid,
)
from quantexp.report.sampled import SAMPLED_NOTE, sampled_grid
from quantexp.report.settling import settling_grid, settling_line, settling_notes
from quantexp.report.svg import SIGNS, Chart
from quantexp.report.tables import (
    FLIPS_NOTE,
    POSTERIOR_NOTE,
    Line,
    comparison_columns,
    conditions_grid,
    divergence_note,
    flips_grid,
    how_to_read,
    list_lines,
    pairing_text,
    posteriors,
    range_text,
    rules_grid,
)
from quantexp.report.text_diff import Shown, side_by_side
from quantexp.util.terminal import printable

if TYPE_CHECKING:
    import pandas as pd

MOST_ANSWERS = 300
"""Lost and gained answers that a page shows at most, or a few for each task and quant."""

LONGEST_BEGINNING, LONGEST_ASKED = 20_000, 4_000
"""Characters that are shown at most of what all chats of a section begin with, and of the rest of each."""

LINE = 200
"""Characters of a reference, an answer or an id that stand on one line."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A changed answer as the page shows it: one line each but for what was asked and the outputs."""

    change: str
    name: str
    scores: tuple[str, str]
    reference: str
    read: tuple[str, str]
    asked: str
    outputs: tuple[Shown, Shown]


@dataclass(frozen=True, slots=True)
class Section:
    """The changed answers of one task and quant.

    Attributes:
        counts: How many there are of each change.
        beginning: What all chats of the shown answers begin with; empty where there is one answer.
        answers: Those that are shown; what was asked is without that beginning.
        left_out: How many lost and gained ones are not.
        listed: How many lost and gained ones the table of changed answers has.
    """

    key: str
    task: str
    quant: str
    counts: Mapping[str, int]
    beginning: str
    answers: tuple[Answer, ...]
    left_out: int
    listed: int


def report_html(
    summary: Summary,
    charts: Sequence[Chart],
    changed: "pd.DataFrame | None" = None,
    *,
    is_alone: bool = False,
    picked: PickReport | None = None,
) -> str:
    """Write the page; the same results give the same text.

    Args:
        summary: What to report.
        charts: What to draw, in this order.
        changed: The changed answers (`flips.flip_rows`); None where they were not looked at.
        is_alone: Whether their table is beside the page, and not in a run of MLflow.
        picked: What to pick; None if nobody asked.
    """
    environment = _environment()
    sections = [] if changed is None else changed_sections(changed, _change_counts(summary))
    keys = {section.key for section in sections}
    style = _style(charts)
    return environment.get_template("report.html").render(
        summary=summary,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        verdict=[*verdict(summary), order_text(summary)],
        pool_outcomes=pool_outcomes(summary),
        pools=pools_grid(summary),
        pool_notes=pool_notes(summary),
        model_outcomes=model_outcomes(summary),
        all_model_outcomes=model_outcomes(summary, is_whole=True),
        models=models_grid(summary),
        models_note=MODELS_NOTE,
        facts=_facts(summary),
        picked=picked,
        caveats=select_caveats(summary),
        pairing=pairing_text(summary),
        heads=[(column.side, *column.name.partition(", ")[::2]) for column in _main_columns(summary)],
        tables=[(model, _groups(summary, model, keys), posteriors(summary, model)) for model in summary.models()],
        posterior_note=POSTERIOR_NOTE,
        factor_grids=list_factor_grids(summary),
        factor_grids_note=GRID_NOTE,
        interactions=interactions_table(summary).show(),
        interactions_note=INTERACTION_NOTE,
        settling=(settling_line(summary), settling_grid(summary)),
        settling_notes=settling_notes(summary),
        charts=charts,
        diverged=has_divergence(summary),
        divergence=divergence_grid(summary),
        divergence_about=[divergence_note(summary), ranking(summary)] if has_divergence(summary) else [],
        limits_title=LIMITS,
        limits=limit_notes(summary),
        direction=direction_grid(summary),
        ranks=ranks_table(summary).show(),
        ranks_note=RANK_NOTE,
        flips=flips_grid(summary),
        flips_note=FLIPS_NOTE,
        rules=rules_grid(summary),
        outcomes=outcomes_grid(summary),
        outcomes_note=OUTCOMES_NOTE,
        sampled=sampled_grid(summary),
        sampled_note=SAMPLED_NOTE,
        looked_at=changed is not None,
        sections=sections,
        kinds=(LOST, GAINED),
        flips_place="beside this page" if is_alone else "of this report's MLflow run",
        declaration=declaration_text(summary.registered) if summary.registered else None,
        claims=[(each.claim, answer_text(each)) for each in summary.registered.answers] if summary.registered else [],
        how_to_read=how_to_read(summary),
        conditions=conditions_grid(summary),
        protocol=protocol_groups(summary.protocol),
    )


def _change_counts(summary: Summary) -> dict[tuple[str, str], dict[str, int]]:
    """Count the changed answers of each kind, by task and quant; the table of changed answers may not have all."""
    return {
        (summary.section(each), each.quant): {
            LOST: each.flips.lost,
            GAINED: each.flips.gained,
            OTHER_WRONG: each.flips.both_wrong_different,
            OTHER_SAME: each.flips.both_right_different,
        }
        for each in summary.comparisons
        if each.flips is not None
    }


def changed_sections(
    changed: "pd.DataFrame", counts: Mapping[tuple[str, str], Mapping[str, int]] | None = None
) -> list[Section]:
    """Return the changed answers by task and quant, in the order of the rows.

    Args:
        changed: See `report_html`.
        counts: How many there are of each change, by task and quant; where it is not said, those in the table.
    """
    by_place: dict[tuple[str, str], list[Mapping[Any, Any]]] = {}
    for row in changed.to_dict("records"):
        by_place.setdefault((as_text(row["task"]) or "", as_text(row["quant"]) or ""), []).append(row)
    each = max(3, min(20, MOST_ANSWERS // (2 * len(by_place)))) if by_place else 0
    known = counts or {}
    return [_section(*place, rows, each, known.get(place)) for place, rows in by_place.items()]


def _section(
    task: str, quant: str, rows: Sequence[Mapping[Any, Any]], most: int, known: Mapping[str, int] | None
) -> Section:
    of_kind = {change: [row for row in rows if row["change"] == change] for change in CHANGES}
    several = any(row["sample"] != 0 for row in rows)
    rows = [row for change in (LOST, GAINED) for row in of_kind[change][:most]]
    beginnings = {_beginning(row) for row in rows}
    beginning = beginnings.pop() if len(beginnings) == 1 else ""
    shown = [_answer(row, several, len(beginning)) for row in rows]
    listed = len(of_kind[LOST]) + len(of_kind[GAINED])
    counts = {change: len(found) for change, found in of_kind.items()} if known is None else known
    left_out = counts[LOST] + counts[GAINED] - len(shown)
    beginning = _clip(beginning, LONGEST_BEGINNING)
    return Section(anchor(task, quant), task, quant, counts, beginning, tuple(shown), left_out, listed)


def _beginning(row: Mapping[Any, Any]) -> str:
    """Cut a prompt off before its question: the template's words, the instructions, the examples.

    Empty where an earlier version has not recorded the question, or the template has changed its words.
    """
    prompt, question = as_text(row["prompt"]) or "", as_text(row["question"])
    return prompt[: max(prompt.rfind(question), 0)] if question else ""


def _clip(text: str, most: int) -> str:
    """Return the text, or of a long one its beginning and its end, and how much is left out."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    return f"{text[: most // 2]}\n… {left_out:,} characters not shown …\n{text[-(most - most // 2) :]}"


def _answer(row: Mapping[Any, Any], several: bool, begun: int) -> Answer:
    sample = f", sample {row['sample']}" if several else ""
    return Answer(
        change=str(row["change"]),
        name=f"{_line(row['item_id'])}, seed {row['seed']}{sample}",
        scores=(f"{row['baseline_score']:.3g}", f"{row['quant_score']:.3g}"),
        reference=_line(row["reference"]),
        read=(_line(row["baseline_extracted"]), _line(row["quant_extracted"])),
        asked=_clip((as_text(row["prompt"]) or "")[begun:], LONGEST_ASKED),
        outputs=side_by_side(as_text(row["baseline_output"]) or "", as_text(row["quant_output"]) or ""),
    )


def _line(value: object) -> str:
    """Return the text on one line, shortened; words for a gap and for no text."""
    text = as_text(value)
    if text is None:
        return "(nothing)"
    line = " ".join(text.split())
    return f"{line[:LINE]}…" if len(line) > LINE else line or "(empty)"


def protocol_groups(protocol: Mapping[str, str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the facts that identify a measurement, by what they are about; every fact once."""
    groups: dict[str, list[tuple[str, str]]] = {name: [] for name in ("Protocol", "Environment", "Fingerprints")}
    for fact, value in protocol.items():
        if fact.startswith(("quantexp.", "host.", "engine.")):
            group = "Environment"
        elif {"sha256", "fingerprint"} & set(fact.split()) or fact == "model source":
            group = "Fingerprints"
        else:
            group = "Protocol"
        groups[group].append((fact, value))
    return [(name, facts) for name, facts in groups.items() if facts]


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """List what was compared, in a few words each."""
    quants = dict.fromkeys(c.quant for c in summary.conditions if c.quant != summary.baseline)
    facts = {
        "Baseline": summary.baseline,
        summary.noun.capitalize() + "s": ", ".join(quants),
        "Tasks": ", ".join(dict.fromkeys(c.task for c in summary.conditions)),
        f"{summary.unit.capitalize()}s per task": range_text((c.estimate.n for c in summary.conditions), "–"),
        "Seeds": summary.protocol.get("seeds", ""),
        "Margin": margin_text(summary) if has_verdicts(summary) else "",
        "quantexp": summary.protocol.get("quantexp.version", ""),
    }
    return [(name, value) for name, value in facts.items() if value]


def _main_columns(summary: Summary) -> list[Column[Line]]:
    """Return the columns of the page's main table."""
    shown = ("quant", "reading", "difference", "p_value", "score", "lost", "gained", "churn")
    measured = ("divergence",) if has_divergence(summary) else ()
    of_file = ("bits", "size", "speed") if summary.has_bits else ()
    return choose(comparison_columns(summary), *shown, *measured, *of_file)


def _groups(summary: Summary, model: str, keys: Collection[str]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """Return the rows of a model's table: for each task its name, what is said beside it, and its rows.

    `keys` are those of the sections of changed answers.
    """
    found = []
    columns = _main_columns(summary)
    for task in summary.tasks(model):
        lines = list_lines(summary, model, task)
        beside = f"n = {range_text((line.condition.estimate.n for line in lines), '–')} {summary.unit}s"
        margins = {line.comparison.decision.margin for line in lines if line.comparison and line.comparison.decision}
        beside += "".join(f", margin {points(margin)} points" for margin in sorted(margins))
        found.append((task, beside, [_row(summary, line, columns, keys) for line in lines]))
    return found


def _row(summary: Summary, line: Line, columns: Sequence[Column[Line]], keys: Collection[str]) -> dict[str, Any]:
    """Return a row's cells, the sign and the kind of its verdict, and where its answers are, if they are shown."""
    decision = line.comparison.decision if line.comparison else None
    key = anchor(summary.make_title(line.condition.model, line.condition.task), line.condition.quant)
    is_baseline = line.condition.quant == summary.baseline
    return {
        "quant": line.condition.quant,
        "cells": [(column.key, column.side, column.read(line)) for column in columns],
        "sign": SIGNS[decision.verdict] if decision else "" if line.comparison or is_baseline else "–",
        "kind": decision.verdict.name if decision else "quiet" if is_baseline else "undecided",
        "answers": key if key in keys else None,
    }


def _style(charts: Sequence[Chart]) -> str:
    """Return the style sheet, with the classes of the charts."""
    rules = {name: declared for chart in charts for panel in chart.panels for name, declared in panel.rules.items()}
    own = (Path(__file__).parent / "page" / "report.css").read_text(encoding="utf-8")
    style = own + "".join(f".{name} {{ {declared} }}\n" for name, declared in sorted(rules.items()))
    if "<" in style:  # it would end the element that holds it
        raise ValueError("the page's style sheet holds a <.")
    return style


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("quantexp.report", "page"),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _visible(value: object) -> object:
    """Text with controls, also of the direction of writing, made visible; what is markup already stays."""
    return value if hasattr(value, "__html__") or not isinstance(value, str) else printable(value)
