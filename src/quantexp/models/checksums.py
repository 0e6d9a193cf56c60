"""SHA256SUMS: what was downloaded into a folder, from where, and what it must hash to.

`sha256sum --check SHA256SUMS` reads it; a comment above each group of files says where they came from.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from filelock import FileLock

from quantexp.util.files import write_atomically

NAME = "SHA256SUMS"

_ORIGIN = re.compile(r"# (?P<repository>\S+) at (?P<revision>\S+), commit (?P<commit>[0-9a-f]{40})")
_ENTRY = re.compile(r"(?P<sha256>[0-9a-f]{64}) [ *](?P<path>.+)")


@dataclass(frozen=True, slots=True, order=True)
class Download:
    """One file that came from the Hub.

    Attributes:
        repository: owner/name.
        revision: the branch, tag or commit that was asked for.
        commit: what the revision stood for when the first file was fetched.
        path: of the file, relative to the folder of SHA256SUMS, with forward slashes.
        sha256: as the Hub announced it and as the file's bytes were found to hash.
    """

    repository: str
    revision: str
    commit: str
    path: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name inside its repository."""
        return self.path.removeprefix(f"{self.repository}/")


def downloads(folder: Path) -> list[Download]:
    """Return the entries of SHA256SUMS; lines that somebody else has added are passed over."""
    found, origin = [], None
    for line in _lines(folder / NAME):
        if about := _ORIGIN.fullmatch(line):
            origin = about
        elif origin and (entry := _ENTRY.fullmatch(line)) and entry["path"].startswith(f"{origin['repository']}/"):
            found.append(Download(**origin.groupdict(), **entry.groupdict()))
    return found


def record(folder: Path, new: Iterable[Download]) -> None:
    """Add downloads to SHA256SUMS; an entry for the same path is replaced, foreign lines stay at its head.

    Raises:
        OSError: the file cannot be written; the old one stays.
    """
    with FileLock(folder / f".{NAME}.lock"):
        known = {each.path: each for each in downloads(folder)} | {each.path: each for each in new}
        lines = _foreign(folder / NAME, known)
        for (repository, revision, commit), group in groupby(
            sorted(known.values()), key=lambda each: (each.repository, each.revision, each.commit)
        ):
            lines.append(f"# {repository} at {revision}, commit {commit}")
            lines += [f"{each.sha256}  {each.path}" for each in group]
        write_atomically(folder / NAME, "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def _foreign(path: Path, known: dict[str, Download]) -> list[str]:
    """Return the lines of the file that are none of ours."""
    return [
        line
        for line in _lines(path)
        if not _ORIGIN.fullmatch(line) and not ((entry := _ENTRY.fullmatch(line)) and entry["path"] in known)
    ]


def _lines(path: Path) -> list[str]:
    """Read the file's lines, if there is one; bytes that are not UTF-8 are kept, as in Python's file names.

    Not `splitlines`, which takes characters for line ends that `sha256sum` does not.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    return [line.rstrip("\r") for line in (lines if lines[-1] else lines[:-1])]
