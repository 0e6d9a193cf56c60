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
    logits = np.concatenate([part.logits.astype(np.float64) for part in parts])
    logprobs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    found: list[dict[str, Any] | None] = [None]
    for own, row in zip(tokens[1:], logprobs, strict=True):
        likeliest = np.argpartition(-row, wanted)[:wanted]  # of all, a whole order of which would take long
        order = likeliest[np.argsort(-row[likeliest], kind="stable")]
        listed = dict.fromkeys([own, *map(int, order)])
        found.append(
            {
                str(token): {
                    "logprob": float(row[token]),
                    "rank": 1 + int((row > row[token]).sum()),
                    "decoded_token": engine.text_of([token]),
                }
                for token in listed
            }
        )
    return found
