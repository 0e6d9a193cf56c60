"""A model of random weights, small enough to be made on the spot, with tensors of the types that files are made of."""

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

WIDTH = 256
"""Of every row: the fewest elements of which all types, K-quants included, can make one."""

TOKENS = 288
"""Of the vocabulary: special ones, one for each byte, and what fills up a multiple of 32, as kernels want it."""

CONTEXT = 512

_Value = int | float | str | Sequence[str] | Sequence[float] | Sequence[int]

_TYPES: dict[str, tuple[int, int, str]] = {
    "Q4_0": (2, 32, "d16"),
    "Q4_1": (3, 32, "dd16"),
    "Q5_0": (6, 32, "d20"),
    "Q5_1": (7, 32, "dd20"),
    "Q8_0": (8, 32, "d32"),
    "Q2_K": (10, 256, "80dd"),
    "Q3_K": (11, 256, "108d"),
    "Q4_K": (12, 256, "dd140"),
    "Q5_K": (13, 256, "dd172"),
    "Q6_K": (14, 256, "208d"),
    "IQ4_NL": (20, 32, "d16"),
    "IQ4_XS": (23, 256, "d134"),
}
"""Number of a type (enum ggml_type in ggml.h), elements of a block, and the block (ggml-common.h): d stands for a scale
of 16 bits, a number for so many bytes, each of which may hold anything."""

_SCALE = struct.pack("<e", 0.0005)
"""A random block times this stays small."""

_LAYERS = (
    {"attn_q": "Q4_0", "attn_k": "Q8_0", "attn_v": "Q4_K", "attn_output": "Q6_K",
     "ffn_gate": "Q5_K", "ffn_up": "Q4_1", "ffn_down": "Q3_K"},
    {"attn_q": "Q2_K", "attn_k": "Q5_0", "attn_v": "IQ4_NL", "attn_output": "F16",
     "ffn_gate": "IQ4_XS", "ffn_up": "Q5_1", "ffn_down": "Q4_0"},
)  # fmt: skip


def write_tiny_model(path: Path) -> None:
    """Write the model, about 0.7 MB; the same bytes every time.

    Raises:
        OSError: the file cannot be written.
    """
    generator = random.Random(0)
    tensors: list[tuple[str, tuple[int, ...], int, bytes]] = []

    def add(name: str, kind: str, rows: int = WIDTH) -> None:
        number, content = _matrix(kind, rows, generator)
        tensors.append((f"{name}.weight", (WIDTH, rows), number, content))

    def add_norm(name: str) -> None:
        tensors.append((f"{name}.weight", (WIDTH,), 0, struct.pack(f"<{WIDTH}f", *[1.0] * WIDTH)))

    add("token_embd", "Q8_0", TOKENS)
    for layer, matrices in enumerate(_LAYERS):
        for name, kind in matrices.items():
            add(f"blk.{layer}.{name}", kind)
        add_norm(f"blk.{layer}.attn_norm")
        add_norm(f"blk.{layer}.ffn_norm")
    add_norm("output_norm")
    add("output", "Q4_K", TOKENS)
    path.write_bytes(_gguf(_metadata(), tensors))


def _metadata() -> dict[str, _Value]:
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    filling = [f"filling{number}" for number in range(TOKENS - 3 - len(letters))]
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": len(_LAYERS),
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": WIDTH,
        "llama.attention.head_count": 4,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": TOKENS,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", *letters, *filling],
        "tokenizer.ggml.scores": [0.0] * TOKENS,
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * len(letters), *[1] * len(filling)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": "{% for message in messages %}{{ message['content'] }}\n{% endfor %}",
    }


def _matrix(kind: str, rows: int, generator: random.Random) -> tuple[int, bytes]:
    """Return the number of the type, and random weights of it."""
    elements = WIDTH * rows
    if kind == "F16":
        return 1, struct.pack(f"<{elements}e", *(generator.gauss(0, 0.05) for _ in range(elements)))
    number, of_block, layout = _TYPES[kind]
    block = layout.strip("d")
    before = len(layout) - len(layout.lstrip("d"))
    after = len(layout) - len(layout.rstrip("d"))
    scales = (_SCALE * before, _SCALE * after)
    return number, b"".join(
        scales[0] + generator.randbytes(int(block)) + scales[1] for _ in range(elements // of_block)
    )


def _gguf(metadata: dict[str, _Value], tensors: Sequence[tuple[str, tuple[int, ...], int, bytes]]) -> bytes:
    """Bytes of a file of version 3 (docs/gguf.md of ggml): header, metadata, tensors' places, tensors."""
    head = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        head += [_text(key), *_typed(value)]
    place, data = 0, []
    for name, shape, number, content in tensors:
        head += [_text(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, place)]
        data.append(content + bytes(-len(content) % 32))
        place += len(data[-1])
    start = b"".join(head)
    return b"".join([start, bytes(-len(start) % 32), *data])


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


_ENCODED: dict[type, tuple[int, Callable[..., bytes]]] = {
    int: (4, lambda value: struct.pack("<I", value)),
    float: (6, lambda value: struct.pack("<f", value)),
    str: (8, _text),
}
"""Number of a value's type in a GGUF, and its bytes."""


def _typed(value: _Value) -> list[bytes]:
    """Type and bytes of a value; of a list, of its elements."""
    if isinstance(value, int | float | str):
        number, encode = _ENCODED[type(value)]
        return [struct.pack("<I", number), encode(value)]
    number, encode = _ENCODED[type(value[0])]
    if isinstance(value[0], int):  # kinds of tokens: llama.cpp reads signed ones
        number = 5
    return [struct.pack("<IIQ", 9, number, len(value)), *(encode(each) for each in value)]
