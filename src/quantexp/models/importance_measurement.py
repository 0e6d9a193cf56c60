"""Importance matrices made here: a model reads a text, and the squares of what each weight is multiplied by are summed.

As `tools/imatrix/imatrix.cpp` of llama.cpp does it, through the callback that llama.cpp calls for each operation.
"""

import ctypes
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantexp.util.errors import UserError
from quantexp.util.files import write_atomically
from quantexp.util.llama_library import (
    check_library,
    interrupts_later,
    last_error,
    llama_cpp,
    open_model,
    tokenize_text,
)
from quantexp.util.native.threads import usable_cores
from quantexp.util.progress import bar

CHUNK = 512
"""Tokens that are read at a time, each time from the start of a context; llama-imatrix's default."""

_FEWEST_ROWS = 16
"""An operation on fewer rows is none of the text's, as llama-imatrix has it."""


class _Tensor(ctypes.Structure):
    """ggml's tensor, as far as it is read here (`ggml.h`)."""


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]

_EXPERTS = b"MUL_MAT_ID"
"""Multiplication by those of several matrices that are chosen for each row."""

_F32, _I32 = 0, 26
"""Numbers of types that rows and the choices of experts have."""


class _Sums:
    """Sums of squares of the inputs of one weight: a row for each of its matrices."""

    def __init__(self, matrices: int, columns: int) -> None:
        self.squares = np.zeros((matrices, columns))
        self.counts = np.zeros(matrices)

    def add(self, matrix: int, rows: NDArray[np.float32]) -> None:
        """Add rows, shape (rows, columns), that one matrix was multiplied by."""
        wide = rows.astype(np.float64)
        self.squares[matrix] += (wide * wide).sum(axis=0)
        self.counts[matrix] += len(rows)


class _Collector:
    """Sees every operation of a graph, and sums the inputs of those that multiply a weight."""

    def __init__(self) -> None:
        self.sums: dict[str, _Sums] = {}
        self.problem: str | None = None
        base = llama_cpp._lib  # which finds ggml's own functions, too
        self._read = base.ggml_backend_tensor_get
        self._read.argtypes = [ctypes.POINTER(_Tensor), ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
        self._read.restype = None
        self._name_op = base.ggml_op_name
        self._name_op.argtypes, self._name_op.restype = [ctypes.c_int], ctypes.c_char_p
        self._name = base.ggml_get_name
        self._name.argtypes, self._name.restype = [ctypes.POINTER(_Tensor)], ctypes.c_char_p

    def __call__(self, address: int, ask: bool, _: object) -> bool:
        """Say if an operation's result is wanted (`ask`), or take its inputs; false would end the reading."""
        tensor = ctypes.cast(address, ctypes.POINTER(_Tensor))
        try:
            if ask:
                return self._counts(tensor)
            self._take(tensor.contents)
        except _LayoutError as error:  # an exception cannot pass through llama.cpp
            self.problem = str(error)
            return False
        return True

    def _counts(self, tensor: Any) -> bool:
        """Tell if an operation multiplies a weight by the text's rows."""
        content = tensor.contents
        if self._name(tensor) != content.name:
            raise _LayoutError("this llama.cpp lays out its tensors in another way")
        operation: bytes = self._name_op(content.op)
        if operation != b"MUL_MAT":
            return operation == _EXPERTS
        weight, rows = content.src[0].contents, content.src[1].contents
        is_of_text: bool = rows.ne[1] >= _FEWEST_ROWS and rows.type == _F32
        return is_of_text and _plain_name(weight).startswith("blk.")

    def _take(self, operation: Any) -> None:
        """Add the inputs of an operation to its weight's sums."""
        weight, values = operation.src[0].contents, self._array(operation.src[1], np.dtype(np.float32))
        name, columns = _plain_name(weight), int(values.shape[-1])
        if self._name_op(operation.op) == _EXPERTS:
            sums = self._of(name, int(weight.ne[2]), columns)
            chosen = self._array(operation.src[2], np.dtype(np.int32))[0, 0]
            for inputs, experts in zip(values[0], chosen, strict=True):
                for number, expert in enumerate(experts):
                    sums.add(expert, inputs[number % len(inputs)][None])
            return
        sums = self._of(name, int(weight.ne[2] * weight.ne[3]), columns)
        parts = values.reshape(-1, *values.shape[2:])
        for number, rows in enumerate(parts):
            # A matrix may serve several of the rows' (`ggml_mul_mat` broadcasts).
            sums.add(number * len(sums.counts) // len(parts), rows)

    def _of(self, name: str, matrices: int, columns: int) -> _Sums:
        return self.sums.setdefault(name, _Sums(matrices, columns))

    def _array(self, tensor: Any, kind: "np.dtype[Any]") -> NDArray[Any]:
        """Return a tensor's numbers, the last dimension first, wherever they lie."""
        content = tensor.contents
        if content.type != (_F32 if kind == np.float32 else _I32):
            raise _LayoutError(f"the inputs of {_plain_name(content)} are of type {content.type}")
        shape, strides = tuple(content.ne)[::-1], tuple(content.nb)[::-1]
        length = kind.itemsize + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
        buffer = ctypes.create_string_buffer(length)
        self._read(tensor, buffer, 0, length)
        return np.ndarray(shape, kind, buffer.raw, 0, strides)


class _LayoutError(Exception):
    """Tensors of this llama.cpp cannot be read."""


def _plain_name(tensor: Any) -> str:
    """Return a tensor's name without what a backend has put around it."""
    name: str = tensor.name.decode("utf-8", "replace")
    if name.count("#") > 1:
        return name.split("#")[1]
    return name


def measure_importance(model: Path, text: str, name: str) -> dict[str, NDArray[np.float32]]:
    """Return the mean square of each input of each weight of the model's blocks while it reads a text.

    The model is best one of weights that are not quantized. What is left over of the text after parts of `CHUNK` tokens
    is not read.

    Returns:
        Of each weight by its tensor's name, shape (columns,); of one with experts, those of each in turn. What no token
        came by is 1.

    Raises:
        UserError: the text is too short, or llama.cpp cannot read the model.
    """
    check_library()
    of_model = llama_cpp.llama_model_default_params()
    of_model.use_extra_bufts = False  # repacked weights are multiplied by operations of their own
    with open_model(model, of_model) as weights:
        if weights is None:
            raise UserError(f"llama.cpp could not load {model}: {last_error()}.")
        tokens = _cut(weights, text)
        collector = _Collector()
        callback = llama_cpp.ggml_backend_sched_eval_callback(collector)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = parameters.n_outputs_max = CHUNK
        parameters.n_threads = parameters.n_threads_batch = usable_cores()
        parameters.cb_eval = callback
        with interrupts_later():
            context = llama_cpp.llama_init_from_model(weights, parameters)
        if not context:
            raise UserError(f"llama.cpp could not make a context for {model}: {last_error()}.")
        try:
            with bar(f"importance matrix of {name}", len(tokens), "parts") as advance:
                for part in tokens:
                    _read_part(context, part, collector, model)
                    advance(1)
        finally:
            llama_cpp.llama_free(context)
    if not collector.sums:
        raise UserError(f"No operation on the weights of {model} was seen, so that no importance matrix can be made.")
    return {key: _average(sums) for key, sums in sorted(collector.sums.items())}


def _cut(model: Any, text: str) -> list[tuple[int, ...]]:
    """Return the text's tokens in parts; each begins with BOS if the vocabulary has the text begin so.

    Raises:
        UserError: it does not fill one part.
    """
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    tokens = tokenize_text(vocabulary, text, begin=True, special=False)
    begins = llama_cpp.llama_vocab_get_add_bos(vocabulary)
    parts = [tuple(tokens[start : start + CHUNK]) for start in range(0, len(tokens) - CHUNK + 1, CHUNK)]
    if not parts:
        raise UserError(
            f"model.calibration: the text has {len(tokens)} tokens, and an importance matrix takes {CHUNK} at least, "
            "better some ten thousand."
        )
    return [(llama_cpp.llama_vocab_bos(vocabulary), *part[1:]) if begins else part for part in parts]


def _read_part(context: Any, tokens: Sequence[int], collector: _Collector, model: Path) -> None:
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place], batch.pos[place], batch.n_seq_id[place], batch.seq_id[place][0] = token, place, 1, 0
            batch.logits[place] = True  # or the last block would go on with the last token alone
        with interrupts_later():
            status = llama_cpp.llama_decode(context, batch)
    finally:
        llama_cpp.llama_batch_free(batch)
    if collector.problem is not None:
        raise UserError(
            f"An importance matrix of {model} cannot be made here: {collector.problem}; give model.imatrix=FILE."
        )
    if status != 0:
        raise UserError(f"llama.cpp could not read the calibration text with {model}: {last_error()}.")


def _average(sums: _Sums) -> NDArray[np.float32]:
    counts = sums.counts[:, None]
    means = np.where(counts > 0, sums.squares / np.maximum(counts, 1), 1.0)
    return np.asarray(means, dtype=np.float32).ravel()


def write_matrix(path: Path, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Write an importance matrix in llama.cpp's older format (.dat), which its tools read too."""
    parts = [struct.pack("<i", len(weights))]
    for name, values in weights.items():
        encoded = name.encode()
        parts += [struct.pack("<i", len(encoded)), encoded, struct.pack("<ii", 1, values.size)]
        parts.append(values.astype("<f4").tobytes())
    write_atomically(path, b"".join(parts))
