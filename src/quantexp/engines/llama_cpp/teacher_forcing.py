"""Teacher forcing: a loaded model reads given tokens, and what it would have said at each place is looked at.

A sequence is read alone, in calls that depend on nothing but the sequence and the size of the vocabulary, after the
context has been emptied. So the logits are bit for bit the same whatever is read before or after it; see
`quantexp.engines.llama_cpp.lanes` for why the calls' shapes matter.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.engines.llama_cpp.lanes import BATCH, Batch
from quantexp.engines.sequences import Distributions, TokenSequence, Vocabulary
from quantexp.util.errors import UserError
from quantexp.util.llama_library import interrupts_later, last_error, llama_cpp

LOGITS_BYTES = 256 << 20
"""What the logits of one call may take: as much as all 512 rows have with 131,072 tokens in the vocabulary. Larger ones
get more calls instead of more memory."""


def read_vocabulary(model: llama_cpp.llama_model_p) -> Vocabulary:
    """Return the vocabulary of a loaded model."""
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    size = llama_cpp.llama_vocab_n_tokens(vocabulary)
    digest = hashlib.sha256()
    for token in range(size):
        text = llama_cpp.llama_vocab_get_text(vocabulary, token)
        digest.update(b"%d:%b" % (len(text), text))
    return Vocabulary(size, digest.hexdigest())


def calls(length: int, first_row: int, most_outputs: int) -> list[tuple[int, int]]:
    """Cut a sequence into calls: (start, end) of each.

    A call has up to 512 tokens, of which up to `most_outputs` have logits. No call holds a single
    token, for which llama.cpp's attention may take a path that rounds differently with the number of threads.

    Args:
        length: tokens in the sequence.
        first_row: the first token with logits; all after it have them too.
        most_outputs: at least 3.
    """
    found = []
    start = 0
    while start < length:
        end = min(start + BATCH, max(start, first_row) + most_outputs, length)
        if length - end == 1:
            end -= 1
        found.append((start, end))
        start = end
    return found


class Forcing:
    """A context of its own on a model that is loaded already, for one sequence at a time.

    Free it with `close`, or use it in a `with` block; before the model is freed.

    Attributes:
        context: the most tokens that a sequence may have.
    """

    def __init__(
        self,
        model: llama_cpp.llama_model_p,
        *,
        context: int,
        threads: int,
        cache: KVCache = KVCache(),  # noqa: B008 - frozen
    ) -> None:
        """Make the context.

        Raises:
            UserError: llama.cpp finds no memory for it.
        """
        self.context, self._model = context, model
        self._words = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._most_outputs = min(BATCH, max(3, LOGITS_BYTES // (4 * self._words)))
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_batch = parameters.n_ubatch = BATCH
        parameters.n_seq_max = 1
        parameters.n_outputs_max = self._most_outputs
        parameters.n_threads = parameters.n_threads_batch = threads
        cache.apply(parameters)
        with interrupts_later():
            self._context = llama_cpp.llama_init_from_model(model, parameters)
        if not self._context:
            raise UserError(
                f"llama.cpp could not make a context of {context} tokens to compare distributions in: {last_error()}; "
                "lower engine.context."
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = Batch(BATCH, one_sequence=True)
        self._batch.sequences[0] = 0

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The model's vocabulary."""
        return read_vocabulary(self._model)

    def distributions(self, sequences: Iterable[TokenSequence]) -> Generator[Distributions, None, None]:
        """Yield the distributions over all scored tokens of the sequences, in order, some at a time.

        Raises:
            ValueError, UserError: see `rows`.
        """
        for number, sequence in enumerate(sequences):
            for tokens, logits in self.rows(sequence):
                yield Distributions(number, tokens, logits)

    def rows(self, sequence: TokenSequence) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Yield the scored tokens in order, some at a time, with the logits of the places that predict them.

        Yields:
            Scored tokens, shape (n,), and logits, shape (n, vocabulary size). The logits are llama.cpp's own memory:
            use them before the next step, and copy what is to stay.

        Raises:
            ValueError: the sequence is longer than the context, or holds a token that the vocabulary lacks.
            UserError: llama.cpp cannot compute.
        """
        tokens = np.array(sequence.tokens, np.int32)
        if tokens.size > self.context:
            raise ValueError(f"a sequence of {tokens.size} tokens does not fit into a context of {self.context}.")
        if tokens.min() < 0 or tokens.max() >= self._words:
            raise ValueError(f"a sequence holds tokens outside 0 ... {self._words - 1}.")
        llama_cpp.llama_memory_clear(self._memory, True)
        batch, first_row = self._batch, sequence.first - 1
        for start, end in calls(tokens.size, first_row, self._most_outputs):
            count = end - start
            batch.tokens[:count] = tokens[start:end]
            batch.positions[:count] = range(start, end)
            # The last token is read although nothing is asked after it: so a call of two tokens never becomes one.
            wanted = slice(max(start, first_row), min(end, tokens.size - 1))
            batch.outputs[:count] = 0
            batch.outputs[wanted.start - start : max(wanted.stop, wanted.start) - start] = 1
            batch.decode(self._context, count)
            if wanted.stop > wanted.start:
                pointer = llama_cpp.llama_get_logits(self._context)
                shape = (wanted.stop - wanted.start, self._words)
                yield tokens[wanted.start + 1 : wanted.stop + 1], np.ctypeslib.as_array(pointer, shape)

    def close(self) -> None:
        """Free the context; more than once does no harm."""
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
