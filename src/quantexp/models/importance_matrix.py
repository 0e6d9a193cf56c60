"""Importance matrices, which say how much each input of a tensor counts: files of llama-imatrix, in both formats."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantexp.models.gguf_header_process import Header
from quantexp.util.errors import UserError

Weights = Mapping[str, NDArray[np.float32]]
"""Weights of a tensor's columns by the tensor's name; of one with experts, those of each in turn."""

_SUMS, _COUNTS = ".in_sum2", ".counts"

_F32 = 0
"""Number of the type of all tensors."""


def read_importance_matrix(path: Path) -> Weights:
    """Read the file, a GGUF or one of the older format (.dat).

    Raises:
        UserError: it is no importance matrix.
    """
    try:
        data = path.read_bytes()
        weights = _read_gguf(data) if data.startswith(b"GGUF") else _read_older(_Reader(data))
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
    """What is left to read of the bytes of an older file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, length: int) -> bytes:
        if not 0 <= length <= len(self.data) - self.offset:
            raise ValueError(f"it ends too early, at byte {len(self.data)}")
        self.offset += length
        return self.data[self.offset - length : self.offset]

    def number(self) -> int:
        return int(struct.unpack("<i", self.take(4))[0])


def _read_gguf(data: bytes) -> Weights:
    """Read sums of squares and how many there are; what no token came by counts as 1, as in llama.cpp."""
    header, held = Header(data), {}
    for name, kind, elements, _ in header.tensors:
        if name.endswith((_SUMS, _COUNTS)):
            if kind != _F32:
                raise ValueError(f"{name} is not of 32-bit floats")
            held[name] = np.frombuffer(data, "<f4", elements, header.places[name])
    weights = {}
    for name, sums in held.items():
        if name.endswith(_SUMS):
            counts = np.rint(held[name.removesuffix(_SUMS) + _COUNTS])[:, None]
            means = np.where(counts > 0, sums.reshape(len(counts), -1) / np.maximum(counts, 1), 1)
            weights[name.removesuffix(_SUMS)] = means.astype(np.float32).ravel()
    return weights


def _read_older(reader: _Reader) -> Weights:
    weights = {}
    for _ in range(reader.number()):
        name, calls = reader.take(reader.number()).decode(), reader.number()
        values = np.frombuffer(reader.take(4 * reader.number()), "<f4")
        weights[name] = values.astype(np.float32) / np.float32(max(calls, 1))
    return weights
