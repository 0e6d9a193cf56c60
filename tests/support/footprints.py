"""What llama.cpp tells of a model's memory, asked once for each file of a test run.

Every process with jobs asks it, which takes a tenth of a second. tests/engines/llama_cpp/test_footprint.py holds the
measurement.
"""

import hashlib
from pathlib import Path

from quantexp.engines.llama_cpp import engine
from quantexp.engines.llama_cpp.footprint import recall_footprints
from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.models.footprint import Footprint, read_footprints, write_footprints
from quantexp.util.files import write_atomically


def keep_footprints(folder: Path) -> None:
    """Have engines, from here to the end of this process, take footprints from a folder if another left them there."""

    def recall(path: str, sha256: str, settings: KVCache) -> tuple[Footprint, ...]:
        kept = folder / "footprints" / hashlib.sha256(repr((sha256, settings)).encode()).hexdigest()
        if not kept.is_file():
            kept.parent.mkdir(exist_ok=True)
            write_atomically(kept, write_footprints(recall_footprints(path, sha256, settings)).encode())
        return read_footprints(kept.read_text())

    engine.recall_footprints = recall  # type: ignore[attr-defined, assignment]
