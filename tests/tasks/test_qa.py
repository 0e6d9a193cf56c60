"""Questions and answers of the user's own: what is an answer, what is right, and under which name."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks import get_task
from quantexp.tasks.graders.base import Grade
from quantexp.tasks.items import check_gradable
from quantexp.util.errors import UserError

MODULE = "quantexp.tasks.qa"
TASK = get_task("qa", MODULE)


def grade(output: str, answer: Any, grader: str | None = None) -> Grade:
    return TASK.grader(grader).grade(output, {"question": "?", "answer": answer})


RIGHT = [
    # output, answer, then the rule of: default, contains, number; None where it is wrong
    ("Paris", "Paris", "first line", "first line", None),
    ("“The Paris…”\nIt lies on the Seine.", ["Lutetia", "paris"], "first line", "first line", None),
    ("It is Paris.", "Paris", None, "mention", None),
    ("18", 18, "first line as a number", "first line as a number", "last number"),
    ("$1,080.00", 1080.0, "first line as a number", "first line as a number", "last number"),
    ("1 080 euros", "1080", "first line as a number", "first line as a number", "last number"),
    ("9 * 2 = 18, so it is 18.", "18", None, "mention", "last number"),
    ("First 9.\n#### 18", "18", None, "mention", "marker"),
    (r"So \boxed{1/2}", 0.5, None, "mention", "box"),
    ("-18", "18", None, None, None),
    ("- 18", "18", "first line as a number", "first line as a number", "last number"),
    ("“18”!", "18", "first line as a number", "first line as a number", "last number"),
    ("18", ["-18", "18.0"], "first line as a number", "first line as a number", "last number"),
    ("10:30", "10:30", "first line", "first line", None),
    ("Apollo 13", "Apollo 13", "first line", "first line", None),
    ("London", "Paris", None, None, None),
]


@pytest.mark.parametrize(("output", "answer", "default", "contains", "number"), RIGHT)
def test_what_is_right_and_by_which_rule(
    output: str, answer: Any, default: str | None, contains: str | None, number: str | None
) -> None:
    for name, rule in (("qa", default), ("qa-contains", contains), ("qa-number", number)):
        found = grade(output, answer, name)
        assert (found.score, found.rule if found.score else None) == (float(rule is not None), rule), name


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        *[("12 monkeys", "12 Angry Men"), ("10 March", "10 May"), ("3 Idiots", "3 Doors Down"), ("5 km", "5 miles")],
        *[
            ("20th century", "20th Street"),
            ("50 dollars", "50 Cent"),
            ("$50", "50 Cent"),
            ("$5", "€5"),
            ("5 %", "5 km"),
        ],
        *[("1-5", "1.5"), ("1:5", "1.5"), ("1-5 dollars", "1.5 dollars"), ("-5 km", "5 km")],
        *[("18+", "18"), ("√18", 18), ("18.5", "18"), ("18,000", "18"), ("2.5 km", "5 km")],
        *[("It is -18.", "18"), ("It is 18,000.", "18"), ("It is 2.5 km.", "5 km"), ("It is 5 kmh.", "5 km")],
        *[("It is 12 monkeys.", "12 Angry Men"), ("In the 18th century.", "18"), ("By the A18.", "18")],
    ],
)
def test_another_number_or_unit_is_wrong(output: str, answer: Any) -> None:
    assert [grade(output, answer, name).score for name in ("qa", "qa-contains")] == [0, 0]


@pytest.mark.parametrize(("output", "answer"), [("1.5", "1-5"), ("<18", 18), ("It is 18.", 18)])
def test_a_first_line_that_but_holds_the_answer_is_wrong(output: str, answer: Any) -> None:
    assert [grade(output, answer, name).score for name in ("qa", "qa-contains")] == [0, 1]


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        *[("12 monkeys", "12 Monkeys."), ("3-Doors Down", "3 Doors Down"), ("“3 Doors: Down”", "3 Doors Down")],
        *[("$5", "5 dollars"), ("5 €", "5 euros"), ("€5", "5 Euro"), ("50%", "50 percent"), ("36 m²", "36 m^2")],
        *[("5km", "5 km"), ("5 km", 5), ("5", "5 km"), ("**$5**", 5), ("+5", 5), ("...5", 5), ("5:", 5), ("(-5)", -5)],
        *[(".5", 0.5), ("12/05/2020", "12-05-2020"), ("- 5 dollars", "5 dollars"), ("- 18", "- 18"), ("18+", "18+")],
    ],
)
def test_the_same_number_and_unit_is_right_however_it_is_written(output: str, answer: Any) -> None:
    assert [grade(output, answer, name).score for name in ("qa", "qa-contains")] == [1, 1]


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        ("It is 1,080.", 1080),
        ("It is $5 each.", "5 dollars"),
        ("I run 5 km, not 6 km.", "5 km"),
        ("It is 5 m², yes", "5 m^2"),
    ],
)
def test_a_number_is_found_in_a_sentence(output: str, answer: Any) -> None:
    found = grade(output, answer, "qa-contains")
    assert (found.score, found.rule) == (1, "mention")


def test_what_was_read_keeps_its_unit() -> None:
    assert [grade(text, "12 Angry Men").extracted for text in ("12 Monkeys", "$1,080", "18")] == [
        *("12 monkeys", "1080 dollar", "18"),
    ]


@pytest.mark.parametrize(
    ("name", "output", "outcome"),
    [
        ("qa", "Par", "unfinished"),
        ("qa", "\n**Paris**\nIt", "right"),
        ("qa", "London\nIt", "wrong"),
        ("qa", "", "unfinished"),
        ("qa-contains", "It is Paris, which", "right"),
        ("qa-contains", "It is", "unfinished"),
        ("qa-number", "9 * 2 = 18", "unfinished"),
        ("qa-number", "#### 18\nor", "right"),
        ("qa-number", "#### 17\nor", "wrong"),
    ],
)
def test_an_answer_that_was_cut_off(name: str, output: str, outcome: str) -> None:
    cut = TASK.grader(name).grade_cut
    assert cut is not None
    found = cut(output, {"question": "?", "answer": ["Paris", 18]})
    unfinished = (found.error or "").startswith("unfinished")
    assert ("unfinished" if unfinished else "right" if found.score else "wrong") == outcome


@pytest.mark.parametrize("answer", ["", " ", "two\nlines", [], ["a", ""], None, True, float("nan"), {"a": 1}, [["a"]]])
def test_an_answer_that_is_none_is_refused(answer: Any) -> None:
    with pytest.raises(
        ValueError, match="the field 'answer' must be a text of one line, a number, or a list"
    ) as refused:
        TASK.validate({"question": "?", "answer": answer})
    assert "\n" not in str(refused.value)


def test_a_grader_of_numbers_refuses_items_without_one() -> None:
    items: dict[str, dict[str, Any]] = {
        "a": {"question": "?", "answer": ["many", 18]},
        "b": {"question": "?", "answer": "18,5"},
    }
    check_gradable(items, TASK.grader())
    with pytest.raises(UserError) as refused:
        check_gradable(items, TASK.grader("qa-number"))
    assert str(refused.value) == (
        "The grader qa-number cannot grade item b: the field 'answer' has no number, as in 18, -18, 18.5, 1,080 or "
        "1/2, but '18,5'; choose another task.grader for such items."
    )


ONE_LINE = st.text(min_size=1).filter(lambda text: bool(text.strip()) and "\n" not in text.strip())


@given(st.lists(ONE_LINE | st.integers() | st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_every_answer_is_right(answers: list[Any]) -> None:
    fields = {"question": "?", "answer": answers}
    TASK.validate(fields)
    first = answers[0] if isinstance(answers[0], str) else str(answers[0])
    for name in ("qa", "qa-contains"):
        assert TASK.grader(name).grade(TASK.target(fields), fields).score == 1
        assert TASK.grader(name).grade(first, fields).score == 1


@given(st.integers(), st.integers(), st.sampled_from(["", "$", "**", "“"]))
def test_numbers_are_right_exactly_when_they_are_equal(one: int, other: int, before: str) -> None:
    output = f"{before if one >= 0 else ''}{one:,}."
    assert grade(output, other).score == float(one == other)
    assert grade(f"#### {one}", other, "qa-number").score == float(one == other)


@given(st.text(string.ascii_letters + " .-"), st.text(string.ascii_letters, min_size=1))
def test_exact_implies_contains(output: str, answer: str) -> None:
    assert grade(output, answer).score <= grade(output, answer, "qa-contains").score


def test_it_takes_any_name_but_those_that_are_taken() -> None:
    named = get_task("capitals", MODULE)
    assert (named.name, named.graders) == ("capitals", TASK.graders)
    with pytest.raises(
        UserError, match=r"^task\.name=gsm8k is a task of quantexp's own: give yours another name, with"
    ):
        get_task("gsm8k", MODULE)
    for name in ("a b", "", "a/b", "x" * 61, "\x1b[31m"):
        with pytest.raises(UserError, match=r"cannot be a task's name: write letters, digits, - and _, at most 60"):
            get_task(name, MODULE)
