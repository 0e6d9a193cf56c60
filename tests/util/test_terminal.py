"""Lines on a terminal: as they are, whatever Rich would make of them."""

from io import StringIO

from rich.console import Console

from quantexp.util.terminal import say


def test_a_line_is_printed_letter_by_letter() -> None:
    out = StringIO()
    line = f"verdicts  /tmp/:smile:/[bold]{'long' * 20}.jsonl"
    say(Console(file=out, width=40), line)
    assert out.getvalue() == f"{line}\n"
