"""GGUF files that llama.cpp accepts and that take no time to make: real headers, random tensors, no vocabulary."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType
from numpy.typing import NDArray

FILE_TYPES = {"F16": 1, "Q8_0": 7, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17}
"""llama.cpp's numbers of the types that a file can say it holds (enum llama_ftype in llama.h)."""


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a GGUF's header, as a writer takes it."""

    name: str
    content: Any
    kind: GGUFValueType
    inner: GGUFValueType | None


class _Reader(gguf.GGUFReader):
    """A reader of lists as a whole, numbers as one part: element by element, a real vocabulary takes two seconds."""

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[NDArray[Any]], list[int], list[GGUFValueType]]:
        if raw_type != GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        content = np.asarray(self.data)
        number, count = struct.unpack_from("<IQ", content.data, orig_offs)
        types, place = [GGUFValueType.ARRAY, GGUFValueType(number)], orig_offs + 12
        parts: list[NDArray[Any]] = [content[orig_offs:place]]
        if types[1] is not GGUFValueType.STRING:
            parts.append(self._get(place, self.gguf_scalar_to_np[types[1]], count))
            return 12 + parts[1].nbytes, parts, [1], types
        for _ in range(count):
            [length] = struct.unpack_from("<Q", content.data, place)
            parts += content[place : place + 8], content[place + 8 : place + 8 + length]
            place += 8 + length
        return place - orig_offs, parts, [*range(2, len(parts), 2)], types


@lru_cache(maxsize=4)
def open_gguf(path: str) -> gguf.GGUFReader:
    """Open a file, once."""
    return _Reader(path)


@lru_cache(maxsize=4)
def read_fields(path: str) -> tuple[Field, ...]:
    """Read a header, once."""
    fields = (field for field in open_gguf(path).fields.values() if not field.name.startswith("GGUF."))
    return tuple(
        Field(
            field.name,
            field.contents(),
            field.types[0],
            field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None,
        )
        for field in fields
    )


def write_gguf(path: Path, quant: str, *, seed: int = 0, parts: int = 1, elements: int = 4096) -> list[Path]:
    """Write a model of two tensors a part; several parts are named as llama.cpp names them.

    Args:
        path: of the file; of several, the stem of their names is taken from it.
        quant: what the file says it holds, whatever that is.
        seed: other seeds, other bytes.
        parts: files.
        elements: of a tensor, 4 bytes each.

    Returns:
        The files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=2 if parts > 1 else 0)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(FILE_TYPES[quant])
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(32)
    generator = np.random.default_rng(seed)
    for number in range(2 * parts):
        values = generator.standard_normal((32, elements // 32)).astype(np.float32)
        writer.add_tensor(f"blk.{number}.ffn.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return [path] if parts == 1 else sorted(path.parent.glob(f"{path.stem}-*-of-*.gguf"))


WIDTH, WIDE, VOCABULARY = 32, 64, 32
NUMBERS: Mapping[str, float] = {
    "block_count": 1,
    "context_length": 128,
    "embedding_length": WIDTH,
    "feed_forward_length": WIDE,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.freq_base": 1e4,
    "vocab_size": VOCABULARY,
}


def write_whole_gguf(
    path: Path, numbers: Mapping[str, float] | None = None, *, spoilt: str = "", width: int = WIDTH
) -> Path:
    """Write a model of one layer that llama.cpp can compute with, 46 kB.

    Args:
        path: of the file.
        numbers: other hyper-parameters than `NUMBERS`, or further ones: floats as such, whole numbers too.
        spoilt: the tensor of which every number is NaN.
        width: of its rows, or half of it; types with blocks of 256 need as much.
    """
    wide = 2 * width
    sizes = {"embedding_length": width, "feed_forward_length": wide}
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {**NUMBERS, **sizes, **(numbers or {})}.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"llama.{key}", value)
    writer.add_file_type(0)
    writer.add_tokenizer_model("no_vocab")
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (VOCABULARY, width),
        "output_norm": (width,),
        "output": (VOCABULARY, width),
        "blk.0.attn_norm": (width,),
        "blk.0.attn_q": (width, width),
        "blk.0.attn_k": (width // 2, width),
        "blk.0.attn_v": (width // 2, width),
        "blk.0.attn_output": (width, width),
        "blk.0.ffn_norm": (width,),
        "blk.0.ffn_gate": (wide, width),
        "blk.0.ffn_up": (wide, width),
        "blk.0.ffn_down": (width, wide),
    }
    generator = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = generator.standard_normal(shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", np.full_like(values, np.nan) if name == spoilt else values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_typed_gguf(
    path: Path,
    file_type: int | None,
    tensors: Mapping[str, str],
    metadata: Mapping[str, str | int] | None = None,
    *,
    tokens: Mapping[str, int] | None = None,
    rows: int = 4,
) -> Path:
    """Write a header that says anything, with tensors of 256 columns of any types.

    Args:
        path: of the file.
        file_type: what it says it holds; None if it does not say.
        tensors: ggml's names of their types, by their own names.
        metadata: further texts and whole numbers.
        tokens: kinds of tokens by their written forms.
        rows: of a tensor.
    """
    writer = gguf.GGUFWriter(path, "llama")
    if file_type is not None:
        writer.add_file_type(file_type)
    for key, value in (metadata or {}).items():
        if isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)
    if tokens is not None:
        writer.add_token_list(list(tokens))
        writer.add_token_types(list(tokens.values()))
    for name, kind in tensors.items():
        held = gguf.GGMLQuantizationType[kind]
        block, size = gguf.GGML_QUANT_SIZES[held]
        writer.add_tensor(name, np.zeros((rows, 256 // block * size), np.uint8), raw_dtype=held)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
