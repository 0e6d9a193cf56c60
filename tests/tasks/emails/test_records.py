"""The file of records outlasts whatever happens to it."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.emails.records import Journal, Record, item_line, item_sha256, read_lines
from quantexp.tasks.emails.reviews import Review, Verdict, agreement, select_latest, select_rejected
from quantexp.util.errors import UserError

optional_text = st.none() | st.text(max_size=10)
counts = st.none() | st.integers(0, 10**9)


@st.composite
def records(draw: st.DrawFn) -> Record:
    accepted = draw(st.booleans())
    text = st.text(max_size=20)
    fields = {
        "email": draw(text),
        "customer_name": draw(optional_text),
        "issue_category": draw(text),
        "urgency": draw(text),
        "requested_action": draw(text),
    }
    return Record(
        slot=draw(st.integers(0, 500)),
        attempt=draw(st.integers(1, 9)),
        seed=draw(st.integers(0, 9)),
        nameless=0.15,
        request_seed=draw(st.integers(0, 2**31 - 1)),
        model=draw(text),
        answered_by=draw(optional_text),
        server=draw(text),
        temperature=draw(st.none() | st.floats(0, 2)),
        prompt_version="1 (task 1)",
        prompt_sha256="0" * 64,
        system_fingerprint=draw(optional_text),
        response_id=draw(optional_text),
        finish_reason=draw(optional_text),
        input_tokens=draw(counts),
        output_tokens=draw(counts),
        time="2025-01-01T00:00:00+00:00",
        accepted=accepted,
        reason=None if accepted else draw(text),
        detail=None if accepted else draw(text),
        answer=json.dumps(fields) if accepted else draw(text),
    )


def written(path: Path, lines: list[Record]) -> None:
    with Journal(path, exclusive=True) as journal:
        for line in lines:
            journal.append(line)


@given(st.lists(records(), max_size=4))
def test_what_is_written_is_read(lines: list[Record]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "some" / "where.jsonl"
        written(path, lines)
        assert read_lines(path, Record) == (lines, 0)
        assert not lines or path.read_bytes().isascii()
        assert path.parent.exists() == bool(lines)


@given(st.lists(records(), min_size=1, max_size=3), records(), st.data())
def test_a_torn_last_line_is_passed_over_and_swallows_nothing(
    lines: list[Record], later: Record, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "torn.jsonl"
        written(path, lines)
        content = path.read_bytes()
        last = content.rstrip(b"\n").rfind(b"\n") + 1
        path.write_bytes(content[: data.draw(st.integers(last + 1, len(content) - 2), label="bytes left")])
        assert read_lines(path, Record) == (lines[:-1], 1)
        written(path, [later])
        assert read_lines(path, Record) == ([*lines[:-1], later], 1)


@given(st.lists(records(), min_size=1, max_size=3), st.binary(max_size=40))
def test_garbage_between_lines_harms_no_other_line(lines: list[Record], garbage: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "garbage.jsonl"
        written(path, lines)
        path.write_bytes(garbage + b"\n" + path.read_bytes() + garbage)
        read, damaged = read_lines(path, Record)
        assert read == lines
        assert damaged == 2 * len([line for line in garbage.split(b"\n") if line.strip()])


@pytest.mark.parametrize(
    "change",
    [
        {"slot": -1},
        {"attempt": 0},
        {"slot": "1"},
        {"accepted": True, "answer": "{}"},
        {"accepted": True, "answer": ""},
        {"more": 1},
    ],
)
def test_a_line_that_is_json_but_no_record_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "odd.jsonl"
    line = json.loads(_RECORD.model_dump_json()) | change
    path.write_text(json.dumps(line) + "\n" + _RECORD.model_dump_json() + "\n")
    assert read_lines(path, Record) == ([_RECORD], 1)


_EMAIL = {
    "email": "Hallo",
    "customer_name": None,
    "issue_category": "billing",
    "urgency": "low",
    "requested_action": "Do it.",
}
_RECORD = Record(
    slot=6,
    attempt=1,
    seed=0,
    nameless=0.15,
    request_seed=1,
    model="m",
    answered_by=None,
    server="s",
    temperature=None,
    prompt_version="1",
    prompt_sha256="",
    system_fingerprint=None,
    response_id=None,
    finish_reason=None,
    input_tokens=None,
    output_tokens=None,
    time="",
    accepted=True,
    reason=None,
    detail=None,
    answer=json.dumps(_EMAIL),
)


def test_an_item_is_the_answer_with_an_id() -> None:
    assert _RECORD.item == {"id": "mail-0007", **_EMAIL}
    assert json.loads(item_line(_RECORD.item)) == _RECORD.item
    assert item_sha256(_RECORD.item) == item_sha256(dict(reversed(_RECORD.item.items())))
    assert item_sha256(_RECORD.item) != item_sha256(_RECORD.item | {"urgency": "high"})


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    with Journal(path, exclusive=True), pytest.raises(UserError, match=r"Another command is writing to .*one\.jsonl; "):
        Journal(path, exclusive=True)
    Journal(path, exclusive=True).__exit__(None, None, None)


def test_a_file_without_lines_does_not_stay_and_one_that_was_there_does(tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "one.jsonl"
    with Journal(path, exclusive=True):
        assert path.exists()
    assert list(tmp_path.iterdir()) == []
    path.parent.mkdir(parents=True)
    path.write_text("a line\n")
    with Journal(path, exclusive=True):
        pass
    assert path.read_text() == "a line\n"


def test_a_file_that_its_last_writer_has_just_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.jsonl"
    monkeypatch.setattr("fcntl.flock", lambda *_: path.unlink())
    with pytest.raises(UserError, match="Another command is writing to"):
        Journal(path, exclusive=True)


def review(reviewer: str, sha256: str, verdict: str) -> Review:
    return Review(reviewer=reviewer, id="x", sha256=sha256, verdict=Verdict(verdict), reason=None, time="")


def test_a_reviewers_last_verdict_stands_and_one_rejection_is_enough() -> None:
    reviews = [
        review("ana", "1", "reject"),
        review("ana", "1", "accept"),
        review("ana", "2", "accept"),
        review("ben", "2", "reject"),
        review("ben", "1", "accept"),
        review("ben", "3", "accept"),
    ]
    assert select_rejected(reviews) == {"2"}
    assert agreement(select_latest(reviews), frozenset("123")) == [("ana", "ben", 2, 1)]
    assert agreement(select_latest(reviews), frozenset("13")) == [("ana", "ben", 1, 1)]
    assert agreement(select_latest(reviews), frozenset("3")) == []
