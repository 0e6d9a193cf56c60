"""Statistics: arrays in, frozen dataclasses out; nothing here knows where a score came from."""

from quantexp.stats.at_k import AtK, at_k, majority_at_k, pass_at_k
from quantexp.stats.average import average
from quantexp.stats.bayes import DropPosterior, drop_posterior
from quantexp.stats.binary import (
    McNemar,
    exact_bootstrap_law,
    mcnemar,
    mcnemar_p,
    tango_interval,
    wilson_interval,
)
from quantexp.stats.comparison import (
    E_VALUE,
    Estimate,
    Kind,
    Method,
    PairedComparison,
    compare,
    compare_units,
    estimate,
)
from quantexp.stats.contrast import Contrast, contrast
from quantexp.stats.divergence import DivergenceSummary, Interval, divergence_summary
from quantexp.stats.further import FEW_CHANGED, FurtherItems, fewest_items
from quantexp.stats.lattice import Law
from quantexp.stats.power import (
    mcnemar_power,
    minimal_detectable_difference,
    power_within,
    required_items,
    required_items_within,
)
from quantexp.stats.sequential import (
    AnytimeBounds,
    RunningEValues,
    SequentialDecision,
    SequentialTest,
    anytime_bounds,
    running_e_values,
    sequential_decision,
    sequential_items,
)
from quantexp.stats.verdict import Decision, Verdict, decide, holm

__all__ = [
    "E_VALUE",
    "FEW_CHANGED",
    "AnytimeBounds",
    "AtK",
    "Contrast",
    "Decision",
    "DivergenceSummary",
    "DropPosterior",
    "Estimate",
    "FurtherItems",
    "Interval",
    "Kind",
    "Law",
    "McNemar",
    "Method",
    "PairedComparison",
    "RunningEValues",
    "SequentialDecision",
    "SequentialTest",
    "Verdict",
    "anytime_bounds",
    "at_k",
    "average",
    "compare",
    "compare_units",
    "contrast",
    "decide",
    "divergence_summary",
    "drop_posterior",
    "estimate",
    "exact_bootstrap_law",
    "fewest_items",
    "holm",
    "majority_at_k",
    "mcnemar",
    "mcnemar_p",
    "mcnemar_power",
    "minimal_detectable_difference",
    "pass_at_k",
    "power_within",
    "required_items",
    "required_items_within",
    "running_e_values",
    "sequential_decision",
    "sequential_items",
    "tango_interval",
    "wilson_interval",
]
