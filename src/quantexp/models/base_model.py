"""Files that are to be quants of one model: what their headers say against it, and the chat template of all."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from quantexp.models.contents import Contents
from quantexp.util.errors import UserError
from quantexp.util.files import write_atomically

_SHAPES = ("block_count", "embedding_length")
"""Keys of the header, below the architecture, that a quant keeps."""


def check_same_model(baseline: Contents, others: Sequence[Contents], way_out: str) -> None:
    """Refuse files of different models, as far as their headers tell.

    Args:
        baseline: the file that the others are compared with.
        others: those files.
        way_out: what to do, without a full stop.

    Raises:
        UserError: one of the others is of another model.
    """
    for other in others:
        if (difference := _find_difference(baseline, other)) is not None:
            raise UserError(
                f"{baseline.paths[0]} and {other.paths[0]} are not quants of one model: {difference}; {way_out}."
            )


def read_template(contents: Contents) -> str:
    """Return the chat template in a file; empty if there is none."""
    return str(contents.metadata.get("tokenizer.chat_template", ""))


def keep_template(template: str, cache: Path) -> Path:
    """Write a chat template into the cache, in a file that is named after its hash."""
    content = template.encode()
    path = cache / "chat_templates" / f"{hashlib.sha256(content).hexdigest()[:32]}.jinja"
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return path


def _find_difference(one: Contents, other: Contents) -> str | None:
    """Return what two models' files differ in that quants of one model have in common; None if in nothing."""
    facts = [_list_facts(each) for each in (one, other)]
    for name, value in facts[0].items():
        found = facts[1].get(name)
        if found is not None and found != value:
            return f"{name} is {value} in the one and {found} in the other"
    if one.vocabulary and other.vocabulary and one.vocabulary[1] != other.vocabulary[1]:
        return f"of their {one.vocabulary[0]:,} tokens, some are written differently"
    return None


def _list_facts(contents: Contents) -> dict[str, str]:
    architecture = str(contents.metadata.get("general.architecture", "unknown"))
    shapes = {key: contents.metadata.get(f"{architecture}.{key}") for key in _SHAPES}
    return {
        "architecture": architecture,
        **{key: str(value) for key, value in shapes.items() if value is not None},
        "the number of weights": f"{contents.weights:,}",
        **({} if contents.vocabulary is None else {"the number of tokens": f"{contents.vocabulary[0]:,}"}),
    }
