"""Answers that are JSON: strict, with or without a Markdown fence."""

import json
import re

_OPENING_FENCE = re.compile(r"```[ \t]*+(?:json)?+\s*+(?![A-Za-z`])", re.IGNORECASE)
"""A fence that names json or nothing; "```python" is another language's, and stays."""


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError("the same key twice")
    return dict(pairs)


def _no_constant(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def parse_json(text: str) -> object:
    """Parse strict JSON (RFC 8259), refusing also what `json` lets through: NaN, duplicate keys.

    Raises:
        ValueError: `text` is not that; the message says why.
    """
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


DECODER = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
"""Finds an object inside a text, by the same rules."""


def strip_fence(text: str) -> str:
    """Return a text without surrounding white space and without the Markdown fence around all of it.

    The fence may name "json", in any case, or nothing. A missing closing fence is forgiven, since a
    stop sequence may have eaten it; text after the closing fence is kept, and so breaks the JSON.
    """
    text = text.strip()
    opening = _OPENING_FENCE.match(text)
    if opening is None:
        return text
    return text[opening.end() :].removesuffix("```").rstrip()
