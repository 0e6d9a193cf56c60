"""Checks of the answers: those that are accepted, and why the others are not."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from pydantic import ValidationError

from quantexp.tasks.emails.plan import EmailPlan
from quantexp.tasks.emails.prompt import Email
from quantexp.tasks.extraction import LONGEST_NAME, TASK
from quantexp.tasks.normalise import fold_words, normalize_name

FEWEST_WORDS = 10
"""What has fewer words is no e-mail; the shortest bundled one has 16."""

SHINGLE = 3
"""Words of a shingle, as in the data card of the bundled e-mails."""

LARGEST_SIMILARITY = 0.30
"""Of two accepted e-mails: Jaccard similarity of their sets of shingles. The bundled e-mails keep to the same limit;
the nearest two of them have 0.11."""

_TITLE = re.compile(r"(?:mr|mrs|ms|miss|mx|dr|prof|sir|madam)\b", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"\[[A-Za-z][^\]\n]{0,40}\]|<your[^>\n]{0,40}>|\{\{[^}\n]{0,40}\}\}", re.IGNORECASE)
"""[Your Name], <your address>, {{order number}}: what models write where they do not want to invent."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an answer is rejected.

    Attributes:
        reason: one of a few words, to count by.
        detail: what exactly.
    """

    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.detail})"


class Accepted:
    """The accepted e-mails, to compare new ones with."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._names: list[str] = []
        self._with: dict[tuple[str, ...], list[int]] = {}

    def add(self, name: str, text: str) -> None:
        """Take up an e-mail under a name."""
        found = shingles(text)
        number = len(self._names)
        self._names.append(name)
        self._sizes.append(len(found))
        for shingle in found:
            self._with.setdefault(shingle, []).append(number)

    def nearest(self, text: str) -> tuple[str, float] | None:
        """Name and similarity of the e-mail most like `text`; None if none has a shingle in common with it."""
        found = shingles(text)
        shared = Counter(number for shingle in found for number in self._with.get(shingle, ()))
        if not shared:
            return None
        similarities = {number: count / (len(found) + self._sizes[number] - count) for number, count in shared.items()}
        nearest = max(similarities, key=lambda number: (similarities[number], -number))
        return self._names[nearest], similarities[nearest]


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of SHINGLE words, letter case, punctuation and white space aside; of a shorter text, the text itself."""
    words = fold_words(unicodedata.normalize("NFKC", text)).split()
    if not words:
        return frozenset()
    last = max(len(words) - SHINGLE, 0)
    return frozenset(tuple(words[start : start + SHINGLE]) for start in range(last + 1))


def problem_of_answer(text: str, finish_reason: str | None, refusal: str | None) -> Problem | None:
    """Find what keeps an answer from being an e-mail at all; None if `Email` can read it."""
    if refusal is not None or finish_reason == "content_filter":
        return Problem("refused", refusal or "the server's content filter")
    if finish_reason == "length":
        return Problem("truncated", "cut off at max_tokens")
    try:
        Email.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Problem("not in the schema", f"{where}: {first['msg']}" if where else first["msg"])
    return None


def problem_of_email(email: Email, plan: EmailPlan, accepted: Accepted) -> Problem | None:
    """Find what keeps an e-mail from being accepted for its slot; None if nothing does."""
    for name, planned in (("issue_category", plan.category), ("urgency", plan.urgency)):
        written = getattr(email, name)
        if written != planned:
            return Problem("other labels", f"{name} {written} instead of {planned}")
    unusable = _unusable(email)
    if unusable is not None:
        return Problem("invalid", unusable)
    problem = _problem_of_name(email, plan)
    if problem is not None:
        return problem
    placeholder = _PLACEHOLDER.search(email.email)
    if placeholder is not None:
        return Problem("placeholder", placeholder[0])
    nearest = accepted.nearest(email.email)
    if nearest is not None and nearest[1] > LARGEST_SIMILARITY:
        return Problem("duplicate", f"similarity {nearest[1]:.2f} to {nearest[0]}")
    return None


def _unusable(email: Email) -> str | None:
    try:
        TASK.validate(email.model_dump())
    except ValueError as error:
        return str(error)
    for name, text in email.model_dump().items():
        if any(unicodedata.category(character) == "Cc" and character not in "\n\t" for character in text or ""):
            return f"the field {name!r} holds a control character"
    words = len(fold_words(email.email).split())
    if words < FEWEST_WORDS:
        return f"an e-mail of {words} words"
    return None


def _problem_of_name(email: Email, plan: EmailPlan) -> Problem | None:
    name = email.customer_name
    if (name is not None) != plan.named:
        return Problem("name", "none, where one was asked for" if name is None else "one, where none was asked for")
    if name is None:
        return None
    if len(name) > LONGEST_NAME or not _occurs(name, email.email):
        return Problem("name", "it is not in the e-mail")
    if _TITLE.match(name):
        return Problem("name", "it begins with a title")
    return None


def _occurs(name: str, text: str) -> bool:
    """Return whether the name stands in the text as whole words, as names are compared in grading."""
    return re.search(rf"(?<!\w){re.escape(normalize_name(name))}(?!\w)", normalize_name(text)) is not None
