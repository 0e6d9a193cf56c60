"""One file of the store: how a record is written down, appended and found again.

A record is one line: its key (64 hex digits), a CRC-32 (8 hex digits) and a JSON object, with one space between. The
CRC covers the key, a space and the JSON. A line that does not fit its CRC is damaged and is passed over.
"""

import base64
import contextlib
import errno
import fcntl
import json
import math
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast
from zlib import crc32

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from quantexp.store.completion import Completion, FinishReason

SUFFIX = ".jsonl"
"""Of a segment; files with any other are not looked at."""

KEY_BYTES = 32
"""A key is a sha256."""

CHUNK_BYTES = 1 << 24
"""Read at once while scanning; also the longest line, so that a chunk holds at least one whole line. An answer would
need about a million tokens to be longer."""

SYNC_SECONDS = 5.0
"""At most so much of writing is lost when the power fails."""

QUIET_SECONDS = 60.0
"""Where the file system has no locks, a segment that nobody has written to for so long has no writer any more."""

LISTINGS = 10
"""How often to list a folder that changes all the time."""

MOST_TOKENS = 2**31 - 1
"""No prompt and no answer has more."""

ROUNDING = 1e-4
"""A log-probability may be as much above 0, where it was computed in half precision."""

_KEY_END = 2 * KEY_BYTES
_CRC_START = _KEY_END + 1
_CRC_END = _CRC_START + 8
_JSON_START = _CRC_END + 1

PLACE = np.dtype([("segment", "<u4"), ("length", "<u4"), ("offset", "<i8")])
"""Where a record is: the number of its segment, the bytes of its line with the newline, the byte where it begins."""

_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


@dataclass(frozen=True, slots=True)
class Batch:
    """Contents of a stretch of a segment.

    Attributes:
        keys: of the sound records, in the order of the file (S32).
        places: where they are (PLACE); the segment number is 0, for the caller to set.
        damaged: offsets where damaged lines begin.
        end: the offset where the next scan begins.
    """

    keys: NDArray[np.bytes_]
    places: NDArray[np.void]
    damaged: NDArray[np.int64]
    end: int


def encode(key: bytes, completion: Completion, about: Mapping[str, str]) -> bytes:
    """Return the line of a completion.

    Raises:
        ValueError: the key is not 32 bytes, the completion is none that can be used (`check`), a log-probability is not
            a float32, the text cannot be UTF-8, or the line is longer than 16 MiB.
        OverflowError: a token does not fit 32 bits.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
    check(completion)
    exact = np.array(completion.logprobs, np.float64)
    with np.errstate(over="ignore"):
        logprobs = exact.astype("<f4")
    if not np.array_equal(logprobs, exact):
        raise ValueError("a log-probability is not a float32: it would not come back as it was")
    fields = {
        "tokens": base64.b64encode(np.array(completion.tokens, "<i4").tobytes()).decode("ascii"),
        "logprobs": base64.b64encode(logprobs.tobytes()).decode("ascii"),
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_seconds": completion.prompt_seconds,
        "generation_seconds": completion.generation_seconds,
        "about": dict(about),
        **({} if completion.counted is None else {"counted": completion.counted}),
        **({} if completion.reasoning is None else {"reasoning": completion.reasoning}),
        **({} if completion.reasoning_tokens is None else {"reasoning_tokens": completion.reasoning_tokens}),
        **({} if completion.likeliest is None else {"likeliest": completion.likeliest}),
        **({} if completion.created is None else {"created": completion.created}),
    }
    content = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    head = b"%s " % key.hex().encode("ascii")
    line = b"%s%08x %s\n" % (head, crc32(content, crc32(head)), content)
    if len(line) > CHUNK_BYTES:
        raise ValueError(f"a record of {len(line)} bytes is longer than the {CHUNK_BYTES} a segment can hold")
    return line


def decode(line: bytes) -> tuple[bytes, Completion, dict[str, str]]:
    """Key, completion and `about` of a line.

    Raises:
        ValueError: the line is damaged.
    """
    crc = crc32(line[_JSON_START:-1], crc32(line[:_CRC_START]))
    if line[_KEY_END:_JSON_START] != b" %08x " % crc or not line.endswith(b"\n"):
        raise ValueError("a damaged line")
    try:
        fields = json.loads(line[_JSON_START:])
        completion = Completion(
            tokens=tuple(np.frombuffer(base64.b64decode(fields["tokens"]), "<i4").tolist()),
            logprobs=tuple(np.frombuffer(base64.b64decode(fields["logprobs"]), "<f4").tolist()),
            text=_text(fields["text"]),
            finish_reason=cast(FinishReason, _text(fields["finish_reason"])),
            prompt_seconds=_seconds(fields["prompt_seconds"]),
            generation_seconds=_seconds(fields["generation_seconds"]),
            counted=_counted(fields.get("counted")),
            reasoning=None if fields.get("reasoning") is None else _text(fields["reasoning"]),
            reasoning_tokens=fields.get("reasoning_tokens"),
            likeliest=None if fields.get("likeliest") is None else bool(fields["likeliest"]),
            created=None if fields.get("created") is None else _seconds(fields["created"]),
        )
        check(completion)
        return bytes.fromhex(line[:_KEY_END].decode("ascii")), completion, _about(fields["about"])
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError("a line that is no record") from error


def check(completion: Completion) -> None:
    """Refuse a completion that no item table could hold, or that no model can have given.

    Raises:
        ValueError: a count is none, or a log-probability is not a number or is above 0.
    """
    counts = completion.counted or ()
    if completion.reasoning_tokens is not None:
        counts = (*counts, completion.reasoning_tokens)
    for count in counts:
        if type(count) is not int or not 0 <= count <= MOST_TOKENS:
            raise ValueError("a number of tokens is none that can be")
    for logprob in completion.logprobs:
        if not logprob <= ROUNDING:
            raise ValueError(f"a log-probability is {logprob}")


# A checksum says that a line is as somebody wrote it, not that it was this program.


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # half a character is a ValueError
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _counted(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise TypeError
    return value[0], value[1]


def _about(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError
    return {_text(name): _text(each) for name, each in value.items()}


def about(line: bytes) -> dict[str, str]:
    """Return what a line whose checksum has been verified says it belongs to.

    Raises:
        ValueError: the line is no record all the same.
    """
    try:
        return _about(json.loads(line[_JSON_START:])["about"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError("a line that is no record") from error


def new_name(when: datetime | None = None) -> str:
    """Return a name that nobody else has, for a segment made now or at `when`; names sort by time."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", socket.gethostname())[:64]
    return f"{when or datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{host}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"


def read_time(name: str) -> datetime | None:
    """Return the time at which a segment was made; None for a name that `new_name` did not give."""
    with contextlib.suppress(ValueError):
        return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    return None


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every segment in the folder, in the order of their names.

    Raises:
        OSError: the folder cannot be listed.
    """
    for _ in range(LISTINGS):
        before = folder.stat().st_mtime_ns
        found = {}
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and entry.is_file():
                    with contextlib.suppress(FileNotFoundError):  # compacted away just now
                        found[entry.name] = entry.stat().st_size
        # A listing made while a compaction swaps files may show neither the old ones nor the new one.
        if folder.stat().st_mtime_ns == before:
            break
    return dict(sorted(found.items()))


@contextmanager
def open_descriptor(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Yield a descriptor of the file.

    Raises:
        FileNotFoundError: the file is gone, also in the words of NFS.
        OSError: it cannot be opened or read.
    """
    try:
        descriptor = os.open(path, flags | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ESTALE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        raise


def claim(descriptor: int, kind: int) -> bool | None:
    """Take the lock of an open segment, `fcntl.LOCK_EX` or `LOCK_SH`, without waiting.

    Returns:
        Whether it was free; None if the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in {errno.EWOULDBLOCK, errno.EACCES} else None
    return True


def has_ended(descriptor: int) -> bool:
    """Return whether nobody writes to the segment any more."""
    free = claim(descriptor, fcntl.LOCK_SH)
    if free is None:
        return time.time() - os.fstat(descriptor).st_mtime > QUIET_SECONDS
    if free:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return free


def read(descriptor: int, offset: int, size: int) -> bytes:
    """So many bytes from there; fewer only at the end of the file."""
    parts = []
    while size and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        offset, size = offset + len(part), size - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def scan(descriptor: int, start: int = 0, *, ended: bool = False) -> Iterator[Batch]:
    """Every record from `start`, where a line begins, to the end; checksums verified, JSON not looked into.

    The last line may lack its newline. If the writer is alive it is still writing it: it is left for the next scan.
    With `ended`, the caller knows that there is no writer.
    """
    while chunk := read(descriptor, start, CHUNK_BYTES):
        whole = chunk.rfind(b"\n") + 1
        if whole:
            batch = _parse(chunk, whole, start)
        elif len(chunk) == CHUNK_BYTES or ended:
            # Longer than any record, or never finished.
            batch = _batch_of(np.empty((0, KEY_BYTES), np.uint8), [], [], [start], start + len(chunk))
        else:
            if not has_ended(descriptor):
                return
            ended = True  # but the writer may have finished the line in the meantime: look again
            continue
        yield batch
        start = batch.end


def _parse(chunk: bytes, size: int, base: int) -> Batch:
    """Return the lines in the first `size` bytes of a chunk that begins at offset `base`."""
    raw = np.frombuffer(chunk, np.uint8, size)
    ends = np.flatnonzero(raw == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    sound = ends - starts > _JSON_START
    candidates = np.flatnonzero(sound)
    if not len(candidates):
        return _batch_of(np.empty((0, KEY_BYTES), np.uint8), [], [], starts + base, base + size)
    first, last = starts[candidates], ends[candidates]
    heads = sliding_window_view(raw, _JSON_START)[first]
    digits = np.concatenate([_NIBBLE[heads[:, :_KEY_END]], _NIBBLE[heads[:, _CRC_START:_CRC_END]]], axis=1)
    numbers = digits[:, 0::2] << 4 | digits[:, 1::2]
    view = memoryview(chunk)
    computed = [
        crc32(view[begin + _JSON_START : end], crc32(view[begin : begin + _CRC_START]))
        for begin, end in zip(first.tolist(), last.tolist(), strict=True)
    ]
    written = np.ascontiguousarray(numbers[:, KEY_BYTES:]).view(">u4")[:, 0]
    good = (
        (digits < 16).all(axis=1)
        & (heads[:, _KEY_END] == ord(" "))
        & (heads[:, _CRC_END] == ord(" "))
        & (written == np.array(computed, np.uint32))
    )
    sound[candidates] = good
    lengths = (last - first + 1)[good]
    return _batch_of(numbers[good, :KEY_BYTES], lengths, first[good] + base, starts[~sound] + base, base + size)


def _batch_of(
    keys: NDArray[np.uint8],
    lengths: Iterable[int],
    offsets: Iterable[int],
    damaged: Iterable[int],
    end: int,
) -> Batch:
    places = np.zeros(len(keys), PLACE)
    places["length"], places["offset"] = lengths, offsets
    packed = np.ascontiguousarray(keys).view(f"S{KEY_BYTES}").reshape(-1)
    return Batch(packed, places, np.asarray(damaged, np.int64), end)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlast a power failure, where the file system can."""
    with open_descriptor(folder) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network file systems sync no folders
                raise


class SegmentWriter:
    """A segment of this process's own, in a folder that is made when needed; locked for as long as it is open.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._torn = False
        while True:
            self.name = new_name()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.fdopen(os.open(folder / self.name, flags, 0o666), "ab", buffering=0)
            # A compaction may have found the file before it was locked, and thought that its writer had died.
            if claim(self._file.fileno(), fcntl.LOCK_EX) is not False and self.usable():
                break
            self._file.close()
        for path in (folder, *(path.parent for path in made)):
            sync_folder(path)
        self._synced = time.monotonic()

    def usable(self) -> bool:
        """Return whether appended lines will be found: not after the file was deleted, or a torn line left in it."""
        return not self._torn and os.fstat(self._file.fileno()).st_nlink > 0

    def append(self, line: bytes) -> int:
        """Write a whole line, or nothing; returns the offset where it begins. Syncs when the last sync is 5 s old.

        Raises:
            OSError: the line was not written, or not synced.
        """
        descriptor = self._file.fileno()
        start = os.fstat(descriptor).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except BaseException:
            # Part of the line may be there, and the next one must not be glued to it.
            if os.fstat(descriptor).st_size != start + len(line):
                try:
                    os.ftruncate(descriptor, start)
                except OSError:
                    self._torn = True
            raise
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self.sync()
        return start

    def sync(self) -> None:
        """Have everything outlast a power failure.

        Raises:
            OSError: the disk refused.
        """
        os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def abandon(self) -> None:
        """Close the file without a sync. In a forked child this leaves the parent's lock in place."""
        self._file.close()
