"""What is inside a GGUF, read from headers that anyone may have made."""

import json
import struct
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.gguf_files import write_gguf, write_typed_gguf, write_whole_gguf

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import ModelFile
from quantexp.models.contents import (
    Contents,
    TensorInfo,
    describe_matrix,
    describe_misnomer,
    describe_types,
    format_share,
    measure_bits,
    read_contents,
    share_types,
)
from quantexp.models.gguf import identify
from quantexp.models.gguf_header_process import TYPES, Header
from quantexp.models.sources import source_path
from quantexp.util.errors import UserError

Command = Callable[..., tuple[int, str, str]]

Q4_K_M, Q8_0, MXFP4_MOE = 15, 7, 38

BLOCK = {
    "blk.0.attn_norm.weight": "F32",
    "blk.0.attn_q.weight": "Q4_K",
    "blk.0.attn_output.weight": "Q4_K",
    "blk.0.attn_q_norm.weight": "F32",
    "blk.0.ffn_gate_inp.weight": "F32",
    "blk.0.ffn_up.weight": "Q4_K",
    "blk.0.ffn_down.weight": "Q6_K",
    "blk.0.ffn_up_exps.weight": "MXFP4",
    "blk.0.ffn_gate_shexp.weight": "MXFP4",
    "blk.0.ssm_in.weight": "Q8_0",
}
MATRIX: dict[str, str | int] = {
    "quantize.imatrix.file": "/models_out/m-GGUF/m.imatrix",
    "quantize.imatrix.dataset": "C:\\training\\calibration_datav3.txt",
    "quantize.imatrix.entries_count": 224,
    "quantize.imatrix.chunks_count": 128,
}


def test_types_and_sizes_are_those_of_ggml() -> None:
    known = {kind.value: (kind.name, sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {number: (name, (elements, held)) for number, (name, elements, held) in TYPES.items()} == known


def test_tensors_have_roles_by_their_names(tmp_path: Path) -> None:
    names = {"token_embd.weight": "Q6_K", "output.weight": "Q6_K", "output_norm.weight": "F32"}
    path = write_typed_gguf(tmp_path / "m.gguf", Q4_K_M, {**names, **BLOCK, "rope_freqs.weight": "F32"})
    roles = {role: [each.name for each in tensors] for role, tensors in read_contents(path).roles.items()}
    assert roles == {
        "token embedding": ["token_embd.weight"],
        "output": ["output.weight"],
        "attention": ["blk.0.attn_q.weight", "blk.0.attn_output.weight"],
        "feed-forward": ["blk.0.ffn_up.weight", "blk.0.ffn_down.weight"],
        "experts": ["blk.0.ffn_up_exps.weight", "blk.0.ffn_gate_shexp.weight"],
        "norms": ["output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_q_norm.weight"],
        "others": ["blk.0.ffn_gate_inp.weight", "blk.0.ssm_in.weight", "rope_freqs.weight"],
    }


def test_a_file_is_measured_as_llama_cpp_measures_it(demo: ModelConfig, q8_0: ModelFile, tmp_path: Path) -> None:
    whole = write_whole_gguf(tmp_path / "whole.gguf")
    for file in (q8_0, identify(source_path(demo, QuantConfig("Q8_0")), tmp_path), identify(whole, tmp_path)):
        contents = read_contents(Path(file.path))
        assert contents.weights == file.parameters
        assert measure_bits(contents.tensors) == pytest.approx(file.bits_per_weight, rel=1e-9)
        assert contents.file_type == file.file_type.removeprefix("MOSTLY_").removeprefix("ALL_")
        assert describe_misnomer(contents) is None
    contents = read_contents(source_path(demo, QuantConfig("Q8_0")))
    assert describe_types(contents.tensors) == "Q4_1 79%, Q8_0 21%, F32 <1%"
    assert "<|im_start|>" in contents.special


def held(file_type: str, **weights: int) -> Contents:
    numbers = {"F16": 1, "Q8_0": 7, "Q2_K": 10, "Q4_K_M": 15, "IQ3_M": 27, "MXFP4_MOE": 38, "none": 999}
    tensors = tuple(TensorInfo(f"blk.0.{kind}", kind, count, count) for kind, count in weights.items())
    return Contents((), {"general.file_type": numbers[file_type]}, (), tensors)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (held("Q8_0", Q8_0=1, MXFP4=98, F32=1), "Q8_0, of which 98% MXFP4"),
        (held("Q8_0", F16=99, F32=1), "Q8_0, of which 99% F16"),
        (held("Q4_K_M", Q4_K=40, Q6_K=30, Q5_K=30), "Q4_K_M, of which 30% Q6_K"),
        (held("Q4_K_M", Q4_K=40, F16=60), "Q4_K_M, of which 60% F16"),
        (held("F16", Q8_0=60, F16=40), "F16, of which 60% Q8_0"),
        (held("Q4_K_M", Q4_K=60, Q6_K=40), None),
        (held("Q4_K_M", Q4_K=48, Q6_K=5, F32=47), None),
        (held("Q8_0", Q8_0=50, F16=50), None),
        (held("IQ3_M", IQ3_S=90, Q4_K=10), None),
        (held("MXFP4_MOE", MXFP4=90, Q8_0=10), None),
        (held("F16", F16=99, F32=1), None),
        (held("none", MXFP4=1), None),
        (Contents((), {}, (), held("F16", MXFP4=1).tensors), None),
    ],
)
def test_a_name_that_stands_for_less_than_half_of_the_file(contents: Contents, said: str | None) -> None:
    assert describe_misnomer(contents) == said


def test_shares_are_whole_percentages_that_hide_nothing() -> None:
    shares = [format_share(share) for share in (0.0, 0.0001, 0.0099, 0.01, 0.345, 0.99, 0.995, 1.0)]
    assert shares == ["0%", "<1%", "<1%", "1%", "34%", "99%", ">99%", "100%"]
    assert share_types([]) == {}
    assert measure_bits([]) == 0


def test_many_types_are_counted() -> None:
    found = describe_types(TensorInfo("a", f"type {number}", 1, 1) for number in range(50, 70))
    assert found.count("type") == 11
    assert found.endswith(", and 10 more types")


def test_the_importance_matrix_is_named_without_the_folders_of_its_machine(tmp_path: Path) -> None:
    path = write_typed_gguf(tmp_path / "m.gguf", Q4_K_M, BLOCK, MATRIX)
    said = "m.imatrix, over calibration_datav3.txt, 224 entries, 128 chunks"
    assert describe_matrix(read_contents(path)) == said
    assert describe_matrix(held("F16", F16=1)) == "none named in the file"


def test_tensors_of_all_parts_count_and_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = write_gguf(tmp_path / "m.gguf", "Q8_0", parts=3)
    contents = read_contents(parts[1])
    assert contents.paths == tuple(parts)
    assert len(contents.tensors) == 6
    assert contents.metadata["split.count"] == 3
    assert describe_misnomer(contents) == "Q8_0, of which 100% F32"
    parts[2].unlink()
    with pytest.raises(UserError, match=r"m-00003-of-00003\.gguf is missing: .* is one of 3 parts; put them all"):
        read_contents(parts[0])


def test_a_type_of_a_fork_is_measured_by_its_place(tmp_path: Path) -> None:
    path = write_typed_gguf(
        tmp_path / "m.gguf", Q4_K_M, {"blk.0.ffn_up.weight": "Q4_K", "blk.0.ffn_down.weight": "Q6_K"}
    )
    content = bytearray(path.read_bytes())
    at = content.index(b"blk.0.ffn_up.weight") + len(b"blk.0.ffn_up.weight") + 4 + 2 * 8
    content[at : at + 4] = (139).to_bytes(4, "little")
    path.write_bytes(content)
    contents = read_contents(path)
    assert describe_types(contents.tensors) == "type 139 50%, Q6_K 50%"
    assert measure_bits(contents.tensors[:1]) == 4.5


def damaged(content: bytes, what: str) -> bytes:
    at = content.index(b"blk.0.ffn.weight") + len(b"blk.0.ffn.weight")
    match what:
        case "cut in the header":
            return content[:100]
        case "cut in the tensors":
            return content[:-5000]
        case "dimensions":
            return content[:at] + struct.pack("<I", 9) + content[at + 4 :]
        case "elements":
            return content[: at + 4] + struct.pack("<Q", 2**63) + content[at + 12 :]
        case "tensors":
            return content[:8] + struct.pack("<Q", 2**60) + content[16:]
        case "keys":
            return content[:16] + struct.pack("<Q", 2**60) + content[24:]
        case "key length":
            return content[:24] + struct.pack("<Q", 2**60) + content[32:]
        case "version":
            return content[:4] + struct.pack(">I", 3) + content[8:]
        case "no tensors":
            return content[:8] + struct.pack("<Q", 0) + content[16:]
    return {"empty": b"", "other": b"PK\x03\x04" * 9}[what]


WRONG = {
    "cut in the header": r"its header ends behind the end of the file",
    "cut in the tensors": r"its tensor blk\.[01]\.ffn\.weight ends behind the end of the file",
    "dimensions": r"its tensor blk\.0\.ffn\.weight has 9 dimensions",
    "elements": r"its tensor blk\.0\.ffn\.weight ends behind the end of the file",
    "tensors": r"it says that it has 1152921504606846976 tensors",
    "keys": r"it says that it has 1152921504606846976 keys",
    "key length": r"its header ends behind the end of the file",
    "version": r"it is version 50331648 of the format, and 2 and 3 are known",
    "empty": r"it is empty",
    "other": r"it does not begin with GGUF",
}


@pytest.mark.parametrize("what", WRONG)
def test_a_malformed_file_is_a_sentence(tmp_path: Path, what: str) -> None:
    path = write_gguf(tmp_path / "m.gguf", "Q8_0")[0]
    path.write_bytes(damaged(path.read_bytes(), what))
    with pytest.raises(UserError, match=rf"m\.gguf is not a complete GGUF file \({WRONG[what]}\); fetch or make it"):
        read_contents(path)


def test_a_header_that_would_take_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of lists of nothing: one step for every twelve bytes."""
    count = 4_000_000
    key = struct.pack("<Q1sIIQ", 1, b"a", 9, 9, count)
    path = tmp_path / "long.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + bytes(12 * count))
    monkeypatch.setattr("quantexp.models.contents.SECONDS", 1)
    with pytest.raises(UserError, match=r"long\.gguf cannot be read: its header is too long\."):
        read_contents(path)
    path.unlink()


def test_texts_that_nobody_shows_are_not_kept(tmp_path: Path) -> None:
    path = write_typed_gguf(
        tmp_path / "m.gguf", Q8_0, {"a": "Q8_0"}, {"general.name": "a" * 5000, "general.author": "b"}
    )
    assert {"general.name", "general.author"} & set(read_contents(path).metadata) == {"general.author"}


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path, tokens = tmp_path_factory.mktemp("seed") / "m.gguf", {"<think>": 3, "a": 1, "</think>": 4}
    content = write_typed_gguf(path, Q4_K_M, {"a": "Q8_0", "b": "F32"}, MATRIX, tokens=tokens, rows=1).read_bytes()
    assert Header(content).special == ["<think>", "</think>"]
    return content


NUMBERS = st.sampled_from([0, 1, 4, 8, 9, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1])
CHANGES = st.lists(st.tuples(st.integers(0, 2000), NUMBERS, st.sampled_from([1, 4, 8])), max_size=5)


@given(changes=CHANGES, length=st.none() | st.integers(0, 2000))
def test_any_bytes_are_a_header_or_a_reason(
    seed: bytes, changes: list[tuple[int, int, int]], length: int | None
) -> None:
    content = bytearray(seed)
    for place, number, size in changes:
        place %= len(content)
        content[place : place + size] = struct.pack("<Q", number)[:size]
    started = time.process_time()
    try:
        header = Header(bytes(content[:length]))
        found = json.dumps([header.metadata, header.special, header.tensors])
    except ValueError:
        found = ""
    assert len(found) < 100_000
    assert time.process_time() - started < 2
