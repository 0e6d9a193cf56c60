"""Headers of GGUF files that anybody may have made, or a disk damaged: a sentence, or what llama.cpp reads."""

import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gguf_files import write_gguf

from quantexp.config import ModelConfig, QuantConfig
from quantexp.errors import UserError
from quantexp.models import gguf as module
from quantexp.models.gguf import identify
from quantexp.models.sources import source_path

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
    with pytest.raises(UserError, match="unknown model architecture") as raised:
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


@pytest.mark.parametrize("damage", ["two equal tokens", "no layers"])
def test_a_file_that_ends_the_process_that_reads_it(demo: ModelConfig, tmp_path: Path, damage: str) -> None:
    """llama.cpp ends its process where something is as it must never be; one flipped byte is enough."""
    source, path = source_path(demo, QuantConfig("Q8_0")), tmp_path / "damaged.gguf"
    if damage == "no layers":
        changed(path, source, "llama.block_count", bytes(4))
    else:
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
    monkeypatch.setattr(module, "check_survives", lambda path: None)
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
