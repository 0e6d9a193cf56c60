"""Words, sentences, lines and list entries of a text, as all constraints count them."""

import re

_LIST_MARK = re.compile(r"[ \t]*+(?:[-*+•–]|\d{1,3}[.)])[ \t]++(?=\S)")
_BULLET = re.compile(r"[ \t]*+[-*+•–][ \t]++(?=\S)")
_SENTENCE_END = re.compile(r"(?<![.!?…。！？])[.!?…。！？]++[\"'”’»)\]*_]*+(?=\s|\Z)")
_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|e\.g|i\.e|P\.S|[A-HJ-Z])\.\Z")
"""An abbreviation after which the sentence goes on, or an initial."""
_SHORTENED = re.compile(r"\b(?:etc|approx|a\.m|p\.m|Jr|Sr)\.\Z")
"""One that may be the last word: the sentence goes on if the next begins with a small letter."""
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")


def remove_list_mark(line: str) -> str:
    """Return a line without the bullet or number with which it begins as an entry of a list."""
    mark = _LIST_MARK.match(line)
    return line[mark.end() :] if mark else line.strip()


def is_entry(line: str) -> bool:
    """Return whether a line is an entry of a list, with a bullet or a number."""
    return _LIST_MARK.match(line) is not None


def is_bullet(line: str) -> bool:
    """Return whether a line is an entry with a bullet."""
    return _BULLET.match(line) is not None


def list_lines(text: str) -> list[str]:
    """Return the lines that are not blank."""
    return [line for line in text.splitlines() if line.strip()]


def list_words(text: str) -> list[str]:
    """Return the words: what stands between white space and holds a letter or digit, without punctuation around it.

    "well-known" is one word, and the number of a list's entry none.
    """
    tokens = [token for line in text.splitlines() for token in remove_list_mark(line).split()]
    return [word for token in tokens if (word := _trim(token))]


def _trim(token: str) -> str:
    """Return a token without what stands before its first letter or digit, and after its last."""
    first, last = _LETTER_OR_DIGIT.search(token), _LETTER_OR_DIGIT.search(token[::-1])
    return token[first.start() : len(token) - last.start()] if first and last else ""


def list_paragraphs(text: str) -> list[str]:
    """Return the paragraphs: what blank lines keep apart."""
    return [part for part in re.split(r"\n[ \t]*+\n", text.strip()) if part.strip()]


def list_sentences(text: str) -> list[str]:
    """Return the sentences, with their end marks.

    Each ends with a full stop, question or exclamation mark before white space, with its paragraph, or with its entry
    of a list. Common abbreviations and initials ("Mr.", "e.g.", "J.") end none.
    """
    found: list[str] = []
    for block in _list_blocks(text):
        start = 0
        for end in _SENTENCE_END.finditer(block):
            if not _goes_on(block, end.end()):
                found.append(block[start : end.end()].strip())
                start = end.end()
        found.append(block[start:].strip())
    return [sentence for sentence in found if _LETTER_OR_DIGIT.search(sentence)]


def _goes_on(block: str, place: int) -> bool:
    """Return whether a sentence goes on after a full stop."""
    before, after = block[max(0, place - 8) : place], block[place : place + 2].strip()
    if not after:
        return False
    return bool(_TITLE.search(before)) or (bool(_SHORTENED.search(before)) and after.islower())


def _list_blocks(text: str) -> list[str]:
    """Return paragraphs and entries of lists, each as one line."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if not line.strip():
            blocks.append([])
        elif is_entry(line):
            blocks.append([remove_list_mark(line)])
        else:
            blocks[-1].append(line.strip())
    return [" ".join(lines) for lines in blocks if lines]


def fold_quotes(text: str) -> str:
    """Return the text with straight quotation marks and single spaces."""
    return " ".join(text.translate(_STRAIGHT).split())


_STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})
