"""Choice of the next token, as llama.cpp's server makes it: penalties, top_k, top_p, min_p, temperature, a draw.

All but the penalties is done by llama.cpp's own samplers. Its sampler of penalties looks at every token of the
vocabulary, which takes longer than all others; ours changes the few logits that a penalty is on.
"""

import hashlib
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantexp.engines.base import MOST_FORCED, Decoding, Prompt
from quantexp.util.llama_library import llama_cpp


class Penalties:
    """Penalties on the tokens of one answer's window: the last tokens of its prompt and of what it has written.

    llama.cpp's server counts the prompt's tokens as well, so this does.
    """

    def __init__(self, prompt: Prompt, decoding: Decoding) -> None:
        everything = len(prompt.tokens) + decoding.longest + MOST_FORCED
        length = everything if decoding.penalty_last_n < 0 else min(decoding.penalty_last_n, everything)
        self._decoding = decoding
        self._window: deque[int] = deque(maxlen=length)
        self._places: dict[int, int] = {}
        # Kept beside each other and without gaps, so that no step looks at the whole window.
        self._tokens = np.zeros(length + 1, np.intp)
        self._counts = np.zeros(length + 1, np.float32)
        self.add(prompt.tokens[-length:])

    def add(self, tokens: Iterable[int]) -> None:
        """Move the window on by these tokens."""
        for token in tokens:
            if len(self._window) == self._window.maxlen:
                self._forget(self._window[0])
            self._window.append(token)
            place = self._places.setdefault(token, len(self._places))
            self._tokens[place] = token
            self._counts[place] += 1

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Change the logits of the window's tokens, in float32 as llama.cpp does."""
        used = len(self._places)
        tokens, counts, decoding = self._tokens[:used], self._counts[:used], self._decoding
        repetition = np.float32(decoding.repetition_penalty)
        found = logits[tokens]
        # Dividing would make a token with a negative logit likelier.
        found = np.where(found <= 0, found * repetition, found / repetition)
        found -= counts * np.float32(decoding.frequency_penalty) + np.float32(decoding.presence_penalty)
        logits[tokens] = found

    def _forget(self, token: int) -> None:
        place = self._places[token]
        self._counts[place] -= 1
        if self._counts[place]:
            return
        del self._places[token]
        if (last := len(self._places)) != place:
            moved = int(self._tokens[last])
            self._tokens[place], self._counts[place] = moved, self._counts[last]
            self._counts[last] = 0
            self._places[moved] = place


def new_penalties(prompt: Prompt, decoding: Decoding) -> Penalties | None:
    """Make the penalties of one answer; None if there are none."""
    return Penalties(prompt, decoding) if decoding.penalizes else None


def new_sampler(prompt: Prompt, decoding: Decoding) -> Any:
    """llama.cpp's sampler with random numbers that belong to this prompt and sample alone."""
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    seed_parts = f"{decoding.seed}:{prompt.sample}:{prompt.tokens}".encode()
    # The largest number would mean "any seed" to llama.cpp.
    seed = int.from_bytes(hashlib.sha256(seed_parts).digest()[:8]) % llama_cpp.LLAMA_DEFAULT_SEED
    for link in (
        llama_cpp.llama_sampler_init_top_k(decoding.top_k),  # 0: does nothing
        llama_cpp.llama_sampler_init_top_p(decoding.top_p, 1),
        llama_cpp.llama_sampler_init_min_p(decoding.min_p, 1),
        llama_cpp.llama_sampler_init_temp(decoding.temperature),
        llama_cpp.llama_sampler_init_dist(seed),
    ):
        llama_cpp.llama_sampler_chain_add(chain, link)
    return chain
