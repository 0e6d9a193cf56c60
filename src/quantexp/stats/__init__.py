"""Statistics: arrays in, frozen dataclasses out; nothing here knows where a score came from."""

from quantexp.stats.agreement import Agreement, agreement, choose_threshold
from quantexp.stats.at_k import AtK, at_k, majority_at_k, pass_at_k
from quantexp.stats.average import average
from quantexp.stats.bayes import DropPosterior, drop_posterior
from quantexp.stats.binary import (
    McNemar,
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
from quantexp.stats.gatekeeping import gate_tasks, noninferiority_p
from quantexp.stats.pooling import PooledComparison, pool, stratified_sign_p
from quantexp.stats.power import (
    mcnemar_power,
    minimal_detectable_difference,
    power_within,
    required_items,
    required_items_within,
)
from quantexp.stats.random_effects import (
    FEW_PLACES,
    Heterogeneity,
    RandomEffects,
    effect_variance,
    measure_heterogeneity,
    random_effects,
)
from quantexp.stats.rank_agreement import FEWEST_RANKED, RankAgreement, rank_agreement
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
from quantexp.stats.verdict import Decision, HeldBack, Verdict, decide, holm

__all__ = [
    "E_VALUE",
    "FEWEST_RANKED",
    "FEW_CHANGED",
    "FEW_PLACES",
    "Agreement",
    "AnytimeBounds",
    "AtK",
    "Contrast",
    "Decision",
    "DivergenceSummary",
    "DropPosterior",
    "Estimate",
    "FurtherItems",
    "HeldBack",
    "Heterogeneity",
    "Interval",
    "Kind",
    "McNemar",
    "Method",
    "PairedComparison",
    "PooledComparison",
    "RandomEffects",
    "RankAgreement",
    "RunningEValues",
    "SequentialDecision",
    "SequentialTest",
    "Verdict",
    "agreement",
    "anytime_bounds",
    "at_k",
    "average",
    "choose_threshold",
    "compare",
    "compare_units",
    "contrast",
    "decide",
    "divergence_summary",
    "drop_posterior",
    "effect_variance",
    "estimate",
    "fewest_items",
    "gate_tasks",
    "holm",
    "majority_at_k",
    "mcnemar",
    "mcnemar_p",
    "mcnemar_power",
    "measure_heterogeneity",
    "minimal_detectable_difference",
    "noninferiority_p",
    "pass_at_k",
    "pool",
    "power_within",
    "random_effects",
    "rank_agreement",
    "required_items",
    "required_items_within",
    "running_e_values",
    "sequential_decision",
    "sequential_items",
    "stratified_sign_p",
    "tango_interval",
    "wilson_interval",
]
