"""The same questions in several languages, as choices or as short answers: accuracy by language.

An item has `question`, `aliases` (accepted answers, the best first), `choices`, `answer` (the right one of them), its
language (`category`), and `parallel`: the same text in all items that ask the same in another language. These are
one cluster, and count once in the statistics. Worked examples are in the language of the item.

The grader chooses the request: the model's probabilities of the choices are read, or it writes an answer.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from itertools import dropwhile
from typing import Any

from quantexp.tasks import choice
from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.normalise import answer_line, fold_punctuation, fold_whitespace
from quantexp.tasks.requests import Choose, Generate

ARTICLES: Mapping[str, frozenset[str]] = {
    "English": frozenset({"a", "an", "the"}),
    "German": frozenset({"der", "die", "das", "den", "dem", "des", "ein", "eine", "einen", "einem", "einer"}),
    "French": frozenset({"le", "la", "les", "l", "un", "une", "du", "de", "d", "des"}),
    "Spanish": frozenset({"el", "la", "los", "las", "un", "una", "unos", "unas"}),
    "Italian": frozenset({"il", "lo", "la", "i", "gli", "le", "l", "un", "uno", "una"}),
}
"""Words that may stand before an answer without changing it, after lower-casing, by language."""

UNSPACED = frozenset({"Chinese", "Japanese"})
"""Languages that are written without spaces between words."""

_ARABIC_ARTICLE = re.compile(r"^(?:ال)+(?=\w\w)")
_ARABIC_LETTERS = str.maketrans({**dict.fromkeys("أإآٱ", "ا"), "ى": "ي", "ة": "ه", "ؤ": "و", "ئ": "ي", "ـ": None})
"""Letters that are often written for each other, and the stretching of lines."""

_NO_ANSWER = "empty output"


def normalize_local_answer(text: str, language: str) -> str:
    """Return the normal form in which answers of a language are compared; idempotent.

    Compatible forms of Unicode are one (NFKC), such as full-width letters and decimal digits of all scripts. Case and
    punctuation do not count, nor articles before the answer. In Chinese and Japanese spaces do not count. In Arabic
    vowel signs do not count, nor the forms of alif, ya, and ta marbuta. Accents count.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded = "".join(str(unicodedata.decimal(each, each)) for each in folded)
    words = fold_punctuation(folded).split()
    if language in UNSPACED:
        return unicodedata.normalize("NFKC", "".join(words))  # an accent that stood alone may have a letter now
    if language == "Arabic":
        plain = "".join(each for each in " ".join(words) if unicodedata.category(each) != "Mn")
        return " ".join(_ARABIC_ARTICLE.sub("", word) for word in plain.translate(_ARABIC_LETTERS).split())
    articles = ARTICLES.get(language, frozenset())
    return " ".join(list(dropwhile(articles.__contains__, words)) or words[-1:])


def _read(output: str, fields: Mapping[str, Any]) -> tuple[str, set[str]]:
    """Return an output's answer and the accepted ones, in normal form."""
    language = str(fields["category"])
    line = answer_line(output)[0] or output
    return normalize_local_answer(line, language), {
        normalize_local_answer(each, language) for each in fields["aliases"]
    }


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    answer, accepted = _read(output, fields)
    return Grade.right_or_wrong(answer in accepted, answer) if answer else Grade.unreadable(_NO_ANSWER)


def _grade_contains(output: str, fields: Mapping[str, Any]) -> Grade:
    language = str(fields["category"])
    answer, accepted = _read(output, fields)
    if not answer:
        return Grade.unreadable(_NO_ANSWER)
    if answer in accepted:
        return Grade.right_or_wrong(True, answer, "first line")
    whole = normalize_local_answer(output, language)
    if language in UNSPACED:
        found = any(alias in whole for alias in accepted if not (alias.isascii() and len(alias) < 3))
    else:
        found = any(f" {alias} " in f" {whole} " for alias in accepted)
    return Grade.right_or_wrong(found, whole if found else answer, "mention" if found else None)


LANGUAGES = Grader(
    name="languages",
    version=2,
    description="the first line is an answer in the question's language, whatever case, punctuation and articles",
    grade=_grade,
)
"""Short answers: right when the first line with more than punctuation on it equals an accepted answer.

Both are normalised by the rules of the item's language (`normalize_local_answer`). A right answer in another language
is wrong, unless it is written alike, or in digits.
"""

LANGUAGES_CONTAINS = Grader(
    name="languages-contains",
    version=2,
    description="as languages, or one of the answers occurs in the output: as whole words where words are spaced",
    grade=_grade_contains,
)
"""Lenient, for models that answer in sentences. It cannot tell an answer from a mention.

In Chinese and Japanese an answer may stand anywhere in the output, but for one or two letters or digits of ASCII.
"""

_WRITTEN = index_by_name(LANGUAGES, LANGUAGES_CONTAINS)


def _check(fields: Mapping[str, Any]) -> None:
    for name in ("question", "category", "parallel"):
        require_text(fields, name)
    aliases = fields["aliases"]
    if not isinstance(aliases, list | tuple) or not aliases or not all(_is_line(each) for each in aliases):
        raise ValueError(f"the field 'aliases' must be a list of non-blank texts of one line, not {aliases!r}")
    if choice.list_choices(fields)[choice.find_answer(fields)] != fields["answer"]:
        raise ValueError(f"the field 'answer' must be the text of the right choice, not {fields['answer']!r}")


def _is_line(value: object) -> bool:
    return isinstance(value, str) and bool(fold_whitespace(value)) and "\n" not in value


def _configure(config: Any) -> Task:
    """Return the task with the request that the grader of a `TaskConfig` reads."""
    if config.grader in _WRITTEN:
        return replace(TASK, request=Generate, graders=_WRITTEN, default_grader=LANGUAGES.name)
    return replace(TASK, graders=choice.TASK.graders)


TASK = Task(
    name="languages",
    asks="parallel",
    required_fields=("question", "choices", "answer", "aliases", "category", "parallel"),
    target=lambda fields: str(fields["answer"]),
    check=_check,
    graders={**choice.TASK.graders, **_WRITTEN},
    default_grader=choice.ACC.name,
    request=Choose,
    is_bundled=True,
    examples_by="category",
    configure=_configure,
)
"""Parallel questions; a worked example is shown with its best answer."""
