"""Text from elsewhere, made harmless before a terminal shows it."""

import logging
import os
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from quantexp.util.redaction import hide_secrets

if TYPE_CHECKING:
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


def escape_surrogates(text: str) -> str:
    """`text` with half surrogate pairs, which no file can hold, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(text: str, longest: int = 200) -> str:
    """`text` as `printable`, on one line of at most `longest` characters."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def last_line(text: str) -> str:
    """Return the last line that is not blank, as `one_line`; empty if there is none."""
    return one_line((text.rstrip().splitlines() or [""])[-1])


def list_some(names: Sequence[str], most: int = 4) -> str:
    """List names, of many the first and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def say(console: "Console", text: str) -> None:
    """Print a line that is neither wrapped nor coloured, so that paths and commands can be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False, emoji=False)


class Harmless(logging.Formatter):
    """Lines of a log without secrets and control characters: they quote what is from elsewhere, and are kept."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback below it."""
        return printable(hide_secrets(super().format(record)))


class LogFile(logging.FileHandler):
    """A log file that may come to be unwritable, as on a full disk: the terminal has the same lines."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in the base class
        """Say so once; Python would print two tracebacks for every line."""
        error = sys.exception()
        if not isinstance(error, OSError) or error.errno is None:
            super().handleError(record)
        elif not self._told:
            self._told = True
            said = f"{self.baseFilename} cannot be written ({os.strerror(error.errno)}); its lines are only here"
            print(f"quantexp: {printable(said)}.", file=sys.stderr)  # noqa: T201 - to log it would be to come here again

    def close(self) -> None:
        """Close the file; what is left to be written has been told of."""
        with suppress(OSError):
            super().close()


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
