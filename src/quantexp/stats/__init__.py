"""Statistics: arrays in, frozen dataclasses out; nothing here knows where a score came from."""

from quantexp.stats.binary import (
    BootstrapLaw,
    McNemar,
    exact_bootstrap_law,
    mcnemar,
    mcnemar_p,
    tango_interval,
    wilson_interval,
)
from quantexp.stats.bootstrap import (
    MeanEstimate,
    PairedDifference,
    bootstrap_mean,
    paired_bootstrap,
)

__all__ = [
    "BootstrapLaw",
    "McNemar",
    "MeanEstimate",
    "PairedDifference",
    "bootstrap_mean",
    "exact_bootstrap_law",
    "mcnemar",
    "mcnemar_p",
    "paired_bootstrap",
    "tango_interval",
    "wilson_interval",
]
