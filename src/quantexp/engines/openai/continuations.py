"""Log-probabilities of given continuations of a context on a server, one request for each."""

import asyncio
import time
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import replace
from itertools import islice

import numpy as np

from quantexp.engines.base import Continuation
from quantexp.engines.openai.prompt_logprobs import PromptReader
from quantexp.engines.sequences import TokenSequence
from quantexp.store.completion import Completion
from quantexp.util.openai_client import TooLongError


def score_continuations(
    reader: PromptReader, runner: asyncio.Runner, prompts: Iterable[Continuation], at_once: int
) -> Generator[tuple[Continuation, Completion], None, None]:
    """Yield each prompt with its continuation as the completion, in order; close it to have no more.

    Args:
        reader: asks the server.
        runner: runs the requests.
        prompts: with their continuations.
        at_once: requests that may be open at a time.

    Raises:
        UserError: the server cannot, or gives no log-probabilities.
    """
    waiting = iter(prompts)
    running: deque[tuple[Continuation, asyncio.Task[Completion]]] = deque()

    async def begin_and_wait() -> None:
        for prompt in islice(waiting, at_once - len(running)):
            running.append((prompt, asyncio.create_task(_score(reader, prompt))))
        if running:
            await asyncio.wait([running[0][1]])

    async def end() -> None:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)

    last = time.perf_counter()
    try:
        while True:
            runner.run(begin_and_wait())
            if not running:
                return
            prompt, task = running.popleft()
            completion = task.result()
            now = time.perf_counter()
            last, seconds = now, now - last
            yield prompt, replace(completion, prompt_seconds=seconds)
    finally:
        runner.run(end())


async def _score(reader: PromptReader, prompt: Continuation) -> Completion:
    sequence = TokenSequence((*prompt.tokens, *prompt.continuation), len(prompt.tokens))
    try:
        found = await reader.read(sequence, most=1)
    except TooLongError:
        return Completion((), (), "", "context", 0.0, 0.0)
    return Completion(
        tokens=prompt.continuation,
        logprobs=tuple(found.logprobs.astype(np.float32).tolist()),
        text=prompt.written,
        finish_reason="stop",
        prompt_seconds=0.0,
        generation_seconds=0.0,
        likeliest=bool((found.ids[:, 0] == found.tokens).all()),
    )
