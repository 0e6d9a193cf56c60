"""A model of random weights with the embedded model's tokenizer, for what does not depend on an answer's content."""

from pathlib import Path

from filelock import FileLock
from tests.support.architectures import write_architecture


def find_small_model(cache: Path, tokenizer: str) -> Path:
    """Return its file, in F32, with heads of 64 numbers; the first test that asks for it writes it, for all workers.

    Args:
        cache: the folder that the workers share.
        tokenizer: a GGUF of the embedded model.
    """
    path = cache / "small.gguf"
    with FileLock(cache / "small.lock"):
        if not path.is_file():
            write_architecture("llama", tokenizer, cache / "small.part", head=64).rename(path)
    return path
