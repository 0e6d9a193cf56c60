"""Two tiny models of one vocabulary that disagree, and a text for them."""

import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from quantexp.config import EngineConfig, ModelConfig
from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.models.gguf import identify
from quantexp.util.native.tiny_model import WIDTH, write_tiny_model

HARBOUR = " ".join(
    f"On day {n} the {n + 1} cats of the harbour ate {n + 2} fish and slept in the sun." for n in range(30)
)
"""48 windows of 64 tokens, a token a byte."""

HARBOUR_FILE = Path(__file__).parents[1] / "evaluation" / "kl_divergence" / "data" / "harbour.kld"
"""The first model's distributions over the first four, as llama-perplexity has written them."""

LAST_NORM, A_FEED_FORWARD_NORM = 4, 1
"""Places among the norms of the file."""


def write_tiny_pair(folder: Path) -> tuple[Path, Path]:
    """Write base.gguf, whose distributions have a peak, and quant.gguf, which differs from it by one norm's scale."""
    write_tiny_model(folder / "base.gguf")
    base = _scale_norm((folder / "base.gguf").read_bytes(), LAST_NORM, 40.0)
    (folder / "base.gguf").write_bytes(base)
    (folder / "quant.gguf").write_bytes(_scale_norm(base, A_FEED_FORWARD_NORM, 300.0))
    return folder / "base.gguf", folder / "quant.gguf"


@contextmanager
def open_tiny_pair(folder: Path) -> Iterator[tuple[LlamaCpp, LlamaCpp]]:
    """Yield both, loaded."""
    config, model = EngineConfig("llama_cpp", context=128, threads=1, lanes=1), ModelConfig("tiny", "path")
    base, quant = (identify(path, folder) for path in write_tiny_pair(folder))
    with closing(LlamaCpp(base, model, config)) as one, closing(LlamaCpp(quant, model, config)) as other:
        yield one, other


def _scale_norm(content: bytes, number: int, scale: float) -> bytes:
    """Replace one of the norms of the file, all of which are of ones."""
    ones, place = struct.pack(f"<{WIDTH}f", *[1.0] * WIDTH), -1
    for _ in range(number + 1):
        place = content.index(ones, place + 1)
    return content[:place] + struct.pack(f"<{WIDTH}f", *[scale] * WIDTH) + content[place + len(ones) :]
