"""What quantization changes in a model's distributions: KL divergence from the baseline's, token by token."""

from quantexp.engines.llama_cpp.teacher_forcing import Forcing, Vocabulary, vocabulary_of
from quantexp.engines.sequences import TokenSequence, digest_of, first_divergence
from quantexp.evaluation.kl_divergence.encoding import ReferenceRows, encode
from quantexp.evaluation.kl_divergence.measures import TokenMeasures, measure, together
from quantexp.evaluation.kl_divergence.reference import (
    Compared,
    compare,
    compared,
    facts_of,
    predicted_bytes,
    said,
    write_reference,
)
from quantexp.evaluation.kl_divergence.windows import tokenized, windows

__all__ = [
    "Compared",
    "Forcing",
    "ReferenceRows",
    "TokenMeasures",
    "TokenSequence",
    "Vocabulary",
    "compare",
    "compared",
    "digest_of",
    "encode",
    "facts_of",
    "first_divergence",
    "measure",
    "predicted_bytes",
    "said",
    "together",
    "tokenized",
    "vocabulary_of",
    "windows",
    "write_reference",
]
