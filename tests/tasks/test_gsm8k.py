"""GSM8K graders: what they read, against published verdicts, and on hostile text."""

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks import get_task

TASK = get_task("gsm8k")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"

KNOWN_DISAGREEMENTS: dict[tuple[str, int], str] = {}
"""(model, index) of the published verdicts the default grader contradicts, and why: none are."""


def rows(path: str) -> list[dict[str, Any]]:
    file = SHARED / path
    if not file.exists():
        pytest.skip(f"reference data absent: {path}")
    with file.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def item(gold: str) -> dict[str, Any]:
    return {"question": "How many?", "answer": f"Some reasoning with 3 and 4.\n#### {gold}"}


def read(output: str, grader: str | None = None, gold: str = "18") -> str | None:
    return TASK.grader(grader).grade(output, item(gold)).extracted


def score(output: str, gold: str, grader: str | None = None) -> float:
    return TASK.grader(grader).grade(output, item(gold)).score


TRICKY = [
    # output, gold, then the score of: default, strict, lm-eval strict, lm-eval flexible
    ("The total is $29.00.", "29", 1, 0, 0, 0),
    ("So she has 18 eggs...", "18", 1, 0, 0, 0),
    ("That leaves 15 eggs, enough.", "15", 1, 0, 0, 1),
    ("It costs 1,080 dollars", "1,080", 1, 0, 0, 1),
    ("#### 18\n\nQuestion 2: 7", "18", 1, 1, 1, 0),
    ("#### 18", "18", 1, 1, 1, 1),
    ("#### 18.", "18", 1, 1, 1, 1),
    ("#### 18.00", "18", 1, 1, 0, 0),
    ("#### $18", "18", 1, 1, 0, 1),
    ("####18", "18", 1, 1, 0, 1),
    ("#### **18**", "18", 1, 1, 0, 1),
    ("#### 1,080", "1080", 1, 1, 1, 1),
    ("#### -7", "-7", 1, 1, 1, 1),
    ("#### \u22127", "-7", 1, 1, 0, 0),
    ("#### 18\nQuestion: what is 3+4?\nAnswer: #### 7", "18", 1, 1, 1, 1),
    ("#### 7/14", "7", 0, 0, 1, 0),
    ("no idea", "18", 0, 0, 0, 0),
    ("", "18", 0, 0, 0, 0),
]


@pytest.mark.parametrize(("output", "gold", "default", "strict", "lm_strict", "lm_flexible"), TRICKY)
def test_tricky_outputs_under_each_grader(
    output: str, gold: str, default: int, strict: int, lm_strict: int, lm_flexible: int
) -> None:
    names = ("gsm8k", "gsm8k-strict", "lm-eval-strict", "lm-eval-flexible")
    assert [score(output, gold, name) for name in names] == [
        default,
        strict,
        lm_strict,
        lm_flexible,
    ]


@pytest.mark.parametrize(
    ("output", "number"),
    [
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("$5.50", "5.5"),
        (r"\$5", "5"),
        ("US$ 1,200.00", "1200"),
        ("€18", "18"),
        ("18€", "18"),
        ("25%.", "25"),
        (r"25\%", "25"),
        (".50", "0.5"),
        ("00018.0", "18"),
        ("-0.0", "0"),
        ("wait...5", "5"),
        ("**-18**", "-18"),
        ("_18_", "18"),
        ("18th", "18"),
        ("between 10-15", "15"),
        ("10 \u2013 5 = 5", "5"),
        ("1,2,3", "3"),
        ("the area is 36 m^2", "36"),
        ("the area is 36 m^{2}", "36"),
        ("7/14", "7/14"),
        ("3 1/2", "3 1/2"),
        ("<<9*2=18>>18 dollars", "18"),
        (r"so \boxed{18}, or 126 a week", "18"),
        (r"\boxed{3} then \boxed{18}", "18"),
        (r"\boxed{x = 18 \text{ m}^2}", "18"),
        (r"\boxed{\$1{,}080}", "1080"),
        (r"\boxed{10,\!000}", "10000"),
        (r"\boxed{\frac{7}{2}}", "7/2"),
        (r"\boxed{18", "18"),
        (r"\boxed{x} is 18", "18"),
        ("#### 9 * 2 = 18", "18"),
        ("#### 18/2 = 9", "9"),
        ("#### -5 - 3 = -8", "-8"),
        ("#### $18/hour", "18"),
        ("#### 18 x 3", "18"),
        ("#### The answer is $18.", "18"),
        ("#### \\(18\\)", "18"),
        ("####\n18", "18"),
        ("##### 18", "18"),
        ("#### Solution\nFirst 3 + 15.\n#### 18", "18"),
        ("#### 18\nFor a box of 7: \\boxed{7}", "18"),
        ("1" * 6000, "1" * 6000),
    ],
)
def test_default_reads(output: str, number: str) -> None:
    assert read(output) == number


@pytest.mark.parametrize("output", ["", "no number", "x_1", "#### \n", r"\boxed{}", "½", "٣"])
def test_says_why_nothing_was_read(output: str) -> None:
    grade = TASK.grader().grade(output, item("1"))
    assert (grade.score, grade.extracted, grade.error) == (0.0, None, "no number")


def test_strict_needs_the_marker() -> None:
    grade = TASK.grader("gsm8k-strict").grade(r"The answer is \boxed{18}", item("18"))
    assert grade.score == 0
    assert grade.error == "no number after ####"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"answer": "#### 1"}, "question"),
        ({"question": "How many?"}, "answer"),
        ({"question": " ", "answer": "#### 1"}, "question"),
        ({"question": "How many?", "answer": 18}, "answer"),
        ({"question": "How many?", "answer": "18"}, "answer"),
        ({"question": "How many?", "answer": "#### none"}, "answer"),
    ],
)
def test_refuses_unusable_items(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"'{named}'") as raised:
        TASK.validate(fields)
    assert "\n" not in str(raised.value)


NUMBERS = st.decimals(min_value=-(10**9), max_value=10**9, places=2, allow_nan=False, allow_infinity=False)
FORMATS = ["{:f}", "{:,f}", "{:f}0", "${:,f}", "{:f}.", "**{:f}**", "{:,f} dollars.", "{:f}%"]


@given(NUMBERS, st.sampled_from(FORMATS), st.sampled_from(["", "#### ", "####", "It is "]))
def test_spelling_of_a_number_does_not_matter(number: Decimal, form: str, before: str) -> None:
    output = before + form.format(number)
    assert score(output, f"{number:f}") == 1
    assert score(output, f"{number + 1:f}") == 0
    assert score(output.replace("-", "\u2212"), f"{number:f}") == 1


@given(NUMBERS, NUMBERS)
def test_equal_exactly_when_equal_as_decimals(left: Decimal, right: Decimal) -> None:
    assert score(f"#### {left:f}", f"{right:f}") == float(left == right)


@given(st.text(), st.integers())
def test_worked_answer_scores_one(reasoning: str, gold: int) -> None:
    fields = {"question": "?", "answer": f"{reasoning.replace('#', '')}\n#### {gold:,}"}
    TASK.validate(fields)
    for name in ("gsm8k", "gsm8k-strict"):
        assert TASK.grader(name).grade(TASK.target(fields), fields).score == 1


PIECES = st.lists(st.sampled_from([*"0123,.-$#/=*x_^{}() \n\u2212€%", r"\boxed{", "#### "]))


@pytest.mark.parametrize("name", sorted(TASK.graders))
@given(output=st.one_of(st.text(), PIECES.map("".join)))
def test_total(name: str, output: str) -> None:
    grade = TASK.grader(name).grade(output, item("18"))
    assert 0 <= grade.score <= 1
    assert (grade.extracted is None) == (grade.error is not None)
    assert grade.extracted is not None or grade.score == 0


@pytest.mark.parametrize("name", sorted(TASK.graders))
@pytest.mark.parametrize(
    "piece",
    [
        "1",
        ".",
        "-",
        "$",
        "#",
        "#### ",
        "111,",
        "1/",
        " ",
        "\n",
        r"\boxed{",
        "#### 1 1/",
        "-$ ",
        "=",
    ],
)
def test_hostile_text_takes_linear_time(name: str, piece: str) -> None:
    output = (piece * 300_000)[:300_000] + "x"
    start = time.process_time()
    TASK.grader(name).grade(output, item("18"))
    assert time.process_time() - start < 10  # quadratic time would be hours


@pytest.mark.parametrize(("path", "count"), [("gsm8k/test.jsonl", 1319), ("gsm8k/train.jsonl", 7473)])
def test_reads_every_published_gold_answer(path: str, count: int) -> None:
    items = rows(path)
    for fields in items:
        TASK.validate(fields)
        grade = TASK.grader().grade(TASK.target(fields), fields)
        assert grade.score == 1
        assert grade.extracted == fields["answer"].split("####")[1].strip().replace(",", "")
    assert len(items) == count


@pytest.mark.parametrize("marker", ["A: ", "#### "])
def test_agrees_with_published_verdicts(marker: str) -> None:
    solutions = rows("graded/gsm8k_openai_gpt3_solutions.jsonl")
    disagreements = set()
    for row in solutions:
        fields = {"question": row["question"], "answer": row["gold"].replace("\nA: ", "\n#### ")}
        output = row["output"].replace("\nA: ", f"\n{marker}")
        if bool(TASK.grader().grade(output, fields).score) != row["peer_correct"]:
            disagreements.add((row["model"], row["index"]))
    assert len(solutions) == 5276
    assert disagreements == set(KNOWN_DISAGREEMENTS)
