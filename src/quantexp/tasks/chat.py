"""Dialogues of several turns, of which the last one is checked.

An item has `turns`, what the user says, one text a turn; `replies`, good answers to all of them but the last; `answer`,
a good answer to the last; and `checks`, all of which that answer has to pass. A check is one of `CHECKS` with its
argument, as in {"has": "blue"} or {"most_words": 8}.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from quantexp.tasks.base import Task, index_by_name, require_text
from quantexp.tasks.graders.base import Grade, Grader
from quantexp.tasks.normalise import fold_punctuation, fold_whitespace
from quantexp.tasks.requests import Converse

SHARE = "checks"
"""Field of a grade: the share of an item's checks that the answer passes."""

Check = Callable[[str, Any], bool]
"""An answer and the argument of a check in, the verdict out; total for arguments that `check_argument` accepts."""


def _fold(text: str) -> str:
    """Return the words of a text in small letters, a space between them and around them."""
    return f" {fold_whitespace(fold_punctuation(text)).casefold()} "


def _list_texts(argument: Any) -> list[str]:
    return [argument] if isinstance(argument, str) else list(argument)


def _has(answer: str, argument: Any) -> bool:
    words = _fold(answer)
    return any(_fold(text) in words for text in _list_texts(argument))


def _has_in_order(answer: str, argument: Any) -> bool:
    words, place = _fold(answer), 0
    for text in argument:
        found = words.find(_fold(text), place)
        if found < 0:
            return False
        place = found + len(_fold(text)) - 1
    return True


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "has": _has,
        "lacks": lambda answer, texts: not _has(answer, texts),
        "order": _has_in_order,
        "starts": lambda answer, text: _fold(answer).startswith(_fold(text)),
        "ends": lambda answer, text: _fold(answer).endswith(_fold(text)),
        "closes": lambda answer, mark: answer.rstrip().endswith(mark),
        "without": lambda answer, text: text.casefold() not in answer.casefold(),
        "case": lambda answer, case: answer.isupper() if case == "upper" else answer.islower(),
        "most_words": lambda answer, count: len(_fold(answer).split()) <= count,
        "least_words": lambda answer, count: len(_fold(answer).split()) >= count,
        "lines": lambda answer, count: sum(bool(line.strip()) for line in answer.splitlines()) == count,
    }
)
"""Checks by name. `has`: the answer has these words, or one of a list of them; case and punctuation do not count.
`lacks`: none of them. `order`: all of a list, in its order. `starts`, `ends`: with these words. `closes`: its last
character. `without`: nowhere these characters. `case`: `upper` or `lower`. `most_words`, `least_words`, `lines`
that are not blank: how many."""

_COUNTS = frozenset({"most_words", "least_words", "lines"})
_LISTS = frozenset({"has", "lacks", "order"})


def _check_argument(name: str, argument: Any) -> None:
    if name in _COUNTS:
        fits = isinstance(argument, int) and not isinstance(argument, bool) and argument > 0
        wanted = "a whole number above 0"
    elif name == "case":
        fits, wanted = argument in ("upper", "lower"), "upper or lower"
    elif name in _LISTS and isinstance(argument, list | tuple):
        fits = bool(argument) and all(isinstance(text, str) and text.strip() for text in argument)
        wanted = "a text or a list of texts, none of them blank"
    else:
        fits = isinstance(argument, str) and bool(argument.strip()) and name != "order"
        wanted = "a list of texts" if name == "order" else "a text that is not blank"
    if not fits:
        raise ValueError(f"the check {name!r} needs {wanted}, not {argument!r}")


def list_checks(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return an item's checks, each with its argument.

    Raises:
        ValueError: there is none, or one is not known or has an argument that is no use to it.
    """
    given = fields["checks"]
    if not isinstance(given, list | tuple) or not given:
        raise ValueError(f"the field 'checks' must be a list of checks, such as [{{'has': 'blue'}}], not {given!r}")
    found = []
    for each in given:
        if not isinstance(each, Mapping) or len(each) != 1 or next(iter(each)) not in CHECKS:
            raise ValueError(f"a check is one of {', '.join(CHECKS)} with its argument, not {each!r}")
        [(name, argument)] = each.items()
        _check_argument(name, argument)
        found.append((name, argument))
    return found


def _grade(output: str, fields: Mapping[str, Any]) -> Grade:
    answer = output.strip()
    if not _fold(answer).strip():
        return Grade.unreadable("empty output", (SHARE,))
    passed = [CHECKS[name](answer, argument) for name, argument in list_checks(fields)]
    return Grade(
        score=float(all(passed)),
        extracted=fold_whitespace(answer),
        fields={SHARE: sum(passed) / len(passed)},
    )


CHAT = Grader(
    name="chat",
    version=1,
    description="the answer to the last turn passes all checks of the item",
    grade=_grade,
)
"""Right or wrong; the field `checks` has the share of the checks that are passed.

Checks look at the words, lines, letters and length of the last answer alone, so that earlier turns count only by what
they do to it. An answer that was cut off is checked as it is.
"""


def _read_texts(fields: Mapping[str, Any], name: str) -> Sequence[str]:
    given = fields[name]
    if not isinstance(given, list | tuple) or not all(isinstance(text, str) and text.strip() for text in given):
        raise ValueError(f"the field {name!r} must be a list of texts, none of them blank, not {given!r}")
    return given


def _check(fields: Mapping[str, Any]) -> None:
    turns, replies = _read_texts(fields, "turns"), _read_texts(fields, "replies")
    if not turns or len(replies) != len(turns) - 1:
        raise ValueError(
            f"the field 'replies' must have an answer to every turn but the last, so one less than the {len(turns)} of "
            f"'turns', not {len(replies)}"
        )
    require_text(fields, "answer")
    list_checks(fields)


TASK = Task(
    name="chat",
    asks="turns",
    required_fields=("turns", "replies", "answer", "checks"),
    target=lambda fields: str(fields["answer"]),
    check=_check,
    graders=index_by_name(CHAT),
    default_grader=CHAT.name,
    request=Converse,
    is_bundled=True,
)
"""Dialogues; the model's own earlier answers stand between the turns, or with task.history=gold the replies."""
