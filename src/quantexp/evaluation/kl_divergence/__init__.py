"""KL divergence of a quantized model's distributions from the baseline's, token by token."""

from quantexp.engines.sequences import TokenSequence, first_divergence, hash_sequences
from quantexp.evaluation.kl_divergence.encoding import ReferenceRows, encode
from quantexp.evaluation.kl_divergence.measures import TokenMeasures, measure
from quantexp.evaluation.kl_divergence.reference import (
    compare,
    predicted_bytes,
    read_baseline_scores,
    write_reference,
)
from quantexp.evaluation.kl_divergence.windows import windows

__all__ = [
    "ReferenceRows",
    "TokenMeasures",
    "TokenSequence",
    "compare",
    "encode",
    "first_divergence",
    "hash_sequences",
    "measure",
    "predicted_bytes",
    "read_baseline_scores",
    "windows",
    "write_reference",
]
