"""What the two commands print. Everything that a model or a server has written is made harmless first."""

import unicodedata

from rich.console import Console

_CONTROLS = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode categories of characters that move the cursor, colour, hide or reorder text, or show nothing."""


def printable(text: str) -> str:
    """`text` with control characters written as escapes; line breaks and tabs stay.

    A terminal obeys escape sequences wherever they come from, and bidirectional controls show text in another order.
    """
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) not in _CONTROLS else _escape(character)
        for character in text
    )


def one_line(text: str, longest: int = 200) -> str:
    """`text` as `printable`, on one line of at most `longest` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def say(console: Console, text: str) -> None:
    """Print a line that is neither wrapped nor coloured, so that paths and commands can be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
