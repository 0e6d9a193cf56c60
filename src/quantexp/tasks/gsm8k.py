"""GSM8K: grade-school word problems whose answer is one number.

An item has `question` and `answer`, the worked solution ending in a line "#### N". Dataset:
Cobbe et al. 2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168. The
8,792 published answers are all integers, some with thousands commas or a minus sign.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from quantexp.tasks.base import Task, by_name, require_text
from quantexp.tasks.grading import Grade, Grader

_MARKER = re.compile("#{4,}")
"""Precedes the final number in every published solution, as "#### N"."""

_WINDOW = 200
"""Characters read after a marker: more than any final number with its decoration needs."""

_BOX_WINDOW = 1000
"""Characters searched for the end of a box."""

_NUMBER = re.compile(
    r"""
    (?P<minus>(?<![\w)\]}%])[-\u2212\u2013])?         # 10-15 is a range or a difference: no sign
    (?:[$£€¥₹][ ]?(?P<minus_after>[-\u2212\u2013])?)?  # -$5 and $-5
    (?<![0-9])(?<!\^)(?<!\^\{)(?<![A-Za-z0-9}]_)      # not the 2 of m^2, m^{2} or x_2
    (?P<whole>[0-9]{1,3}(?:,[0-9]{3}(?![0-9]))+|[0-9]+|(?<![\w.])(?=\.[0-9]))
    (?P<decimals>\.[0-9]+)?
    (?P<fraction>(?:[ ][0-9]{1,9})?/[0-9]{1,9}(?![0-9]))?
    """,
    re.VERBOSE,
)
"""A number with what people put around it. No part can backtrack over unbounded text."""

_DECORATION = r"""[\s*_`"'~(\[{:=≈\\$]{0,12}"""
_SLOT = re.compile(rf"{_DECORATION}(?:(?:the[ ])?(?:final[ ])?answer(?:[ ]is)?)?{_DECORATION}", re.IGNORECASE)
"""What may stand between "####" and its number: "#### **$18**", "#### The answer is 18"."""

_CALCULATION = re.compile(r"\s{0,3}(?:=|[-+*/×÷·x\u2212]\s{0,3}[0-9$(])")
"""What follows the first number of "#### 9 * 2 = 18"."""

_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{([0-9]{1,9})\}\{([0-9]{1,9})\}")


def _plain(text: str) -> str:
    r"""Undo the LaTeX that splits numbers: `1{,}080`, `1,\!080`, `\$5`, `\frac{1}{2}`."""
    text = text.replace("{,}", ",").replace(r"\!", "").replace(r"\$", "$")
    return _LATEX_FRACTION.sub(r" \1/\2", text)


def _canonical(match: re.Match[str]) -> str:
    """The number in the one form all its spellings share: "-1,080.50" becomes "-1080.5".

    Two decimals are equal exactly when their canonical forms are, at any length. A fraction is
    kept as written: it equals only itself.
    """
    whole = match["whole"].replace(",", "").lstrip("0") or "0"
    decimals = (match["decimals"] or "").rstrip("0").rstrip(".")
    number = f"{whole}{decimals}{match['fraction'] or ''}"
    negative = bool(match["minus"]) != bool(match["minus_after"])
    return f"-{number}" if negative and number != "0" else number


def _number_at(text: str) -> str | None:
    """The number `text` starts with, decoration aside; the result if a calculation starts there."""
    line = text.lstrip().partition("\n")[0]
    slot = _SLOT.match(line)
    found = _NUMBER.match(line, slot.end() if slot else 0)
    if found is None:
        return None
    if _CALCULATION.match(line, found.end()):
        result = line.rpartition("=")[2]
        slot = _SLOT.match(result)
        found = _NUMBER.match(result, slot.end() if slot else 0) or found
    return _canonical(found)


def _number_after_marker(text: str) -> str | None:
    """The number after the first "####" that has one.

    The first, so that a model running on ("#### 18", then "Question 2: ... #### 7") is held to
    its own answer; and one that has a number, so that a heading ("#### Solution") is passed over.
    """
    for marker in _MARKER.finditer(text):
        number = _number_at(text[marker.end() : marker.end() + _WINDOW])
        if number is not None:
            return number
    return None


def _number_in_box(text: str) -> str | None:
    r"""The number in the last `\boxed{...}`; after its last "=" if it has one."""
    _, box, rest = text.rpartition(r"\boxed{")
    if not box:
        return None
    depth = 1
    content = rest[:_BOX_WINDOW]
    for position, character in enumerate(content):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            content = content[:position]
            break
    found = _NUMBER.search(content.rpartition("=")[2])
    return _canonical(found) if found else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match, without keeping the others."""
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _last_number(text: str) -> str | None:
    found = _last(_NUMBER, text)
    return _canonical(found) if found else None


def _gold(fields: Mapping[str, Any]) -> str | None:
    return _number_after_marker(_plain(fields["answer"]))


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    text = _plain(output)
    number = _number_after_marker(text) or _number_in_box(text) or _last_number(text)
    if number is None:
        return Grade.unreadable("no number")
    return Grade.right_or_wrong(number == _gold(fields), number)


def _grade_strict(output: str, fields: Mapping[str, Any]) -> Grade:
    number = _number_after_marker(_plain(output))
    if number is None:
        return Grade.unreadable("no number after ####")
    return Grade.right_or_wrong(number == _gold(fields), number)


# The two filters of lm-evaluation-harness, lm_eval/tasks/gsm8k/gsm8k.yaml, task version 3.
_LM_EVAL_STOPS = ("Question:", "</s>", "<|im_end|>")
_LM_EVAL_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_LM_EVAL_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def _lm_eval_normalize(text: str) -> str:
    """Its `regexes_to_ignore`, in order: commas, "$", all up to the last "#### ", a final stop."""
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]
    return re.sub(r"\.$", "", text).lower()


def _lm_eval_generated(output: str) -> str:
    """The part of `output` that lm-eval's stop sequences would have let the model write."""
    for stop in _LM_EVAL_STOPS:
        output = output.partition(stop)[0]
    return output


def _lm_eval_grade(number: str | None, fields: Mapping[str, Any]) -> Grade:
    if number is None:
        return Grade.unreadable("[invalid]")
    read = _lm_eval_normalize(number)
    return Grade.right_or_wrong(read == _lm_eval_normalize(fields["answer"]), read)


def _grade_lm_eval_strict(output: str, fields: Mapping[str, Any]) -> Grade:
    found = _LM_EVAL_STRICT.search(_lm_eval_generated(output))
    return _lm_eval_grade(found[1] if found else None, fields)


def _grade_lm_eval_flexible(output: str, fields: Mapping[str, Any]) -> Grade:
    found = _last(_LM_EVAL_FLEXIBLE, _lm_eval_generated(output))
    return _lm_eval_grade(found[0] if found else None, fields)


GSM8K = Grader(
    name="gsm8k",
    version=1,
    description="the number after the first ####, else in the last box, else the last number",
    grade=_grade,
)
r"""The default: right when the number read equals the gold number.

The number is the one after the first "####" that has one, else the one in the last
`\boxed{...}`, else the last in the text. Read are thousands commas, currency signs before or
after, signs (also the Unicode minus), decimals, per cent signs, Markdown bold, LaTeX `\$` and
`1{,}080`; what follows the number (a full stop, a unit, text) does not matter. Equality is
that of decimals: 18 = 18.00. After "####" a calculation counts as its result ("#### 9 * 2 =
18" is 18), and a fraction as itself: "7/14" is neither 7 nor 14. Not read: number words,
scientific notation, decimal commas, "2 million" (2) and "5k" (5).

An "answer is ..." rule was tried and left out: on the graded solutions below it changes nothing,
and it can only misread ("the answer: 3 boxes at ...").

On the 5,276 solutions by four models published with GSM8K (`example_model_solutions.jsonl`),
the grade agrees with the published one on 5,276, and all 8,792 gold answers are read.
"""

GSM8K_STRICT = Grader(
    name="gsm8k-strict",
    version=1,
    description="the number after the first ####, and nowhere else",
    grade=_grade_strict,
)
"""As `gsm8k`, but an output without "####" and a number after it is wrong.

It measures following the format and solving the problem together.
"""

LM_EVAL_STRICT = Grader(
    name="lm-eval-strict",
    version=1,
    description="strict-match of lm-evaluation-harness, gsm8k version 3",
    grade=_grade_lm_eval_strict,
)
"""A cross-check: the filter `strict-match` of lm-evaluation-harness and its exact_match.

The output is first cut where that task's stop sequences would have ended it. Known to miss:
"#### $18", "####18", "#### **18**", "#### 18.00".
"""

LM_EVAL_FLEXIBLE = Grader(
    name="lm-eval-flexible",
    version=1,
    description="flexible-extract of lm-evaluation-harness, gsm8k version 3",
    grade=_grade_lm_eval_flexible,
)
"""A cross-check: the filter `flexible-extract` of lm-evaluation-harness and its exact_match.

The output is first cut where that task's stop sequences would have ended it. Known to misread:
"18 eggs..." (it reads the dots), "$29.00" (not equal to 29), a run-on after "#### 18".
"""


def _target(fields: Mapping[str, Any]) -> str:
    answer: str = fields["answer"]
    return answer


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "question")
    answer = require_text(fields, "answer")
    if _number_after_marker(_plain(answer)) is None:
        raise ValueError(
            f"the field 'answer' must end with a line '#### N' where N is a number, but it ends with {answer[-40:]!r}"
        )


TASK = Task(
    name="gsm8k",
    asks="question",
    required_fields=("question", "answer"),
    target=_target,
    check=_check,
    graders=by_name(GSM8K, GSM8K_STRICT, LM_EVAL_STRICT, LM_EVAL_FLEXIBLE),
    default_grader=GSM8K.name,
)
"""GSM8K; a worked example is shown with its whole worked answer."""
