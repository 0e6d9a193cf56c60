"""The format of a segment: what is written comes back as it was, and damage takes nothing with it."""

import base64
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.store_worker import expected, key, record

from quantexp.store import Completion, CompletionStore, segments
from quantexp.store.segments import decode, encode, new_name, open_descriptor, read_time, scan

SECONDS = st.floats(0, 1e6)
COUNTS = st.integers(0, segments.MOST_TOKENS)
RECORDS = st.builds(
    Completion,
    tokens=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20).map(tuple),
    logprobs=st.lists(st.floats(max_value=0, width=32, allow_nan=False), max_size=20).map(tuple),
    text=st.text(),
    finish_reason=st.text(max_size=8),
    prompt_seconds=SECONDS,
    generation_seconds=SECONDS,
    counted=st.none() | st.tuples(COUNTS, COUNTS),
    reasoning=st.none() | st.text(),
    reasoning_tokens=st.none() | COUNTS,
    likeliest=st.none() | st.booleans(),
    created=st.none() | SECONDS,
)
KEYS = st.binary(min_size=32, max_size=32)
LINES = [encode(key(number), record(number), {"item": str(number)}) for number in range(5)]


def floats(*values: float) -> str:
    """As a segment holds log-probabilities."""
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    return tmp_path / "segment.jsonl"


def found_in(content: bytes) -> dict[bytes, Completion]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "segment.jsonl").write_bytes(content)
        return CompletionStore(Path(folder)).lookup(map(key, range(5)))


@given(KEYS, RECORDS, st.dictionaries(st.text(), st.text(), max_size=3))
def test_a_record_comes_back_bit_by_bit(name: bytes, one: Completion, about: dict[str, str]) -> None:
    line = encode(name, one, about)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert decode(line) == (name, one, about)
    bits = [struct.pack("<d", value) for value in one.logprobs]
    assert [struct.pack("<d", value) for value in decode(line)[1].logprobs] == bits  # -0.0 too


def test_special_logprobs_come_back() -> None:
    logprobs = (float("-inf"), -0.0, 2.0**-149, -(2.0**-126))
    back = decode(encode(key(0), Completion((), logprobs, "", "stop", 0, 0), {}))[1].logprobs
    assert [struct.pack("<f", value) for value in back] == [struct.pack("<f", value) for value in logprobs]


def test_a_line_can_be_read_without_this_program() -> None:
    name, crc, content = LINES[3].rstrip(b"\n").split(b" ", 2)
    assert bytes.fromhex(name.decode()) == key(3)
    assert int(crc, 16) == zlib.crc32(name + b" " + content)
    fields = json.loads(content)
    assert fields["text"] == record(3).text
    assert fields["about"] == {"item": "3"}
    assert "ü".encode() in content


@pytest.mark.parametrize(
    ("name", "one"),
    [
        (b"short", record(0)),
        *((key(0), Completion((), (value,), "", "stop", 0, 0)) for value in (float("nan"), 0.5, float("inf"))),
        *((key(0), Completion((), (), "", "stop", 0, 0, counted)) for counted in ((10**40, 1), (1, -1), (True, 1))),
        (key(0), Completion((), (0.1,), "", "stop", 0, 0)),
        (key(0), Completion((), (1e300,), "", "stop", 0, 0)),
        (key(0), Completion((2**31,), (), "", "stop", 0, 0)),
        (key(0), Completion((), (), "\ud800", "stop", 0, 0)),
        (key(0), Completion((), (), "x" * segments.CHUNK_BYTES, "stop", 0, 0)),
    ],
)
def test_what_would_not_come_back_is_refused(name: bytes, one: Completion) -> None:
    with pytest.raises((ValueError, OverflowError)):
        encode(name, one, {})


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"[" * 100_000, b'{"tokens":"AAA"}', b"\xff", b"1" * 5000])
def test_a_line_with_a_right_checksum_that_is_no_record_is_damage(content: bytes) -> None:
    head = key(0).hex().encode() + b" "
    line = head + b"%08x " % zlib.crc32(head + content) + content + b"\n"
    with pytest.raises(ValueError, match="line"):
        decode(line)
    assert found_in(line + LINES[1]) == expected(range(1, 2))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("counted", [10**40, 1]), ("counted", [1, 2**31]), ("counted", [-1, 1]), ("counted", [True, 1]),
        ("counted", [1, False]), ("counted", [1.0, 1]), ("counted", [334]), ("counted", [1e400, 1]),
        ("counted", "12"), ("counted", ["1", "2"]), ("counted", {"0": 1}),
        ("reasoning_tokens", -1), ("reasoning_tokens", 2**31), ("reasoning_tokens", True), ("reasoning_tokens", "6"),
        ("text", 5), ("text", None), ("text", "\ud800"), ("finish_reason", ["stop"]),
        ("prompt_seconds", "0.5"), ("prompt_seconds", None), ("generation_seconds", 1e400),
        ("generation_seconds", 10**400), ("tokens", 7), ("tokens", "AAA="),
        ("about", [["item", "1"]]), ("about", {"item": 1}), ("about", {"item": "\udfff"}),
        ("logprobs", "é"), ("logprobs", floats(float("nan"))), ("logprobs", floats(-1.0, 0.5)),
        ("logprobs", floats(float("inf"))),
    ],
)  # fmt: skip
def test_a_right_checksum_over_values_of_the_wrong_kind_is_damage(field: str, value: object) -> None:
    fields = json.loads(LINES[0][segments._JSON_START :])
    content = json.dumps({**fields, field: value}).encode()
    head = key(0).hex().encode() + b" "
    line = head + b"%08x " % zlib.crc32(head + content) + content + b"\n"
    with pytest.raises(ValueError, match="line"):
        decode(line)
    assert found_in(line + LINES[1]) == expected(range(1, 2))


Edit = tuple[str, float, bytes]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "insert", "delete", "truncate"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.binary(min_size=1, max_size=8), st.just(b"\n"), st.just(bytes(1500)), st.just(LINES[0][:100])),
    ),
    min_size=1,
    max_size=4,
)


@given(EDITS, st.sampled_from([400, segments.CHUNK_BYTES]))
def test_damage_anywhere_takes_only_the_records_that_it_touches(edits: list[Edit], chunk: int) -> None:
    # Each byte with its place in the whole segment, so that a record can be followed through the edits.
    content: list[tuple[int, int | None]] = [(byte, place) for place, byte in enumerate(b"".join(LINES))]
    for kind, where, what in edits:
        at = int(where * len(content))
        if kind == "flip" and content:
            content[at] = (content[at][0] ^ (what[0] or 1), None)
        elif kind == "insert":
            content[at:at] = [(byte, None) for byte in what]
        elif kind == "delete":
            del content[at : at + len(what)]
        elif kind == "truncate":
            del content[at:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "CHUNK_BYTES", chunk)
        found = found_in(bytes(byte for byte, _ in content))
    whole = expected(range(5))
    assert all(whole[name] == one for name, one in found.items())
    places = [place for _, place in content]
    begin = 0
    for number, line in enumerate(LINES):
        if begin in places:
            now = places.index(begin)
            untouched = places[now : now + len(line)] == list(range(begin, begin + len(line)))
            if untouched and (now == 0 or content[now - 1][0] == ord("\n")):
                assert key(number) in found
        begin += len(line)


@given(st.binary(max_size=3000), st.sampled_from([400, segments.CHUNK_BYTES]))
def test_no_bytes_are_fatal(content: bytes, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "CHUNK_BYTES", chunk)
        assert found_in(content) == {}
        assert found_in(content + b"\n" + LINES[0]) == expected(range(1))


def test_a_cut_at_every_byte_of_the_last_record_costs_that_record_only(
    segment: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for cut in range(len(LINES[4])):
        segment.write_bytes(b"".join(LINES[:4]) + LINES[4][:cut])
        caplog.clear()
        assert CompletionStore(segment.parent).lookup(map(key, range(5))) == expected(range(4))
        assert len(caplog.records) == (cut > 0)


@pytest.mark.parametrize("nuls", [1, 4096, 100_000])
def test_nuls_as_file_systems_leave_them_are_one_damaged_record(
    segment: Path, nuls: int, caplog: pytest.LogCaptureFixture
) -> None:
    segment.write_bytes(b"".join(LINES[:4]) + bytes(nuls))
    assert CompletionStore(segment.parent).lookup(map(key, range(5))) == expected(range(4))
    assert ": 1;" in caplog.text


@pytest.mark.parametrize("chunk", [300, 1000, 5000])
def test_records_are_found_across_chunks(segment: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "CHUNK_BYTES", chunk)
    segment.write_bytes(b"".join(LINES) * 3)
    with open_descriptor(segment) as descriptor:
        batches = list(scan(descriptor))
    offsets = [offset for batch in batches for offset in batch.places["offset"].tolist()]
    assert len(offsets) == 15
    content = segment.read_bytes()
    assert all(content[offset:].startswith(LINES[number % 5]) for number, offset in enumerate(offsets))
    assert batches[-1].end == len(content)


def test_names_sort_by_time_and_say_who_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "a/strange host")

    def names() -> Iterator[str]:
        for _ in range(3):
            yield new_name()

    three = list(names())
    assert three == sorted(three)
    assert len(set(three)) == 3
    assert f"-a_strange_host-{os.getpid()}-" in three[0]
    when = read_time(three[0])
    assert when is not None
    assert read_time(new_name(when)) == when
    assert read_time("notes.jsonl") is None
