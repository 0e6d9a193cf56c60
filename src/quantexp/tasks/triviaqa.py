"""TriviaQA: trivia questions, each with a list of accepted answers.

An item has `question` and `aliases`, the canonical answer first. Dataset: Joshi et al. 2017,
"TriviaQA: A Large Scale Distantly Supervised Challenge Dataset for Reading Comprehension",
arXiv:1705.03551.
"""

import re
import string
from collections.abc import Mapping
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.normalise import (
    PUNCTUATION,
    answer_line,
    fold_whitespace,
    fold_words,
    normalize_answer,
    normalize_unicode_answer,
)

_NO_ANSWER = "empty output"

_WORD_CHARACTER = re.compile(rf"[^\s{re.escape(PUNCTUATION)}]")


def _comparable(text: str) -> str:
    """Return the normal form of an answer; for one of articles or punctuation only, the gentlest one left.

    Without this, any output that normalises to nothing would equal the alias "A" (a vitamin).
    """
    return normalize_answer(text) or fold_words(text) or fold_whitespace(text)


def _answer_line(output: str) -> str:
    """Return the first line with more than punctuation on it; all of `output` when there is none."""
    word = _WORD_CHARACTER.search(output)
    return output[word.start() :].partition("\n")[0] if word else output


def _accepted(fields: Mapping[str, Any]) -> set[str]:
    return {_comparable(alias) for alias in fields["aliases"]}


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    answer = _comparable(_answer_line(output))
    if not answer:
        return Grade.unreadable(_NO_ANSWER)
    return Grade.right_or_wrong(answer in _accepted(fields), answer)


def _grade_unicode(output: str, fields: Mapping[str, Any]) -> Grade:
    answer = normalize_unicode_answer(answer_line(output)[0] or output)
    if not answer:
        return Grade.unreadable(_NO_ANSWER)
    return Grade.right_or_wrong(answer in {normalize_unicode_answer(alias) for alias in fields["aliases"]}, answer)


def _grade_contains(output: str, fields: Mapping[str, Any]) -> Grade:
    answer = _comparable(output)
    if not answer:
        return Grade.unreadable(_NO_ANSWER)
    exact = _comparable(_answer_line(output)) in _accepted(fields)
    names = {normalize_answer(alias) for alias in fields["aliases"]} - {""}
    found = exact or any(f" {name} " in f" {answer} " for name in names)
    return Grade.right_or_wrong(found, answer, "first line" if exact else "mention" if found else None)


# lm-evaluation-harness, lm_eval/tasks/triviaqa/default.yaml, task version 3.
_LM_EVAL_STOPS = ("\n", ".", ",")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _lm_eval_normalize(text: str) -> str:
    return text.lower().translate(_NO_PUNCTUATION)


def _grade_lm_eval(output: str, fields: Mapping[str, Any]) -> Grade:
    for stop in _LM_EVAL_STOPS:
        output = output.partition(stop)[0]
    answer = _lm_eval_normalize(output.strip())
    if not answer:
        return Grade.unreadable(_NO_ANSWER)
    accepted = {_lm_eval_normalize(alias) for alias in fields["aliases"]}
    return Grade.right_or_wrong(answer in accepted, answer)


TRIVIAQA = Grader(
    name="triviaqa",
    version=1,
    description="exact match of the first line with any alias, after the official normalisation",
    grade=_grade,
)
"""The default: right when the answer, normalised, equals a normalised alias.

The answer is the first line with more than punctuation on it. The official evaluation compares
the whole prediction, which is the same wherever generation stops at the end of a line; the first
line also holds a model that runs on ("Paris", then "Question: ...") to its own answer. Whole
sentences never match. One departure from the official comparison: an answer that normalises to
nothing ("A", "The The") is compared with its articles.

On EVOUNA-TQ (Wang et al. 2023, arXiv:2305.12421: 985 questions with a human verdict, five
systems, 4,925 answers, 4,034 of them right): precision 1029/1029 = 1.000, recall 1029/4034 =
0.255, and reading the whole output gives the same 1,029. Recall is low because four of the five
systems answer in sentences; for the one that gives bare answers (FiD) it is 680/769 = 0.884.
The normal forms equal the published `normalized_aliases` on the first 3,000 development items.
"""

TRIVIAQA_UNICODE = Grader(
    name="triviaqa-unicode",
    version=1,
    description="as triviaqa, without the punctuation of all scripts, such as “Ted Turner”, «…», a trailing …",
    grade=_grade_unicode,
)
"""As `triviaqa`, but punctuation is what Unicode calls so, in outputs and aliases; invisible characters are dropped.

The official normalisation knows ASCII punctuation and four quotation marks, so that “Ted Turner”, «Ted Turner», Ted
Turner… and Spider‑Man with a non-breaking hyphen never match. Symbols that are no punctuation (°, €, ½) stay.

On EVOUNA-TQ: precision 1029/1029 = 1.000, recall 1029/4034 = 0.255: those systems write ASCII punctuation.
"""

TRIVIAQA_CONTAINS = Grader(
    name="triviaqa-contains",
    version=1,
    description="an alias occurs in the output as whole words, after the official normalisation",
    grade=_grade_contains,
)
"""Lenient: right when `triviaqa` is, or an alias occurs anywhere in the output as whole words.

For models that answer in sentences. It cannot tell an answer from a mention ("from Belgium, not
France or Switzerland" contains Switzerland), and it rewards long outputs, so a change in
verbosity moves it.

On EVOUNA-TQ: precision 3578/3589 = 0.997, recall 3578/4034 = 0.887.
"""

LM_EVAL = Grader(
    name="lm-eval",
    version=1,
    description="exact_match of lm-evaluation-harness, triviaqa version 3",
    grade=_grade_lm_eval,
)
"""A cross-check: the exact_match of lm-evaluation-harness, task `triviaqa`.

The output is cut where that task's stop sequences (line end, "." and ",") would have ended it, then
trimmed, lowered and freed of ASCII punctuation; aliases likewise, uncut. Articles and inner white
space count, and an alias like "J. R. R. Tolkien" can be matched only by another of the list.

On EVOUNA-TQ: precision 1042/1043 = 0.999, recall 1042/4034 = 0.258.
"""


def _check(fields: Mapping[str, Any]) -> None:
    require_text(fields, "question")
    aliases = fields["aliases"]
    if not isinstance(aliases, (list, tuple)) or not aliases:
        raise ValueError(f"the field 'aliases' must be a list of answers, the canonical one first, not {aliases!r}")
    for alias in aliases:
        if not isinstance(alias, str) or not alias.strip() or "\n" in alias:
            raise ValueError(f"the field 'aliases' must hold non-blank texts of one line, not {alias!r}")


TASK = Task(
    name="triviaqa",
    asks="question",
    required_fields=("question", "aliases"),
    target=lambda fields: str(fields["aliases"][0]),
    check=_check,
    graders=index_by_name(TRIVIAQA, TRIVIAQA_UNICODE, TRIVIAQA_CONTAINS, LM_EVAL),
    default_grader=TRIVIAQA.name,
    is_bundled=True,
)
"""TriviaQA without context; a worked example is shown with its canonical answer."""
