"""Files that appear whole or not at all."""

import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one move, so that a reader sees the old content or the new, never a part.

    Raises:
        OSError: The file cannot be written; the old content stays and nothing else is left behind.
    """
    # Not `tempfile`: its files are private to their owner, and a report is for others to read.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
