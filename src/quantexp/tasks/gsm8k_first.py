"""The first version of reading GSM8K's answers, as it was: what results were graded by then can be made again.

Nothing here is to be changed. `final_number` is what reads answers now; it mends what this misreads.
"""

import re
from collections import deque

_MARKER = re.compile("#{4,}")
"""Precedes the final number in every published solution, as "#### N"."""

_WINDOW = 200
"""Characters read after a marker: more than any final number with its decoration needs."""

_BOX_WINDOW = 1000
"""Characters searched for the end of a box."""

_NUMBER = re.compile(
    r"""
    (?P<minus>(?<![\w)\]}%])[-\u2212\u2013])?         # 10-15 is a range or a difference: no sign
    (?:[$£€¥₹][ ]?(?P<minus_after>[-\u2212\u2013])?)?  # -$5 and $-5
    (?<![0-9])(?<!\^)(?<!\^\{)(?<![A-Za-z0-9}]_)      # not the 2 of m^2, m^{2} or x_2
    (?P<whole>[0-9]{1,3}(?:,[0-9]{3}(?![0-9]))+|[0-9]+|(?<![\w.])(?=\.[0-9]))
    (?P<decimals>\.[0-9]+)?
    (?P<fraction>(?:[ ][0-9]{1,9})?/[0-9]{1,9}(?![0-9]))?
    """,
    re.VERBOSE,
)
"""A number with what people put around it. No part can backtrack over unbounded text."""

_DECORATION = r"""[\s*_`"'~(\[{:=≈\\$]{0,12}"""
_SLOT = re.compile(rf"{_DECORATION}(?:(?:the[ ])?(?:final[ ])?answer(?:[ ]is)?)?{_DECORATION}", re.IGNORECASE)
"""What may stand between "####" and its number: "#### **$18**", "#### The answer is 18"."""

_CALCULATION = re.compile(r"\s{0,3}(?:=|[-+*/×÷·x\u2212]\s{0,3}[0-9$(])")
"""What follows the first number of "#### 9 * 2 = 18"."""

_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]{1,9})\}\{([0-9]{1,9})\}")


def _plain(text: str) -> str:
    r"""Undo the LaTeX that splits numbers: `1{,}080`, `1,\!080`, `\$5`, `\frac{1}{2}`."""
    text = text.replace("{,}", ",").replace(r"\!", "").replace(r"\$", "$")
    return _LATEX_FRACTION.sub(r" \1/\2", text)


def _canonical(match: re.Match[str]) -> str:
    """Return the number in the one form all its spellings share: "-1,080.50" becomes "-1080.5".

    Two decimals are equal exactly when their canonical forms are, at any length. A fraction is
    kept as written: it equals only itself.
    """
    whole = match["whole"].replace(",", "").lstrip("0") or "0"
    decimals = (match["decimals"] or "").rstrip("0").rstrip(".")
    number = f"{whole}{decimals}{match['fraction'] or ''}"
    negative = bool(match["minus"]) != bool(match["minus_after"])
    return f"-{number}" if negative and number != "0" else number


def _number_at(text: str) -> str | None:
    """Return the number `text` starts with, decoration aside; the result if a calculation starts there."""
    line = text.lstrip().partition("\n")[0]
    slot = _SLOT.match(line)
    found = _NUMBER.match(line, slot.end() if slot else 0)
    if found is None:
        return None
    if _CALCULATION.match(line, found.end()):
        result = line.rpartition("=")[2]
        slot = _SLOT.match(result)
        found = _NUMBER.match(result, slot.end() if slot else 0) or found
    return _canonical(found)


def _number_after_marker(text: str) -> str | None:
    """Return the number after the first "####" that has one.

    The first, so that a model running on ("#### 18", then "Question 2: ... #### 7") is held to
    its own answer; and one that has a number, so that a heading ("#### Solution") is passed over.
    """
    for marker in _MARKER.finditer(text):
        number = _number_at(text[marker.end() : marker.end() + _WINDOW])
        if number is not None:
            return number
    return None


def _number_in_box(text: str) -> str | None:
    r"""Return the number in the last `\boxed{...}`; after its last "=" if it has one."""
    _, box, rest = text.rpartition(r"\boxed{")
    if not box:
        return None
    depth = 1
    content = rest[:_BOX_WINDOW]
    for position, character in enumerate(content):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            content = content[:position]
            break
    found = _NUMBER.search(content.rpartition("=")[2])
    return _canonical(found) if found else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match, without keeping the others."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _last_number(text: str) -> str | None:
    found = _last(_NUMBER, text)
    return _canonical(found) if found else None


def final_number(output: str) -> tuple[str, str] | None:
    """Return the number read, and the rule that found it."""
    text = _plain(output)
    rules = (("marker", _number_after_marker), ("box", _number_in_box), ("last number", _last_number))
    return next(((number, rule) for rule, read in rules if (number := read(text)) is not None), None)


def find_marked_number(output: str) -> str | None:
    """Return the number after the first "####" that has one."""
    return _number_after_marker(_plain(output))
