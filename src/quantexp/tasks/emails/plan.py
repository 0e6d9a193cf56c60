"""Plan of each e-mail: its labels, and what keeps e-mails with the same labels apart.

Everything follows from the seed by sha256, which, unlike a pseudo-random generator, never changes with a library's
version. The e-mail of a slot does not depend on how many there are: asking for more only adds slots.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from quantexp.tasks.extraction import CATEGORIES, URGENCIES

DOMAINS = (
    "consumer electronics",
    "clothing and shoes",
    "groceries and meal boxes",
    "furniture",
    "train, bus and air travel",
    "electricity, gas and water at home",
    "internet and mobile contracts",
    "business software",
    "online courses",
    "books, music and streaming",
    "garden and tools",
    "bicycles and sport",
    "pet supplies",
    "household appliances",
    "pharmacy and care products",
    "craft and office supplies",
    "event tickets",
    "online banking and insurance",
)
"""What the company sells."""

LENGTHS = (
    "two or three lines",
    "short: 40 to 70 words",
    "ordinary: 80 to 120 words",
    "long: 150 to 200 words, with detail that does not matter",
)
"""How long the e-mail is."""

TONES = (
    "polite and plain",
    "curt",
    "annoyed",
    "friendly and chatty",
    "worried",
    "dryly ironic",
    "formal",
    "typed in haste on a phone, mostly in lower case",
)
"""How the customer sounds; independent of how urgent the matter is."""

ORIGINS = (
    "Brazil",
    "Canada",
    "Egypt",
    "England",
    "Finland",
    "France",
    "Germany",
    "Ghana",
    "Greece",
    "India",
    "Indonesia",
    "Ireland",
    "Italy",
    "Japan",
    "Kenya",
    "Mexico",
    "Nigeria",
    "Pakistan",
    "Poland",
    "Portugal",
    "Romania",
    "South Korea",
    "Spain",
    "Sweden",
    "Turkey",
    "Ukraine",
    "the Philippines",
    "the United States",
    "Vietnam",
)
"""Where the customer comes from, which shows in the name and perhaps in the English."""

TWISTS = (
    "nothing besides the matter itself",
    "an order or contract number",
    "a colleague, relative or agent is mentioned by name",
    "a second, smaller problem that has been solved already",
    "what the customer has tried so far",
    "a date or a time of day",
    "a quoted line of an earlier reply by the company, signed by somebody else",
    "a subject line that sounds more, or less, urgent than the matter is",
)
"""What else stands in the e-mail."""

INITIALS = "ABCDEFGHIJKLMNOPRSTVWYZ"
"""First letters of first names; models left alone call half of all customers Sarah."""

Option = TypeVar("Option")


@dataclass(frozen=True, slots=True)
class EmailPlan:
    """Plan of the e-mail of one slot.

    Attributes:
        slot: counted from 0.
        category: one of CATEGORIES.
        urgency: one of URGENCIES.
        named: whether the writer's name stands in it.
        domain: what the company sells.
        length: how long it is.
        tone: how the customer sounds.
        origin: where the customer comes from.
        twist: what else stands in it.
        initial: with which letter the customer's first name begins.
    """

    slot: int
    category: str
    urgency: str
    named: bool
    domain: str
    length: str
    tone: str
    origin: str
    twist: str
    initial: str


def email_plan(slot: int, seed: int, nameless: float) -> EmailPlan:
    """Return the plan of one slot, counted from 0.

    In any first n slots, the counts of the 15 pairs of category and urgency differ by at most one, and so do those of
    the categories and those of the urgencies.

    Args:
        slot: from 0.
        seed: of the whole plan.
        nameless: share of e-mails without the writer's name, between 0 and 1; kept within each pair, to one e-mail.
    """
    pairs = len(CATEGORIES) * len(URGENCIES)
    block, place = divmod(slot, pairs)
    # 5 and 3 have no common divisor, so that 15 places in a row hold each pair once (Chinese remainder theorem).
    category = _shuffled(CATEGORIES, seed, f"category {block}")[place % len(CATEGORIES)]
    urgency = _shuffled(URGENCIES, seed, f"urgency {block}")[place % len(URGENCIES)]
    return EmailPlan(
        slot=slot,
        category=category,
        urgency=urgency,
        named=not _is_nameless(category, urgency, block, seed, nameless),
        domain=_dealt(DOMAINS, slot, seed, "domain"),
        length=_dealt(LENGTHS, slot, seed, "length"),
        tone=_dealt(TONES, slot, seed, "tone"),
        origin=_dealt(ORIGINS, slot, seed, "origin"),
        twist=_dealt(TWISTS, slot, seed, "twist"),
        initial=_dealt(INITIALS, slot, seed, "initial"),
    )


def request_seed(seed: int, slot: int, attempt: int) -> int:
    """Return the seed sent with an attempt (from 1) at a slot: 31 bits, which every server takes."""
    return int.from_bytes(_hash(seed, f"request {slot} {attempt}")[:4]) >> 1


def _is_nameless(category: str, urgency: str, block: int, seed: int, share: float) -> bool:
    """Return whether the e-mail of this pair in this block has no name.

    Each pair counts up by the share, each from an offset of its own, and has no name when the count passes a whole
    number. As the offsets divide 1 evenly, the pairs together come as near to the share as whole numbers can.
    """
    pairs = [(one, other) for one in CATEGORIES for other in URGENCIES]
    rank = _shuffled(pairs, seed, "nameless").index((category, urgency))
    offset = Fraction(2 * rank + 1, 2 * len(pairs))
    step = Fraction(str(share))
    return math.floor((block + 1) * step + offset) > math.floor(block * step + offset)


def _dealt(options: Sequence[Option], slot: int, seed: int, what: str) -> Option:
    """Return the slot's option: all are dealt before one comes again, in an order that is new each time."""
    deal, place = divmod(slot, len(options))
    return _shuffled(options, seed, f"{what} {deal}")[place]


def _shuffled(options: Sequence[Option], seed: int, what: str) -> list[Option]:
    order = sorted(range(len(options)), key=lambda place: _hash(seed, f"{what} {place}"))
    return [options[place] for place in order]


def _hash(seed: int, what: str) -> bytes:
    return hashlib.sha256(f"{seed}:{what}".encode()).digest()
