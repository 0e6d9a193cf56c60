"""GSM8K: grade-school word problems whose answer is one number.

An item has `question` and `answer`: the number, or the worked solution ending in a line "#### N". Dataset: Cobbe et al.
2021, "Training Verifiers to Solve Math Word Problems", arXiv:2110.14168. The 8,792 published answers are all integers,
some with thousands commas or a minus sign. Others of the kind, such as SVAMP and MGSM, have the bare number.
"""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any

from quantexp.tasks import gsm8k_first
from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.final_number import Reading, read_final_number, read_finished_number, read_marked_number
from quantexp.tasks.graders.base import UNFINISHED, Grade, Grader
from quantexp.tasks.numbers import format_number, is_same_number, read_quantity

_MARKER = re.compile("#{4,}")

_NO_NUMBER, _NO_MARKER = "no number", "no number after ####"


def _gold(fields: Mapping[str, Any]) -> str:
    """Return the gold number, canonical.

    Raises:
        ValueError: there is none, or one that could mean another.
    """
    answer = fields["answer"]
    number = read_quantity(format_number(answer) or _MARKER.split(require_text(fields, "answer"))[-1])
    if number is None:
        raise ValueError(
            "the field 'answer' must be a number, or end in a line '#### N' where N is one, as in 18, -18, 18.5, 1,080 "
            f"or 1/2, but it ends with {str(answer)[-40:]!r}"
        )
    return number


def _graded(reading: Reading | None, fields: Mapping[str, Any], error: str) -> Grade:
    if reading is None or reading.value is None:
        return Grade.unreadable(error)
    return Grade.right_or_wrong(is_same_number(reading.value, _gold(fields)), reading.value, reading.rule)


def _grade_first(output: str, fields: Mapping[str, Any]) -> Grade:
    read = gsm8k_first.final_number(output)
    if read is None:
        return Grade.unreadable(_NO_NUMBER)
    number, rule = read
    return Grade.right_or_wrong(number == _gold(fields), number, rule)


def _grade_strict_first(output: str, fields: Mapping[str, Any]) -> Grade:
    number = gsm8k_first.find_marked_number(output)
    if number is None:
        return Grade.unreadable(_NO_MARKER)
    return Grade.right_or_wrong(number == _gold(fields), number, "marker")


# The two filters of lm-evaluation-harness, lm_eval/tasks/gsm8k/gsm8k.yaml, task version 3.
_LM_EVAL_STOPS = ("Question:", "</s>", "<|im_end|>")
_LM_EVAL_STRICT = re.compile(r"#### (-?[0-9.,]+)")
_LM_EVAL_FLEXIBLE = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def _lm_eval_normalize(text: str) -> str:
    """Its `regexes_to_ignore`, in order: commas, "$", all up to the last "#### ", a final stop."""
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]
    return re.sub(r"\.$", "", text).lower()


def _lm_eval_generated(output: str) -> str:
    """Return the part of `output` that lm-eval's stop sequences would have let the model write."""
    for stop in _LM_EVAL_STOPS:
        output = output.partition(stop)[0]
    return output


def _lm_eval_grade(number: str | None, fields: Mapping[str, Any], rule: str) -> Grade:
    if number is None:
        return Grade.unreadable("[invalid]")
    read = _lm_eval_normalize(number)
    answer = fields["answer"]
    gold = answer if isinstance(answer, str) else _gold(fields)
    return Grade.right_or_wrong(read == _lm_eval_normalize(gold), read, rule)


def _grade_lm_eval_strict(output: str, fields: Mapping[str, Any]) -> Grade:
    found = _LM_EVAL_STRICT.search(_lm_eval_generated(output))
    return _lm_eval_grade(found[1] if found else None, fields, "marker")


def _grade_lm_eval_flexible(output: str, fields: Mapping[str, Any]) -> Grade:
    found = deque(_LM_EVAL_FLEXIBLE.finditer(_lm_eval_generated(output)), maxlen=1)  # the last, without the others
    return _lm_eval_grade(found[0][0] if found else None, fields, "last number")


GSM8K = Grader(
    name="gsm8k",
    version=2,
    description="the number after ####, else in a box, else of an answer line, else the last one, of finished answers",
    grade=lambda output, fields: _graded(read_final_number(output), fields, _NO_NUMBER),
    grade_cut=lambda output, fields: _graded(read_finished_number(output), fields, UNFINISHED),
)
r"""The default: right when the number read equals the gold number.

`read_final_number` says where it is looked for, `numbers` how it is read: thousands commas and spaces, currency
signs before or after, signs (also the Unicode minus), decimals, per cent signs, exponents, "2 million" and "5k",
Markdown bold, LaTeX `\$` and `1{,}080`; what follows the number (a full stop, a unit, text) does not matter. Equality
is that of decimals: 18 = 18.00; fractions are compared exactly: 1/2 = 0.5. After "####" a calculation counts as its
result ("#### 9 * 2 = 18" is 18), and "- 18" is negative. A decimal comma, a ratio or a time of the day in the number's
place makes the answer unreadable ("18,5", "10:30"; "2:00" is 2). Not read: number words.

An answer that was cut off at max_tokens is read only where it has "####" with a number on a whole line, or a box that
is closed; otherwise it is unfinished, which scores 0 and is counted apart: its last number is one on the way.

On the 5,276 solutions by four models published with GSM8K (`example_model_solutions.jsonl`), the grade agrees with the
published one on 5,276, and all 8,792 gold answers are read. Version 1 remains as `gsm8k-first`.
"""

GSM8K_STRICT = Grader(
    name="gsm8k-strict",
    version=2,
    description="the number after ####, and nowhere else",
    grade=lambda output, fields: _graded(read_marked_number(output), fields, _NO_MARKER),
    grade_cut=lambda output, fields: _graded(read_finished_number(output, boxes=False), fields, UNFINISHED),
)
"""As `gsm8k`, but an output without "####" and a number after it is wrong.

It measures following the format and solving the problem together. Version 1 remains as `gsm8k-strict-first`.
"""

GSM8K_FIRST = Grader(
    name="gsm8k-first",
    version=1,
    description="the number after the first ####, else in the last box, else the last number, however the answer ended",
    grade=_grade_first,
)
"""Version 1 of `gsm8k`, to make earlier results again.

Known to misread: a heading ("#### 1. Eggs left"), "#### - 18", "Answer: Tom has 91 trees left after 10 years." (10),
and answers that were cut off, of which it takes the last number.
"""

GSM8K_STRICT_FIRST = Grader(
    name="gsm8k-strict-first",
    version=1,
    description="the number after the first ####, and nowhere else, however the answer ended",
    grade=_grade_strict_first,
)
"""Version 1 of `gsm8k-strict`, to make earlier results again."""

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
    answer = fields["answer"]
    return answer if isinstance(answer, str) and _MARKER.search(answer) else f"#### {_gold(fields)}"


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "question")
    _gold(fields)


TASK = Task(
    name="gsm8k",
    asks="question",
    required_fields=("question", "answer"),
    target=_target,
    check=_check,
    graders=index_by_name(GSM8K, GSM8K_STRICT, GSM8K_FIRST, GSM8K_STRICT_FIRST, LM_EVAL_STRICT, LM_EVAL_FLEXIBLE),
    default_grader=GSM8K.name,
    is_bundled=True,
)
"""GSM8K; a worked example is shown with its whole worked answer, or as "#### N" where it has but the number."""
