"""`python -m quantexp.plan`: how many items a comparison needs, and what they cost, before it is run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantexp.comparison.analysis import finished_jobs
from quantexp.comparison.costs import COUNTED, Cost, count_generated, estimate_cost
from quantexp.comparison.spreads import measure_spread
from quantexp.comparison.wording import given_points
from quantexp.config import PlanConfig, Unit
from quantexp.config.command_line import hydra_command
from quantexp.util.errors import UserError

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table
    from rich.text import Text

    from quantexp.stats.planning import Spread
    from quantexp.stats.sampling_plan import SamplingSpread
    from quantexp.tracking.reader import JobRecord
    from quantexp.tracking.store import Store

NUMBERS = (100, 200, 300, 400, 500, 600, 800, 1000, 1319, 1500, 2000)
"""Items for which a guess is tabulated; 1,319 is all of GSM8K's test."""

SAMPLES = (1, 2, 4, 8, 16)
"""Answers to an item for which a plan is made where answers are drawn."""

MEASURE = "python -m quantexp -m quant=Q8_0,Q4_K_M task=gsm8k"
"""A sweep that measures what a plan needs."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Basis of a planned comparison.

    Attributes:
        spread: how much items differ.
        task: of the quant; empty without a sweep.
        cost: of an item under both quants.
        drawn: how much answers to one item differ; None where each item was answered once.
    """

    spread: "Spread"
    task: str = ""
    quant: str = ""
    cost: Cost | None = None
    drawn: "SamplingSpread | None" = None


@dataclass(frozen=True, slots=True)
class Pilot:
    """A sweep as far as a plan is concerned.

    Attributes:
        plans: one a task and quant.
        source: what is said of the sweep.
        processors: of the runs that say how long an item takes.
        left_out: a sentence for each run that does not count.
    """

    plans: tuple[Planned, ...]
    source: str
    processors: str
    left_out: tuple[str, ...]


def plan(config: PlanConfig) -> None:
    """Print the plan.

    Raises:
        UserError: there is nothing to plan from.
    """
    from rich.console import Console
    from rich.text import Text

    from quantexp.stats.planning import Spread

    pilot = _pilot(config)
    given = None if config.changed is None else Planned(Spread(config.changed))
    plans = pilot.plans if pilot else (given,) if given else ()
    console = Console()
    many = f", one of {config.family} comparisons" if config.family > 1 else ""
    level = f"{100 * config.power:.4g}% power, alpha {config.alpha:g}"
    console.print(Text(f"A margin of {given_points(config.margin)} points, {level}{many}", style="bold"))
    console.print(_needed(config, plans))
    if config.items is not None:
        console.print(_shown(config, [(config.items, each) for each in plans]))
    elif given:
        console.print(_shown(config, [(n, given) for n in NUMBERS]))
    if drawn := [each for each in plans if each.drawn is not None]:
        console.print(_samples(config, drawn))
    for note in _notes(config, plans, pilot):
        console.print(Text(note), highlight=False)


def _pilot(config: PlanConfig) -> Pilot | None:
    """Return the sweep that the plan is to be made from; None where there is none and none is needed."""
    if config.sweep is None and config.changed is None:
        raise UserError("sweep=null leaves changed to be guessed; add changed=0.05, or name a sweep.")
    if config.sweep is None:
        return None
    # Only now: a plan from a guess alone does without these heavy imports.
    from quantexp.tracking.store import Store

    folder = config.tracking.uri or Path(config.tracking.folder).absolute()
    store = Store.open_existing(config.tracking)
    if config.sweep != "latest":
        if store is None:
            raise UserError(f"sweep={config.sweep}: there are no runs in {folder}; set tracking.folder, or sweep=null.")
        return _measured(config, store, config.sweep)
    try:
        latest = store.latest_sweep() if store else None
    except UserError:  # there is none
        latest = None
    if store and latest:
        return _measured(config, store, latest)
    if config.changed is None:
        raise UserError(
            f"There is no sweep in {folder}; run one first, for example {MEASURE}, or guess the share of items that "
            "change, for example changed=0.05."
        )
    return None


def _measured(config: PlanConfig, store: "Store", sweep: str) -> Pilot:
    """Measure the tasks and quants in a sweep."""
    from quantexp.comparison.pairing import summarise
    from quantexp.stats.planning import Spread

    baseline = config.stats.baseline
    found, failures = finished_jobs(store, sweep, [], "plan from")
    records = [record for record in found if record.metrics.keys() >= COUNTED]
    failures += [f"{each.name} does not say what it cost." for each in found if not each.metrics.keys() >= COUNTED]
    # For the pairs alone: their intervals are not looked at.
    summary = summarise(records, failures, replace(config.stats, resamples=1, unit=Unit.item), "plan")
    quants = list(dict.fromkeys(condition.quant for condition in summary.conditions))
    if baseline not in quants:
        raise UserError(
            f"sweep={sweep} has no finished run of the baseline {baseline}; set stats.baseline to one of its quants "
            f"({', '.join(quants)}), or plan without it: sweep=null changed=0.05."
        )
    if not summary.comparisons:
        reasons = " ".join(summary.refusals) or f"it has only the baseline {baseline}."
        raise UserError(f"sweep={sweep} has no quant to pair with the baseline: {reasons}")
    by_id = {record.run_id: record for record in records}
    plans, counted = [], []
    for model, task in summary.places():
        ladder = summary.ladder(model, task)
        runs = {condition.quant: [by_id[run_id] for run_id in condition.run_ids] for condition in ladder}
        name = task if len(summary.models()) == 1 else f"{task}, {model}"
        for condition in ladder:
            if summary.comparison(condition) is None:
                continue
            seen = measure_spread(runs[baseline], runs[condition.quant])
            spread = seen if config.changed is None else Spread(config.changed)
            cost = estimate_cost(runs[baseline]) + estimate_cost(runs[condition.quant])
            drawn = _drawn(runs[baseline], runs[condition.quant])
            plans.append(Planned(spread, name, condition.quant, cost, drawn))
            counted += [*runs[baseline], *runs[condition.quant]]
    return Pilot(
        plans=tuple(plans),
        source=f"sweep {sweep[:8]}, baseline {baseline}",
        processors=", ".join(
            dict.fromkeys(
                run.tags.get("host.processor", "an unknown processor") for run in counted if count_generated(run)
            )
        ),
        left_out=(*summary.refusals, *summary.failures),
    )


def _drawn(baseline: Sequence["JobRecord"], quant: Sequence["JobRecord"]) -> "SamplingSpread | None":
    """Return how much answers to one item differ; None where items were answered once."""
    from quantexp.stats.sampling_plan import SamplingSpread

    before, after = (_answers(runs) for runs in (baseline, quant))
    both = before.index.intersection(after.index)
    if len(both) < 2 or before.shape[1] != after.shape[1] or before.shape[1] < 2:
        return None
    return SamplingSpread.seen(before.loc[both].to_numpy(), after.loc[both].to_numpy())


def _answers(runs: Sequence["JobRecord"]) -> "pd.DataFrame":
    """Score of each answer: a row an item and seed, a column a sample, without items of which one was not asked."""
    import pandas as pd

    tables = []
    for run in runs:
        if run.answers is None or run.answers.asked.samples is None:
            continue
        asked = run.answers.asked
        rows = {"item": asked.item_ids, "seed": run.tags["seed"], "sample": asked.samples, "score": run.answers.score}
        tables.append(pd.DataFrame(rows))
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables).pivot_table(index=["item", "seed"], columns="sample", values="score").dropna()


def _samples(config: PlanConfig, plans: Sequence[Planned]) -> "Table":
    """Return the items that show the margin with one answer to each, or several."""
    table = _table(plans, "answers\nto an item", "items", "answers\nin all")
    for first, each in _by_task(table, plans):
        assert each.drawn is not None
        answer = replace(each, cost=each.cost and each.cost / each.drawn.samples)
        for answers in SAMPLES:
            spread = each.drawn.at(answers)
            items = spread.items_to_show(config.margin, power=config.power, alpha=config.alpha)
            shown = first if answers == SAMPLES[0] else [""] * len(first)
            table.add_row(*shown, str(answers), f"{items:,}", *_priced(items * answers, answer))
    return table


def _needed(config: PlanConfig, plans: Sequence[Planned]) -> "Table":
    """Return the items that each answer takes."""
    margin = given_points(config.margin)
    table = _table(plans, "changed", "to", "items")
    for first, each in _by_task(table, plans):
        seen = "given" if each.spread.n is None else f"{each.spread.changed} of {each.spread.n}"
        find = each.spread.items_to_find(config.margin, power=config.power, alpha=config.alpha / config.family)
        show = each.spread.items_to_show(config.margin, power=config.power, alpha=config.alpha)
        table.add_row(*first, seen, f"find a drop of {margin}", *_priced(find, each))
        table.add_row(*[""] * len(first), _spread(each), f"show less than {margin}", *_priced(show, each))
    return table


def _shown(config: PlanConfig, rows: Sequence[tuple[int, Planned]]) -> "Table":
    """Return what given numbers of items can show."""
    plans = [each for _, each in rows]
    chance_heading = f"chance to show\nless than {given_points(config.margin)}"
    table = _table(plans, "items", "smallest drop\nfound, points", chance_heading)
    for (n, _), (first, each) in zip(rows, _by_task(table, plans), strict=True):
        drop = each.spread.smallest_drop(n, power=config.power, alpha=config.alpha / config.family)
        chance = each.spread.chance_to_show(n, config.margin, alpha=config.alpha)
        items, *cost = _priced(n, each)
        smallest = "-" if drop is None else f"{100 * drop:.2f}"
        table.add_row(*first, items, smallest, f"{100 * chance:.0f}%" if chance < 0.995 else ">99%", *cost)
    return table


def _table(plans: Sequence[Planned], *headings: str) -> "Table":
    """Return an empty table: whose plan it is and what it costs, where that is known, around the headings."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    if plans[0].task:
        table.add_column("task, quant", overflow="fold")
    for heading in (*headings, *(("tokens", "hours") if plans[0].cost else ())):
        table.add_column(heading, justify="left" if heading == "to" else "right", no_wrap=True)
    return table


def _by_task(table: "Table", plans: Sequence[Planned]) -> Iterator[tuple[list["Text"], Planned]]:
    """Yield the plans with the first cell of their rows; a task's name gets a row of its own."""
    from rich.text import Text

    task = ""
    for each in plans:
        if each.task != task:
            table.add_section()
            table.add_row(Text(each.task, style="bold"))
            task = each.task
        yield ([Text(f"  {each.quant}")] if each.task else []), each


def _priced(items: int | None, each: Planned) -> list[str]:
    """Cells for a number of items and its cost."""
    if each.cost is None:
        return ["-" if items is None else f"{items:,}"]
    if items is None:
        return ["-"] * 3
    hours = "-" if each.cost.seconds is None else _hours(items * each.cost.seconds / 3600)
    return [f"{items:,}", _tokens(items * each.cost.tokens), hours]


def _spread(each: Planned) -> str:
    if each.spread.graded:
        return f"sd {each.spread.variance**0.5:.2f}*"
    return f"{100 * each.spread.variance:.1f}%"


def _tokens(count: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:,.1f}{unit}"
    return f"{count:.0f}"


def _hours(hours: float) -> str:
    return "<0.1" if hours < 0.05 else f"{hours:,.1f}"


def _notes(config: PlanConfig, plans: Sequence[Planned], pilot: Pilot | None) -> Iterator[str]:
    """Yield the notes below the tables."""
    margin = given_points(config.margin)
    of_family = f" / {config.family}" if config.family > 1 else ""
    yield (
        f"Items are unique items that the baseline and the quant both answer. find: mid-p McNemar, two-sided at "
        f"{config.alpha:g}{of_family}. show: the one-sided {100 - 100 * config.alpha:g}% bound of the drop is below "
        f"{margin}, if the quant loses nothing."
    )
    if config.changed is None and pilot:
        yield (
            f"changed: from {pilot.source}. Shares are (changed + 1) / (items + 2): few items must not promise that "
            "nothing changes."
        )
    if any(each.spread.graded for each in plans):
        yield (
            "* Graded scores: what Gaffke's bound takes, with the variance of an item's difference, which has a guard "
            "like that."
        )
    if any(each.drawn for each in plans):
        yield (
            f"answers to an item: what shows less than {margin} if baseline and quant each draw so many, by how much "
            "items differ and how much the answers to one item do."
        )
    if not all(each.spread.graded or each.spread.variance >= config.margin for each in plans):
        yield f"- under items: less than {margin}% of the items change, so there is no drop of {margin} points to find."
    numbers = [config.items] if config.items is not None else NUMBERS if config.changed is not None else ()
    alpha = config.alpha / config.family
    if any(each.spread.smallest_drop(n, power=config.power, alpha=alpha) is None for each in plans for n in numbers):
        yield "- under smallest drop: none is found so often, not even if every change is a loss."
    if pilot is None:
        yield f"The cost is measured by: {MEASURE}"
        return
    if pilot.processors:
        yield (
            f"tokens, hours: of baseline and quant together, per item as in {pilot.source}, on {pilot.processors}. "
            "Loading is included, so short runs make them too long; several quants share one run of the baseline."
        )
    if any(each.cost and each.cost.seconds is None for each in plans):
        yield (
            "- under hours: all answers came from the completion store, which says nothing of speed. The sweep's "
            "command measures it with force=true store.reuse=false."
        )
    for sentence in pilot.left_out:
        yield f"Left out: {sentence}"


main = hydra_command("quantexp.plan", PlanConfig)(plan)

if __name__ == "__main__":
    main()
