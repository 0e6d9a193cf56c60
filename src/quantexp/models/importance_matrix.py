"""Importance matrices, which say how much each input of a tensor counts: files of llama-imatrix, in both formats."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantexp.util.errors import UserError

Weights = Mapping[str, NDArray[np.float32]]
"""Weights of a tensor's columns by the tensor's name; of one with experts, those of each in turn."""

_SUMS, _COUNTS = ".in_sum2", ".counts"

_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Values in a GGUF's metadata, by the number of their type."""

_STRING, _ARRAY, _F32 = 8, 9, 0


def read_importance_matrix(path: Path) -> Weights:
    """Read the file, a GGUF or one of the older format (.dat).

    Raises:
        UserError: it is no importance matrix.
    """
    try:
        data = path.read_bytes()
        weights = _read_gguf(_Reader(data)) if data.startswith(b"GGUF") else _read_older(_Reader(data))
    except (ValueError, KeyError, struct.error) as error:
        raise UserError(
            f"model.imatrix={path} is no importance matrix ({error}); make one with llama-imatrix."
        ) from None
    except OSError as error:
        raise UserError(f"model.imatrix={path} cannot be read ({error.strerror}); give the path of a file.") from None
    if not weights or not all(np.isfinite(each).all() for each in weights.values()):
        problem = "holds a number that is not finite" if weights else "has no entries"
        raise UserError(f"model.imatrix={path} {problem}; make it again with llama-imatrix.")
    return weights


class _Reader:
    """What is left to read of a file's bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, length: int) -> bytes:
        if not 0 <= length <= len(self.data) - self.offset:
            raise ValueError(f"it ends too early, at byte {len(self.data)}")
        self.offset += length
        return self.data[self.offset - length : self.offset]

    def number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0])

    def text(self, length: str) -> str:
        return self.take(self.number(length)).decode()

    def floats(self, count: int) -> NDArray[np.float32]:
        return np.frombuffer(self.take(4 * count), "<f4").astype(np.float32)

    def skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self.take(self.number("Q"))
        elif kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _FORMATS:
                self.take(struct.calcsize(_FORMATS[inner]) * count)
            elif inner == _STRING:
                for _ in range(count):
                    self.skip_value(inner)
            else:
                raise ValueError(f"it holds a list of type {inner}")
        else:
            self.take(struct.calcsize(_FORMATS[kind]))


def _read_gguf(reader: _Reader) -> Weights:
    """Read sums of squares and how many there are; what no token came by counts as 1, as in llama.cpp."""
    reader.take(8)
    tensors, pairs = reader.number("Q"), reader.number("Q")
    alignment = 32
    for _ in range(pairs):
        key, kind = reader.text("Q"), reader.number("I")
        if key == "general.alignment":
            alignment = reader.number("I")
        else:
            reader.skip_value(kind)
    places = {}
    for _ in range(tensors):
        name, dimensions = reader.text("Q"), reader.number("I")
        shape = [reader.number("Q") for _ in range(dimensions)]
        kind, offset = reader.number("I"), reader.number("Q")
        if name.endswith((_SUMS, _COUNTS)):
            if kind != _F32:
                raise ValueError(f"{name} is not of 32-bit floats")
            places[name] = (offset, int(np.prod(shape, dtype=object)))
    start = reader.offset + -reader.offset % max(alignment, 1)
    held = {}
    for name, (offset, count) in places.items():
        reader.offset = start + offset
        held[name] = reader.floats(count)
    weights = {}
    for name, sums in held.items():
        if name.endswith(_SUMS):
            counts = np.rint(held[name.removesuffix(_SUMS) + _COUNTS])[:, None]
            means = np.where(counts > 0, sums.reshape(len(counts), -1) / np.maximum(counts, 1), 1)
            weights[name.removesuffix(_SUMS)] = means.astype(np.float32).ravel()
    return weights


def _read_older(reader: _Reader) -> Weights:
    weights = {}
    for _ in range(reader.number("i")):
        name, calls = reader.text("i"), reader.number("i")
        weights[name] = reader.floats(reader.number("i")) / np.float32(max(calls, 1))
    return weights
