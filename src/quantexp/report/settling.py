"""Proposals that would settle an inconclusive comparison, and their cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from quantexp.comparison.costs import Cost
from quantexp.comparison.summary import Comparison, Summary
from quantexp.comparison.wording import has_too_few_items, round_items
from quantexp.report.columns import Column, DataTable, Grid
from quantexp.report.divergence import has_divergence
from quantexp.stats import FEW_CHANGED, Verdict


@dataclass(frozen=True, slots=True)
class Proposal:
    """Items that would settle a comparison.

    Attributes:
        comparison: The one that is inconclusive.
        items: Unique items to add for a verdict with 80% probability; None where no number is likely to tell, or too
            few items changed to say.
        cost: Of them under the baseline and the quant; None where that was not measured.
        in_data: Unique items that the data have; None where that is not known.
    """

    comparison: Comparison
    items: int | None
    cost: Cost | None
    in_data: int | None

    @property
    def fits(self) -> bool:
        """True if the data have as many."""
        return self.in_data is None or self.items is None or self.comparison.difference.n + self.items <= self.in_data


def find_proposals(summary: Summary) -> list[Proposal]:
    """List what each inconclusive comparison takes, the cheapest first and those without a number last."""
    found = []
    for each in summary.select_comparisons():
        if each.decision is None or each.decision.verdict is not Verdict.inconclusive or each.decision.held_back:
            continue
        items = each.decision.further_items if each.difference.changed >= FEW_CHANGED else None
        sides = [summary.find_condition(each.model, each.task, quant) for quant in (each.baseline, each.quant)]
        costs = [side.cost for side in sides if side is not None and side.cost is not None]
        cost = costs[0] + costs[1] if len(costs) == 2 else None
        whole = None if cost is None or items is None else cost * items
        found.append(Proposal(each, items, whole, None if sides[1] is None else sides[1].items_in_data))
    return sorted(found, key=_order)


def _order(proposal: Proposal) -> tuple[bool, bool, float]:
    cost, items = proposal.cost, proposal.items
    return items is None, not proposal.fits, (cost and (cost.seconds or cost.tokens)) or items or 0


def settling_line(summary: Summary) -> str:
    """Return the cheapest way to settle something, in a line; empty if nothing is inconclusive."""
    found = find_proposals(summary)
    if not found:
        return ""
    first = found[0]
    if first.items is None:
        told = f"{_why_none([each.comparison for each in found])}{_twice(summary)}"
    else:
        price = _price(first.cost)
        told = (
            f"Cheapest to settle: {first.comparison.quant} on {summary.section(first.comparison)}, with about "
            f"{round_items(first.items)} more items{f' ({price})' if price else ''}"
        )
        left = max(0, (first.in_data or 0) - first.comparison.difference.n)
        told += "" if first.fits else f", of which its data have {left:,}: other data or another task"
    return f"{told}. {_ranking(summary)}".rstrip()


def settling_notes(summary: Summary) -> list[str]:
    """Return the notes for acting on the table of proposals."""
    found = find_proposals(summary)
    if not any(each.items is not None for each in found):
        return []
    notes = [
        "Numbers of items are for a verdict with 80% probability if what was seen goes on; tokens and minutes are "
        "those of the baseline and the quant together, as these runs measured them.",
        "A larger number is the plan of a new study: adding items and testing again is a second look, unless "
        "stats=sequential does the adding.",
    ]
    if unknown := [each.comparison for each in found if each.items is None]:
        listed = ", ".join(f"{each.quant} on {summary.section(each)}" for each in unknown)
        notes.append(
            f"Not in the table: {listed}. Too few items were asked or changed to say, or no number is likely to tell."
        )
    if scarce := [each for each in found if not each.fits]:
        names = dict.fromkeys(f"{summary.section(p.comparison)} ({p.in_data:,})" for p in scarce)
        notes.append(f"More than the data have: {', '.join(names)}; other data, or another task, have more.")
    return notes


def settling_grid(summary: Summary) -> Grid:
    """Return the proposals that have a number, as a table."""
    columns: list[Column[Proposal]] = [
        Column("task", None, "task", lambda p: summary.section(p.comparison), "l"),
        Column("quant", None, summary.noun, lambda p: p.comparison.quant, "l"),
        Column("so_far", None, "unique items so far", lambda p: f"{p.comparison.difference.n:,}"),
        Column("items", None, "more items", lambda p: round_items(p.items or 0)),
        Column("tokens", None, "tokens", lambda p: "-" if p.cost is None else round_items(round(p.cost.tokens))),
        Column("minutes", None, "minutes here", lambda p: _minutes(p.cost.seconds if p.cost else None)),
    ]
    return DataTable(columns, [each for each in find_proposals(summary) if each.items is not None]).show()


def _why_none(comparisons: Sequence[Comparison]) -> str:
    """Return the reason why no comparison has a number of further items."""
    reasons = set()
    for each in comparisons:
        if each.decision is not None and has_too_few_items(each.difference, each.decision):
            reasons.add("asked")
        elif each.difference.changed < FEW_CHANGED:
            reasons.add("changed")
    if not reasons:
        return "No number of items is likely to tell"
    return f"Too few items {' or '.join(sorted(reasons))} to say how many more would tell"


def _twice(summary: Summary) -> str:
    """Return the price of as many items again under every quant, if it was measured."""
    costs = [each.cost * each.items for each in summary.conditions if each.cost is not None]
    price = _price(reduce(add, costs)) if len(costs) == len(summary.conditions) else ""
    return f"; as many again take {price}" if price else ""


def _price(cost: Cost | None) -> str:
    if cost is None:
        return ""
    minutes = "" if cost.seconds is None else f", {_minutes(cost.seconds)} min here"
    return f"some {round_items(round(cost.tokens))} tokens{minutes}"


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "<1" if seconds < 60 else round_items(round(seconds / 60))


def _ranking(summary: Summary) -> str:
    """Say what divergence would add without new items; nothing where a server, which has none, answered."""
    if any(condition.file_bytes is None for condition in summary.conditions):
        return ""
    several = len({each.quant for each in summary.comparisons}) > 1
    if has_divergence(summary):
        return "Divergence ranks the quants on the answers that are there: see its table." if several else ""
    known = [c for c in summary.conditions if c.quant == summary.baseline and c.cost is not None]
    tokens = sum(c.cost.tokens * c.items for c in known if c.cost is not None)
    price = f" (each reads some {round_items(round(tokens))} tokens)" if known else ""
    does = "ranks the quants" if several else "measures how far the quant is from the baseline"
    return f"divergence=true {does} on the answers that are there{price}."
