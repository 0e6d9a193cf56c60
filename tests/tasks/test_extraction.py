"""Extraction graders: fields, fences, strictness, real outputs of quantized models."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks import get_task
from quantexp.tasks.extraction import CATEGORIES, LONGEST_NAME, URGENCIES
from quantexp.tasks.json_answers import strip_fence

TASK = get_task("extraction")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FENCE = "```"

ITEM: dict[str, Any] = {
    "email": "Hi, please refund the duplicate charge today! José Pérez",
    "customer_name": "José Pérez",
    "issue_category": "billing",
    "urgency": "high",
    "requested_action": "Refund the duplicate charge.",
}


def answer(**changes: Any) -> str:
    fields = {key: value for key, value in ITEM.items() if key != "email"}
    return json.dumps({**fields, **changes})


def fields_right(output: str, item: dict[str, Any] = ITEM) -> set[str]:
    grade = TASK.grader().grade(output, item)
    right = {name for name, value in grade.fields.items() if value == 1}
    assert grade.score == pytest.approx(len(right) / 3)
    return right


ALL = {"customer_name", "issue_category", "urgency"}


def test_each_field_is_a_third() -> None:
    assert fields_right(answer()) == ALL
    assert fields_right(answer(urgency="low")) == ALL - {"urgency"}
    assert fields_right(answer(urgency="low", issue_category="product")) == {"customer_name"}
    assert fields_right("{}") == set()


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("José Pérez", True),
        ("josé  PÉREZ ", True),
        ("Jose\u0301 Pe\u0301rez", True),
        ("José\u00a0Pérez", True),
        ("Jose Perez", False),
        ("José", False),
        ("", False),
        (None, False),
        (["José Pérez"], False),
        ("J" * 2_000_000, False),
        ("\u0301\u0316" * 200_000, False),
    ],
)
def test_names(name: Any, right: bool) -> None:
    assert ("customer_name" in fields_right(answer(customer_name=name))) == right


@pytest.mark.parametrize(("name", "right"), [(None, True), ("null", False), ("", False), ("None", False), (0, False)])
def test_null_equals_only_null(name: Any, right: bool) -> None:
    item = {**ITEM, "customer_name": None}
    assert ("customer_name" in fields_right(answer(customer_name=name), item)) == right


def test_a_missing_name_is_not_null() -> None:
    assert fields_right('{"urgency": "high"}', {**ITEM, "customer_name": None}) == {"urgency"}


@pytest.mark.parametrize(
    ("urgency", "right"),
    [("HIGH", True), (" High\n", True), ("highest", False), (True, False), (None, False)],
)
def test_choices(urgency: Any, right: bool) -> None:
    assert ("urgency" in fields_right(answer(urgency=urgency))) == right


def test_requested_action_and_further_keys_do_not_count() -> None:
    assert fields_right(answer(requested_action="Something else.", note=1)) == ALL
    assert fields_right(answer(requested_action=None)) == ALL


FENCED = [
    f"{FENCE}json\n%s\n{FENCE}",
    f"{FENCE}JSON\n%s{FENCE}\n",
    f"{FENCE}\n%s\n{FENCE}",
    f"  {FENCE} json %s {FENCE}  ",
    f"{FENCE}json%s{FENCE}",
    f"{FENCE}json\n%s",
    f"{FENCE}%s",
]


@pytest.mark.parametrize("form", FENCED)
def test_fence_is_no_matter_now_and_was_everything_before(form: str) -> None:
    output = form % answer()
    assert TASK.grader("extraction").grade(output, ITEM).score == 1
    before = TASK.grader("extraction-nofence").grade(output, ITEM)
    assert before.score == 0
    assert before.error is not None
    assert before.error.startswith("not JSON")
    lenient = TASK.grader("extraction-contains").grade(output, ITEM)
    assert lenient == TASK.grader("extraction").grade(output, ITEM)
    assert lenient.rule == "fenced object"


DRAFT = '{"customer_name": "Nobody", "urgency": "low"}'


@pytest.mark.parametrize(
    "output",
    [
        "Here is the JSON:\n" + answer(),
        f"Sure!\n{FENCE}json\n{answer()}\n{FENCE}",
        f"{FENCE}json\n{answer()}\n{FENCE}\nI hope this helps!",
        f"{FENCE}python\n{answer()}\n{FENCE}",
        f"<think>Perhaps {DRAFT}? No.</think>{answer()}",
        f"{answer()} {{not: json}} and {{}} and {{'x': 1}}",
        f'{{"result": [1]}} {answer()}',
        "{" * 50 + answer(),
    ],
)
def test_an_object_inside_text_is_read_by_the_lenient_grader_only(output: str) -> None:
    grade = TASK.grader("extraction-contains").grade(output, ITEM)
    assert (grade.score, grade.rule) == (1, "object inside text")
    assert TASK.grader().grade(output, ITEM).score == 0


@pytest.mark.parametrize(
    "output", ["", "no object", "{}", '{"x": {"y": 1}}', answer()[:-1], '{"urgency": NaN}', "{" * 999]
)
def test_no_object_with_a_field_is_unreadable_for_the_lenient_grader_too(output: str) -> None:
    if output == "{}":
        assert TASK.grader("extraction-contains").grade(output, ITEM).rule == "bare object"
        return
    grade = TASK.grader("extraction-contains").grade(f"So: {output}", ITEM)
    assert (grade.score, grade.error) == (0, "no JSON object with one of the fields")


@given(st.text(), st.text())
def test_what_stands_around_an_object_is_no_matter_to_the_lenient_grader(before: str, after: str) -> None:
    output = f"{before.replace('{', '')} {answer()} {after.replace('{', '')}"
    assert TASK.grader("extraction-contains").grade(output, ITEM).score == 1


@pytest.mark.parametrize(
    "output",
    [
        "",
        "Here is the JSON:\n" + answer(),
        f"Sure!\n{FENCE}json\n{answer()}\n{FENCE}",
        f"{FENCE}json\n{answer()}\n{FENCE}\nI hope this helps!",
        f"{FENCE}python\n{answer()}\n{FENCE}",
        answer() + "\n" + FENCE,
        answer() + answer(),
        answer()[:-1],
        answer()[:-1] + ",}",
        answer().replace('"', "'"),
        '{"urgency": "low", "urgency": "high"}',
        '{"urgency": "high", "x": NaN}',
        '{"urgency": "high", "x": -Infinity}',
        '{"urgency": "high", "x": ' + "1" * 5000 + "}",
        "[" * 100_000,
        '{"urgency":' * 100_000,
        "\ufeff" + answer(),
    ],
)
def test_anything_but_one_json_object_scores_zero(output: str) -> None:
    grade = TASK.grader().grade(output, ITEM)
    assert (grade.score, grade.extracted) == (0.0, None)
    assert dict(grade.fields) == dict.fromkeys(ALL, 0.0)
    assert grade.error is not None
    assert grade.error.startswith("not JSON: ")


@pytest.mark.parametrize("output", ["[]", "null", "3", '"billing"', f"[{answer()}]"])
def test_json_that_is_no_object_scores_zero(output: str) -> None:
    grade = TASK.grader().grade(output, ITEM)
    assert (grade.score, grade.error) == (0.0, "not a JSON object")


def test_extracted_is_one_line_and_can_be_written() -> None:
    grade = TASK.grader().grade(answer(customer_name="\ud800\n", urgency=["high"], more=1), ITEM)
    assert grade.extracted is not None
    assert "\n" not in grade.extracted
    read = json.loads(grade.extracted.encode("utf-8"))
    assert read["customer_name"] == "\ud800\n"
    assert list(read) == ["customer_name", "issue_category", "requested_action"]


def test_target_is_compact_and_ordered() -> None:
    assert TASK.target(ITEM) == (
        '{"customer_name":"José Pérez","issue_category":"billing","urgency":"high",'
        '"requested_action":"Refund the duplicate charge."}'
    )
    assert TASK.target({**ITEM, "customer_name": None}).startswith('{"customer_name":null,')


@pytest.mark.parametrize("name", sorted(ITEM))
def test_refuses_items_with_a_field_missing(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'"):
        TASK.validate({key: value for key, value in ITEM.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email", ""),
        ("email", None),
        ("customer_name", " "),
        ("customer_name", 3),
        ("customer_name", "J" * (LONGEST_NAME + 1)),
        ("issue_category", "Billing"),
        ("issue_category", None),
        ("urgency", "urgent"),
        ("urgency", ["high"]),
        ("requested_action", None),
    ],
)
def test_refuses_items_with_an_unusable_field(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"'{name}'") as raised:
        TASK.validate({**ITEM, name: value})
    assert "\n" not in str(raised.value)


UNASKED = sorted(name for name, grader in TASK.graders.items() if not grader.needs)
"""Graders that ask nobody."""

NAMES = st.none() | st.text(min_size=1, max_size=40).filter(lambda text: bool(text.strip()))
ITEMS = st.fixed_dictionaries(
    {
        "email": st.just("Hello"),
        "customer_name": NAMES,
        "issue_category": st.sampled_from(CATEGORIES),
        "urgency": st.sampled_from(URGENCIES),
        "requested_action": st.just("Do it."),
    }
)


@given(ITEMS)
def test_target_scores_one(item: dict[str, Any]) -> None:
    TASK.validate(item)
    for name in UNASKED:
        assert TASK.grader(name).grade(TASK.target(item), item).score == 1


@given(ITEMS, ITEMS, st.sampled_from(FENCED))
def test_fenced_and_bare_score_the_same(item: dict[str, Any], other: dict[str, Any], form: str) -> None:
    bare = TASK.target(other)
    assert strip_fence(form % bare) == strip_fence(bare) == bare
    grader = TASK.grader()
    assert replace(grader.grade(form % bare, item), rule="bare object") == grader.grade(bare, item)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*ITEM, "x"]) | st.text(), inner),
)


@pytest.mark.parametrize("name", UNASKED)
@given(output=st.text() | JSON.map(json.dumps) | JSON.map(json.dumps).map(lambda t: FENCE + t))
def test_total(name: str, output: str) -> None:
    grade = TASK.grader(name).grade(output, ITEM)
    assert 0 <= grade.score <= 1
    assert set(grade.fields) == ALL
    assert (grade.extracted is None) == (grade.error is not None)


@pytest.mark.parametrize("name", UNASKED)
@pytest.mark.parametrize("piece", [" ", "`", FENCE, f"{FENCE}json\n", "[", '{"a":', '"', "{", '{"customer_name":"'])
def test_hostile_text_takes_linear_time(name: str, piece: str) -> None:
    output = (piece * 300_000)[:300_000] + "x"
    start = time.process_time()
    TASK.grader(name).grade(output, ITEM)
    assert time.process_time() - start < 10  # quadratic time would be hours


def test_parses_what_published_runs_of_quantized_models_parsed() -> None:
    file = SHARED / "json_outputs" / "ollama_quantized_json_1200.jsonl"
    if not file.exists():
        pytest.skip("reference data absent")
    with file.open(encoding="utf-8") as stream:
        lines = [json.loads(line) for line in stream]
    for row in lines:
        passed = row["validation_status"] == "PASS"
        for form in ("%s", f"{FENCE}json\n%s\n{FENCE}"):
            grade = TASK.grader().grade(form % row["raw_response"], ITEM)
            assert (grade.error is None) == passed
    assert len(lines) == 1200
