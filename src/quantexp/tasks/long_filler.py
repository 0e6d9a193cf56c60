"""Filler of long texts: prose, records and reports, drawn by hashes, so that a seed gives the same words everywhere."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import count
from typing import TypeVar

Some = TypeVar("Some")

NAMES = (
    *("Ansa", "Bertil", "Cajus", "Dorte", "Edda", "Florin", "Gesine", "Hanno", "Ilka", "Jorun", "Kasimir", "Lioba"),
    *("Merle", "Nepomuk", "Odila", "Pirmin", "Quirin", "Rasmus", "Selma", "Tibor", "Ulrike", "Veit", "Wanda", "Xaver"),
    *("Yrsa", "Zeno", "Alwin", "Birte", "Corvin", "Detlef", "Elin", "Fabian", "Gundula", "Henrike", "Ivo", "Jella"),
    *("Konrad", "Leif", "Mirko", "Nadja", "Ole", "Pelle", "Ragna", "Sixtus", "Thea", "Urs", "Vilma", "Wolfram"),
)
"""People."""

PLACES = (
    *("Ahlfurt", "Brennick", "Corswold", "Dunmarsh", "Elverby", "Fenwater", "Grauhain", "Holmstead", "Irlbach"),
    *("Jarlsund", "Kettlefold", "Lindenau", "Marrowick", "Nesselburg", "Oxmere", "Pellworth", "Quarnstead"),
    *("Rothenmoor", "Silverden", "Tannfeld", "Underholt", "Varnsjo", "Wexcombe", "Ystrand", "Zellhofen"),
)
"""Towns."""

MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)

DEPARTMENTS = (
    *("bridges", "lighthouses", "bakeries", "ferries", "cemeteries", "fountains", "museums", "orchards", "kennels"),
    *("sewers", "street lamps", "public clocks", "allotments", "libraries", "ice rinks", "playgrounds", "stables"),
    *("weights and measures", "river banks", "printing", "fire stations", "markets", "public baths", "tramways"),
)
"""Of a town hall, for reports."""

_RECORDS = (
    "Log of the lock at {place}, {day} {month}: {few} barges went up and {few} came down. The gate stayed shut "
    "for {many} minutes because of {cause}. {name} was on duty and {remark}.",
    "Library of {place}, {day} {month}. Lent today: {many} books on {topic} and {few} on {topic}. {name} brought "
    "back {few} volumes {few} days late and said that it was because of {cause}.",
    "Rain gauge at {place}, {day} {month}: {few} millimetres by noon, {many} in the whole week. The clouds came "
    "from the hills. The observer, {name}, {remark}.",
    "Market of {place}, {day} {month}: eggs at {many} pence the dozen, leeks at {few} pence, no plums at all "
    "because of {cause}. {name} sold {many} jars of pickles and {remark}.",
    "Workshop book of {name}, {place}, {month} {year}: {few} chairs glued, {few} drawers planed, a table made "
    "shorter by a hand. One customer {remark}. The stove smoked because of {cause}.",
    "Fire brigade of {place}, {month} {year}: called out {few} times, of which {few} were false alarms and one "
    "was due to {cause}. The pump ran for {many} minutes. {name} {remark}.",
    "Observatory of {place}, night of {day} {month}: {many} meteors counted before {cause} ended the watch. The "
    "next lecture is about {topic}. {name}, at the eyepiece, {remark}.",
    "School of {place}, class of {name}, {day} {month}: {few} pupils ill, {many} sheets of paper used for a "
    "lesson about {topic}. In the break somebody {remark}.",
    "Harvest book of {place}, {year}: {many} baskets of apples, {few} of pears. Two ladders broke because of "
    "{cause}. {name}, who keeps the book, {remark}.",
    "Minutes of the reading circle of {place}, {day} {month}: {few} members present, the subject was {topic}. "
    "{name} spoke for {many} minutes and {remark}. The meeting ended early because of {cause}.",
)

_CAUSES = (
    *("a lost key", "fog", "a stubborn goat", "the funeral of a captain", "thunder", "a wedding on the quay"),
    *("an eclipse", "the late post", "a quarrel about a ladder", "low water", "a swarm of bees"),
    *("the visit of a bishop", "hail", "an election", "a broken axle", "the first snow"),
)
_TOPICS = (
    *("knots", "the history of buttons", "volcanoes", "beetles", "long division", "sea shanties", "mosses"),
    *("comets", "the grammar of dreams", "old coins", "drainage", "sign painting", "glaciers", "manners", "tea"),
    *("tunnels",),
)
_REMARKS = (
    *("wrote nothing else on the page", "asked for a better lamp", "whistled the whole time"),
    *("drew a hen in the margin", "thought that it would be a mild year", "lent out the umbrella again"),
    *("was given a cake", "could not find the ink", "counted everything twice", "praised the new bench"),
    *("fell asleep after lunch", "told the story of the two sextons", "left the door open"),
    *("wished for a longer rope", "refused to sign", "fed the cat"),
)

_SECTIONS = (
    "Department of {department}, {year}. In this year the department was led by {name}. It had {staff} people and"
    " spent {spent} crowns on {topic} and on repairs. One visitor {remark}.",
    "Department of {department}, {year}. {name} led it, with a staff of {staff} people. Work stood still for "
    "{few} days because of {cause}. The accounts close with {spent} crowns.",
    "Department of {department}, {year}. Under {name}, {staff} people worked here. They answered {many} letters, "
    "most of them about {topic}, and the porter {remark}.",
)


class Draws:
    """Draws that follow from a seed alone, in any version of Python: each is a sha256."""

    def __init__(self, *seed: object) -> None:
        self._seed = json.dumps([str(part) for part in seed])
        self._number = 0

    def below(self, end: int) -> int:
        """Draw a whole number from 0 up to, but not including, `end`."""
        self._number += 1
        digest = hashlib.sha256(f"{self._seed} {self._number}".encode()).digest()
        return int.from_bytes(digest[:8]) % end

    def between(self, first: int, last: int) -> int:
        """Draw a whole number, both ends included."""
        return first + self.below(last - first + 1)

    def pick(self, some: Sequence[Some]) -> Some:
        """Draw one of several."""
        return some[self.below(len(some))]

    def sample(self, some: Sequence[Some], number: int) -> list[Some]:
        """Draw several different ones, in random order."""
        rest = list(some)
        return [rest.pop(self.below(len(rest))) for _ in range(number)]


@cache
def read_prose() -> tuple[str, ...]:
    """Return the bundled paragraphs, with gaps for names, places and numbers."""
    text = resources.files("quantexp.tasks").joinpath("bundled", "long_prose.jsonl").read_text(encoding="utf-8")
    return tuple(json.loads(line)["text"] for line in text.split("\n") if line)


def list_words() -> list[object]:
    """Return all that filler is made of, for the identity of items."""
    pools = (NAMES, PLACES, MONTHS, DEPARTMENTS, _CAUSES, _TOPICS, _REMARKS)
    return [*read_prose(), *_RECORDS, *_SECTIONS, *map(list, pools)]


def draw_prose(*seed: object) -> Iterator[str]:
    """Yield paragraphs without end: prose and records by turns; prose comes again only after all of it has come."""
    draws, prose = Draws("prose", *seed), read_prose()
    while True:
        for paragraph in draws.sample(prose, len(prose)):
            yield _fill(paragraph, draws)
            yield _fill(draws.pick(_RECORDS), draws)


def draw_report(avoid: Sequence[tuple[str, int]], *seed: object) -> Iterator[str]:
    """Yield sections of a town hall's report without end, year by year from 1900 on.

    Args:
        avoid: departments and years that have no section.
        seed: of the draws.
    """
    draws = Draws("report", *seed)
    for year in count(1900):
        for department in draws.sample(DEPARTMENTS, len(DEPARTMENTS)):
            if (department, year) not in avoid:
                name, staff = draws.pick(NAMES), draws.between(20, 99)
                yield write_section(draws, department, year, name, staff)


def write_section(draws: Draws, department: str, year: int, name: str, staff: int) -> str:
    """Return a section of a report."""
    known = {"department": department, "year": year, "name": name, "staff": staff, "spent": draws.between(100, 999)}
    return _fill(draws.pick(_SECTIONS), draws, **known)


def _fill(text: str, draws: Draws, **known: object) -> str:
    """Fill the gaps of a text, each anew, but for what is known and for a person or a place, of whom there is one."""
    one = {"name": draws.pick(NAMES), "place": draws.pick(PLACES), "year": draws.between(1801, 1999), **known}
    pieces = text.split("{")
    found = [pieces[0]]
    for piece in pieces[1:]:
        gap, _, rest = piece.partition("}")
        found.append(str(one[gap]) if gap in one else _draw_gap(gap, draws))
        found.append(rest)
    return "".join(found)


def _draw_gap(gap: str, draws: Draws) -> str:
    words = {"month": MONTHS, "cause": _CAUSES, "topic": _TOPICS, "remark": _REMARKS}
    if gap in words:
        return draws.pick(words[gap])
    first, last = {"few": (3, 19), "many": (20, 99), "day": (1, 28)}[gap]
    return str(draws.between(first, last))
