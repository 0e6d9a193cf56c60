"""Plain text cut as llama.cpp's `llama-perplexity` cuts it (tools/perplexity/perplexity.cpp), so figures compare."""

import itertools

from quantexp.engines.sequences import TokenSequence
from quantexp.util.llama_library import llama_cpp, tokens_of


def tokenized(model: llama_cpp.llama_model_p, text: str) -> tuple[int, ...]:
    """Token ids of plain text, with BOS before it if the vocabulary adds one; names of special tokens are text.

    Args:
        model: a loaded model.
        text: any.
    """
    return tokens_of(llama_cpp.llama_model_get_vocab(model), text, begin=True, special=False)


def windows(
    model: llama_cpp.llama_model_p, text: str, *, length: int = 512, most: int | None = None
) -> list[TokenSequence]:
    """Windows of a text, one after the other, in each of which the second half is scored.

    The first token of a window is replaced by BOS if the vocabulary adds one. Of a window of 512 tokens the last 255
    are scored. What is left after the last whole window is left out, so a text that is shorter has none.

    Args:
        model: a loaded model, for its vocabulary.
        text: the text.
        length: tokens in a window, at least 4.
        most: how many windows at most; None for all.
    """
    if length < 4:
        raise ValueError(f"length must be at least 4, but is {length}.")
    tokens = tokenized(model, text)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    begin = (llama_cpp.llama_vocab_bos(vocabulary),) if llama_cpp.llama_vocab_get_add_bos(vocabulary) else ()
    starts = itertools.islice(range(0, len(tokens) - length + 1, length), most)
    return [TokenSequence(begin + tokens[start + len(begin) : start + length], length // 2 + 1) for start in starts]
