"""Items about long texts: what is hidden in each, what is asked, and how a text is filled up around it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, islice, pairwise
from typing import Any

from quantexp.tasks.long_filler import (
    DEPARTMENTS,
    MONTHS,
    NAMES,
    PLACES,
    Draws,
    draw_prose,
    draw_report,
    write_section,
)

VERSION = 1
"""Of the items; raise it with every change that makes other texts."""

DEPTHS = (0, 25, 50, 75, 100)
"""Places of what is asked for, in percent of the text before it."""

TRIED = 8
"""Paragraphs of which each is added that still fits into the rest of a text."""

YEAR = 1100
"""Tokens of a year of a report, about."""

REPORT = "report"
"""The category whose text is a report and not prose with records."""

_COLOURS = ("red", "green", "blue", "yellow", "black", "white", "brown", "violet", "orange", "grey")
_THINGS = (
    *("lantern", "kettle", "suitcase", "ladder", "mirror", "anchor", "basket", "drum", "helmet", "chair", "bottle"),
    *("saddle", "trumpet", "barrel", "bench", "carpet"),
)
_TREASURES = ("brass key", "silver coin", "wooden flute", "glass marble", "old compass", "ivory comb")
_SHIPS = ("Ostara", "Petrel", "Halcyon", "Meridian", "Tamarisk", "Calypso", "Windrose", "Sirocco")

_BEFORE = ("By the way, the", "It is written here that the", "For the record: the", "Note that the")

Row = dict[str, Any]


def make_rows(lengths: Sequence[int]) -> list[Row]:
    """Make the items of some lengths, in tokens; those of a length are the same whatever the others."""
    return [row for length in lengths for row in _make_length(length)]


def _make_length(length: int) -> Iterator[Row]:
    for kind, make, variants, per_variant in (
        ("needle", _make_needle, ((1, 0),), 10),
        ("distractors", _make_needle, ((2, 3), (3, 8)), 5),
        ("needles", _make_needles, ((2, 2), (4, 4)), 5),
        ("variables", _make_chain, ((2, 1), (4, 3)), 5),
        ("counting", _make_count, ((3, 2), (5, 5)), 5),
        ("aggregation", _make_maximum, ((3, 4), (5, 10)), 5),
        (REPORT, partial(_make_report, length), ((2, 0), (3, 1), (5, 2)), 5),
    ):
        number = 0
        for level, size in variants:
            for _ in range(per_variant):
                number += 1
                name = f"{length}-{kind}-{number}"
                row = make(Draws(VERSION, name), size, DEPTHS[(number - 1) % len(DEPTHS)])
                depth = row.pop("depth", None)
                place = f"{length} tokens" if depth is None else f"{length} tokens, {depth}%"
                yield {"id": name, "category": kind, "length": length, "place": place, "difficulty": level, **row}


def _make_needle(draws: Draws, look_alikes: int, depth: int) -> Row:
    """Hide a thing's number; look-alikes are things of the same colour or the same kind."""
    thing, colour = draws.pick(_THINGS), draws.pick(_COLOURS)
    others = [(colour, other) for other in _THINGS if other != thing]
    others += [(other, thing) for other in _COLOURS if other != colour]
    named = [(colour, thing), *draws.sample(others, look_alikes)]
    codes = _draw_codes(draws, len(named))
    places = [depth, *(draws.below(101) for _ in range(look_alikes))]
    told = [_name_code(draws, each, code) for each, code in zip(named, codes, strict=True)]
    return {
        "question": f"What is the archive number of the {colour} {thing}?",
        "answer": codes[:1],
        "candidates": [],
        "depth": depth,
        "needles": told,
        "depths": places,
    }


def _make_needles(draws: Draws, number: int, _: int) -> Row:
    things, codes = draws.sample(_THINGS, number), _draw_codes(draws, number)
    named = [(draws.pick(_COLOURS), thing) for thing in things]
    asked = [f"the {colour} {thing}" for colour, thing in named]
    return {
        "question": f"What are the archive numbers of {', '.join(asked[:-1])} and {asked[-1]}? Give all {number}.",
        "answer": codes,
        "candidates": [],
        "needles": [_name_code(draws, each, code) for each, code in zip(named, codes, strict=True)],
        "depths": _spread(draws, number),
    }


def _make_chain(draws: Draws, hops: int, _: int) -> Row:
    """Hand a thing on from one person to the next, and another thing in the same way between other people."""
    thing, other = draws.sample(_TREASURES, 2)
    people = draws.sample(NAMES, 2 * (hops + 1))
    chains = [(thing, people[: hops + 1]), (other, people[hops + 1 :])]
    needles, depths = [], []
    for held, holders in chains:
        needles.append(f"{holders[0]} now has the {held}.")
        needles += [f"{giver} gives the {held} to {taker}." for giver, taker in pairwise(holders)]
        depths += _spread(draws, hops + 1)
    return {
        "question": f"Who has the {thing} at the end? Answer with the name alone.",
        "answer": [chains[0][1][-1]],
        "candidates": people,
        "needles": needles,
        "depths": depths,
    }


def _make_count(draws: Draws, least: int, _: int) -> Row:
    ship, *others = draws.sample(_SHIPS, 4)
    times = draws.between(least, 4 if least < 5 else 9)
    came = [ship] * times + [draws.pick(others) for _ in range(times)]
    needles = [
        f"Harbour log, {draws.between(1, 28)} {draws.pick(MONTHS)}: the ferry {name} came in."
        for name in draws.sample(came, len(came))
    ]
    return {
        "question": f"How many times does the harbour log say that the ferry {ship} came in? Answer with a number.",
        "answer": [str(times)],
        "candidates": [],
        "needles": needles,
        "depths": _spread(draws, len(needles)),
    }


def _make_maximum(draws: Draws, number: int, _: int) -> Row:
    towns = draws.sample(PLACES, number)
    winds = draws.sample(range(10, 70), number)
    strongest = towns[max(range(number), key=winds.__getitem__)]
    return {
        "question": "At which town did the wind blow most strongly, by the weather book? Answer with the town alone.",
        "answer": [strongest],
        "candidates": towns,
        "needles": [
            f"Weather book: at {town} the wind blew with {wind} knots." for town, wind in zip(towns, winds, strict=True)
        ],
        "depths": _spread(draws, number),
    }


def _make_report(length: int, draws: Draws, what: int, depth: int) -> Row:
    """Ask for a head (0), the number of people (1), or that of two departments together (2), in a year of the text."""
    departments = draws.sample(DEPARTMENTS, 2 if what == 2 else 1)
    year = draws.between(1900, 1900 + max(0, length // YEAR - 1))
    heads, staff = draws.sample(NAMES, 2), draws.sample(range(20, 80), 2)
    sections = [
        write_section(draws, department, year, head, people)
        for department, head, people in zip(departments, heads, staff, strict=False)
    ]
    first = f"the department of {departments[0]}"
    row: Row = {"candidates": [], "year": year, "departments": departments}
    if what == 0:
        row |= {"question": f"Who led {first} in {year}? Answer with the name alone.", "answer": heads[:1]}
        row["candidates"] = list(NAMES)
    elif what == 1:
        row |= {"question": f"How many people did {first} have in {year}? Answer with a number."}
        row["answer"] = [str(staff[0])]
    else:
        both = f"{first} and the department of {departments[1]}"
        row |= {"question": f"How many people did {both} have together in {year}? Answer with a number."}
        row["answer"] = [str(sum(staff))]
    if what == 2:
        return row | {"needles": sections, "depths": _spread(draws, 2)}
    return row | {"needles": sections, "depths": [depth], "depth": depth}


def _draw_codes(draws: Draws, number: int) -> list[str]:
    """Draw different numbers of five digits, which nothing else in a text has."""
    codes: dict[str, None] = {}
    while len(codes) < number:
        codes[str(draws.between(10_000, 99_999))] = None
    return [*codes]


def _name_code(draws: Draws, named: tuple[str, str], code: str) -> str:
    colour, thing = named
    return f"{draws.pick(_BEFORE)} archive number of the {colour} {thing} is {code}."


def _spread(draws: Draws, number: int) -> list[int]:
    """Draw places over the whole text, in order, one in each of as many equal parts."""
    return [(100 * part + draws.below(100)) // number for part in range(number)]


def fill_text(name: str, fields: Mapping[str, Any], fits: Callable[[str], bool]) -> str | None:
    """Fill an item's text up, until no further paragraph fits.

    Args:
        name: the item's id.
        fields: of the item.
        fits: whether a text is not too long; a longer one never fits if a shorter one does not.

    Returns:
        The text; None if what is hidden does not fit alone.
    """
    if fields["category"] == REPORT:
        avoid = [(department, fields["year"]) for department in fields["departments"]]
        source, whole = draw_report(avoid, VERSION, name), True
    else:
        source, whole = draw_prose(VERSION, name), False
    units: list[str] = []

    def build(number: int) -> str:
        units.extend(islice(source, max(0, number - len(units))))
        return _join(units[:number], fields["needles"], fields["depths"], whole)

    if not fits(build(1)):
        return None
    low, high = 1, 2
    while fits(build(high)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(build(middle)) else (low, middle)
    # The paragraphs that come next and are short enough.
    kept = units[:low]
    for unit in islice(source, TRIED):
        if fits(_join([*kept, unit], fields["needles"], fields["depths"], whole)):
            kept.append(unit)
    return _join(kept, fields["needles"], fields["depths"], whole)


def _join(units: Sequence[str], needles: Sequence[str], depths: Sequence[int], whole: bool) -> str:
    """Join paragraphs, each needle at the boundary next to its depth: as a paragraph, or at the end of one."""
    ends = [0, *accumulate(len(unit) for unit in units)]
    at: dict[int, list[str]] = {}
    for depth, needle in sorted(zip(depths, needles, strict=True), key=lambda each: each[0]):
        nearest = min(range(len(ends)), key=lambda place: abs(ends[place] - depth / 100 * ends[-1]))
        at.setdefault(nearest, []).append(needle)
    joined = []
    for place, unit in enumerate(["", *units]):
        if whole:
            joined += [unit, *at.get(place, ())]
        else:
            joined.append(" ".join([unit, *at.get(place, ())]).strip())
    return "\n\n".join(paragraph for paragraph in joined if paragraph)
