"""Statistics: arrays in, frozen dataclasses out; nothing here knows where a score came from."""

from quantexp.stats.bootstrap import (
    MeanEstimate,
    PairedDifference,
    bootstrap_mean,
    paired_bootstrap,
)

__all__ = ["MeanEstimate", "PairedDifference", "bootstrap_mean", "paired_bootstrap"]
