"""Numbers as people write them, in one canonical form.

Read are thousands in commas or spaces (1,080; 1 080; 12,34,567), decimals, signs (also the Unicode minus), currency
signs, fractions, exponents (1.2e3, 1.2 × 10^3) and scales (5k, 2 million). A decimal comma, a ratio and a time of the
day are no numbers: what looks like one and is none is never read as another.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import zip_longest

from quantexp.tasks.normalise import fold_punctuation, fold_words, normalize_unicode_answer

_TOKEN = re.compile(
    r"""
    (?P<minus>(?<![\w)\]}%])[-\u2212\u2013])?         # 10-15 is a range or a difference: no sign
    (?:[$£€¥₹][ ]?(?P<minus_after>[-\u2212\u2013])?)?  # -$5 and $-5
    (?<![0-9])(?<!\^)(?<!\^\{)(?<![A-Za-z0-9}]_)      # not the 2 of m^2, m^{2} or x_2
    (?P<body>
        [0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3}){1,9}+(?![0-9/])(?:[.,:][0-9]++)*+
        |[0-9]++(?:[.,:][0-9]++)*+
        |(?<![\w.])\.[0-9]++
    )
    (?P<fraction>(?:[ ][0-9]{1,9})?/[0-9]{1,9}(?![0-9]))?
    (?:
        [eE](?P<exponent>[-+]?[0-9]++)
        |[ ]?(?:[×x*]|\\times)[ ]?10\^\{?(?P<power>[-\u2212]?[0-9]++)\}?
        |[ -]?(?P<scale>(?i:hundred|thousand|million|billion|trillion))\b
        |(?P<kilo>[kK])\b
    )?
    """,
    re.VERBOSE,
)
"""What looks like a number, whole. No part can backtrack over unbounded text."""

_PLAIN = re.compile(
    r"""
    (?P<whole>[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3})+|)
    (?P<decimals>\.[0-9]+)?
    """,
    re.VERBOSE,
)
_TIME = re.compile(r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-5][0-9])(?::[0-5][0-9])?")

_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_LARGEST_EXPONENT = 324
"""That of floating-point numbers."""

_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]{1,9})\}\{([0-9]{1,9})\}")

_LARGER = re.compile(r"\s?[MB]\b|\s[kK]\b|\s*(?i:[mb]n|ml[nr]d?|mi[lo]|mrd|trn?|lakhs?|crores?|dozens?)\b")
"""Scales that could be something else: 5M, 2 dozen."""

_POWER_OF_UNIT = re.compile(r"(?<=[A-Za-z])(?:\^?[23]\b|[²³])")
_NO_UNIT = re.compile(r"[0-9=+×÷^:<>±!\n]")


_SIGNS = {"$": "dollar", "£": "pound", "€": "euro", "¥": "yen", "₹": "rupee", "%": "percent"}
_SIGN = re.compile("[$£€¥₹%]")
_INSIDE_WORD = re.compile(r"(?:[^\W_]|[√∛±≤≥≠])[0-9]")
_PLURAL = re.compile(r"\b(dollar|pound|euro|rupee)s\b")


@dataclass(frozen=True, slots=True)
class Number:
    """Number as it is written in a text.

    Attributes:
        start: where it begins, its sign and currency included.
        end: where it ends.
        value: the canonical form; None where it is no number.
        is_time: whether it is a time of the day; one at a full hour has the hour as its value.
    """

    start: int
    end: int
    value: str | None
    is_time: bool = False


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number and its unit.

    Attributes:
        value: the number's canonical form.
        unit: the words around it, normalised; empty for a bare number.
    """

    value: str
    unit: str


def strip_latex(text: str) -> str:
    r"""Undo the LaTeX that splits numbers: `1{,}080`, `1,\!080`, `1\,080`, `\$5`, `\frac{1}{2}`."""
    text = text.replace("{,}", ",").replace(r"\!", "").replace(r"\,", "").replace(r"\$", "$")
    return _LATEX_FRACTION.sub(r" \1/\2", text)


def find_numbers(text: str, start: int = 0) -> Iterator[Number]:
    """Find all that looks like a number, in order."""
    return (_number(match) for match in _TOKEN.finditer(text, start))


def match_number(text: str, start: int = 0) -> Number | None:
    """Match what looks like a number and begins at `start`."""
    match = _TOKEN.match(text, start)
    return None if match is None else _number(match)


def format_number(value: object) -> str | None:
    """Write a number that a data file holds as one: 18, 18.0 and Decimal("18.00") as people would; None for others."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not Decimal(value).is_finite():
        return None
    text = f"{Decimal(str(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def negate(value: str) -> str:
    """Change the sign of a canonical number."""
    return value if value == "0" else value.removeprefix("-") if value.startswith("-") else f"-{value}"


def read_quantity(text: str) -> str | None:
    """Read a text that is one number and nothing else but a unit, such as "$1,080", "18 dollars" or "36 m^2".

    Returns:
        The canonical form; None where the text is anything else, or could mean two numbers ("18,5", "10:30", "5M").
    """
    quantity = split_quantity(text)
    return None if quantity is None else quantity.value


def split_quantity(text: str) -> Quantity | None:
    """Split what `read_quantity` reads into the number and its unit: "$1,080" and "1,080 dollars" have the same."""
    text = text.strip(" \t\r\n*_`")
    found = match_number(text)
    if found is None or found.value is None or found.is_time:
        return None
    rest = text[found.end :]
    unit = _POWER_OF_UNIT.sub("", rest)
    if _LARGER.match(rest) or _NO_UNIT.search(unit) or any(character.isnumeric() for character in unit):
        return None
    return Quantity(found.value, _normalize_unit(text[: found.end], rest))


def find_quantities(text: str) -> Iterator[Quantity]:
    """Find the numbers that stand as whole words, each with all that follows it up to the next in place of a unit."""
    numbers = [*find_numbers(text)]
    for number, following in zip_longest(numbers, numbers[1:]):
        rest = text[number.end : None if following is None else following.start]
        is_whole = not (rest[:1].isalnum() or _INSIDE_WORD.match(text, max(number.start - 1, 0)))
        if number.value is not None and is_whole:
            yield Quantity(number.value, _normalize_unit(text[number.start : number.end], rest))


def is_same_number(left: str, right: str) -> bool:
    """Compare two canonical numbers as decimals, at any length; as exact fractions where one of them is a fraction."""
    if left == right or "/" not in left + right:
        return left == right
    one, other = _as_fraction(left), _as_fraction(right)
    return one is not None and one == other


def _normalize_unit(number: str, rest: str) -> str:
    """Normalise the unit of a number: what follows it, and a currency sign in it; signs as words, m² as m^2."""
    signs = "".join(_SIGN.findall(number))
    spelt = _SIGN.sub(lambda sign: f" {_SIGNS[sign[0]]} ", f"{signs} {rest}".replace("^", ""))
    if not fold_words(fold_punctuation(spelt)):
        return ""
    return _PLURAL.sub(r"\1", normalize_unicode_answer(unicodedata.normalize("NFKC", spelt)))


def _number(match: re.Match[str]) -> Number:
    body = match["body"]
    if time := _TIME.fullmatch(body):
        hour = time["hour"].lstrip("0") or "0"
        on_the_hour = time["minute"] == "00" and int(hour) <= 24 and body.count(":") == 1
        return Number(match.start(), match.end(), hour if on_the_hour else None, is_time=True)
    return Number(match.start(), match.end(), _canonical(match))


def _canonical(match: re.Match[str]) -> str | None:
    """Return the number in the one form all its spellings share: "-1,080.50" becomes "-1080.5".

    Two decimals are equal exactly when their canonical forms are. A fraction is kept as written.
    """
    plain = _PLAIN.fullmatch(match["body"])
    exponent = match["exponent"] or match["power"]
    if plain is None or (match["fraction"] and (plain["decimals"] or exponent or match["scale"] or match["kilo"])):
        return None
    shift = 3 if match["kilo"] else _SCALES.get((match["scale"] or "").lower(), 0)
    if exponent:
        if len(exponent) > len("+324"):
            return None
        shift = int(exponent.replace("\u2212", "-"))
        if abs(shift) > _LARGEST_EXPONENT:
            return None
    whole = re.sub(r"[, \u00a0\u202f]", "", plain["whole"])
    decimals = (plain["decimals"] or "").removeprefix(".")
    if shift > 0:
        decimals = decimals.ljust(shift, "0")
        whole, decimals = whole + decimals[:shift], decimals[shift:]
    elif shift < 0:
        whole = whole.rjust(-shift, "0")
        whole, decimals = whole[:shift], whole[shift:] + decimals
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    number = f"{whole}{'.' if decimals else ''}{decimals}{match['fraction'] or ''}"
    negative = bool(match["minus"]) != bool(match["minus_after"])
    return f"-{number}" if negative and number != "0" else number


def _as_fraction(value: str) -> Fraction | None:
    """Return the exact value of a canonical number; None where it has none that is worth computing."""
    sign, (*wholes, part) = -1 if value.startswith("-") else 1, value.removeprefix("-").split(" ")
    if len(value) > 100 or re.search("/0+$", part):
        return None
    return sign * sum((Fraction(each) for each in [*wholes, part]), Fraction(0))
