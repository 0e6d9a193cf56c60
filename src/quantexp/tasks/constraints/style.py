"""Constraints on style: letter case, punctuation, beginnings and endings, language."""

import re
from collections.abc import Callable, Mapping

from quantexp.tasks.constraints.base import CHARACTERS, TEXT, Arguments, Kind, counting, one_of
from quantexp.tasks.constraints.language import LANGUAGES, is_written_in
from quantexp.tasks.constraints.measures import fold_quotes, list_lines, list_sentences, list_words, remove_list_mark

_PARENTHESES = re.compile(r"\([^()]++\)")
_CLOSING = "\"'*_)] "
_OPENING, _STOP = '"*_# ', '"*_. '
"""What may stand before a beginning that was asked for, and after such an end."""


_CASES: Mapping[str, Callable[[str], bool]] = {
    "lower": lambda text: text == text.lower(),
    "upper": lambda text: text == text.upper(),
    "title": lambda text: all(not word[0].isalpha() or word[0].isupper() for word in list_words(text)),
}


def _keeps_case(text: str, arguments: Arguments) -> bool:
    return any(map(str.isalpha, text)) and _CASES[arguments["case"]](text)


def _count_capitals(text: str) -> int:
    return sum(sum(map(str.isalpha, word)) > 1 and word == word.upper() for word in list_words(text))


def _count_parentheses(text: str) -> int:
    return sum(any(map(str.isalnum, remark)) for remark in _PARENTHESES.findall(text))


def _keeps_without(text: str, arguments: Arguments) -> bool:
    return set(arguments["characters"]).isdisjoint(text)


def _keeps_begins(text: str, arguments: Arguments) -> bool:
    return fold_quotes(text).casefold().lstrip(_OPENING).startswith(fold_quotes(arguments["text"]).casefold())


def _keeps_ends(text: str, arguments: Arguments) -> bool:
    wanted = fold_quotes(arguments["text"]).casefold().rstrip(_STOP)
    return fold_quotes(text).casefold().rstrip(_STOP).endswith(wanted)


def _keeps_quoted(text: str, arguments: Arguments) -> bool:
    folded = fold_quotes(text)
    return len(folded) > 2 and folded[0] == folded[-1] == '"'


def _keeps_postscript(text: str, arguments: Arguments) -> bool:
    """Look for a last paragraph or line that begins with the marker and goes on."""
    lines = [line.strip("*_ ") for line in list_lines(text)]
    marked = [line for line in lines[1:] if line.startswith(arguments["marker"])]
    return len(marked) == 1 and bool(list_words(marked[0].removeprefix(arguments["marker"])))


def _keeps_language(text: str, arguments: Arguments) -> bool:
    return is_written_in(text, arguments["language"])


def _keeps_sentence_ends(text: str, arguments: Arguments) -> bool:
    sentences = list_sentences(text)
    return bool(sentences) and all(each.rstrip(_CLOSING).endswith(arguments["mark"]) for each in sentences)


def _keeps_line_begins(text: str, arguments: Arguments) -> bool:
    begins = fold_quotes(arguments["text"]).casefold()
    lines = [fold_quotes(remove_list_mark(line)).casefold() for line in list_lines(text)]
    return bool(lines) and all(line.startswith(begins) for line in lines)


def _keeps_line_ends(text: str, arguments: Arguments) -> bool:
    ends = fold_quotes(arguments["text"]).casefold()
    lines = [fold_quotes(line).casefold() for line in list_lines(text)]
    return bool(lines) and all(line.endswith(ends) for line in lines)


KINDS = (
    Kind("case", "letters of this case", _keeps_case, {"case": one_of(*_CASES)}),
    counting("capitals", "so many words in CAPITALS", _count_capitals),
    Kind("without", "none of these characters", _keeps_without, {"characters": CHARACTERS}),
    Kind("begins", "this beginning, letter case and quotation marks aside", _keeps_begins, {"text": TEXT}),
    Kind("ends", "this end, letter case, quotation marks and a full stop aside", _keeps_ends, {"text": TEXT}),
    Kind("quoted", "double quotation marks around the whole", _keeps_quoted),
    Kind("postscript", "a postscript after this marker", _keeps_postscript, {"marker": TEXT}),
    Kind("language", "this language", _keeps_language, {"language": one_of(*LANGUAGES)}),
    Kind("sentence_ends", "sentences that all end with this mark", _keeps_sentence_ends, {"mark": TEXT}),
    counting("parentheses", "so many remarks in (parentheses)", _count_parentheses),
    Kind("line_begins", "lines that all begin so, letter case aside", _keeps_line_begins, {"text": TEXT}),
    Kind("line_ends", "lines that all end so, letter case aside", _keeps_line_ends, {"text": TEXT}),
)
