"""Files of llama-perplexity's `--kl-divergence-base`, read and written.

The format is that of llama.cpp's tools/perplexity/perplexity.cpp: a mark, the tokens of a window, the size of the
vocabulary, the number of windows, all tokens; then, for each scored token, a scale and an offset as float32 and for
each token of the vocabulary its log-probability as a number of steps in 16 bits. Numbers are little-endian.

What lies more than 16 nats below the likeliest token is cut off there, so a step is 16 / 65535 nats at most, and a
log-probability is off by half of that, h = 1.22e-4 nats. A divergence that is summed from the file is then off by at
most h (1 + the mean of |ln p/q|) to first order, and by what the tokens that were cut off would have added.
"""

import struct
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantexp.engines.base import Predictor
from quantexp.engines.sequences import Distributions, Rows, TokenSequence, Vocabulary
from quantexp.evaluation.kl_divergence.encoding import below_top, blocks
from quantexp.evaluation.kl_divergence.measures import SMALLEST, TokenMeasures
from quantexp.util.errors import UserError
from quantexp.util.files import hash_file, open_atomically

MARK = b"_logits_"

CUT = 16.0
"""In nats below the likeliest token: what is less likely counts as just so likely; and, of a log-probability in the
file, what counts as nothing in a divergence."""

MOST_STEPS = 65535

_HEADER = struct.Struct("<8sIii")


@dataclass(frozen=True, slots=True)
class LlamaFile:
    """A file that is there and whole.

    Attributes:
        path: the file.
        window: tokens in a window.
        vocabulary: tokens in the vocabulary.
        tokens: of each window, shape (windows, window); the first is not yet replaced by BOS.
    """

    path: Path
    window: int
    vocabulary: int
    tokens: NDArray[np.int32]

    @property
    def scored(self) -> int:
        """Scored tokens of a window."""
        return _count_scored(self.window)

    def sequences(self, begin: tuple[int, ...]) -> list[TokenSequence]:
        """Return the windows as they are read, the first token replaced by `begin` if that holds one."""
        tokens = [tuple(map(int, row)) for row in self.tokens]
        return [TokenSequence(begin + row[len(begin) :], self.window // 2 + 1) for row in tokens]

    def rows(self, number: int) -> "LlamaRows":
        """Return the distributions of a window, counted from 0.

        Raises:
            UserError: the file has become shorter.
        """
        width = _row_bytes(self.vocabulary)
        with self.path.open("rb") as file:
            file.seek(_HEADER.size + self.tokens.nbytes + number * self.scored * width)
            content = file.read(self.scored * width)
        if len(content) != self.scored * width:
            raise UserError(f"{self.path} ends within window {number + 1}: it was changed while it was read.")
        rows = np.frombuffer(content, np.uint8).reshape(self.scored, width)
        scales = rows[:, :8].copy().view("<f4")
        return LlamaRows(scales[:, 0], scales[:, 1], rows[:, 8 : 8 + 2 * self.vocabulary].view("<u2"))


@dataclass(frozen=True, slots=True)
class LlamaRows(Rows):
    """Distributions at n places, as the file has them.

    Attributes:
        scale: nats of a step, shape (n,).
        least: the log-probability of 0 steps, in nats, shape (n,).
        steps: of each token, shape (n, vocabulary size).
    """

    scale: NDArray[np.float32]
    least: NDArray[np.float32]
    steps: NDArray[np.uint16]

    def log_probabilities(self) -> NDArray[np.float32]:
        """Return all of them in nats, shape (n, vocabulary size)."""
        return self.steps * self.scale[:, None] + self.least[:, None]


def open_base(given: str, window: int | None) -> LlamaFile:
    """Open the file that `divergence_base` names.

    Args:
        given: its path.
        window: tokens in a window of the job.

    Raises:
        UserError: see `open_llama_file`; or its windows have another length.
    """
    file = open_llama_file(Path(given).expanduser())
    if file.window != window:
        raise UserError(
            f"divergence_base={given} has windows of {file.window} tokens and task.window={window}: set "
            f"task.window={file.window}."
        )
    return file


def open_llama_file(path: Path) -> LlamaFile:
    """Read the head of a file.

    Raises:
        UserError: it is not there, is none of llama-perplexity's, or is not whole.
    """
    made_by = "llama-perplexity --kl-divergence-base, or divergence_write=FILE"
    if not path.is_file():
        raise UserError(f"divergence_base={path} is not a file; make it with {made_by}.")
    size = path.stat().st_size
    with path.open("rb") as file:
        # What is missing of it counts as zeros, of which there are no windows.
        mark, window, vocabulary, windows = _HEADER.unpack(file.read(_HEADER.size).ljust(_HEADER.size, b"\0"))
        if mark != MARK:
            raise UserError(
                f"divergence_base={path} does not begin with {MARK.decode()}; give one made with {made_by}."
            )
        if window < 4 or vocabulary < 1 or windows < 1:
            raise UserError(
                f"divergence_base={path} has no windows in it ({windows} of {window} tokens, {vocabulary} in the "
                "vocabulary): what made it was stopped at its beginning; make it again."
            )
        head = _HEADER.size + 4 * window * windows
        of_window = _count_scored(window) * _row_bytes(vocabulary)
        if size != head + windows * of_window:
            whole = max(0, size - head) // of_window
            raise UserError(
                f"divergence_base={path} has {size:,} bytes and {windows} windows should take "
                f"{head + windows * of_window:,}: "
                + (f"only {whole} are whole; make it again." if whole < windows else "it is another format.")
            )
        tokens = np.frombuffer(file.read(4 * window * windows), "<i4").reshape(windows, window)
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        raise UserError(f"divergence_base={path} is damaged: it holds tokens outside its vocabulary; make it again.")
    return LlamaFile(path, window, vocabulary, tokens.astype(np.int32))


def hash_llama_file(path: Path) -> str:
    """sha256 of the whole file.

    Raises:
        UserError: as `open_llama_file`.
    """
    open_llama_file(path)
    state = path.stat()
    return _hash(path, state.st_size, state.st_mtime_ns)


@cache
def _hash(path: Path, size: int, changed: int) -> str:
    """Once a process for each state of the file, which may be large."""
    return hash_file(path)


def find_windows(
    file: LlamaFile, cut: Sequence[TokenSequence], begin: tuple[int, ...], vocabulary: int | None
) -> dict[int, int]:
    """Find the windows of a text that a file has.

    Args:
        file: the file.
        cut: the windows of the text; there may be more than in the file.
        begin: the token with which each begins, if the vocabulary adds one.
        vocabulary: the size of the model's; None if only a server knows it.

    Returns:
        The number in the file of each window that is there, by its place in `cut`, both counted from 0.

    Raises:
        UserError: the file is of another model, or a window in it is none of the text.
    """
    if vocabulary is not None and file.vocabulary != vocabulary:
        raise UserError(
            f"divergence_base={file.path} holds distributions over {file.vocabulary:,} tokens and this model has "
            f"{vocabulary:,}; take the file of a quant of this model."
        )
    places = {sequence.tokens: place for place, sequence in enumerate(cut)}
    found = {}
    for number, sequence in enumerate(file.sequences(begin)):
        place = places.get(sequence.tokens)
        if place is None:
            raise UserError(
                f"divergence_base={file.path} was made of another text, or by another tokenizer: its window "
                f"{number + 1} of {len(file.tokens)} is none of data.path; give the text that it was made of."
            )
        found[place] = number
    return found


def measure_from_file(
    file: LlamaFile, numbers: Sequence[int], model: Predictor, sequences: Sequence[TokenSequence]
) -> TokenMeasures:
    """Measure a model from the file's distributions, by the sum that llama-perplexity makes.

    Args:
        file: the file.
        numbers: which of its windows each sequence is, counted from 0.
        model: the quant.
        sequences: the windows.

    Raises:
        UserError: logits are not numbers; or see `Predictor.distributions`.
    """
    found = []
    with closing(model.distributions(sequences)) as parts:
        for sequence, of_sequence in groupby(parts, key=lambda part: part.sequence):
            rows, start = file.rows(numbers[sequence]), 0
            for part in of_sequence:
                stop = start + len(part.tokens)
                found.append(measure_rows(rows.part(slice(start, stop)), part.tokens, part.logits))
                start = stop
    return TokenMeasures.join(found)


def measure_rows(rows: LlamaRows, actual: NDArray[np.int32], logits: NDArray[np.float32]) -> TokenMeasures:
    """Compare a quant's logits at some places with the file's distributions there.

    The sum of p log(p / q) over the tokens whose log p in the file is above -16, as llama-perplexity makes it: p is not
    scaled to a sum of 1, so that a quant very near to the baseline may have a sum a little below 0.

    Args:
        rows: n places, at least 1.
        actual: the tokens that stand there, shape (n,).
        logits: the quant's, shape (n, vocabulary size).

    Raises:
        UserError: logits are not numbers.
    """
    places = blocks(*logits.shape)
    return TokenMeasures.join([_measured(rows.part(part), actual[part], logits[part]) for part in places])


def _measured(rows: LlamaRows, actual: NDArray[np.int32], logits: NDArray[np.float32]) -> TokenMeasures:
    top, below = below_top(logits)
    total = np.log(np.exp(below).sum(axis=1, dtype=np.float64))[:, None]
    log_p = rows.log_probabilities()
    # A token that is impossible under the quant has a logit of minus infinity.
    log_q = np.maximum(below, np.float32(SMALLEST)) - total
    terms = np.exp(log_p, dtype=np.float64) * (log_p - log_q)
    column = actual[:, None].astype(np.intp)
    return TokenMeasures(
        divergence=terms.sum(axis=1, where=log_p > -CUT),
        same_top=top == rows.steps.argmax(axis=1),
        baseline_logprob=np.take_along_axis(log_p, column, 1)[:, 0].astype(np.float64),
        quant_logprob=np.take_along_axis(log_q, column, 1)[:, 0],
        quant_top=top.astype(np.int32),
    )


@dataclass(frozen=True, slots=True)
class LlamaFileWriter:
    """A model whose distributions are written to a file while they are read, for `llama-perplexity --kl-divergence`.

    Attributes:
        model: the baseline.
        path: the file; it appears whole, once all has been read, or not at all.
    """

    model: Predictor
    path: Path

    @property
    def vocabulary(self) -> Vocabulary:
        """The model's."""
        return self.model.vocabulary

    def distributions(self, sequences: Iterable[TokenSequence]) -> Generator[Distributions, None, None]:
        """Yield the model's distributions.

        Args:
            sequences: windows of one length, of which the second half is scored.

        Raises:
            OSError: the file cannot be written.
            UserError, ValueError: see `Predictor.distributions`.
        """
        sequences = list(sequences)
        tokens = np.array([sequence.tokens for sequence in sequences], "<i4")
        header = _HEADER.pack(MARK, tokens.shape[1], self.vocabulary.size, len(sequences))
        with (
            open_atomically(self.path) as part,
            part.open("wb") as file,
            closing(self.model.distributions(sequences)) as parts,
        ):
            file.write(header + tokens.tobytes())
            for each in parts:
                for places in blocks(*each.logits.shape):
                    file.write(encode_rows(each.logits[places]).tobytes())
                yield each


def encode_rows(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode distributions as rows of the file.

    Args:
        logits: shape (n, vocabulary size).

    Returns:
        Bytes, shape (n, bytes of a row).

    Raises:
        UserError: logits are not numbers.
    """
    _, below = below_top(logits)
    total = np.log(np.exp(below).sum(axis=1, dtype=np.float64))
    floor = np.maximum(below.min(axis=1), np.float32(-CUT))
    scale = -floor / np.float32(MOST_STEPS)
    above = np.maximum(below - floor[:, None], 0)
    steps = np.rint(np.divide(above, scale[:, None], out=np.zeros_like(above), where=scale[:, None] > 0))
    rows = np.zeros((len(logits), _row_bytes(logits.shape[1])), np.uint8)
    rows[:, :8] = np.stack([scale, floor - total.astype(np.float32)], axis=1).astype("<f4").view(np.uint8)
    rows[:, 8 : 8 + 2 * logits.shape[1]] = np.minimum(steps, MOST_STEPS).astype("<u2").view(np.uint8)
    return rows


def _count_scored(window: int) -> int:
    return window - 1 - window // 2


def _row_bytes(vocabulary: int) -> int:
    """Of a row: scale and offset, and the vocabulary, filled up to an even number."""
    return 8 + 4 * ((vocabulary + 1) // 2)
