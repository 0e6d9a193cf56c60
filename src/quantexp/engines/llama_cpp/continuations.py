"""Log-probabilities of given continuations of a context, each bit for bit what it would be alone.

One sequence holds the shared beginning of a task, then the context of an item, then one continuation. What follows a
part is cut off, not read again, so the beginning is read once for all items and a context once for its continuations.
Every call holds one sequence and is cut at places that depend on this context and this continuation only; see
`quantexp.engines.llama_cpp.lanes` for why the calls' shapes matter. Continuations side by side as sequences of one call
would need rows to be padded to a fixed shape, and the context to be copied for each: on a processor that takes longer.
"""

import math
import time
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from quantexp.engines.base import Continuation
from quantexp.engines.llama_cpp.kv_cache import KVCache
from quantexp.engines.llama_cpp.lanes import pieces, split
from quantexp.engines.llama_cpp.teacher_forcing import Forcing, calls
from quantexp.store.completion import Completion
from quantexp.util.errors import NOT_NUMBERS, UserError
from quantexp.util.llama_library import llama_cpp


class ContinuationReader(Forcing):
    """A context for one sequence, in which continuations are read one after the other."""

    def __init__(self, model: llama_cpp.llama_model_p, *, context: int, threads: int, cache: KVCache) -> None:
        super().__init__(model, context=context, threads=threads, cache=cache)
        # Recurrent models keep a state, not cells: a part of a sequence cannot be forgotten, so nothing is shared.
        self._can_trim = not (llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model))
        self._held: tuple[int, ...] = ()

    def score(self, prompts: Iterable[Continuation]) -> Iterator[tuple[Continuation, Completion]]:
        """Yield each prompt with its continuation as the completion.

        Prompts with the same context that follow each other have it read once. One that does not fit, together with its
        continuation, gets no tokens and the finish reason `context`.

        Raises:
            UserError: llama.cpp cannot compute, or the logits are not numbers.
        """
        self._held = ()
        llama_cpp.llama_memory_clear(self._memory, True)
        read: tuple[tuple[int, ...], int] | None = None
        first = _Row(np.zeros(1, np.float32))
        for prompt in prompts:
            tokens, place = prompt.tokens, split(prompt)
            if len(tokens) + len(prompt.continuation) > self.context:
                yield prompt, Completion((), (), "", "context", 0.0, 0.0)
                continue
            started = time.perf_counter()
            if read != (tokens, place) or not self._can_trim:
                first = self._read_context(tokens, place)
                read = tokens, place
            else:
                llama_cpp.llama_memory_seq_rm(self._memory, 0, len(tokens), -1)
            between = time.perf_counter()
            rows = [(first.logprob(prompt.continuation[0]), first.is_likeliest(prompt.continuation[0]))]
            rows += self._read_continuation(prompt)
            ended = time.perf_counter()
            yield (
                prompt,
                Completion(
                    tokens=prompt.continuation,
                    logprobs=tuple(logprob for logprob, _ in rows),
                    text=prompt.written,
                    finish_reason="stop",
                    prompt_seconds=between - started,
                    generation_seconds=ended - between,
                    likeliest=all(likeliest for _, likeliest in rows),
                ),
            )

    def _read_context(self, tokens: tuple[int, ...], place: int) -> "_Row":
        """Leave nothing but a context in the sequence, and return the distribution over what comes after it."""
        kept = 0
        if self._can_trim and place and self._held == tokens[:place]:
            kept = place
        llama_cpp.llama_memory_seq_rm(self._memory, 0, kept or -1, -1)
        for start, end in pieces(len(tokens), place):
            if start >= kept:
                self._read(tokens[start:end], start, outputs=int(end == len(tokens)))
        self._held = tokens[:place]
        return _Row(self._logits(-1))

    def _read_continuation(self, prompt: Continuation) -> Iterator[tuple[float, bool]]:
        """Read a continuation after its context, and yield for its tokens but the first what `_Row` says of each."""
        tokens, begin = prompt.continuation, len(prompt.tokens)
        if len(tokens) == 1:
            return
        # Nothing is asked after the last token. It is read all the same if a single one would be left: llama.cpp's
        # attention may take a path for it that rounds differently with the number of threads.
        for start, end in calls(max(2, len(tokens) - 1), 0, self._most_outputs):
            self._read(tokens[start:end], begin + start, outputs=end - start)
            for row in range(min(end, len(tokens) - 1) - start):
                found, token = _Row(self._logits(row)), tokens[start + row + 1]
                yield found.logprob(token), found.is_likeliest(token)

    def _read(self, tokens: tuple[int, ...], position: int, outputs: int) -> None:
        """Read tokens from a position on, with logits after the last `outputs` of them."""
        batch, rows = self._batch, len(tokens)
        batch.tokens[:rows] = tokens
        batch.positions[:rows] = range(position, position + rows)
        batch.outputs[:rows] = 0
        batch.outputs[rows - outputs : rows] = 1
        batch.decode(self._context, rows)

    def _logits(self, row: int) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self._words,))


class _Row:
    """The distribution over one token, in float32 (error about 1e-6).

    Raises:
        UserError: the logits are not numbers.
    """

    def __init__(self, logits: NDArray[np.float32]) -> None:
        # Row by row, in arrays of one length: so nothing depends on how many were computed at once.
        self._below = logits - logits.max()
        total = float(np.exp(self._below).sum())
        if not math.isfinite(total):
            raise UserError(NOT_NUMBERS)
        self._log_total = math.log(total)

    def logprob(self, token: int) -> float:
        """Return the logarithm of a token's probability."""
        return float(np.float32(float(self._below[token]) - self._log_total))

    def is_likeliest(self, token: int) -> bool:
        """Return whether no token is likelier."""
        return float(self._below[token]) == 0.0
