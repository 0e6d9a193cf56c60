"""Plain text cut as llama.cpp's `llama-perplexity` cuts it (tools/perplexity/perplexity.cpp), so figures compare."""

from quantexp.engines.base import TextEngine
from quantexp.engines.sequences import TokenSequence
from quantexp.tasks.requests import Read


def windows(engine: TextEngine, request: Read) -> list[TokenSequence]:
    """Windows of a text, one after the other, in each of which the second half is scored.

    The first token of a window is replaced by BOS if the vocabulary adds one. Of a window of 512 tokens the last 255
    are scored. What is left after the last whole window is left out, so a text that is shorter has none.

    Args:
        engine: a loaded model, for its vocabulary.
        request: the text, and the tokens in a window, at least 4.
    """
    length = request.window
    if length < 4:
        raise ValueError(f"window must be at least 4, but is {length}.")
    tokens, begin = engine.tokenize_plain(request.text), engine.bos
    starts = range(0, len(tokens) - length + 1, length)
    return [TokenSequence(begin + tokens[start + len(begin) : start + length], length // 2 + 1) for start in starts]
