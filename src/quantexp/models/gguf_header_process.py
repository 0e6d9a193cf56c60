"""A process that reads the headers of GGUF files, which come from anyone: their metadata, and what each tensor holds.

Takes the paths of a model's files. Writes a line of JSON: `wrong`, why a file cannot be read, or null; `files`, each
with `metadata`, the short values by their keys; `special`, the written forms of the tokens that are no text;
`vocabulary`, the number of tokens and a hash of them, or null; `tensors`, each a name, the number of a type, elements
and bytes. The tensors themselves stay unread.

Every number is checked against the file's length before it is used, and little is kept. A long header takes long, so
the process is started with a limit of computing. It imports nothing of quantexp, so that it starts in a tenth of a
second. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import hashlib
import itertools
import json
import math
import mmap
import struct
import sys
from typing import Any

SECONDS = 60
"""Of computing, as it is started with; the largest vocabularies take one."""

LONGEST, TEMPLATE = 4096, 1_000_000
"""Bytes of a text that is kept, and of a chat template."""

MOST = 1 << 16
"""Keys, tensors and special tokens that a file may have. The largest models have some thousand tensors."""

DIMENSIONS = 4
"""Of a tensor, at most, as in ggml."""

STRING, ARRAY = 8, 9
"""Numbers of the kinds of values that have a length of their own."""

KINDS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""The other kinds of values, as Python's struct names them."""

CONTROL, USER_DEFINED = 3, 4
"""Kinds of tokens that are no text (enum llama_token_type in llama.h)."""

TYPES = {
    **{0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22)},
    **{7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84)},
    **{11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210)},
    **{15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98)},
    **{19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82)},
    **{23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8)},
    **{28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54)},
    **{35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18)},
}
"""ggml's types by number (enum ggml_type in ggml.h): name, and elements and bytes of a block. Of others, bytes are
counted to the next tensor."""


class Header:
    """The header of one file, read from its beginning to its end.

    Attributes:
        places: where the numbers of each tensor begin, by its name.

    Raises:
        ValueError: it is not a complete GGUF; the message says why, without a full stop.
    """

    def __init__(self, data: mmap.mmap | bytes) -> None:
        self._data, self._place = data, 0
        self.metadata: dict[str, str | int | float] = {}
        self.places: dict[str, int] = {}
        self._lists: dict[str, tuple[int, int, int]] = {}
        self.vocabulary: tuple[int, str] | None = None
        if self._take(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version = self._number("I")
        if version not in (2, 3):
            raise ValueError(f"it is version {version} of the format, and 2 and 3 are known")
        tensors, keys = self._count("tensors"), self._count("keys")
        for _ in range(keys):
            self._read_key()
        self.tensors = self._read_tensors(tensors)

    @property
    def special(self) -> list[str]:
        """The written forms of the tokens that are no text, up to `MOST`."""
        tokens, kinds = self._lists.get("tokenizer.ggml.tokens"), self._lists.get("tokenizer.ggml.token_type")
        if tokens is None or kinds is None or tokens[0] != STRING or kinds[0] not in (4, 5):
            return []
        found: list[str] = []
        count = min(tokens[1], kinds[1])
        read_kind = struct.Struct("<I").unpack_from
        kept = (n for n in range(count) if read_kind(self._data, kinds[2] + 4 * n)[0] in (CONTROL, USER_DEFINED))
        read, self._place = 0, tokens[2]
        for number in itertools.islice(kept, MOST):
            self._skip_texts(number - read)
            found.append(_shorten(self._read_text()))
            read = number + 1
        return found

    def _read_key(self) -> None:
        key, kind = _shorten(self._read_text()), self._number("I")
        if kind == ARRAY:
            inner, length = self._number("I"), self._number("Q")
            begin = self._place
            self._lists[key] = inner, length, begin
            self._skip(inner, length)
            if key == "tokenizer.ggml.tokens":
                self.vocabulary = length, hashlib.sha256(self._data[begin : self._place]).hexdigest()
        elif kind == STRING:
            most = TEMPLATE if key == "tokenizer.chat_template" else LONGEST
            text = self._read_text(most + 1)
            if len(text) <= most:
                self.metadata[key] = text.decode("utf-8", "replace")
        else:
            value = self._number(self._known(kind))
            self.metadata[key] = value if math.isfinite(value) else str(value)

    def _skip(self, kind: int, length: int, depth: int = 0) -> None:
        """Go past the elements of a list."""
        if kind == STRING:
            self._skip_texts(length)
        elif kind == ARRAY:
            if depth == DIMENSIONS:
                raise ValueError("its lists of lists are too deep")
            for _ in range(length):
                self._skip(self._number("I"), self._number("Q"), depth + 1)
        else:
            self._move(length * struct.calcsize(f"<{self._known(kind)}"))

    def _skip_texts(self, count: int) -> None:
        """Go past texts, of which a vocabulary has some hundred thousand."""
        data, size, read = self._data, len(self._data), struct.Struct("<Q").unpack_from
        place = self._place
        for _ in range(count):
            if place + 8 > size or place + 8 + (length := read(data, place)[0]) > size:
                raise ValueError("its header ends behind the end of the file")
            place += 8 + length
        self._place = place

    def _read_tensors(self, count: int) -> list[tuple[str, int, int, int]]:
        """Return name, type, elements and bytes of each."""
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise ValueError(f"its general.alignment is {str(alignment)[:40]}")
        entries = [self._read_tensor() for _ in range(count)]
        begin = -(-self._place // alignment) * alignment
        size = len(self._data) - begin
        offsets = sorted({offset for *_, offset in entries} | {max(size, 0)})
        following = dict(itertools.pairwise(offsets))
        found = []
        for name, kind, elements, offset in entries:
            if kind in TYPES:
                _, block, weight = TYPES[kind]
                held = -(-elements // block) * weight
            else:
                held = following.get(offset, offset) - offset
            if offset + held > size:
                raise ValueError(f"its tensor {name} ends behind the end of the file")
            found.append((name, kind, elements, held))
            self.places[name] = begin + offset
        return found

    def _read_tensor(self) -> tuple[str, int, int, int]:
        name, dimensions = _shorten(self._read_text()), self._number("I")
        if dimensions > DIMENSIONS:
            raise ValueError(f"its tensor {name} has {dimensions} dimensions")
        elements = math.prod([self._number("Q") for _ in range(dimensions)])
        return name, self._number("I"), elements, self._number("Q")

    def _count(self, what: str) -> int:
        count: int = self._number("Q")
        if count > MOST:
            raise ValueError(f"it says that it has {count} {what}")
        return count

    def _known(self, kind: int) -> str:
        if kind not in KINDS:
            raise ValueError(f"it has a value of the unknown kind {kind}")
        return KINDS[kind]

    def _read_text(self, most: int = LONGEST) -> bytes:
        """Return a text, or its beginning if it is longer."""
        length: int = self._number("Q")
        place = self._place
        self._move(length)
        return self._data[place : place + min(length, most)]

    def _number(self, form: str) -> Any:
        (value,) = struct.unpack(f"<{form}", self._take(struct.calcsize(f"<{form}")))
        return value

    def _take(self, length: int) -> bytes:
        begin = self._place
        self._move(length)
        return self._data[begin : self._place]

    def _move(self, length: int) -> None:
        if length > len(self._data) - self._place:
            raise ValueError("its header ends behind the end of the file")
        self._place += length


def _shorten(text: bytes) -> str:
    return text[:256].decode("utf-8", "replace")


def read_file(path: str) -> dict[str, Any]:
    """Read one file.

    Raises:
        ValueError: see `Header`.
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:  # noqa: PTH123 - pathlib takes as long to import as all the rest
        try:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise ValueError("it is empty") from None
        with data:
            header = Header(data)
            return {
                "metadata": header.metadata,
                "special": header.special,
                "vocabulary": header.vocabulary,
                "tensors": header.tensors,
            }


def main() -> None:
    """Read the files in their order, up to the first that cannot be read."""
    wrong, files = None, []
    for number, path in enumerate(sys.argv[1:]):
        try:
            files.append(read_file(path))
        except (ValueError, OSError) as error:
            wrong = [number, getattr(error, "strerror", None) or str(error)]
            break
    print(json.dumps({"wrong": wrong, "files": files}))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
