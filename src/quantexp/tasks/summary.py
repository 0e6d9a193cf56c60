"""Summaries: a text in at most sixty words, by exact checks, and by a checklist of facts through a judge.

An item has `document` and `summary`, one good summary of it. Further fields are for graders: `must` and `must_not`,
lists of statements that a summary must say and must not say, and `mentions`, names and figures that it must hold, each
as a list of accepted spellings.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Answer, Grade, Grader
from quantexp.tasks.graders.judged import JudgedGrader, JudgeVerdict, Pair
from quantexp.tasks.graders.rubrics import SAYS_FACT
from quantexp.tasks.normalise import fold_whitespace
from quantexp.tasks.numbers import find_numbers, is_same_number

SHORTEST, LONGEST = 10, 60
"""Words of a summary."""

LONGEST_JUDGED = 2000
"""Characters of a summary that a judge is shown; the rest says nothing."""

LENGTH, NAMES, NUMBERS, MENTIONS = "length", "names", "numbers", "mentions"
"""Fields of a grade by exact checks."""

SAID, AVOIDED = "said", "avoided"
"""Fields of a grade by checklist."""

_WORD = re.compile(r"[^\W\d_]+(?:['’.-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?:;]['\"”’)*]*\s+['\"“‘(*]*$|\n[\s*#>-]*$|^[\s*#>\"'“‘(-]*$")
"""What stands before the first word of a sentence, a line or a text."""

_CLOCK = re.compile(r"(?<=\d):(?=\d)")

_ONES = (
    *("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SPELT = {
    **{word: str(value) for value, word in enumerate(_ONES, start=1)},
    **{word: str(value) for value, word in zip(range(20, 100, 10), _TENS, strict=True)},
    **{
        f"{ten}-{one}": str(value + unit)
        for value, ten in zip(range(20, 100, 10), _TENS, strict=True)
        for unit, one in enumerate(_ONES[:9], start=1)
    },
    "hundred": "100",
    "half": "1/2",
    "dozen": "12",
}
"""Numbers in words, as far as a summary may write them in digits."""


def _read_numbers(text: str) -> list[str]:
    """List the numbers that are written in digits, a time of the day as a decimal."""
    return [found.value for found in find_numbers(_CLOCK.sub(".", text)) if found.value is not None]


@cache
def _list_facts(document: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the words of a document, folded, and its numbers, those in words included."""
    words = {form for word in _WORD.findall(document) for form in _fold_word(word) | _split_word(word)}
    spelt = [_SPELT[word] for word in re.findall(r"[a-z]+(?:-[a-z]+)?", document.casefold()) if word in _SPELT]
    return frozenset(words), (*_read_numbers(document), *spelt)


def _fold_word(word: str) -> set[str]:
    """Return a word without case and possessive, and the same without plural."""
    folded = re.sub(r"['’]s?$", "", word.casefold())
    return {folded, folded.removesuffix("s")}


def _split_word(word: str) -> set[str]:
    """Return the parts of a word that is joined by hyphens, apostrophes or full stops."""
    return set(re.split(r"['’.-]", word.casefold())) - {""}


def find_foreign_names(summary: str, document: str) -> list[str]:
    """List the words of a summary that look like names and are not in its document.

    That is: capitalised words, not at the beginning of a sentence or a line. "I" is none.
    """
    known, _ = _list_facts(document)
    return [
        found[0]
        for found in _WORD.finditer(summary)
        if found[0][0].isupper()
        and found[0] != "I"
        and not _SENTENCE_END.search(summary[max(0, found.start() - 20) : found.start()])
        and not _fold_word(found[0]) & known
        and not _split_word(found[0]) <= known
    ]


def find_foreign_numbers(summary: str, document: str) -> list[str]:
    """List the numbers of a summary, in digits, that its document has neither in digits nor in words."""
    _, known = _list_facts(document)
    return [number for number in _read_numbers(summary) if not any(is_same_number(number, each) for each in known)]


def _holds(summary: str, spelling: str) -> bool:
    """Tell if a summary holds a spelling: as whole words in any case, or as the same number."""
    numbers = _read_numbers(spelling)
    if len(numbers) == 1 and not _WORD.search(spelling):
        return any(is_same_number(numbers[0], each) for each in _list_facts(summary)[1])
    return re.search(rf"(?<!\w){re.escape(spelling.casefold())}(?!\w)", summary.casefold()) is not None


def _grade_length(output: str, fields: Mapping[str, Any], *, has_ended: bool) -> Grade:
    summary = output.strip()
    wanted = list(fields.get("mentions") or ())
    names = (LENGTH, NAMES, NUMBERS, *([MENTIONS] if wanted else []))
    if not _WORD.search(summary):
        return Grade.unreadable("no words", names)
    document = fields["document"]
    is_short = has_ended and SHORTEST <= len(summary.split()) <= LONGEST
    kept = [is_short, not find_foreign_names(summary, document), not find_foreign_numbers(summary, document)]
    scores = [*map(float, kept)]
    mentioned = 1.0
    if wanted:
        mentioned = sum(any(_holds(summary, each) for each in spellings) for spellings in wanted) / len(wanted)
        scores.append(mentioned)
    extracted = fold_whitespace(summary.encode("utf-8", "backslashreplace").decode("utf-8"))[:400]
    return Grade(mentioned * sum(kept) / len(kept), extracted, dict(zip(names, scores, strict=True)))


def _read_statements(answer: Answer, fields: Mapping[str, Any]) -> Grade | list[Pair]:
    summary = fold_whitespace(answer.text.encode("utf-8", "backslashreplace").decode("utf-8"))[:LONGEST_JUDGED]
    if not _WORD.search(summary):
        return Grade.unreadable("no words", (SAID, AVOIDED))
    return [(summary, statement) for statement in (*fields["must"], *fields.get("must_not", ()))]


def _grade_statements(answer: Answer, fields: Mapping[str, Any], verdicts: Sequence[JudgeVerdict]) -> Grade:
    extracted = fold_whitespace(answer.text.encode("utf-8", "backslashreplace").decode("utf-8"))[:400]
    missing = [verdict for verdict in verdicts if verdict.label is None]
    if missing:
        return Grade.undecided(f"{missing[0].problem} on {len(missing)} of {len(verdicts)} statements", extracted)
    wanted = len(fields["must"])
    said = sum(bool(verdict.label) for verdict in verdicts[:wanted]) / wanted
    wrong = [bool(verdict.label) for verdict in verdicts[wanted:]]
    avoided = 1 - sum(wrong) / len(wrong) if wrong else 1.0
    return Grade(score=said * avoided, extracted=extracted, fields={SAID: said, AVOIDED: avoided})


def _check_statements(fields: Mapping[str, Any]) -> None:
    for name, least in (("must", 1), ("must_not", 0)):
        given = fields.get(name, [] if least == 0 else None)
        is_list = isinstance(given, list | tuple) and len(given) >= least
        if not is_list or not all(isinstance(each, str) and each.strip() for each in given):
            raise ValueError(f"the field {name!r} must be a list of statements, not {given!r}")


SUMMARY = Grader(
    name="summary",
    version=1,
    description="exact checks: length, names and numbers that the text has, times the share of its key words mentioned",
    grade=lambda output, fields: _grade_length(output, fields, has_ended=True),
    grade_cut=lambda output, fields: _grade_length(output, fields, has_ended=False),
)
"""The default: the mean of `length`, `names` and `numbers`, times `mentions` if the item has such.

`length` is 1 with 10 to 60 words, of an output that has come to its end. `names` is 1 if every capitalised word inside
a sentence is in the text, in any case; `numbers` if every number in digits is there, in digits or in words. `mentions`
is the share of the item's names and figures that the summary holds. A false statement made of the text's own names and
numbers passes: see `summary-judge`.
"""

SUMMARY_JUDGE = JudgedGrader(
    name="summary-judge",
    version=1,
    description="a judge's checklist: the share of facts said, times the share of false statements not said",
    check=_check_statements,
    rubric=SAYS_FACT,
    read=_read_statements,
    make=_grade_statements,
)
"""The share of `must` that the summary says (`said`), times the share of `must_not` that it does not (`avoided`).

A judge is asked about each statement alone. If it comes to no verdict on one of them the answer has no score.
"""


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "document")
    require_text(fields, "summary")
    mentions = fields.get("mentions") or []
    if not isinstance(mentions, list | tuple) or not all(
        isinstance(each, list | tuple) and each and all(isinstance(one, str) and one.strip() for one in each)
        for each in mentions
    ):
        raise ValueError(f"the field 'mentions' must be a list of lists of spellings, not {mentions!r}")


TASK = Task(
    name="summary",
    asks="document",
    required_fields=("document", "summary"),
    target=lambda fields: str(fields["summary"]),
    check=_check,
    graders=index_by_name(SUMMARY, SUMMARY_JUDGE),
    default_grader=SUMMARY.name,
    is_bundled=True,
)
"""Summaries; a worked example is shown with its own."""
