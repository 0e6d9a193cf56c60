"""Several answers at once from one llama.cpp context, each bit for bit what it would be alone.

Three rules make a completion independent of everything around it. llama.cpp's kernels are deterministic for a given
shape of their input, so the shape must not depend on neighbours:

1. every lane is a sequence with a KV stream of its own, so that attention never spans a neighbour's cells;
2. a prompt is read alone, in calls that hold nothing else, cut at places that depend on this prompt only;
3. every decoding step has a multiple of `BLOCK` rows: the kernels for blocks of rows round otherwise than those for
   the rows left over. Rows without an answer hold a dummy token, whose logits are computed as well, because the output
   layer is such a kernel too; nothing is sampled from them.

One lane alone decodes single rows with yet another kernel: it is the plain reference, and a class of its own.
"""

import ctypes
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantexp.engines.base import Decoding, Prompt, PromptCompletion, Thinking
from quantexp.engines.llama_cpp.marks import Follower, TokenMarks
from quantexp.engines.llama_cpp.sampling import Penalties, new_penalties, new_sampler
from quantexp.store.completion import Completion, FinishReason
from quantexp.util.errors import BROKEN_MODEL, NOT_NUMBERS, UserError
from quantexp.util.llama_library import last_error, llama_cpp, read_piece

BATCH = 512
"""Prompt tokens decoded in one call, llama.cpp's default. Other sizes change some answers, so it is not an option."""

BLOCK = 8
"""Rows that llama.cpp's repacked matrix kernels take at once (ggml-cpu/repack.cpp: 4 x 2, or 8 with AVX-512)."""

DUMMY = 0
"""Token in rows without an answer; any would do."""

LAST = -1
"""The row of logits that a prompt's last call leaves."""


def count_rows(lanes: int) -> int:
    """Rows of a full decoding step: the lanes, filled up to whole blocks."""
    return 1 if lanes == 1 else -(-lanes // BLOCK) * BLOCK


def pieces(length: int, shared: int) -> list[tuple[int, int]]:
    """Cut a prompt into calls: (start, end) of each.

    The shared beginning and the rest are read apart, each in calls of up to `BATCH` tokens. No call after the first
    holds a single token, for which llama.cpp's attention may take a path that rounds differently with the number of
    threads.

    Args:
        length: tokens in the prompt.
        shared: leading tokens that are read in calls of their own; see `split`.
    """
    found = []
    for first, last in ((0, shared), (shared, length)):
        start = first
        while start < last:
            end = min(start + BATCH, last)
            if last - end == 1:
                end -= 1
            found.append((start, end))
            start = end
    return found


def split(prompt: Prompt) -> int:
    """Return how many of its tokens are read as the shared beginning: all but two at most."""
    return max(0, min(prompt.shared, len(prompt.tokens) - 2))


class Batch:
    """A llama_batch on arrays of our own.

    Attributes:
        tokens, positions, outputs: of each row, to be written before `decode`.
        sequences: of each row, or a single cell for all rows.
    """

    def __init__(self, rows: int, *, one_sequence: bool) -> None:
        self.tokens = np.zeros(rows, np.int32)
        self.positions = np.zeros(rows, np.int32)
        self.outputs = np.zeros(rows, np.int8)
        self.sequences = np.arange(1 if one_sequence else rows, dtype=np.int32)
        self._counts = np.ones(rows, np.int32)
        pointer = ctypes.POINTER(ctypes.c_int32)
        self._cells = (pointer * rows)()
        for row in range(rows):
            cell = self.sequences[0 if one_sequence else row :]
            self._cells[row] = cell.ctypes.data_as(pointer)
        self._batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=self.tokens.ctypes.data_as(pointer),
            pos=self.positions.ctypes.data_as(pointer),
            n_seq_id=self._counts.ctypes.data_as(pointer),
            seq_id=ctypes.cast(self._cells, ctypes.POINTER(pointer)),
            logits=self.outputs.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def decode(self, context: llama_cpp.llama_context_p, rows: int) -> None:
        """Run the first `rows` rows through the model.

        Raises:
            UserError: llama.cpp cannot.
        """
        self._batch.n_tokens = rows
        status = llama_cpp.llama_decode(context, self._batch)
        if status != 0:
            raise UserError(f"llama.cpp cannot compute (llama_decode gave {status}: {last_error()}); {BROKEN_MODEL}.")


@dataclass(slots=True)
class _Answer:
    """An answer being written.

    Attributes:
        sampler: llama.cpp's, an opaque pointer; None takes the likeliest token.
        penalties: on what the answer has written; None if there are none.
        reasoning: follows it through its reasoning; None if there is none to be expected.
        forced: the next tokens, whatever the model would choose.
    """

    prompt: Prompt
    prompt_seconds: float
    sampler: Any
    penalties: Penalties | None
    reasoning: Follower | None = None
    forced: deque[int] = field(default_factory=deque)
    generation_seconds: float = 0.0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    # All bytes are kept and decoded once: a character may span several tokens.
    written: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class _Lane:
    """One sequence.

    Attributes:
        held: the shared beginning that the sequence begins with.
        answer: what is being written here; None while the lane is idle.
    """

    index: int
    held: tuple[int, ...] = ()
    answer: _Answer | None = None


class Lanes:
    """The sequences of one context, and the loop that keeps them busy; of none before `use`.

    Attributes:
        can_trim: whether the end of a sequence can be forgotten, so that its beginning serves other prompts.
    """

    def __init__(self, model: llama_cpp.llama_model_p, marks: TokenMarks) -> None:
        self._marks = marks
        self._vocabulary = llama_cpp.llama_model_get_vocab(model)
        self._words = llama_cpp.llama_vocab_n_tokens(self._vocabulary)
        # Recurrent models keep a state, not cells: a part of a sequence cannot be forgotten, so nothing is shared.
        self.can_trim = not (llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model))
        self._prefill = Batch(BATCH, one_sequence=True)
        self._scratch = np.empty(self._words, np.float32)
        self._pieces: dict[int, bytes] = {}

    def use(self, context: llama_cpp.llama_context_p, lanes: int) -> None:
        """Run in a context with `count_rows(lanes)` sequences in streams of their own from now on."""
        self._context = context
        self._memory = llama_cpp.llama_get_memory(context)
        self._block = 1 if lanes == 1 else BLOCK
        self._lanes = [_Lane(index) for index in range(lanes)]
        self._step = Batch(count_rows(lanes), one_sequence=False)
        self._step.outputs[:] = 1

    def run(self, prompts: Iterable[Prompt], decoding: Decoding) -> Iterator[PromptCompletion]:
        """Prompts with their completions, each as it is finished."""
        llama_cpp.llama_memory_clear(self._memory, True)
        self._lanes = [_Lane(lane.index) for lane in self._lanes]
        stops = [stop.encode() for stop in decoding.stop]
        waiting = deque(prompts)
        with ExitStack() as samplers:
            while True:
                for lane in self._lanes:
                    # An answer may end with its first token; the lane is then free for the next.
                    while lane.answer is None and waiting:
                        self._begin(lane, waiting.popleft(), decoding, samplers)
                        if reason := self._extended(lane, LAST, decoding, stops):
                            yield self._ended(lane, reason)
                active = self._active(more=bool(waiting))
                if not active:
                    return
                seconds = self._advance(active)
                for lane in active:
                    assert lane.answer is not None
                    lane.answer.generation_seconds += seconds / len(active)
                    started = time.perf_counter()
                    reason = self._extended(lane, lane.index, decoding, stops)
                    lane.answer.generation_seconds += time.perf_counter() - started
                    if reason:
                        yield self._ended(lane, reason)

    def _begin(self, lane: _Lane, prompt: Prompt, decoding: Decoding, samplers: ExitStack) -> None:
        """Read a prompt into a lane; afterwards its next token's logits are there."""
        started = time.perf_counter()
        tokens, place = prompt.tokens, split(prompt)
        shared = tokens[:place]
        kept = self._hold(lane, shared)
        for start, end in pieces(len(tokens), place):
            if start >= kept:
                self._read(lane, tokens, start, end)
        sampler = None
        if decoding.temperature > 0:
            sampler = new_sampler(prompt, decoding)
            samplers.callback(llama_cpp.llama_sampler_free, sampler)
        penalties = new_penalties(prompt, decoding)
        reasoning = Follower(self._marks, prompt.start) if decoding.thinking else None
        lane.answer = _Answer(prompt, time.perf_counter() - started, sampler, penalties, reasoning)

    def _hold(self, lane: _Lane, shared: tuple[int, ...]) -> int:
        """Leave nothing in the lane but the shared beginning, if any lane has read it; how many tokens stay."""
        if not shared or not self.can_trim:
            source = None
        else:
            same = (other for other in (lane, *self._lanes) if other.held == shared)
            source = next(same, None)
        if source is None:
            llama_cpp.llama_memory_seq_rm(self._memory, lane.index, -1, -1)
            lane.held = shared if self.can_trim else ()
            return 0
        if source is not lane:
            # Between streams llama.cpp copies whole sequences only; what follows the beginning is cut off below.
            llama_cpp.llama_memory_seq_cp(self._memory, source.index, lane.index, -1, -1)
            lane.held = shared
        llama_cpp.llama_memory_seq_rm(self._memory, lane.index, len(shared), -1)
        return len(shared)

    def _read(self, lane: _Lane, tokens: tuple[int, ...], start: int, end: int) -> None:
        batch, rows = self._prefill, end - start
        batch.tokens[:rows] = tokens[start:end]
        batch.positions[:rows] = range(start, end)
        batch.outputs[:rows] = 0
        batch.outputs[rows - 1] = end == len(tokens)
        batch.sequences[0] = lane.index
        batch.decode(self._context, rows)

    def _active(self, *, more: bool) -> list[_Lane]:
        """Return the lanes with answers; if no prompts are left, moved into as few blocks of rows as hold them."""
        active = [lane for lane in self._lanes if lane.answer is not None]
        if more or len(active) == len(self._lanes):
            return active
        blocks = -(-len(active) // self._block) * self._block
        free = [lane for lane in self._lanes[:blocks] if lane.answer is None]
        for lane in [lane for lane in active if lane.index >= blocks]:
            target = free.pop(0)
            llama_cpp.llama_memory_seq_cp(self._memory, lane.index, target.index, -1, -1)
            target.held, target.answer = lane.held, lane.answer
            lane.answer = None
        return [lane for lane in self._lanes[:blocks] if lane.answer is not None]

    def _advance(self, active: list[_Lane]) -> float:
        """Decode the newest token of every active lane; the seconds that it took."""
        started = time.perf_counter()
        step = self._step
        rows = -(-(active[-1].index + 1) // self._block) * self._block
        for lane in active:
            assert lane.answer is not None
            step.tokens[lane.index] = lane.answer.tokens[-1]
            step.positions[lane.index] = len(lane.answer.prompt.tokens) + len(lane.answer.tokens) - 1
        for row in set(range(rows)).difference(lane.index for lane in active):
            # At the very beginning of an empty sequence, where attention costs nothing.
            llama_cpp.llama_memory_seq_rm(self._memory, row, -1, -1)
            step.tokens[row], step.positions[row] = DUMMY, 0
            if row < len(self._lanes):
                self._lanes[row].held = ()
        step.decode(self._context, rows)
        return time.perf_counter() - started

    def _extended(self, lane: _Lane, row: int, decoding: Decoding, stops: list[bytes]) -> FinishReason | None:
        """Choose the lane's next token from a row of logits; why the answer ends with it, if it does."""
        answer = lane.answer
        assert answer is not None
        is_forced = bool(answer.forced)
        token, logprob = self._chosen(row, answer)
        answer.tokens.append(token)
        answer.logprobs.append(logprob)
        if not is_forced and llama_cpp.llama_vocab_is_eog(self._vocabulary, token):
            return "stop"
        piece = self._piece(token)
        answer.written += piece
        begin = earlier = 0
        if answer.reasoning is not None and decoding.thinking is not None:
            if not answer.reasoning.follow(token, answer.written, len(answer.tokens)):
                return "stop" if answer.reasoning.is_over else self._reasoned(answer, decoding.thinking)
            begin, earlier = answer.reasoning.answer, answer.reasoning.tokens
            # White space before an answer is none of it, and no stop string.
            if begin and answer.written[begin : begin + 1].isspace():
                begin = len(answer.written) - len(answer.written[begin:].lstrip())
                answer.reasoning.answer = begin
        before = len(answer.written) - len(piece)
        found = [answer.written.find(stop, max(begin, before - len(stop))) for stop in stops]
        if places := [place for place in found if place >= 0]:
            del answer.written[min(places) :]
            return "stop"
        # Reasoning that was not seen to begin may have taken the answer's tokens.
        longest = decoding.longest + len(self._marks.forced)
        is_cut = len(answer.tokens) - earlier == decoding.max_tokens or len(answer.tokens) >= longest
        return "length" if is_cut else None

    def _reasoned(self, answer: _Answer, thinking: Thinking) -> FinishReason | None:
        """End reasoning that has reached its longest: why the output ends, if it does."""
        if answer.forced or len(answer.tokens) < thinking.max_tokens:
            return None
        if not thinking.forced or len(answer.tokens) > thinking.max_tokens:  # it was forced to end, and has not
            return "length"
        answer.forced.extend(self._marks.forced)
        return None

    def _chosen(self, row: int, answer: _Answer) -> tuple[int, float]:
        """Return the next token and the logarithm of its probability, in float32 (error about 1e-6).

        The probability is the model's own: before penalties, and before anything that narrows or flattens a draw.
        """
        logits = self._logits(row)
        best = int(logits.argmax())
        scratch = np.subtract(logits, logits[best], out=self._scratch)
        if answer.penalties is not None:
            # In llama.cpp's own memory, where its sampler reads.
            answer.penalties.apply(logits)
            best = int(logits.argmax())
        if answer.forced:
            token = answer.forced.popleft()
        elif answer.sampler is not None:
            token = llama_cpp.llama_sampler_sample(answer.sampler, self._context, row)
        else:
            token = best
        of_token = float(scratch[token])
        total = float(np.exp(scratch, out=scratch).sum())
        if not math.isfinite(total):
            raise UserError(NOT_NUMBERS)
        if answer.penalties is not None:
            answer.penalties.add((token,))
        return token, float(np.float32(of_token - math.log(total)))

    def _logits(self, row: int) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, (self._words,))

    def _ended(self, lane: _Lane, reason: FinishReason) -> PromptCompletion:
        answer, lane.answer = lane.answer, None
        assert answer is not None
        return answer.prompt, Completion(
            tokens=tuple(answer.tokens),
            logprobs=tuple(answer.logprobs),
            text=answer.written.decode("utf-8", "replace"),
            finish_reason=reason,
            prompt_seconds=answer.prompt_seconds,
            generation_seconds=answer.generation_seconds,
        )

    def _piece(self, token: int) -> bytes:
        """Return the bytes of a token."""
        if token not in self._pieces:
            self._pieces[token] = read_piece(self._vocabulary, token)
        return self._pieces[token]
