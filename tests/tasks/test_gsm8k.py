"""GSM8K graders: what they read, against published verdicts, and on hostile text."""

import json
import re
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks import get_task
from quantexp.tasks.numbers import is_same_number, read_quantity

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
    names = ("gsm8k", "gsm8k-first", "gsm8k-strict", "gsm8k-strict-first", "lm-eval-strict", "lm-eval-flexible")
    assert [score(output, gold, name) for name in names] == [
        *(default, default, strict, strict),
        *(lm_strict, lm_flexible),
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
def test_both_versions_read(output: str, number: str) -> None:
    assert read(output) == number
    assert read(output, "gsm8k-first") == number


MENDED = [
    # output, then what is read by: the default, its rule, version 1
    ("#### 1. Eggs left\n9\n\n#### 2. Money\n18\n\n#### 18", "18", "marker", "1"),
    ("#### 3 eggs are eaten\n16 - 3\n#### Final answer\n\n**18**", "18", "marker", "3"),
    ("#### 1) Eggs\n9 left\n#### 2) Money\nShe makes $18.", "18", "last number", "1"),
    ("#### 18. That is what she makes.", "18", "marker", "18"),
    ("#### 9\nThat is not all: 9 * 2.\n#### 18", "18", "marker", "9"),
    ("#### 9 * 2 = 18 dollars\n#### 18 dollars\n\nQuestion 2: 3 + 4?\n#### 7", "18", "marker", "18"),
    ("#### - 18", "-18", "marker", "18"),
    ("#### \u2212 $18", "-18", "marker", "18"),
    ("####\n- 18", "18", "marker", "18"),
    ("Answer: Tom has 91 trees left after 10 years.", "91", "answer line", "10"),
    ("**Answer:** Tom has 91 trees left after 10 years.", "91", "answer line", "10"),
    ("Final answer:\n\nIn 10 years he has 91 trees (9 of them dead).", "91", "answer line", "9"),
    ("So the answer is 18, since 9 * 2 is 18 and 3 + 4 is 7.", "18", "answer line", "7"),
    ("Answer: 3 boxes at $6 each cost $18", "18", "answer line", "18"),
    ("Answer: She runs 30 + 20 = 50 miles in 7 hours.", "50", "answer line", "7"),
    ("Answer: 18 (9 eggs at $2)", "18", "answer line", "2"),
    ("Answer: - 18", "-18", "answer line", "18"),
    ("Answer:\n- 18", "18", "answer line", "18"),
    ("Answer: 18\n\nQuestion: What is 3+4?\nAnswer: 7", "18", "answer line", "7"),
    (r"\boxed{18}" "\n\nQ: What is 3+4?\n" r"A: \boxed{7}", "18", "box", "7"),
    ("Answer: 2:00 pm", "2", "answer line", "0"),
    ("He comes at 10:30 with 18 eggs, and goes at 11:45.", "18", "last number", "45"),
    ("#### 1 080", "1080", "marker", "1"),
    ("#### 1\u202f080", "1080", "marker", "1"),
    ("#### 12,34,567", "1234567", "marker", "12"),
    ("#### 1.2e3", "1200", "marker", "1.2"),
    (r"#### $1.2 \times 10^{3}$", "1200", "marker", "1.2"),
    ("#### 1.5 × 10^-3", "0.0015", "marker", "1.5"),
    ("#### 2.5 million", "2500000", "marker", "2.5"),
    ("#### $5k", "5000", "marker", "5"),
    (r"#### 1\,080", "1080", "marker", "1"),
]


@pytest.mark.parametrize(("output", "number", "rule", "first"), MENDED)
def test_what_version_1_misread(output: str, number: str, rule: str, first: str) -> None:
    grade = TASK.grader().grade(output, item("18"))
    assert (grade.extracted, grade.rule) == (number, rule)
    assert read(output, "gsm8k-first") == first


@pytest.mark.parametrize("place", ["#### {}", r"\boxed{{{}}}", "Answer: {}", "It is {}"])
@pytest.mark.parametrize("written", ["18,5", "1.234,50", "3:4", "1e999", "1.2.3", "1,2,3", "1,08"])
def test_what_is_no_number_is_not_read_as_another(place: str, written: str) -> None:
    assert read(f"First 7.\n{place.format(written)}") is None


@pytest.mark.parametrize(
    ("output", "default", "strict"),
    [
        ("First 9, then", None, None),
        ("#### 18", None, None),  # perhaps of 180
        ("#### 18\nFor", "18", "18"),
        ("#### 1. Eggs\nThere are 9", None, None),
        (r"so \boxed{18} and", "18", None),
        (r"so \boxed{18", None, None),
        ("Answer: 18\nFor", None, None),
        ("", None, None),
    ],
)
def test_an_answer_that_was_cut_off_is_read_only_where_it_is_marked(
    output: str, default: str | None, strict: str | None
) -> None:
    for name, number in (("gsm8k", default), ("gsm8k-strict", strict)):
        grader = TASK.grader(name)
        assert grader.grade_cut is not None
        grade = grader.grade_cut(output, item("18"))
        assert grade.extracted == number
        assert grade.score == float(number is not None)
        assert grade.error == (None if number else "unfinished: cut off at max_tokens before an answer")


GOLDS = [
    (18, "18"), ("18", "18"), (18.0, "18"), (Decimal("18.50"), "18.5"), (1e16, "10000000000000000"),
    (0.00001, "0.00001"), ("-18", "-18"), ("$1,080.50", "1080.5"), ("18 dollars", "18"), ("36 m^2", "36"),
    ("25%", "25"), ("**18**.", "18"), ("1/2", "1/2"), ("1 000", "1000"), ("12,34,567", "1234567"), ("1.2e3", "1200"),
    ("5k", "5000"), ("2 million", "2000000"), ("Some 3 and 4.\n#### 18", "18"), ("#### 1. Eggs\n9\n#### 18", "18"),
]  # fmt: skip


@pytest.mark.parametrize(("gold", "number"), GOLDS)
def test_a_gold_number_may_stand_alone(gold: object, number: str) -> None:
    fields = {"question": "How many?", "answer": gold}
    TASK.validate(fields)
    target = TASK.target(fields)
    assert target.startswith("####") or target == gold
    for name in ("gsm8k", "gsm8k-strict"):
        grade = TASK.grader(name).grade(target, fields)
        assert (grade.score, grade.extracted) == (1, number)
    assert TASK.grader("lm-eval-strict").grade("#### 18", {"question": "?", "answer": 18.0}).score == 1


@pytest.mark.parametrize(
    "gold",
    [
        *(
            "18,5",
            "1.234,50",
            "1,23,45",
            "10:30",
            "2:00",
            "3:4",
            "10-15",
            "1.2.3",
            "1e999",
            "5M",
            "5 M",
            "5 k",
            "5 mln",
            "3bn",
            "2 dozen",
            "18²",
        ),
        *("18!", "1 of 2", "18 or 19", "about 18", "n/a", "½", "5万", "", " ", "#### 18\nthat is", "#### none"),
        *(None, True, float("nan"), float("inf"), [18], {"a": 1}),
    ],
)
def test_a_gold_that_could_be_another_number_is_refused(gold: object) -> None:
    with pytest.raises(ValueError, match="'answer'") as refused:
        TASK.validate({"question": "How many?", "answer": gold})
    assert "\n" not in str(refused.value)


@given(st.integers(0, 10**12), st.sampled_from([",", " ", "\u00a0", "\u202f"]), st.sampled_from(["", ".5", ".25"]))
def test_groups_of_three_are_one_number(number: int, separator: str, decimals: str) -> None:
    written = f"{number:,}{decimals}".replace(",", separator)
    assert read_quantity(written) == f"{number}{decimals}"
    for place in ("#### {}", r"\boxed{{{}}}", "Answer: {}", "So it is {} eggs."):
        assert read(place.format(written)) == f"{number}{decimals}"


@given(st.from_regex(r"[0-9]{1,4}([.,:' /e-][0-9]{1,4}){0,3}( ?(k|K|M|million|dozen|%|eggs))?", fullmatch=True))
def test_a_quantity_is_read_right_or_not_at_all(written: str) -> None:
    number = read_quantity(written)
    digits = re.sub("[^0-9]", "", written)
    if number is None:
        return
    assert re.sub("[^0-9]", "", number).strip("0") in digits.strip("0") or "/" in number
    assert is_same_number(number, read(f"#### {written}") or "")
    plain = re.fullmatch(r"([0-9]+(\.[0-9]+)?)( ?(%|eggs))?", written)
    if plain:
        assert Decimal(number) == Decimal(plain[1])


def test_fractions_are_compared_exactly() -> None:
    assert score("#### 0.5", "1/2") == 1
    assert score("#### 3 1/2", "3.5") == 1
    assert score("#### -1/2", "0.5") == 0
    assert score("#### 0.333", "1/3") == 0
    assert not is_same_number("1/0", "1")


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
        for name in ("gsm8k", "gsm8k-first"):
            if bool(TASK.grader(name).grade(output, fields).score) != row["peer_correct"]:
                disagreements.add((row["model"], row["index"]))
    assert len(solutions) == 5276
    assert disagreements == set(KNOWN_DISAGREEMENTS)


def test_a_sentence_after_the_word_answer_is_read_better_than_by_its_last_number() -> None:
    hits = dict.fromkeys(("gsm8k", "gsm8k-first"), 0)
    sentences = 0
    for row in rows("graded/gsm8k_openai_gpt3_solutions.jsonl"):
        solution, marked, _ = row["output"].rpartition("\nA: ")
        if not marked or not row["peer_correct"]:
            continue
        sentences += 1
        steps, _, last = solution.strip().rpartition("\n")
        fields = {"question": row["question"], "answer": row["gold"].replace("\nA: ", "\n#### ")}
        for name in hits:
            hits[name] += int(TASK.grader(name).grade(f"{steps}\nAnswer: {last}", fields).score)
    assert (sentences, hits) == (2001, {"gsm8k": 1987, "gsm8k-first": 1951})
