"""Headers of GGUF files that anybody may have made, or a disk damaged: a sentence, or what llama.cpp reads."""

import resource
import struct
import time
from collections.abc import Callable
from math import inf, nan
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.gguf_files import write_gguf, write_whole_gguf

from quantexp.config import ModelConfig, QuantConfig
from quantexp.models import gguf as module
from quantexp.models.gguf import check_label, identify
from quantexp.models.gguf_probe import distinct_warnings
from quantexp.models.gguf_probe_process import find_wrong
from quantexp.models.sources import source_path
from quantexp.util.errors import UserError
from quantexp.util.llama_library import llama_cpp, without_weights

Edit = Callable[[gguf.GGUFWriter], None]


def made(path: Path, edit: Edit, architecture: str = "llama", tensors: int = 1) -> Path:
    """A model without a vocabulary, with what `edit` adds to its header."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(32)
    edit(writer)
    for number in range(tensors):
        writer.add_tensor(f"blk.{number}.ffn.weight", np.zeros((32, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    path = made(tmp_path / "vocabulary.gguf", lambda _: None, tensors=0)
    with pytest.raises(
        UserError, match=r"vocabulary\.gguf has no tensors, so it is a vocabulary and no model; give a "
    ):
        identify(path, tmp_path)


ODD: dict[str, Edit] = {
    "text": lambda writer: writer.add_string("llama.context_length", "1e9"),
    "negative": lambda writer: writer.add_int32("llama.context_length", -5),
    "a fraction": lambda writer: writer.add_float32("llama.context_length", 2.5),
    "a list": lambda writer: writer.add_array("llama.context_length", [1, 2]),
    "half a character": lambda writer: writer.add_string("llama.context_length", "a" + 300 * "é"),
}


@pytest.mark.parametrize("edit", ODD.values(), ids=ODD)
def test_a_context_that_is_no_number_is_not_known(tmp_path: Path, edit: Edit) -> None:
    assert identify(made(tmp_path / "odd.gguf", edit), tmp_path).training_context == 0


def test_what_a_file_says_reaches_the_terminal_as_text(tmp_path: Path) -> None:
    path = made(tmp_path / "loud.gguf", lambda _: None, architecture="\x1b[2J\u202elama")
    with pytest.raises(UserError, match=r"needs the architecture .*, and this llama-cpp-python") as raised:
        identify(path, tmp_path)
    assert str(raised.value).isprintable()


def changed(path: Path, source: Path, key: str, value: bytes, element: int = 0) -> Path:
    """A copy of a model in which a value of its header has other bytes."""
    field = gguf.GGUFReader(str(source)).fields[key]
    content = bytearray(source.read_bytes())
    place = field.offset + sum(part.nbytes for part in field.parts[: field.data[element]])
    content[place : place + len(value)] = value
    path.write_bytes(content)
    return path


def same_words(source: Path) -> tuple[bytes, int]:
    """The text of a token, and the number of a later one that is as long."""
    tokens = gguf.GGUFReader(str(source)).fields["tokenizer.ggml.tokens"]
    words = [bytes(tokens.parts[at]) for at in tokens.data[:200]]
    first, second = next((a, b) for b in range(200) for a in range(b) if len(words[a]) == len(words[b]))
    return words[first], second


@pytest.mark.parametrize("damage", [pytest.param("two equal tokens", marks=pytest.mark.slow), "no layers"])
def test_a_file_that_ends_the_process_that_reads_it(demo: ModelConfig, tmp_path: Path, damage: str) -> None:
    """llama.cpp ends its process where something is as it must never be; one flipped byte is enough."""
    path = tmp_path / "damaged.gguf"
    if damage == "no layers":
        changed(path, write_whole_gguf(tmp_path / "whole.gguf"), "llama.block_count", bytes(4))
    else:
        source = source_path(demo, QuantConfig("Q8_0"))
        changed(path, source, "tokenizer.ggml.tokens", *same_words(source))
    with pytest.raises(UserError, match=r"damaged\.gguf makes llama\.cpp break down \(.*GGML_ASSERT.+\): it is "):
        identify(path, tmp_path)
    path.unlink()


def test_a_small_file_cannot_take_all_memory(tmp_path: Path) -> None:
    """Half a billion tokens, of which the file has none: llama.cpp would make them up, in 21 GB."""
    source = write_gguf(tmp_path / "source.gguf", "Q8_0", elements=64)[0]
    path = changed(tmp_path / "greedy.gguf", source, "llama.vocab_size", (2**29).to_bytes(4, "little"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    said = (
        r"greedy\.gguf makes llama\.cpp break down \(it wants more than 4 GB of memory for the header alone\): it is "
    )
    with pytest.raises(UserError, match=said):
        identify(path, tmp_path)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss <= max(before, 6 * 2**20)  # kB


def test_a_small_file_that_can_be_computed_with(tmp_path: Path) -> None:
    file = identify(write_whole_gguf(tmp_path / "whole.gguf"), tmp_path)
    assert (file.file_type, file.bits_per_weight, file.warnings) == ("ALL_F32", 32.0, ())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "attention.layer_norm_rms_epsilon",
            nan,
            r"\.layer_norm_rms_epsilon=-?nan, which must be from 0 to 1; fetch or ",
        ),
        ("attention.layer_norm_rms_epsilon", -1.0, r"\.layer_norm_rms_epsilon=-1\.0+, which must be from 0 to 1; "),
        ("attention.layer_norm_rms_epsilon", inf, r"\.layer_norm_rms_epsilon=inf, which must be from 0 to 1; "),
        ("rope.freq_base", nan, r"its header says llama\.rope\.freq_base=-?nan, which must be above 0; "),
        ("rope.freq_base", 0.0, r"rope\.freq_base=0\.0+, which must be above 0; "),
        ("rope.freq_base", -1.0, r"rope\.freq_base=-1\.0+, which must be above 0; "),
        ("rope.scaling.factor", -2.0, r"rope\.scaling\.factor=-2\.0+, which must be 0 or above; "),
        ("rope.scaling.attn_factor", inf, r"rope\.scaling\.attn_factor=inf, which must be finite; "),
        ("final_logit_softcapping", -inf, r"llama\.final_logit_softcapping=-inf, which must be finite; "),
        # Only what is computed shows it:
        ("rope.scaling.factor", 1e-40, r"none of its logits is a number \(NaN\), whatever it is asked; "),
        ("expert_count", 5, r"breaks? down \(.*GGML_ASSERT.+\): it is "),
    ],
)
def test_a_header_that_nothing_can_be_computed_with(tmp_path: Path, key: str, value: float, said: str) -> None:
    path = write_whole_gguf(tmp_path / "odd.gguf", {key: value})
    with pytest.raises(UserError, match=said) as refused:
        identify(path, tmp_path)
    assert str(refused.value).startswith(str(path))
    assert str(refused.value).endswith("; fetch or make it again.")


def test_weights_that_nothing_can_be_computed_with(tmp_path: Path) -> None:
    path = write_whole_gguf(tmp_path / "odd.gguf", spoilt="output")
    with pytest.raises(UserError, match=r"odd\.gguf is damaged: none of its logits is a number"):
        identify(path, tmp_path)


FLOATS = [
    "attention.clamp_kqv", "attention.group_norm_epsilon", "attention.layer_norm_epsilon", "attention.max_alibi_bias",
    "attention.scale", "attn_logit_softcapping", "embedding_scale", "expert_weights_scale", "logit_scale",
    "residual_scale", "rope.freq_base_swa", "rope.scale_linear", "rope.scaling.yarn_beta_fast", "some.later_number",
]  # fmt: skip


@given(st.sampled_from(FLOATS), st.sampled_from([nan, inf, -inf]))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_number_of_a_header_may_be_infinite_or_none(tmp_path: Path, key: str, value: float) -> None:
    path = write_whole_gguf(tmp_path / "any.gguf", {key: value})
    with without_weights(path) as model:
        assert f"llama.{key}=" in str(find_wrong(llama_cpp, model))
    write_whole_gguf(path, {key: 0.5})
    with without_weights(path) as model:
        assert find_wrong(llama_cpp, model) is None


def words(kind: str, pre: str | None) -> Edit:
    """A vocabulary of 32 letters, of a kind of tokenizer and pre-tokenizer."""

    def edit(writer: gguf.GGUFWriter) -> None:
        del writer.kv_data[0]["tokenizer.ggml.model"]
        writer.add_tokenizer_model(kind)
        if pre is not None:
            writer.add_tokenizer_pre(pre)
        writer.add_token_list([chr(ord("A") + number) for number in range(32)])
        writer.add_token_merges(["A B"])

    return edit


def test_a_file_that_needs_a_newer_library(tmp_path: Path) -> None:
    """Not "damaged": fetching it again would help nobody."""
    newer = r" needs {}, and this llama-cpp-python \([\d.]+\) does not know it; a newer one may \(pip install "
    with pytest.raises(UserError, match=newer.format("the architecture llama9")):
        identify(made(tmp_path / "a.gguf", lambda _: None, architecture="llama9"), tmp_path)
    for what, edit in {"pre-tokenizer odd": words("gpt2", "odd"), "tokenizer gpt9": words("gpt9", None)}.items():
        with pytest.raises(UserError, match=newer.format(f"the {what}")):
            identify(made(tmp_path / "b.gguf", edit), tmp_path)
    path = tmp_path / "c.gguf"
    content = bytearray(seed(tmp_path))
    at = content.index(b"blk.0.ffn.weight") + len(b"blk.0.ffn.weight") + 4 + 2 * 8
    content[at : at + 4] = (139).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=newer.format("tensors of type 139") + r".*\), or only a fork of llama\.cpp such"
    ):
        identify(path, tmp_path)
    content[4:8] = (9).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match=newer.format("version 9 of the format")):
        identify(path, tmp_path)


def test_a_gguf_that_holds_no_language_model(tmp_path: Path) -> None:
    projector = made(tmp_path / "p.gguf", lambda _: None, architecture="clip")
    with pytest.raises(
        UserError, match=r"p\.gguf is a projector of images or sound \(mmproj\) and is no language model"
    ):
        identify(projector, tmp_path)
    matrix = made(tmp_path / "m.gguf", lambda _: None, architecture="")
    with pytest.raises(
        UserError, match=r"m\.gguf names no architecture \(as a file with an importance matrix\) and is"
    ):
        identify(matrix, tmp_path)


def test_a_type_that_the_file_does_not_say(tmp_path: Path) -> None:
    path = made(tmp_path / "silent.gguf", lambda _: None)
    file = identify(path, tmp_path)
    q8_0 = QuantConfig("Q8_0", "MOSTLY_Q8_0")
    with pytest.raises(
        UserError,
        match=r"silent\.gguf does not say \(general\.file_type\), so whether it is Q8_0 cannot be told; "
        r"set quant=as-is quant\.name=Q8_0 to call it that and use it as it is, or model\.quantize=true to make ",
    ):
        check_label(file, q8_0)
    assert check_label(file, QuantConfig("Q8_0")) == file  # as it says
    file = identify(made(tmp_path / "later.gguf", lambda writer: writer.add_file_type(777)), tmp_path)
    with pytest.raises(
        UserError, match=r"says that it holds type 777, for which llama-cpp-python \([\d.]+\) has no name \("
    ):
        check_label(file, q8_0)


def test_what_llama_cpp_warns_of_is_known(tmp_path: Path) -> None:
    path = made(tmp_path / "old.gguf", words("gpt2", None))
    first = identify(path, tmp_path)
    assert first.warnings[:2] == (
        "missing pre-tokenizer type, using: 'default'",
        "GENERATION QUALITY WILL BE DEGRADED!",
    )
    assert identify(path, tmp_path) == first  # remembered


def test_warnings_of_one_kind_are_one(tmp_path: Path) -> None:
    several = [
        f"load: control-looking token: {number:6} '<{number}>' was not control-type; its type" for number in range(9)
    ]
    lines = [*several, "load:", "load: ****", "load: adding 32 dummy tokens", "\x1b[2Jload: odd", "odd too"]
    assert distinct_warnings(lines) == (
        "control-looking token:      0 '<0>' was not control-type; its type (and 8 more like this)".replace(
            "      0", " 0"
        ),
        "\\x1b[2Jload: odd",
        "odd too",
    )
    many = distinct_warnings([f"{letter}{letter} is odd" for letter in "abcdefgh"])
    assert (len(many), many[-1]) == (6, "and 3 other warnings")


def seed(folder: Path) -> bytes:
    return write_gguf(folder / "seed.gguf", "Q8_0", elements=64)[0].read_bytes()


NUMBERS = st.sampled_from([0, 1, 5, 9, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1])


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """The file with bytes changed, repeated or cut off."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(found) - 1)))
        match draw(st.sampled_from(["byte", "number", "cut", "twice", "bytes"])):
            case "byte":
                found[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "number":
                number = struct.pack("<Q", draw(NUMBERS))[: draw(st.sampled_from([4, 8]))]
                found[place : place + len(number)] = number
            case "cut":
                del found[place:]
            case "twice":
                length = draw(st.integers(1, 64))
                found[place : place + length] = found[place : place + length] * 2
            case "bytes":
                found[place:place] = draw(st.binary(max_size=16))
    return bytes(found)


def test_any_bytes_are_a_sentence_or_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a vocabulary llama.cpp refuses in this process what it refuses; a process for each would take the time.
    monkeypatch.setattr(module, "try_reading", lambda parts: ())
    content = seed(tmp_path)
    path = tmp_path / "any.gguf"

    @given(damage(content) | st.binary(max_size=200) | st.binary(max_size=200).map(b"GGUF\x03\0\0\0".__add__))
    def reads(damaged: bytes) -> None:
        path.write_bytes(damaged)
        started = time.process_time()
        try:
            file = identify(path, tmp_path / "cache")
        except UserError as error:
            said = str(error)
            assert said.isprintable()
        else:
            assert file.parameters > 0
            assert file.bytes == len(damaged)
        assert time.process_time() - started < 5

    reads()
