"""Files of the Hub's repositories, fetched beside their place, verified and then moved there."""

import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from quantexp.models.checksums import NAME, Download, downloads, record
from quantexp.models.gguf import hashed, remember
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file
from quantexp.util.huggingface import hub_errors, quiet_unless_terminal

log = logging.getLogger(__name__)

WAY_OUT = (
    "or fetch it where there is one (python -m quantexp.models fetch) and copy its folder models/ here, "
    "or choose a model that needs none (model=smollm2-135m-instruct, or model=local with your file)"
)
"""What to do without the Hub."""

_GO_ON = "run the same command again, and if that repeats, ask who stands between you and the Hub"


@dataclass(frozen=True, slots=True)
class Listed:
    """One file of a repository, as the Hub describes it; small ones may have no sha256."""

    name: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Missing:
    """The files of one quant that are to be fetched."""

    repository: str
    revision: str
    commit: str
    files: tuple[Listed, ...]


def check_targets(folder: Path, missing: Sequence[Missing], cache: Path) -> None:
    """Refuse, before the first byte, what would overwrite a file of the user's own or not fit the disk.

    Raises:
        UserError: a file is where another is to be put, and was not downloaded; or there is too little room.
    """
    absent = [(one, file) for one in missing for file in one.files if not _is_here(folder, one, file, cache)]
    needed = sum(file.bytes - _size_of(_begun(folder, one, file), file.bytes) for one, file in absent)
    free = shutil.disk_usage(folder).free
    names = ", ".join(PurePosixPath(file.name).name for _, file in absent)
    if needed > free:
        raise UserError(
            f"{folder} has {format_size(free)} free, and {format_size(needed)} are to be downloaded "
            f"({names}); make room, or set model.folder to a folder on another disk."
        )
    if absent:
        log.info("downloading %s to %s: %s", format_size(needed), folder, names)


def download(folder: Path, missing: Missing, file: Listed, cache: Path) -> None:
    """Have one file in its place, and in SHA256SUMS.

    Raises:
        UserError: the Hub cannot be reached or refuses, other bytes come than it announces, or the user has a file of
            their own in that place.
    """
    target = _target(folder, missing, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    begun = _begun(folder, missing, file)
    with _alone(Path(f"{begun}.lock"), target.name):
        if not _is_here(folder, missing, file, cache):
            with hub_errors(missing.repository, missing.commit, WAY_OUT):
                _fill(begun, missing, file)
            log.info("checking %s", target.name)
            found = hash_file(begun)
            if file.sha256 is not None and found != file.sha256:
                begun.unlink()
                raise UserError(
                    f"{file.name} of {missing.repository} came with sha256 {found}, but the Hub announces "
                    f"{file.sha256}; it was deleted: {_GO_ON}."
                )
            if target.is_file():
                log.warning("replacing %s, which is of another commit, by that of %s", target, missing.commit[:12])
            begun.replace(target)
            remember(target, cache, found)
    path = f"{missing.repository}/{file.name}"
    digest = hashed(target, cache)
    record(folder, [Download(missing.repository, missing.revision, missing.commit, path, digest)])
    Path(f"{begun}.lock").unlink(missing_ok=True)


def select_headers(place: str, asked: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the Hub's headers, without the token if the bytes lie elsewhere or would travel in the open."""
    is_same = urlsplit(place)[:2] == urlsplit(asked)[:2]
    return {name: value for name, value in headers.items() if is_same or name.lower() != "authorization"}


def format_size(size: int) -> str:
    """Return a number of bytes, as people read it."""
    for unit, bytes_in_it in (("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_in_it / 10:
            return f"{size / bytes_in_it:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Two processes must not write to one file: the second waits, and says so."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process, which is downloading %s", name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_here(folder: Path, missing: Missing, file: Listed, cache: Path) -> bool:
    """Return whether the file is in its place; False also for one that was downloaded of another commit.

    Raises:
        UserError: what is in its place was not downloaded, or has changed since.
    """
    target = _target(folder, missing, file)
    if not target.is_file():
        return False
    if file.sha256 is None and target.stat().st_size == file.bytes:
        return True
    found = hashed(target, cache)
    if found == file.sha256:
        return True
    path = f"{missing.repository}/{file.name}"
    if found in {each.sha256 for each in downloads(folder) if each.path == path}:
        return False
    raise UserError(
        f"{target} is here with other bytes than {missing.repository} has at commit {missing.commit[:12]}, and "
        f"{NAME} does not list them; move it away, or set model.folder to another folder."
    )


def _target(folder: Path, missing: Missing, file: Listed) -> Path:
    return folder / missing.repository / file.name


def _begun(folder: Path, missing: Missing, file: Listed) -> Path:
    target = _target(folder, missing, file)
    return target.with_name(f"{target.name}.{(file.sha256 or missing.commit)[:16]}.incomplete")


def _size_of(begun: Path, most: int) -> int:
    """Return the bytes of a download that are here; one that is too large will begin anew."""
    size = begun.stat().st_size if begun.is_file() else 0
    return size if size <= most else 0


def _fill(begun: Path, missing: Missing, file: Listed) -> None:
    """Fetch what is not in the file yet.

    Not `hf_hub_download`: since version 2 it begins a file anew in every process, and these have gigabytes.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined] # documented, though not in its list

    quiet_unless_terminal()
    name = PurePosixPath(file.name).name
    if (elsewhere := _in_the_cache(missing, file)) is not None:
        log.info("taking %s from the Hub's cache on this machine", name)
        shutil.copyfile(elsewhere, begun)
        return
    if not sys.stderr.isatty():  # where there is no progress bar
        log.info("downloading %s, %s", name, format_size(file.bytes))
    url = hf_hub_url(missing.repository, file.name, revision=missing.commit)
    place = get_hf_file_metadata(url, retry_on_errors=True).location
    if begun.is_file() and begun.stat().st_size > file.bytes:
        begun.unlink()
    with begun.open("ab") as stream:
        if stream.tell() < file.bytes:
            try:
                # Without `expected_size`, for which the library refuses large files; the size is compared below.
                http_get(
                    place,
                    stream,
                    resume_size=stream.tell(),
                    headers=select_headers(place, url, build_hf_headers()),
                    displayed_filename=name,
                )
            except HfHubHTTPError as error:
                if error.response.status_code == 416:  # what is here is no beginning of what is there
                    begun.unlink()
                raise
        stream.flush()
        os.fsync(stream.fileno())  # on disk before its checksum is written down
    if (size := begun.stat().st_size) != file.bytes:
        if size > file.bytes:
            begun.unlink()
        raise UserError(
            f"{file.name} of {missing.repository} came with {size} bytes, but the Hub announces {file.bytes}; {_GO_ON}."
        )


def _in_the_cache(missing: Missing, file: Listed) -> Path | None:
    """Return the file in the cache that all programs share, if its bytes are those that the Hub announces."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(missing.repository, file.name, revision=missing.commit)
    if not isinstance(cached, str):
        return None
    path = Path(cached)
    if path.stat().st_size == file.bytes and (file.sha256 is None or hash_file(path) == file.sha256):
        return path
    log.warning(
        "leaving the copy of %s in the Hub's cache on this machine, whose bytes are not those that the Hub announces",
        PurePosixPath(file.name).name,
    )
    return None
