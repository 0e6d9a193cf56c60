"""Header of a safetensors file: names, types and shapes of its tensors, which themselves stay unread.

The format: eight bytes, the header's length as a little-endian number; the header, a JSON object; the tensors' bytes
(https://github.com/huggingface/safetensors, "Format").
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
"""Of one element, by the name of its type."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a file, without its numbers.

    Attributes:
        dtype: the type of an element, such as BF16 or I32.
        shape: elements in each dimension.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements, all dimensions together."""
        return math.prod(self.shape)

    @property
    def bits(self) -> int:
        """In the file."""
        return self.elements * BITS[self.dtype]


def read_header(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names.

    Raises:
        ValueError: it is not a complete safetensors file; the message says why, without a full stop.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise ValueError("its first eight bytes are not the length of a header")
        header = stream.read(length)
    try:
        entries = json.loads(header, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header is not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise ValueError("its header is not a JSON object")
    entries.pop("__metadata__", None)
    placed = sorted((*_place(name, entry), name, _tensor(name, entry)) for name, entry in entries.items())
    end = 0
    for begin, stop, name, tensor in placed:
        if begin != end or (stop - begin) * 8 != -(-tensor.bits // 8) * 8:
            raise ValueError(f"its tensor {name} is not where, or not as large as, the header says")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"its header speaks of {end} bytes of tensors and there are {size - 8 - length}")
    return {name: tensor for _, _, name, tensor in placed}


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _tensor(name: str, entry: Any) -> Tensor:
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"its tensor {name} has a type that is unknown")
    if not _sizes(shape):
        raise ValueError(f"its tensor {name} has no shape")
    return Tensor(dtype, tuple(shape))


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Return the begin and end of the tensor's bytes, counted from the end of the header."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not _sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"its tensor {name} has no place")
    return offsets[0], offsets[1]


def _sizes(value: object) -> TypeGuard[list[int]]:
    """Return whether it is a list of whole numbers from 0 that a file can have."""
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**63 for each in value)
