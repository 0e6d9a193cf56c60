"""Instructions: all constraints kept or not, the share of them, and the loose reading."""

import json
import re
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.constraints import FAMILIES, KINDS
from quantexp.tasks.instructions import TASK, list_loosened

FIELDS = {
    "prompt": "Name two pets in small letters, as a list with bullets.",
    "constraints": [
        {"kind": "bullets", "exactly": 2},
        {"kind": "case", "case": "lower"},
        {"kind": "lines", "exactly": 2},
    ],
    "answer": "- dog\n- cat",
}


@pytest.mark.parametrize(
    ("output", "score", "share", "loose", "loose_share", "extracted"),
    [
        ("- dog\n- cat", 1, 1, 1, 1, "all kept"),
        ("- dog\n- Cat\n- pig", 0, 0, 0, 2 / 3, "broken: bullets, case, lines"),
        ("Here you are:\n- dog\n- cat", 0, 1 / 3, 1, 1, "broken: case, lines"),
        ("Sure!\n- dog\n- cat\nI hope this helps.", 0, 1 / 3, 1, 1, "broken: case, lines"),
        ("Dog and cat", 0, 0, 0, 0, "broken: bullets, case, lines"),
        # No single form has to keep all of them: the number is right without the first line, the case without the last.
        ("Two:\n- dog\n- cat", 0, 1 / 3, 1, 1, "broken: case, lines"),
    ],
)  # fmt: skip
def test_strict_and_loose_and_the_share_of_constraints(
    output: str, score: float, share: float, loose: float, loose_share: float, extracted: str
) -> None:
    grade = TASK.grader().grade(output, FIELDS)
    assert (grade.score, grade.extracted, grade.error) == (score, extracted, None)
    assert grade.fields == {
        "instruction_strict": pytest.approx(share),
        "prompt_loose": loose,
        "instruction_loose": pytest.approx(loose_share),
    }


def test_the_eight_forms_of_a_loose_reading() -> None:
    assert list_loosened("*a*\nb\n*c*") == ["*a*\nb\n*c*", "b\n*c*", "*a*\nb", "b", "a\nb\nc", "b\nc", "a\nb"]
    assert list_loosened("one line") == ["one line"]


@given(st.text())
def test_a_loose_reading_keeps_what_a_strict_one_keeps(output: str) -> None:
    grade = TASK.grader().grade(output, FIELDS)
    assert grade.score <= grade.fields["prompt_loose"]
    assert grade.fields["instruction_strict"] <= grade.fields["instruction_loose"]
    assert (grade.score == 1) == (grade.fields["instruction_strict"] == 1)


@pytest.mark.parametrize("output", ["", " \n"])
def test_an_empty_output_keeps_nothing(output: str) -> None:
    fields = {**FIELDS, "constraints": [{"kind": "without", "characters": ","}]}
    grade = TASK.grader().grade(output, fields)
    assert (grade.score, set(grade.fields.values()), grade.error) == (0, {0}, "empty output")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": " "}, "'prompt' must be non-blank text"),
        ({"constraints": []}, "'constraints' must be a list of one constraint or more"),
        ({"constraints": {"kind": "quoted"}}, "must be a list of one constraint or more"),
        ({"constraints": [{"kind": "rhymes"}]}, "no constraint of the kind 'rhymes'"),
        ({"answer": "- Dog\n- Cat"}, "'answer' must keep all constraints, and breaks case"),
        ({"answer": 3}, "'answer' must be non-blank text"),
    ],
)
def test_an_item_that_cannot_be_asked_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TASK.validate({**FIELDS, **change})


def test_an_item_needs_no_answer() -> None:
    fields = {name: value for name, value in FIELDS.items() if name != "answer"}
    TASK.validate(fields)
    TASK.validate({**fields, "answer": None})
    assert TASK.target(fields) == ""


def test_the_card_counts_its_items() -> None:
    bundled = files("quantexp.tasks") / "bundled"
    text = " ".join((bundled / "instructions.md").read_text(encoding="utf-8").split())
    rows = [json.loads(line) for line in (bundled / "instructions.jsonl").read_text(encoding="utf-8").splitlines()]
    of = {kind.name: family for family, kinds in FAMILIES.items() for kind in kinds}
    used = [constraint["kind"] for row in rows for constraint in row["constraints"]]
    assert set(used) == set(KINDS)
    assert f"All {len(KINDS)} kinds occur; {len(used)} constraints in all" in text
    for family, kinds in FAMILIES.items():
        assert re.search(rf"\| {family} \|[^|]+\| {len(kinds)} \| 40 \|", text)
    for level in range(1, 6):
        counted = sum(len(row["constraints"]) for row in rows if row["difficulty"] == level)
        assert re.search(rf"\| {level} \|[^|]+\| {counted} \| 32 \|", text)
    assert Counter((row["category"], row["difficulty"]) for row in rows) == {
        (family, level): 8 for family in FAMILIES for level in range(1, 6)
    }
    # Of an easy item's single constraint; a harder one's may stand anywhere in its list.
    first = [(row["category"], of[row["constraints"][0]["kind"]]) for row in rows if row["difficulty"] == 1]
    assert all(category == family for category, family in first)
    right = [sum(TASK.grader().grade(each["answer"], row).score == 1 for row in rows) for each in rows]
    assert f"right for more than {max(right)} of the 160" in text
