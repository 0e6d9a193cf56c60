"""The limits of divergence: its direction, and the agreement of its order with that of the losses."""

import math

from quantexp.comparison.summary import RankComparison, Summary
from quantexp.report.columns import Column, DataTable, Grid, omit_nan
from quantexp.report.divergence import Measured, interval_text, list_measured
from quantexp.stats import Interval
from quantexp.stats.rank_agreement import FEWEST_RANKED, RankAgreement

LIMITS = "What divergence cannot tell"
"""The section's heading."""

VOLUME_NOTE = (
    "Divergence is a volume: how much probability moves, wherever to. Moved: the mean absolute change of the "
    "probability of the token that stands in the text; net: its mean with its sign. ln(q/p): the mean change of that "
    "token's log-probability. Where its interval lies below 0, probability moves away from what stands there."
)

OWN_NOTE = (
    "The baseline's own answers are not the right ones: a move away from them is a change, and no loss. Read gold "
    "answers (divergence_over=gold) or plain text (task=text) for that."
)

RANK_NOTE = (
    "Kendall's τ of the conditions' order by mean divergence and by loss: 1 is the same order, 0 no relation, -1 the "
    "reverse; its interval is over items, of these conditions. Near: the half with the least divergence, among which a "
    "quant is mostly chosen. Noise of the losses draws τ towards 0; where near conditions do not agree, divergence "
    "orders what the task cannot tell apart, or what does not matter to it."
)


def _list_compared(summary: Summary) -> list[Measured]:
    """Return the conditions with a divergence, but for the baseline."""
    return [each for each in list_measured(summary) if each.condition.quant != summary.baseline]


def direction_grid(summary: Summary) -> Grid:
    """Tabulate how much probability moves at the text's tokens, and where to; no rows if nothing was measured."""
    columns: list[Column[Measured]] = [
        Column("", None, "task", lambda row: summary.section(row.condition), "l"),
        Column("", None, summary.noun, lambda row: row.condition.quant, "l"),
        Column("", None, "over", lambda row: row.divergence.over, "l"),
        Column("", None, "moved, points", lambda row: f"{100 * row.divergence.summary.probability_moved.value:.2f}"),
        Column(
            "",
            None,
            "net, points",
            lambda row: interval_text(row.divergence.summary.probability_change, 2, 100.0),
        ),
        Column("", None, "ln(q/p)", lambda row: interval_text(_gain(row), 4)),
        Column("", None, "direction", _direction, "l"),
    ]
    return DataTable(columns, _list_compared(summary)).show()


def _gain(row: Measured) -> Interval:
    """Return the mean change of the log-probability of the token that stands there."""
    ratio = row.divergence.summary.log_perplexity_ratio
    return Interval(-ratio.value, -ratio.high, -ratio.low)


def _direction(row: Measured) -> str:
    gain = _gain(row)
    if math.isnan(gain.low) or gain.low <= 0 <= gain.high:
        return "not shown"
    return "towards it" if gain.low > 0 else "away from it"


def ranks_table(summary: Summary) -> DataTable[RankComparison]:
    """Return the agreement of orders; no rows if no divergence was measured, or of one condition only."""
    columns: list[Column[RankComparison]] = [
        Column("model", lambda row: row.model),
        Column("corpus", lambda row: row.corpus, "divergence on", lambda row: _corpus(summary, row), "l"),
        Column("over", lambda row: row.over),
        Column("task", lambda row: row.task, "loss on", side="l"),
        Column("conditions", lambda row: row.whole.conditions, "conditions"),
        Column("tau", lambda row: omit_nan(row.whole.tau), "τ, all", lambda row: _tau(row.whole)),
        Column("tau_low", lambda row: omit_nan(row.whole.low)),
        Column("tau_high", lambda row: omit_nan(row.whole.high)),
        Column("near_conditions", lambda row: row.near.conditions, "near"),
        Column("near_tau", lambda row: omit_nan(row.near.tau), "τ, near", lambda row: _tau(row.near)),
        Column("near_tau_low", lambda row: omit_nan(row.near.low)),
        Column("near_tau_high", lambda row: omit_nan(row.near.high)),
    ]
    return DataTable(columns, summary.rank_agreements)


def _corpus(summary: Summary, row: RankComparison) -> str:
    return f"{summary.make_title(row.model, row.corpus)} ({row.over})"


def _tau(found: RankAgreement) -> str:
    if found.conditions < FEWEST_RANKED:
        return f"too few (takes {FEWEST_RANKED})"
    if math.isnan(found.tau):
        return "no differences"
    return interval_text(Interval(found.tau, found.low, found.high), 2)


def limit_notes(summary: Summary) -> list[str]:
    """Return the sentences about direction; none if no divergence was measured."""
    found = [row.divergence.over for row in _list_compared(summary)]
    if not found:
        return []
    own = any("own answers" in over for over in found)
    return [VOLUME_NOTE, *([OWN_NOTE] if own else [])]
