"""A stand-in for vLLM: its protocol for prompts' log-probabilities and tokens, answered by a model in this process."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from tests.support.openai_server import Asked, Reply, chat, continuation, error

from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.engines.sequences import TokenSequence


def answer_by(engine: LlamaCpp, most: int = 20) -> Callable[[Asked], Reply]:
    """Return what answers requests as vLLM with --max-logprobs `most` does."""
    lock = threading.Lock()

    def answer(asked: Asked) -> Reply:
        if "messages" in asked:
            return chat("1")
        with lock:
            if "add_special_tokens" in asked:
                tokens = engine.tokenize_plain(asked["prompt"])
                bare = tokens if asked["add_special_tokens"] else tokens[len(engine.bos) :]
                return Reply(body={"tokens": list(bare), "count": len(bare), "max_model_len": 4096})
            if (wanted := asked.get("prompt_logprobs")) is None:
                return continuation()
            if wanted > most:
                words = f"Requested prompt logprobs of {wanted}, which is greater than max allowed: {most}"
                return error(400, words, kind="BadRequestError")
            return continuation_with(prompt_logprobs(engine, asked["prompt"], wanted))

    return answer


def continuation_with(given: Any) -> Reply:
    """A completion with log-probabilities of its prompt."""
    reply = continuation()
    reply.body["choices"][0]["prompt_logprobs"] = given
    return reply


def prompt_logprobs(engine: LlamaCpp, tokens: list[int], wanted: int) -> list[dict[str, Any] | None]:
    """At each place the likeliest tokens and the one that stands there, by id; nothing at the first."""
    parts = engine.distributions([TokenSequence(tuple(tokens), 1)])
    rows = np.concatenate([part.logits.copy() for part in parts])
    found: list[dict[str, Any] | None] = [None]
    for own, row in zip(tokens[1:], rows, strict=True):
        largest = float(row.max())
        total = largest + float(np.log(np.exp(row - largest).sum(dtype=np.float64)))
        likeliest = np.argpartition(row, -wanted)[-wanted:]  # of all, a whole order of which would take long
        likeliest = likeliest[np.argsort(-row[likeliest], kind="stable")]
        ranks = np.searchsorted(-row[likeliest], -row[likeliest]).tolist()
        ranked = {own: int((row > row[own]).sum()), **dict(zip(likeliest.tolist(), ranks, strict=True))}
        found.append(
            {
                str(token): {
                    "logprob": float(row[token]) - total,
                    "rank": 1 + rank,
                    "decoded_token": engine.text_of([token]),
                }
                for token, rank in ranked.items()
            }
        )
    return found
