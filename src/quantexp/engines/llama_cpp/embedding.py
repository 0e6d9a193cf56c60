"""Sentence embeddings by llama.cpp, of a GGUF of an embedding model."""

from collections.abc import Sequence
from contextlib import closing
from typing import cast

import numpy as np
from llama_cpp import Llama
from numpy.typing import NDArray

from quantexp.config.choices import Pooling
from quantexp.models import ModelFile
from quantexp.util.errors import UserError
from quantexp.util.llama_library import interrupts_later, last_error, llama_cpp, quiet_llama
from quantexp.util.native.threads import usable_cores

_POOLING = {
    Pooling.file: llama_cpp.LLAMA_POOLING_TYPE_UNSPECIFIED,
    Pooling.mean: llama_cpp.LLAMA_POOLING_TYPE_MEAN,
    Pooling.cls: llama_cpp.LLAMA_POOLING_TYPE_CLS,
    Pooling.last: llama_cpp.LLAMA_POOLING_TYPE_LAST,
}


def embed_texts(file: ModelFile, texts: Sequence[str], pooling: Pooling, context: int) -> NDArray[np.float64]:
    """Embed texts, each by itself, so that no vector depends on which others there are.

    Args:
        file: the GGUF.
        texts: any; tokens beyond the context are cut off.
        pooling: how a text's token vectors become one.
        context: tokens of a text, at most.

    Returns:
        Unit vectors, shape (texts, width).

    Raises:
        UserError: llama.cpp cannot load the file, or neither it nor `pooling` says how vectors are pooled.
    """
    quiet_llama()
    try:
        with interrupts_later():
            model = Llama(
                file.path, embedding=True, pooling_type=_POOLING[pooling], n_ctx=context, n_batch=context,
                n_ubatch=context, n_threads=usable_cores(), n_threads_batch=usable_cores(), verbose=False,
            )  # fmt: skip
    except ValueError as error:
        raise UserError(f"llama.cpp could not load {file.path} as an embedder: {last_error() or error}.") from error
    with closing(model):
        if model.pooling_type() in (llama_cpp.LLAMA_POOLING_TYPE_NONE, llama_cpp.LLAMA_POOLING_TYPE_RANK):
            raise UserError(
                f"{file.path} does not say how the vectors of a text's tokens become one: set embedder.pooling=mean, "
                "cls or last, as the model's publisher has it."
            )
        vectors = [cast(list[float], model.embed(text, normalize=True)) for text in texts]
    return np.array(vectors, dtype=np.float64)
