"""Text normalisation shared by the graders. Every function here is idempotent."""

import re
import string
import unicodedata

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")

PUNCTUATION = string.punctuation + "‘’´`"
"""What TriviaQA ignores: ASCII punctuation, curly quotes and the acute accent standing alone."""

_PUNCTUATION_TO_SPACE = str.maketrans(dict.fromkeys(PUNCTUATION, " "))


def fold_whitespace(text: str) -> str:
    """Trim, and turn every run of white space into one space."""
    return " ".join(text.split())


def fold_words(text: str) -> str:
    """Return the words of `text`: lower case, punctuation (see PUNCTUATION) turned into spaces."""
    return fold_whitespace(text.lower().translate(_PUNCTUATION_TO_SPACE))


def normalize_answer(text: str) -> str:
    """Return the normal form in which TriviaQA compares answers.

    Lower case; punctuation becomes a space; the words a, an and the are dropped; white space is
    folded. Accents and non-ASCII dashes stay, as they do upstream. May be empty ("The A!").

    Source: `normalize_answer` in evaluation/triviaqa_evaluation.py of mandarjoshi90/triviaqa.
    """
    return fold_whitespace(_ARTICLE.sub(" ", fold_words(text)))


class _SpacesForPunctuation(dict[int, int | None]):
    """A translation table that turns Unicode's punctuation into spaces and drops invisible characters."""

    def __missing__(self, code: int) -> int | None:
        category = unicodedata.category(chr(code))
        self[code] = ord(" ") if category[0] == "P" else None if category == "Cf" else code
        return self[code]


_SPACES_FOR_PUNCTUATION = _SpacesForPunctuation()


def fold_punctuation(text: str) -> str:
    """Turn all punctuation of Unicode into spaces, and drop invisible characters such as the soft hyphen.

    “Spider‑Man…” becomes " Spider Man  ": quotation marks and dashes of every script, ellipses, bullets.
    """
    return text.translate(_SPACES_FOR_PUNCTUATION)


def answer_line(output: str) -> tuple[str, bool]:
    """Find the answer of an output: its first line with more than punctuation on it.

    Returns:
        The line, empty where there is none, and whether it has ended.
    """
    lines = output.split("\n")
    number = next((number for number, line in enumerate(lines) if fold_punctuation(line).strip()), None)
    return ("", False) if number is None else (lines[number], number + 1 < len(lines))


def normalize_unicode_answer(text: str) -> str:
    """Normalise an answer as `normalize_answer` does, but by the punctuation of Unicode.

    Of articles or punctuation only, the gentlest form is left: no answer but an empty one equals nothing.
    """
    folded = fold_punctuation(text)
    return normalize_answer(folded) or fold_words(folded) or fold_whitespace(text)


def normalize_name(text: str) -> str:
    """Return the normal form in which names are compared: canonical Unicode, no case, folded spaces.

    "José  PÉREZ" and "jose\u0301 pérez" agree; "Jose" and "José" do not.

    Source: canonical caseless matching, Unicode Standard section 3.13, definition D145, kept
    in NFC.
    """
    folded = unicodedata.normalize("NFD", text).casefold()
    return fold_whitespace(unicodedata.normalize("NFC", folded))
