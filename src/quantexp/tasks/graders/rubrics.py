"""Rubrics: the questions that a judge answers about two texts, and the reading of its replies.

A rubric whose words change gets a new version: agreement with the labels was measured for the words of one version.
"""

import json
import re
from dataclasses import dataclass

from quantexp.tasks.normalise import answer_line


@dataclass(frozen=True, slots=True)
class Rubric:
    """A versioned question with two answers, about two texts.

    Attributes:
        name: what the run records, with the version.
        version: a positive integer.
        calibration: name of the bundled pairs with labels, which a judge answers before its verdicts count.
        instructions: what is asked, before the texts.
        first: what the first text is called; empty if the two are of one kind, and called by their places.
        second: likewise the second.
        yes: the reply that means yes.
        no: the reply that means no.
    """

    name: str
    version: int
    calibration: str
    instructions: str
    yes: str
    no: str
    first: str = ""
    second: str = ""

    @property
    def id(self) -> str:
        """Name and version in one word."""
        return f"{self.name}-v{self.version}"

    def write(self, first: str, second: str, *, is_swapped: bool = False) -> str:
        """Write the question about two texts.

        Args:
            first: the first text.
            second: the second text.
            is_swapped: whether the second text and the second reply are named before the first.
        """
        names = (self.first, self.second)
        texts, replies = [(names[0], first), (names[1], second)], [self.yes, self.no]
        if is_swapped:
            texts, replies = texts[::-1], replies[::-1]
        shown = [f"{name or f'Text {place}'}:\n{text}" for place, (name, text) in enumerate(texts, start=1)]
        ending = f"Answer with one word and nothing else: {replies[0]} or {replies[1]}."
        return "\n\n".join([self.instructions, *shown, ending])

    def read(self, reply: str) -> bool | None:
        """Read a reply; None if it is neither of the two.

        Its first line with words must be one of the two words alone, in any case, with any punctuation around it, with
        "Answer:" or "Verdict:" before it or as the only value of a JSON object. Nothing is read out of a sentence.
        """
        line = answer_line(reply)[0].strip()
        try:
            given = json.loads(line) if line.startswith("{") else None
        except (ValueError, RecursionError):
            return None
        if isinstance(given, dict):
            [line] = [str(value) for value in given.values()] if len(given) == 1 else [""]
        words = re.sub(r"[\W_]+", " ", line).split()
        if len(words) == 2 and words[0].casefold() in ("answer", "verdict"):
            words = words[1:]
        if len(words) != 1:
            return None
        return {self.yes.casefold(): True, self.no.casefold(): False}.get(words[0].casefold())


SAME_REQUEST = Rubric(
    name="same-request",
    version=1,
    calibration="requested_action",
    instructions=(
        "Two texts each say what a customer wants a company to do. Decide whether they ask for the same thing.\n"
        "They do if whoever does what one says has done what the other asks. Wording, names, reasons and deadlines "
        "that only one of them gives do not matter.\n"
        "They do not if the action, the thing, the amount, the place or the date is another, if one asks for the "
        "opposite of the other, or if one asks for nothing definite."
    ),
    yes="SAME",
    no="DIFFERENT",
)
"""Two requests: are they the same?"""

SAYS_FACT = Rubric(
    name="says-fact",
    version=1,
    calibration="summary",
    instructions=(
        "Decide whether the summary says what the statement says.\n"
        "It does if a reader of the summary alone would know that the statement is true, in whatever words it stands "
        "there. It does not if the summary leaves it out, says it only in part, or says something else."
    ),
    yes="YES",
    no="NO",
    first="Summary",
    second="Statement",
)
"""A summary and a statement: does the one say the other?"""
