"""Terminal of the two commands. Everything that a model or a server has written is made harmless first."""

import io
import sys
from pathlib import Path

from rich.console import Console

from quantexp.util.terminal import escape_surrogates, say


def say_damaged(console: Console, damaged: int, path: Path) -> None:
    """Say how many lines of a file cannot be read, if there are any."""
    if damaged:
        lines = "1 line" if damaged == 1 else f"{damaged} lines"
        say(console, f"{lines} of {path} cannot be read, as after a crash, and will be passed over.")


def asked(question: str) -> str:
    """Ask a person, and return the answer without white space around it, as text that a file can hold.

    Bytes that are no text in the terminal's encoding come as escapes: what was typed with them is not lost.

    Raises:
        EOFError: the input has ended, or there never was one.
    """
    if sys.stdin is None:  # it was closed before the command began
        raise EOFError
    if isinstance(sys.stdin, io.TextIOWrapper) and sys.stdin.errors != "backslashreplace":
        # Left alone, Python ends here with an error, or makes half surrogate pairs of them, as the locale has it.
        sys.stdin.reconfigure(errors="backslashreplace")
    return escape_surrogates(input(question).strip())
