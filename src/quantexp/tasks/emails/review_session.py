"""A reviewer's way through the e-mails, in the terminal."""

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from quantexp.config.emails import ReviewConfig
from quantexp.tasks.emails.records import Journal, item_sha256, read_lines
from quantexp.tasks.emails.reviews import Review, Verdict, agreement, select_latest
from quantexp.tasks.emails.terminal import asked
from quantexp.tasks.extraction import ANSWER_FIELDS
from quantexp.util.terminal import printable, say

WORDS = ("accept", "reject", "skip", "back", "quit")
"""What can be answered, in full or by any part from the first letter on."""

QUESTION = ", ".join(f"{word[0]}({word[1:]})" for word in WORDS) + "? "


class Reading:
    """One reviewer and the e-mails that are to be read."""

    def __init__(
        self,
        console: Console,
        reviewer: str,
        rows: Sequence[Mapping[str, Any]],
        reviews: Sequence[Review],
        path: Path,
    ) -> None:
        """Take stock.

        Args:
            console: where to show them.
            reviewer: who reads.
            rows: the e-mails to be read.
            reviews: all verdicts so far, everybody's.
            path: where verdicts go, each as soon as it is given.
        """
        self._console, self._reviewer, self._rows, self._path = console, reviewer, rows, path
        self._hashes = [item_sha256(row) for row in rows]
        self._standing = select_latest(reviews)

    def walk(self) -> None:
        """Show what this reviewer has not judged, until the end of the e-mails or of the input."""
        places = range(len(self._rows))
        ahead = deque(place for place in places if self._own(place) is None)
        # Where "back" leads to: first of all, to what was judged in earlier sessions.
        behind = [place for place in places if not ahead or place < ahead[0]]
        shown = None
        try:
            while True:
                if ahead and ahead[0] != shown:
                    shown = ahead[0]
                    self._show(shown)
                word = self._asked() if ahead else self._asked_at_the_end()
                if word == "quit":
                    return
                if word == "back":
                    if behind:
                        ahead.appendleft(behind.pop())
                    else:
                        say(self._console, "This is the first one.")
                elif word == "skip" or self._judged(ahead[0], word):
                    behind.append(ahead.popleft())
        except (EOFError, KeyboardInterrupt):
            # An interrupt may have come between a verdict's way into the file and its way into memory.
            self._standing = select_latest(read_lines(self._path, Review)[0])
            say(self._console, "")  # the line of the question has not ended

    def conclude(self, there: int, emails: str) -> None:
        """Say what this reviewer has judged, what is open, and where several agree.

        Args:
            there: how many e-mails there are, besides those that are to be read too.
            emails: their file, as it was given.
        """
        own = [self._own(place) for place in range(len(self._rows))]
        accepted = sum(review is not None and review.verdict is Verdict.accept for review in own)
        rejected = sum(review is not None and review.verdict is Verdict.reject for review in own)
        still = len(own) - accepted - rejected
        which = f"of the first {len(own)} e-mails, of {there}" if len(own) < there else f"of all {there} e-mails"
        say(self._console, f"{self._reviewer}: {accepted} accepted, {rejected} rejected, {still} open, {which}")
        for one, other, both, same in agreement(self._standing, frozenset(self._hashes)):
            names = f"{printable(one)} and {printable(other)}"
            say(
                self._console, f"{names} agree on {same} of the {both} that both have judged ({100 * same / both:.0f}%)"
            )
        if accepted or rejected:
            say(self._console, f"verdicts  {self._path}")
        if still:
            say(self._console, "next      the same command again shows those that are open")
        if rejected:
            given = "" if emails == ReviewConfig.path else f" out={emails}"
            say(self._console, f"anew      python -m quantexp.generate_extraction{given} replaces what is rejected")

    def _own(self, place: int) -> Review | None:
        return self._standing.get((self._reviewer, self._hashes[place]))

    def _asked(self) -> str:
        while True:
            answer = asked(QUESTION).lower()
            for word in WORDS:
                if answer and word.startswith(answer):
                    return word
            say(self._console, "One letter, please: a, r, s, b or q.")

    def _asked_at_the_end(self) -> str:
        answer = asked("No e-mail is left to judge. b(ack), or Enter to end: ").lower()
        return "back" if answer and "back".startswith(answer) else "quit"

    def _judged(self, place: int, word: str) -> bool:
        """Keep the verdict; False if a rejection got no reason, and so is none."""
        reason = None
        if word == "reject":
            reason = asked("why? ")
            if not reason:
                say(self._console, "A rejection needs a reason.")
                return False
        review = Review(
            reviewer=self._reviewer,
            id=self._rows[place]["id"],
            sha256=self._hashes[place],
            verdict=Verdict(word),
            reason=reason,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with Journal(self._path, exclusive=False) as journal:
            journal.append(review)
        self._standing[self._reviewer, review.sha256] = review
        return True

    def _show(self, place: int) -> None:
        row = self._rows[place]
        title = Text(f"{printable(row['id'])}, {place + 1} of {len(self._rows)}")
        fields = Table.grid(padding=(0, 2))
        for name in ANSWER_FIELDS:
            value = row[name]
            fields.add_row(name, Text("(none)", "dim") if value is None else Text(printable(value), "bold"))
        before = self._own(place)
        if before is not None:
            said = before.verdict.value + (f": {before.reason}" if before.reason else "")
            fields.add_row("your verdict", Text(printable(said), "bold"))
        self._console.print()
        self._console.print(Panel(Text(printable(row["email"])), title=title, title_align="left"))
        self._console.print(fields)
