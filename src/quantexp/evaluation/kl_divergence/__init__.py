"""KL divergence of a quantized model's distributions from the baseline's, token by token."""

from quantexp.engines.sequences import TokenSequence, digest_of, first_divergence
from quantexp.evaluation.kl_divergence.encoding import ReferenceRows, encode
from quantexp.evaluation.kl_divergence.measures import TokenMeasures, measure, together
from quantexp.evaluation.kl_divergence.reference import (
    Compared,
    compare,
    facts_of,
    predicted_bytes,
    said,
    write_reference,
)
from quantexp.evaluation.kl_divergence.windows import windows

__all__ = [
    "Compared",
    "ReferenceRows",
    "TokenMeasures",
    "TokenSequence",
    "compare",
    "digest_of",
    "encode",
    "facts_of",
    "first_divergence",
    "measure",
    "predicted_bytes",
    "said",
    "together",
    "windows",
    "write_reference",
]
