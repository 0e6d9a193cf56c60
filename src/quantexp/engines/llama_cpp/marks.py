"""Marks of reasoning among the tokens of an output: while it is written, and afterwards."""

from bisect import bisect_left
from collections.abc import Sequence

from quantexp.tasks.reasoning import Mark, Output, ReasoningFormat, Start, find_marks
from quantexp.util.llama_library import llama_cpp, read_piece, tokenize_text


class TokenMarks:
    """The marks of one format in one vocabulary.

    Attributes:
        form: the format.
        forced: the tokens that end reasoning.
    """

    def __init__(self, vocabulary: llama_cpp.llama_vocab_p, form: ReasoningFormat) -> None:
        self._vocabulary = vocabulary
        self.form = form
        found = {mark: find_token(vocabulary, mark) for mark in form.marks}
        self.names = {token: mark for mark, token in found.items() if token is not None}
        self.words = tuple(mark for mark, token in found.items() if token is None)
        self.forced = tokenize_text(vocabulary, form.forced, begin=False, special=True)

    def read(self, tokens: Sequence[int], text: str, start: Start) -> Output:
        """Return an output with its marks.

        Args:
            tokens: all that the model wrote.
            text: their text, which may end earlier, before a stop string.
            start: where the output begins.
        """
        if not self.form.marks:
            return Output(text, (), start, len(tokens))
        marks, written = [], bytearray()
        ends: list[int] = []
        for count, token in enumerate(tokens, 1):
            begin = len(written)
            written += read_piece(self._vocabulary, token)
            ends.append(len(written))
            if token in self.names:
                place, end = (len(written[:at].decode("utf-8", "replace")) for at in (begin, len(written)))
                if end <= len(text):
                    marks.append(Mark(place, end, self.names[token], count))
        for mark in find_marks(text, self.words):
            # In characters: bytes that are none stand in the text as others.
            count = 1 + bisect_left(ends, mark.end, key=lambda end: len(written[:end].decode("utf-8", "replace")))
            marks.append(Mark(mark.start, mark.end, mark.name, count))
        return Output(text, tuple(sorted(marks, key=lambda mark: (mark.start, mark.end))), start, len(tokens))


class Follower:
    """Follows one output while it is written.

    Attributes:
        tokens: number of tokens before the answer, as far as one has begun.
        answer: the byte of the written text at which the answer begins.
    """

    def __init__(self, marks: TokenMarks, start: Start) -> None:
        self._marks, self._tracker = marks, marks.form.track(start)
        self._fed = 0
        self.tokens, self.answer = 0, 0

    def follow(self, token: int, written: bytearray, count: int) -> bool:
        """Take the newest token; whether it belongs to the answer.

        Args:
            token: the newest.
            written: the text of all tokens.
            count: their number.
        """
        if token in self._marks.names:
            self._mark(self._marks.names[token], len(written), count)
        for word in self._marks.words:
            # What was fed before may hold its beginning.
            place = written.find(word.encode(), max(self.answer, self._fed - len(word.encode()) + 1))
            if place >= 0:
                end = place + len(word.encode())
                self._feed(written[self._fed : end])
                self._mark(word, end, count)
        self._feed(written[self._fed :])
        return self._tracker.part == "answer"

    @property
    def is_over(self) -> bool:
        """True if the answer has ended."""
        return self._tracker.is_over

    def _feed(self, written: bytearray) -> None:
        self._tracker.feed(written.decode("utf-8", "replace"))
        self._fed += len(written)

    def _mark(self, name: str, end: int, count: int) -> None:
        if self._tracker.mark(name) != "text":
            self._fed = end
            if self._tracker.part == "answer":
                self.tokens, self.answer = count, end


def find_token(vocabulary: llama_cpp.llama_vocab_p, mark: str) -> int | None:
    """Find the token that is a mark; None if the vocabulary writes it as several, or as text."""
    tokens = tokenize_text(vocabulary, mark, begin=False, special=True)
    if len(tokens) != 1:
        return None
    special = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED
    return tokens[0] if llama_cpp.llama_vocab_get_attr(vocabulary, tokens[0]) & special else None
