"""Log-probabilities of given continuations of a context on a server."""

import numpy as np

from quantexp.engines.base import Continuation
from quantexp.engines.openai.prompt_logprobs import PromptReader
from quantexp.engines.sequences import TokenSequence
from quantexp.store.completion import Completion
from quantexp.util.openai_client import TooLongError


async def score_continuation(reader: PromptReader, prompt: Continuation) -> Completion:
    """Return the prompt's continuation as its completion.

    Args:
        reader: asks the server.
        prompt: with its continuation.

    Raises:
        UserError: the server cannot, or gives no log-probabilities.
    """
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
