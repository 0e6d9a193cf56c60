"""Files that appear whole or not at all, and their sha256."""

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def keep_from_others() -> None:
    """From now on this process makes no file that everybody may write to, whatever the umask allows otherwise.

    What models have answered is evidence. Group members may write where the umask lets them: they share a store.
    """
    os.umask(os.umask(0o077) | 0o002)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one move, so that a reader sees the old content or the new, never a part.

    Raises:
        OSError: The file cannot be written; the old content stays and nothing else is left behind.
    """
    with open_atomically(path) as part:
        part.write_bytes(content)


@contextmanager
def open_atomically(path: Path) -> Iterator[Path]:
    """Yield a path to write to, which becomes the file in one move once the context ends without an error."""
    # Not `tempfile`: its files are private to their owner, and a report is for others to read.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """Hex digest of the sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
