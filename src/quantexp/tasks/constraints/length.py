"""Constraints on lengths: of the text, and of its lines, sentences and words."""

from collections.abc import Callable, Sequence

from quantexp.tasks.constraints.base import RANGE, Arguments, Kind, counting, is_within
from quantexp.tasks.constraints.measures import list_lines, list_paragraphs, list_sentences, list_words


def _for_each(name: str, description: str, parts: Callable[[str], Sequence[str]], size: Callable[[str], int]) -> Kind:
    """Return a kind that bounds the size of each part of a text; there has to be one."""

    def keeps(text: str, arguments: Arguments) -> bool:
        sizes = [size(part) for part in parts(text)]
        return bool(sizes) and all(is_within(each, arguments) for each in sizes)

    return Kind(name, description, keeps, RANGE)


def _count_words(text: str) -> int:
    return len(list_words(text))


KINDS = (
    counting("words", "so many words", _count_words),
    counting("characters", "so many characters, white space around the text aside", lambda text: len(text.strip())),
    counting("sentences", "so many sentences", lambda text: len(list_sentences(text))),
    counting(
        "paragraphs", "so many paragraphs, with blank lines between them", lambda text: len(list_paragraphs(text))
    ),
    counting("lines", "so many lines, blank ones aside", lambda text: len(list_lines(text))),
    _for_each("words_per_line", "so many words in each line", list_lines, _count_words),
    _for_each("words_per_sentence", "so many words in each sentence", list_sentences, _count_words),
    _for_each("words_per_paragraph", "so many words in each paragraph", list_paragraphs, _count_words),
    _for_each(
        "sentences_per_paragraph",
        "so many sentences in each paragraph",
        list_paragraphs,
        lambda part: len(list_sentences(part)),
    ),
    _for_each("word_length", "so many letters in each word", list_words, lambda word: sum(map(str.isalpha, word))),
)
