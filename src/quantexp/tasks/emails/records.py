"""Every answer, kept on a line of its own as it comes. The file of e-mails follows from these lines.

A line that cannot be read, such as a last one that a crash has torn, is passed over; a slot whose answer it was is open
again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from quantexp.tasks.emails.prompt import Email
from quantexp.util.errors import UserError
from quantexp.util.files import write_atomically

Line = TypeVar("Line", bound=BaseModel)


class Record(BaseModel):
    """One answer.

    Attributes:
        slot: which e-mail was asked for, from 0.
        attempt: the how manieth answer for the slot, from 1.
        seed: of the plan.
        nameless: share of e-mails without a name, in the plan.
        request_seed: the seed sent to the server.
        model: asked for.
        answered_by: the model that the server says it was.
        server: its address, without credentials.
        temperature: sent; None if none was.
        prompt_version: see `prompt.prompt_version`.
        prompt_sha256: of all that the model read.
        system_fingerprint: the server's, of its configuration.
        response_id: the server's.
        finish_reason: why the answer ended.
        input_tokens: read, as the server counts; None if it does not say.
        output_tokens: written, likewise.
        time: UTC, ISO 8601.
        accepted: whether it became the slot's e-mail.
        reason: why not.
        detail: why exactly.
        answer: as received; half a surrogate pair, which no file can hold, as an escape.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    slot: int
    attempt: int
    seed: int
    nameless: float
    request_seed: int
    model: str
    answered_by: str | None
    server: str
    temperature: float | None
    prompt_version: str
    prompt_sha256: str
    system_fingerprint: str | None
    response_id: str | None
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    time: str
    accepted: bool
    reason: str | None
    detail: str | None
    answer: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.slot < 0 or self.attempt < 1:
            raise ValueError("no such slot or attempt")
        if self.accepted:
            Email.model_validate_json(self.answer)
        return self

    @property
    def email(self) -> Email:
        """The accepted e-mail.

        Raises:
            pydantic.ValidationError: the answer was rejected, and is none.
        """
        return Email.model_validate_json(self.answer)

    @property
    def item(self) -> dict[str, Any]:
        """The accepted e-mail as a row of the file of e-mails."""
        return {"id": item_id(self.slot), **self.email.model_dump()}


def item_id(slot: int) -> str:
    """Return the id of a slot's e-mail: slot 0 makes mail-0001."""
    return f"mail-{slot + 1:04}"


def item_line(item: Mapping[str, Any]) -> str:
    """Return a row as it stands in the file of e-mails."""
    return json.dumps(item, ensure_ascii=False)


def item_sha256(item: Mapping[str, Any]) -> str:
    """sha256 of the row as canonical JSON; a verdict is bound to it."""
    return hashlib.sha256(json.dumps(item, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def find_companion(out: Path, what: str) -> Path:
    """Return the file of records or reviews that belongs to a file of e-mails."""
    return out.with_name(f"{out.stem}.{what}.jsonl")


def read_lines(path: Path, kind: type[Line]) -> tuple[list[Line], int]:
    """Return the lines that can be read, in order, and the number of those that cannot; none where there is no file."""
    if not path.exists():
        return [], 0
    lines, damaged = [], 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            lines.append(kind.model_validate_json(line))
        except ValidationError:
            damaged += 1
    return lines, damaged


class Journal:
    """A file that lines are appended to, each on the disk before `append` returns.

    Only one process at a time may have it open if `exclusive`; then an empty file is removed at the end, with the
    folders that were made for it. `size` is in bytes, when it was opened.

    Raises:
        UserError: another process has it.
    """

    def __init__(self, path: Path, exclusive: bool) -> None:
        self._made = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._exclusive = exclusive
        # Unbuffered: a line is written by one call, so that two writers cannot mix theirs.
        self._stream = path.open("ab+", buffering=0)
        if exclusive:
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not (path.exists() and os.path.samestat(path.stat(), os.fstat(self._stream.fileno()))):
                    raise BlockingIOError  # another command had it, and has just removed it
            except BlockingIOError:
                self._stream.close()
                raise UserError(
                    f"Another command is writing to {path}; wait until it has ended, or choose another out=FILE."
                ) from None
        self.size = self._stream.seek(0, os.SEEK_END)
        self._torn = self.size > 0 and os.pread(self._stream.fileno(), 1, self.size - 1) != b"\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._exclusive and not os.fstat(self._stream.fileno()).st_size:
            self.path.unlink(missing_ok=True)
            for folder in self._made:
                with suppress(OSError):  # others have put something there
                    folder.rmdir()
        self._stream.close()

    def append(self, line: BaseModel) -> None:
        """Write a line.

        Raises:
            UserError: the system refuses, for example because the disk is full; what was there before stays.
        """
        # A line torn by a crash must not swallow this one.
        content = (b"\n" if self._torn else b"") + json.dumps(line.model_dump(mode="json")).encode() + b"\n"
        try:
            written = self._stream.write(content)
            # A nearly full disk takes a part; the rest is refused with the reason.
            while written < len(content):
                self._torn = True
                written += self._stream.write(content[written:])
            self._torn = False
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror}; mend that, and run the same command again, which "
                "goes on from here."
            ) from error


def refuse_changed_by_hand(out: Path, records: Iterable[Record]) -> None:
    """Refuse to overwrite what does not follow from the records.

    Raises:
        UserError: a line of the file of e-mails is not from the records.
    """
    if not out.exists():
        return
    known = {item_line(record.item).encode() for record in records if record.accepted}
    for number, line in enumerate(out.read_bytes().split(b"\n"), start=1):
        if line.strip() and line not in known:
            companion = find_companion(out, "records")
            raise UserError(
                f"{out}, line {number}, is not from {companion}, and would be lost; move the file away, "
                "or choose another out=FILE."
            )


def write_items(out: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Make the file of e-mails what it should be, whole or not at all; no file for no e-mails."""
    content = "".join(item_line(item) + "\n" for item in items).encode()
    if (out.read_bytes() if out.exists() else b"") != content:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, content)
