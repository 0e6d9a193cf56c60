"""What the two commands print. Everything that a model or a server has written is made harmless first."""

from rich.console import Console

from quantexp.terminal import one_line, printable

__all__ = ["one_line", "printable", "say"]


def say(console: Console, text: str) -> None:
    """Print a line that is neither wrapped nor coloured, so that paths and commands can be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)
