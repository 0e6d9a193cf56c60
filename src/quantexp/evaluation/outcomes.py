"""Outcomes of an answer besides its score: how it ended, whether it degenerated, and how long it is.

They move before accuracy does where a quant is too small. All are functions of one output.
"""

import re
from collections import Counter
from collections.abc import Mapping
from math import nan

from quantexp.tasks.graders.base import ENDED_IN_REASONING, UNFINISHED, Answer, Grade

LONGEST_UNIT = 200
"""Characters of a text that is repeated, at most."""

TIMES = 3
"""So often the text stands at the end of a loop, at least."""

SHORTEST_LOOP = 120
"""Characters of a loop, at least: rulers and rows of a table are no loops."""

LOOKED_AT = 4 * LONGEST_UNIT
"""Characters of the end in which a loop is looked for."""

OTHER_SCRIPT = 0.05
"""So large a share of an answer's letters is of a script that the prompt does not use, at least."""

_SCRIPTS = {
    "Latin": r"A-Za-zÀ-ɏ",
    "Cyrillic": r"\u0400-\u052f",
    "Hebrew": r"\u0590-\u05ff",
    "Arabic": r"\u0600-\u06ff\u0750-\u077f",
    "Indic": r"\u0900-\u0dff",
    "Thai": r"\u0e00-\u0e7f",
    "Hangul": r"\u1100-\u11ff\uac00-\ud7af",
    "Kana": r"\u3040-\u30ff",
    "Han": r"\u3400-\u4dbf\u4e00-\u9fff",
}
"""Scripts by their letters; Greek, which stands for numbers and angles in any language, is none of them."""

_LETTERS = re.compile("|".join(f"(?P<{name}>[{letters}]+)" for name, letters in _SCRIPTS.items()))


def list_outcomes(answer: Answer, grade: Grade, prompt: str, tokens: int) -> dict[str, float]:
    """List the outcomes of an answer, 1 where it is so and 0 where not, and its lengths.

    Args:
        answer: as it was read.
        grade: of it.
        prompt: what was asked.
        tokens: number of tokens of the output.

    Returns:
        `truncated`: cut off within the answer. `ended_in_reasoning`: no answer was begun. `loop`: reasoning or answer
        ends in a loop. `empty`: an answer of white space. `unreadable`: an answer with words from which the grader
        read nothing, though it had come to its end. `other_script`: an answer in letters of another script than the
        prompt's. `reasoning_tokens`, `answer_tokens`: lengths, NaN if nobody counted the reasoning apart.
    """
    is_empty = not answer.ended_in_reasoning and not answer.text.strip()
    reasoning = answer.reasoning_tokens
    unread = grade.error is not None and grade.error not in (UNFINISHED, ENDED_IN_REASONING) and not answer.is_cut
    return {
        "truncated": float(answer.is_cut and not answer.ended_in_reasoning),
        "ended_in_reasoning": float(answer.ended_in_reasoning),
        "loop": float(ends_in_loop(answer.text) or ends_in_loop(answer.reasoning)),
        "empty": float(is_empty),
        "unreadable": float(unread and not is_empty),
        "other_script": float(has_other_script(answer.text, prompt)),
        "reasoning_tokens": nan if reasoning is None else float(reasoning),
        "answer_tokens": nan if reasoning is None else float(tokens - reasoning),
    }


def ends_in_loop(text: str) -> bool:
    """Tell if a text ends in a short text that is repeated again and again, to the letter.

    That is, if for some n its last characters, `SHORTEST_LOOP` or more and n times `TIMES` or more, are the same as
    those n before them; n is at most `LONGEST_UNIT`. Found by the prefix function of Knuth, Morris and Pratt (1977) on
    the reversed end, in linear time.
    """
    end = text.rstrip()[-LOOKED_AT:][::-1]
    if len(end) < SHORTEST_LOOP:
        return False
    borders = [0] * len(end)
    for place in range(1, len(end)):
        border = borders[place - 1]
        while border and end[place] != end[border]:
            border = borders[border - 1]
        borders[place] = border + (end[place] == end[border])
        length, unit = place + 1, place + 1 - borders[place]
        if length >= max(SHORTEST_LOOP, TIMES * unit) and unit <= LONGEST_UNIT:
            return True
    return False


def has_other_script(answer: str, prompt: str) -> bool:
    """Tell if a part of an answer that counts is in letters of a script of which the prompt has none."""
    written, asked = _count_letters(answer), _count_letters(prompt)
    foreign = sum(count for script, count in written.items() if script not in asked)
    return bool(asked) and foreign > 0 and foreign >= OTHER_SCRIPT * sum(written.values())


def _count_letters(text: str) -> Mapping[str, int]:
    """Count the letters of each script."""
    counts: Counter[str] = Counter()
    for found in _LETTERS.finditer(text):
        counts[str(found.lastgroup)] += len(found[0])
    return counts
