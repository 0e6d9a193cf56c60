"""Constraints on words and letters: which must be there, which must not, how often, in which order."""

import re

from quantexp.tasks.constraints.base import (
    LETTER,
    LETTERS,
    RANGE,
    TEXT,
    TEXTS,
    Arguments,
    Kind,
    counting,
    is_within,
    one_of,
)
from quantexp.tasks.constraints.measures import fold_quotes, is_entry, list_lines, list_words, remove_list_mark

_DIGITS = re.compile(r"\d++(?:[.,:]\d++)*+")


def _find_all(words: str, text: str) -> list[int]:
    """Return the places of words in a text, as whole words, letter case aside."""
    pattern = rf"(?<!\w){re.escape(fold_quotes(words))}(?!\w)"
    return [found.start() for found in re.finditer(pattern, fold_quotes(text), re.IGNORECASE)]


def _keeps_include(text: str, arguments: Arguments) -> bool:
    return all(_find_all(words, text) for words in arguments["words"])


def _keeps_exclude(text: str, arguments: Arguments) -> bool:
    return not any(_find_all(words, text) for words in arguments["words"])


def _keeps_frequency(text: str, arguments: Arguments) -> bool:
    return is_within(len(_find_all(arguments["word"], text)), arguments)


def _keeps_letter_frequency(text: str, arguments: Arguments) -> bool:
    return is_within(text.casefold().count(arguments["letter"].casefold()), arguments)


def _keeps_without_letters(text: str, arguments: Arguments) -> bool:
    return set(arguments["letters"].casefold()).isdisjoint(text.casefold())


def _count_numbers(text: str) -> int:
    return sum(len(_DIGITS.findall(remove_list_mark(line))) for line in list_lines(text))


def _keeps_one_of(text: str, arguments: Arguments) -> bool:
    return _bare(text) in set(map(_bare, arguments["options"]))


def _bare(text: str) -> str:
    """Return a text without letter case, and without quotation marks, asterisks and full stops around it."""
    return fold_quotes(text).strip("\"'*. ").casefold()


def _keeps_order(text: str, arguments: Arguments) -> bool:
    """Compare the places at which the words stand first."""
    found = [_find_all(words, text) for words in arguments["words"]]
    if not all(found):
        return False
    firsts = [places[0] for places in found]
    return firsts == sorted(set(firsts))


def _list_entries(text: str, of: str) -> list[str]:
    """Return the entries of a list; of text without one, its lines."""
    if of == "commas":
        return [entry.strip(" .\n") for entry in text.split(",")]
    lines = list_lines(text)
    entries = [line for line in lines if is_entry(line)] or lines
    return [remove_list_mark(line).strip("*_ ") for line in entries]


def _keeps_sorted(text: str, arguments: Arguments) -> bool:
    entries = _list_entries(text, arguments["of"])
    by = arguments["by"]
    if len(entries) < 2:
        return False
    if by == "length":
        lengths = list(map(len, entries))
        return lengths == sorted(lengths)
    folded = [entry.casefold() for entry in entries]
    return folded == sorted(folded, reverse=by == "alphabet reversed")


def _keeps_acrostic(text: str, arguments: Arguments) -> bool:
    firsts = [next(filter(str.isalpha, remove_list_mark(line)), "") for line in list_lines(text)]
    word: str = arguments["word"]
    return "".join(firsts).casefold() == word.casefold()


def _keeps_distinct(text: str, arguments: Arguments) -> bool:
    words = [word.casefold() for word in list_words(text)]
    return bool(words) and len(set(words)) == len(words)


def _keeps_initial(text: str, arguments: Arguments) -> bool:
    words = list_words(text)
    return bool(words) and all(word.casefold().startswith(arguments["letter"].casefold()) for word in words)


KINDS = (
    Kind("include", "all of these words", _keeps_include, {"words": TEXTS}),
    Kind("exclude", "none of these words", _keeps_exclude, {"words": TEXTS}),
    Kind("frequency", "a word so many times", _keeps_frequency, {**RANGE, "word": TEXT}),
    Kind("letter_frequency", "a letter so many times", _keeps_letter_frequency, {**RANGE, "letter": LETTER}),
    Kind("without_letters", "none of these letters", _keeps_without_letters, {"letters": LETTERS}),
    counting("numbers", "so many numbers in digits, those of a numbered list aside", _count_numbers),
    Kind("one_of", "one of these answers and nothing else", _keeps_one_of, {"options": TEXTS}),
    Kind("order", "these words, first used in this order", _keeps_order, {"words": TEXTS}),
    Kind(
        "sorted",
        "a list in order",
        _keeps_sorted,
        {"by": one_of("alphabet", "alphabet reversed", "length"), "of": one_of("lines", "commas")},
    ),
    Kind("acrostic", "lines whose first letters spell a word", _keeps_acrostic, {"word": LETTERS}),
    Kind("distinct", "no word twice", _keeps_distinct),
    Kind("initial", "words that all begin with a letter", _keeps_initial, {"letter": LETTER}),
)
