"""The bundled items are what their data cards and their tasks claim.

Numbers that a card quotes are computed here and looked up in its text, so that neither can change alone.
"""

import ast
import json
import operator
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundled_math import DERIVED
from tests.support.judges import RUBRICS

from quantexp.config import DataConfig
from quantexp.evaluation.resources import ResourceSettings, open_grader
from quantexp.tasks import TASKS, Grade, Task, get_task
from quantexp.tasks.data import load
from quantexp.tasks.extraction import CATEGORIES, URGENCIES
from quantexp.tasks.graders.base import Answer, JointGrading
from quantexp.tasks.graders.calibration import load_pairs
from quantexp.tasks.graders.rubrics import SAME_REQUEST, Rubric
from quantexp.tasks.normalise import normalize_answer, normalize_name

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "data"
LEVELS = (1, 2, 3, 4, 5)
TASK_NAMES = sorted(name for name, task in TASKS.items() if task.is_bundled and name != "long")
"""Those whose items are in files; tests/tasks/test_long.py has the one that makes them."""

TEXT = {
    "chat": "turns",
    "choice": "question",
    "languages": "question",
    "code": "prompt",
    "gsm8k": "question",
    "triviaqa": "question",
    "extraction": "email",
    "instructions": "prompt",
    "summary": "document",
    "tools": "prompt",
}
COUNTS = {
    "chat": 60,
    "choice": 240,
    "languages": 320,
    "code": 100,
    "gsm8k": 200,
    "triviaqa": 200,
    "extraction": 200,
    "instructions": 160,
    "summary": 60,
    "tools": 120,
}
IDS = {
    "languages": ("language-{:03d}", "language-example-{}", 48),
    "chat": ("chat-{:03d}", "chat-example-{}", 8),
    "choice": ("choice-{:03d}", "choice-example-{}", 8),
    "code": ("code-{:03d}", "code-example-{}", 8),
    "gsm8k": ("math-{:03d}", "math-example-{}", 8),
    "triviaqa": ("trivia-{:03d}", "trivia-shot-{}", 8),
    "extraction": ("mail-{:03d}", "mail-shot-{}", 6),
    "instructions": ("instruction-{:03d}", "instruction-example-{}", 6),
    "summary": ("text-{:03d}", "text-shot-{}", 6),
    "tools": ("tool-{:03d}", "tool-example-{}", 6),
}
KEYS = {
    "languages": ["id", "category", "parallel", "question", "choices", "answer", "aliases", "difficulty"],
    "chat": ["id", "category", "turns", "replies", "answer", "checks", "difficulty"],
    "choice": ["id", "category", "question", "choices", "answer", "difficulty"],
    "code": ["id", "category", "prompt", "function", "solution", "tests", "difficulty"],
    "gsm8k": ["id", "question", "answer", "difficulty"],
    "triviaqa": ["id", "question", "answer", "aliases", "difficulty"],
    "summary": ["id", "category", "document", "summary", "must", "must_not", "mentions", "difficulty"],
    "extraction": [
        "id",
        "email",
        "customer_name",
        "issue_category",
        "urgency",
        "requested_action",
        "difficulty",
    ],
    "instructions": ["id", "category", "prompt", "constraints", "answer", "difficulty"],
    "tools": ["id", "category", "prompt", "tools", "calls", "difficulty"],
}

Row = dict[str, Any]


# Reading the files


def read_rows(text: str) -> list[Row]:
    return [json.loads(line) for line in text.split("\n") if line]


@cache
def bundled(name: str) -> str:
    return files("quantexp.tasks").joinpath("bundled", name).read_text(encoding="utf-8")


def items(task: str) -> list[Row]:
    return read_rows(bundled(f"{task}.jsonl"))


def examples(task: str) -> list[Row]:
    return read_rows(bundled(f"{task}_examples.jsonl"))


def everything(task: str) -> list[Row]:
    return items(task) + examples(task)


def card(task: str) -> str:
    """The data card, each run of white space as one space."""
    return " ".join(bundled(f"{task}.md").split())


def table(task: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading of the card, without its head."""
    section = bundled(f"{task}.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def at(level: int, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["difficulty"] == level]


def reference(*path: str) -> list[Row]:
    file = REFERENCE.joinpath(*path)
    if not file.exists():
        pytest.skip("the public reference data are not here")
    return read_rows(file.read_text(encoding="utf-8"))


# Similarity


def trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+(?:[.,:]\d+)*", text.lower())
    return {tuple(words[i : i + 3]) for i in range(len(words) - 2)} or {tuple(words)}


def closest(texts: Sequence[str], others: Sequence[str] | None = None) -> tuple[float, str, str]:
    """The largest Jaccard index of word trigrams between a text and one of the others (or one before it)."""
    holders: dict[tuple[str, ...], list[int]] = {}
    sizes = []
    for number, text in enumerate(texts):
        grams = trigrams(text)
        sizes.append(len(grams))
        for gram in grams:
            holders.setdefault(gram, []).append(number)
    best = (0.0, "", "")
    for number, text in enumerate(texts if others is None else others):
        grams = trigrams(text)
        shared = Counter(holder for gram in grams for holder in holders.get(gram, ()))
        for holder, count in shared.items():
            if others is not None or holder < number:
                best = max(best, (count / (len(grams) + sizes[holder] - count), texts[holder], text))
    return best


def masked(text: str) -> str:
    return re.sub(r"\d[\d,]*(?:\.\d+)?", "0", text)


def test_similarity_is_the_jaccard_index_of_trigrams() -> None:
    assert closest(["a b c d", "p q r"], ["A b, c e!", "x y z"])[0] == pytest.approx(1 / 3)
    assert closest(["a b c d", "p q r s t", "x q r s t"])[0] == pytest.approx(2 / 4)
    assert closest(["7 apples cost 1.50 dollars", masked("8 apples cost 1,200 dollars")])[0] == 0
    assert closest([masked("7 apples cost 1.50 dollars"), masked("8 apples cost 1,200 dollars")])[0] == 1


def grade_all(task: Task, answers: Sequence[tuple[str, Row]]) -> list[Grade]:
    with open_grader(task.grader(), ResourceSettings("a test", shows=False)) as opened:
        given = [(Answer(text), row) for text, row in answers]
        return (
            [*opened.grade.grade_all(given)]
            if isinstance(opened.grade, JointGrading)
            else [opened.grade(*each) for each in given]
        )


# All tasks


@pytest.mark.parametrize("name", TASK_NAMES)
def test_the_task_accepts_all_items_in_the_order_of_the_file(name: str) -> None:
    dataset = load(DataConfig(name="bundled"), get_task(name))
    assert [item.id for item in dataset.items] == [row["id"] for row in items(name)]
    assert [item.id for item in dataset.examples] == [row["id"] for row in examples(name)]
    assert all(item.difficulty in LEVELS for item in dataset.items + dataset.examples)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_ids(name: str) -> None:
    item_id, example_id, examples_wanted = IDS[name]
    assert [row["id"] for row in items(name)] == [item_id.format(n) for n in range(1, COUNTS[name] + 1)]
    assert [row["id"] for row in examples(name)] == [example_id.format(n) for n in range(1, examples_wanted + 1)]


@pytest.mark.parametrize("name", TASK_NAMES)
def test_items_have_the_fields_of_the_card_and_no_others(name: str) -> None:
    assert all(list(row) == KEYS[name] for row in everything(name))
    assert all(f"`{key}`" in card(name) for key in KEYS[name] if (name, key) != ("extraction", "id"))


@pytest.mark.parametrize("name", TASK_NAMES)
def test_as_many_items_at_each_level(name: str) -> None:
    assert Counter(row["difficulty"] for row in items(name)) == dict.fromkeys(LEVELS, COUNTS[name] // 5)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_text_is_composed_unicode_without_invisible_characters(name: str) -> None:
    for file in (f"{name}.jsonl", f"{name}_examples.jsonl"):
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in read_rows(bundled(file))) + "\n"
        assert bundled(file) == text, f"{file}: one object a line, written as json.dumps does"
        assert unicodedata.is_normalized("NFC", text)
        assert {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Co", "Cn", "Zl", "Zp"}} == {"\n"}
        assert {c for c in text if unicodedata.category(c) == "Zs"} == {" "}
    for row in everything(name):
        for value in row.values():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    assert text == text.strip(), row["id"]
                    # Code is indented.
                    assert not re.search(r"[\t\r]| \n|\n\n\n" + r"| {2}" * (name != "code"), text), row["id"]


@pytest.mark.parametrize("name", TASK_NAMES)
def test_the_target_of_every_item_is_right(name: str) -> None:
    task, rows = get_task(name), everything(name)
    for row, grade in zip(rows, grade_all(task, [(task.target(row), row) for row in rows]), strict=True):
        assert (grade.score, grade.error) == (1, None), row["id"]


@pytest.mark.parametrize("name", [name for name in TASK_NAMES if name != "code"])  # which has a test of its own
def test_no_constant_answer_is_often_right(name: str) -> None:
    # A grader or gold values that let a constant answer through would make a task worthless.
    task = get_task(name)
    rows = items(name)
    for level in LEVELS:
        constant = task.target(at(level, rows)[0])
        right = sum(task.grader().grade(constant, row).score == 1 for row in rows)
        assert right <= 20, constant


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("chat", "0.12"),
        ("choice", "0.25"),
        ("languages", "0.33"),
        ("code", "0.26"),
        ("gsm8k", "0.148"),
        ("triviaqa", "0.17"),
        ("extraction", "0.11"),
        ("instructions", "0.27"),
        ("summary", "0.02"),
        ("tools", "0.29"),
    ],
)
def test_no_two_items_are_alike(name: str, quoted: str) -> None:
    texts = ["\n".join(text) if isinstance(text := row[TEXT[name]], list) else text for row in everything(name)]
    assert len({normalize_answer(text) for text in texts}) == len(texts)
    value, *pair = closest(texts)
    assert value < (0.30 if name in ("extraction", "summary") else 0.35), pair
    digits = len(quoted) - 2
    assert quoted == f"{value:.{digits}f}", pair
    assert re.search(rf"[Ll]argest\b[^:.]*?\b(?:is|questions:) {re.escape(quoted)}\b", card(name))


@pytest.mark.parametrize("name", TASK_NAMES)
def test_the_card_names_its_files_and_how_to_ask_for_them(name: str) -> None:
    text = card(name)
    assert f"`data=bundled task={name}`" in text
    assert f"`{name}.jsonl`" in text
    assert f"`{name}_examples.jsonl`" in text
    assert re.search(rf"\b{COUNTS[name]}\b", text.partition(f"`{name}.jsonl`")[0])
    assert re.search(rf"\b{len(examples(name))} (?:worked )?examples", text)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_what_the_card_refers_to_exists(name: str) -> None:
    ids = {row["id"] for row in everything(name)}
    for quoted in re.findall(r"`([^`]+)`", card(name)):
        if re.fullmatch(r"[a-z]+(?:-[a-z]+)?-\d+", quoted):
            assert quoted in ids
        elif "/" in quoted and re.search(r"\.\w+$", quoted):
            assert (ROOT / quoted).is_file(), quoted
        elif quoted.endswith((".jsonl", ".py", ".md", ".yaml")):
            assert bundled(quoted)


def test_everything_bundled_ships_in_the_wheel() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    package = ROOT / "src" / "quantexp" / "tasks"
    shipped = {path for pattern in setuptools["package-data"]["quantexp.tasks"] for path in package.glob(pattern)}
    assert shipped == {path for path in (package / "bundled").rglob("*") if path.is_file()}
    assert {path.name for path in shipped} == {
        *(f"{name}{ending}" for name in TASK_NAMES for ending in (".jsonl", "_examples.jsonl", ".md")),
        *(f"{rubric.calibration}{ending}" for rubric in RUBRICS for ending in (".jsonl", ".md")),
        *("long.md", "long_prose.jsonl"),
    }


# Word problems

NUMBER = r"-?\d[\d,]*(?<!,)(?:\.\d+)?"
TERM = rf"\(*{NUMBER}\)*"
SIDE = rf"{TERM}(?:(?: [-+*/] |/){TERM})*"
STATEMENT = re.compile(rf"({SIDE}) = ({SIDE})")
GOLD = re.compile(r"\n#### (-?(?:\d{1,3}(?:,\d{3})+|\d{1,3})(?:\.\d+)?)\Z")

OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def exact(expression: str) -> Fraction:
    """The value of `3,600 * 3/4` and its like, without rounding."""

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant(value=int() | float() as number):
                return Fraction(str(number))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -value(operand)
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](value(left), value(right))
        raise ValueError(expression)

    return value(ast.parse(expression.replace(",", ""), mode="eval").body)


def statements(row: Row) -> list[tuple[str, str]]:
    """Both sides of every `a op b = c` of a worked answer."""
    working = row["answer"].rpartition("\n")[0]
    found = STATEMENT.findall(working)
    assert len(found) == working.count("="), f"{row['id']}: a statement cannot be read"
    return found


def gold(row: Row) -> str:
    found = GOLD.search(row["answer"])
    assert found, row["id"]
    return found[1]


def operations(row: Row) -> int:
    """How many there are in the worked answer; `3/4` is a number."""
    return sum(len(re.findall(r" [-+*/] ", left)) for left, _ in statements(row))


def one_step(row: Row) -> tuple[Fraction, str, Fraction] | None:
    """The calculation of a worked answer of one operation."""
    found = re.fullmatch(rf"({NUMBER}) ([-+*/]) ({NUMBER}) = {NUMBER}\n#### \S+", row["answer"])
    return (exact(found[1]), found[2], exact(found[3])) if found else None


def in_a_group_of_ten(row: Row) -> bool:
    """Whether it is a fourth, eighth, ... item of its level; one item in five is of each level."""
    before = int(row["id"].removeprefix("math-")) - 1
    return before // 5 % 4 == 3


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3,600 * 3/4", Fraction(2700)),
        ("-18 + 7.5", Fraction(-21, 2)),
        ("(3 + 4) / 25 * 100", Fraction(28)),
        ("0.1 + 0.2", Fraction(3, 10)),
    ],
)
def test_exact(expression: str, value: Fraction) -> None:
    assert exact(expression) == value


def test_statements_are_found_between_words() -> None:
    row = {"id": "x", "answer": "Cost: 2 * 1,500 = 3,000, and (3,000 - 20) / 2 = 1,490 left\n#### 1,490"}
    assert statements(row) == [("2 * 1,500", "3,000"), ("(3,000 - 20) / 2", "1,490")]
    assert operations(row) == 3


def test_enough_word_problems() -> None:
    assert len(items("gsm8k")) >= 120
    assert [row["difficulty"] for row in items("gsm8k")] == [1, 2, 3, 4, 5] * 40
    levels = [row["difficulty"] for row in examples("gsm8k")]
    assert f"rise from level 1 to 4 ({', '.join(map(str, levels))})" in card("gsm8k")
    assert levels == sorted(levels)


def test_every_answer_follows_from_its_question() -> None:
    assert {row["id"]: exact(gold(row)) for row in items("gsm8k")} == DERIVED


def test_worked_answers_are_true_and_end_in_the_answer() -> None:
    count = 0
    for row in everything("gsm8k"):
        lines = row["answer"].count("\n")
        assert 1 <= lines <= 5, row["id"]
        results = []
        for left, right in statements(row):
            assert exact(left) == exact(right), f"{row['id']}: {left} = {right}"
            results.append(exact(right))
        assert results[-1] == exact(gold(row)), row["id"]
        count += len(results)
    assert f"All {count} statements of the form `a op b = c`" in card("gsm8k")
    assert "1 to 5 lines of working" in card("gsm8k")


def test_answers_are_written_as_the_card_says() -> None:
    for row in items("gsm8k"):
        whole, _, decimals = gold(row).partition(".")
        assert whole in {f"{int(whole.replace(',', '')):,}", "-0"}, row["id"]
        if decimals and "dollars" in row["question"]:
            assert len(decimals) == 2, row["id"]
        else:
            assert not decimals.endswith("0"), row["id"]


def test_answers_by_kind() -> None:
    def kinds(rows: list[Row]) -> list[int]:
        answers = [gold(row) for row in rows]
        plain = sum(bool(re.fullmatch(r"\d{1,3}", answer)) for answer in answers)
        return [plain, *(sum(sign in answer for answer in answers) for sign in "-.,")]

    rows = items("gsm8k")
    counted = {str(level): kinds(at(level, rows)) for level in LEVELS} | {"all": kinds(rows)}
    assert {level: [int(cell) for cell in cells] for level, *cells in table("gsm8k", "Answers by kind")} == counted
    _, negative, decimal, thousands = counted["all"]
    assert negative >= 8
    assert decimal >= 12
    assert thousands >= 12
    assert [row["id"] for row in rows if "-" in gold(row) and "." in gold(row)] == ["math-160"]
    assert "One answer at level 5 (-16.5, `math-160`) is both negative and decimal" in card("gsm8k")


@pytest.mark.parametrize("level", [1, 2])
def test_easy_problems_keep_to_their_level(level: int) -> None:
    for row in at(level, items("gsm8k")):
        step = one_step(row)
        assert step, row["id"]
        left, sign, right = step
        shown = [exact(number) for number in re.findall(NUMBER, row["question"])]
        # Halving and doubling need not name the 2.
        assert shown in ([left, right], [left] if level == 2 and right == 2 else None), row["id"]
        assert len(re.findall(r"[.?!](?=\s|\Z)", row["question"])) <= 3, row["id"]
        result = exact(gold(row))
        if level == 1:
            assert sign in "+-", row["id"]
            assert 1 <= left <= 10, row["id"]
            assert 1 <= right <= 10, row["id"]
            assert 0 <= result <= 15, row["id"]
        elif sign == "*":
            assert {left, right} & {2, 3, 5, 10}, row["id"]
            assert max(left, right) <= 20, row["id"]
        elif sign == "/":
            assert right == 2, row["id"]
        elif "," in gold(row):
            assert {left % 1000, right % 1000} <= {0, 500}, row["id"]
        else:
            assert max(left, right) <= 20, row["id"]
            assert result <= 30, row["id"]


def test_the_card_counts_the_easy_problems() -> None:
    signs = {
        level: Counter(step[1] for row in at(level, items("gsm8k")) if (step := one_step(row))) for level in (1, 2)
    }
    second = [gold(row) for row in at(2, items("gsm8k"))]
    text = card("gsm8k")
    assert f"exactly one addition ({signs[1]['+']}) or subtraction ({signs[1]['-']})" in text
    assert f"{signs[2]['+'] + signs[2]['-']} additions and subtractions, {signs[2]['*']} multiplications" in text
    assert f"and {signs[2]['/']} halvings" in text
    assert f"{sum(',' in answer for answer in second)} items with round thousands" in text
    assert f"{sum('.' in answer for answer in second)} items with simple decimals of money" in text
    assert f"{sum('-' in answer for answer in second)} with a result below zero" in text


def test_harder_problems_need_as_many_operations_as_the_card_says() -> None:
    rows = items("gsm8k")
    ten = {level: [operations(row) for row in at(level, rows) if in_a_group_of_ten(row)] for level in LEVELS}
    thirty = {level: [operations(row) for row in at(level, rows) if not in_a_group_of_ten(row)] for level in LEVELS}
    assert [len(ten[level]) for level in (3, 4, 5)] == [10, 10, 10]
    assert set(thirty[3]) == set(ten[3]) == {1}
    assert set(thirty[4]) == {2}
    assert set(ten[4]) == {1}
    assert (min(thirty[5]), max(thirty[5])) == (4, 10)
    assert set(ten[5]) == {3, 4}
    text = card("gsm8k")
    assert "30 with two operations; 10 with one operation" in text
    assert "30 with four to ten operations" in text
    assert "10 with three or four operations" in text


def test_the_thirty_of_level_three_use_small_numbers() -> None:
    thousands = 0
    for row in at(3, items("gsm8k")):
        if in_a_group_of_ten(row):
            continue
        step = one_step(row)
        assert step, row["id"]
        left, sign, right = step
        assert sign in "+-" or (sign == "*" and right == 2), row["id"]
        if max(left, right) > 20:
            thousands += 1
            assert max(left, right) % 1000 == 0, row["id"]
    assert thousands == 2
    assert "numbers up to 20, two of them with a round thousand" in card("gsm8k")


def test_no_item_repeats_the_calculation_of_an_example() -> None:
    def key(row: Row) -> tuple[str, list[Fraction]] | None:
        step = one_step(row)
        if step is None:
            return None
        left, sign, right = step
        return sign, sorted([left, right]) if sign in "+*" else [left, right]

    taken = [key(row) for row in items("gsm8k")]
    shown = [step for row in examples("gsm8k") if (step := key(row))]
    assert len(shown) == 6
    assert not [step for step in shown if step in taken]


def test_no_two_problems_differ_in_their_numbers_alone() -> None:
    value, *pair = closest([masked(row["question"]) for row in everything("gsm8k")])
    assert value < 0.60, pair
    assert f"and {value:.3f} when every number is masked (limit 0.60)" in card("gsm8k")


def test_no_problem_is_close_to_a_published_one() -> None:
    public = [row["question"] for part in ("train", "test") for row in reference("gsm8k", f"{part}.jsonl")]
    value, *pair = closest([row["question"] for row in everything("gsm8k")], public)
    assert value < 0.30, pair
    assert f"to any of the {len(public):,} GSM8K questions (train and test) is {value:.3f}" in card("gsm8k")


# Trivia


def test_aliases_stand_for_something_and_begin_with_the_answer() -> None:
    for row in everything("triviaqa"):
        aliases = row["aliases"]
        assert aliases[0] == row["answer"], row["id"]
        assert all(normalize_answer(alias) for alias in aliases), row["id"]
        assert len(set(aliases)) == len(aliases), row["id"]
        assert row["question"].endswith("?"), row["id"]
    count = sum(len(row["aliases"]) for row in items("triviaqa"))
    assert f"There are {count:,} aliases, {count / 200:.1f} per question" in card("triviaqa")


def test_no_trivia_question_contains_its_answer() -> None:
    for row in everything("triviaqa"):
        question = f" {normalize_answer(row['question'])} "
        assert not [alias for alias in row["aliases"] if f" {normalize_answer(alias)} " in question], row["id"]


def test_answers_with_marks_have_a_plain_form() -> None:
    marked = [row for row in items("triviaqa") if not row["answer"].isascii()]
    assert [row["id"] for row in marked if not any(alias.isascii() for alias in row["aliases"])] == []
    assert f"{len(marked)} canonical answers carry an accent or other mark" in card("triviaqa")


def test_the_card_counts_the_kinds_of_trivia_answers() -> None:
    rows = items("triviaqa")
    dates = [row for row in rows if re.search(r"\d{3}|[a-z] \d", row["answer"]) and "the year" in str(row["aliases"])]
    dates += [row for row in rows if row["answer"] == "December 25"]
    numbers = [row for row in rows if row not in dates and any(alias.isdigit() for alias in row["aliases"])]
    kinds = {kind: [int(cell) for cell in cells] for kind, *cells in table("triviaqa", "Kinds of answer")}
    for kind, found in (("year or date", dates), ("number", numbers)):
        assert kinds[kind] == [*(len(at(level, found)) for level in LEVELS), len(found)], kind
    assert all(sum(counts[:5]) == counts[5] for counts in kinds.values())
    assert [sum(column) for column in zip(*kinds.values(), strict=True)] == [40, 40, 40, 40, 40, 200]

    with_article = [row for row in rows if re.match(r"(?:The|An?) ", row["answer"])]
    assert len(with_article) == kinds["title of a work"][5] + 1
    assert f"All {len(with_article) - 1} titles begin with an article" in card("triviaqa")
    assert '"The Ashes"' in card("triviaqa")
    assert sum("capital" in row["question"] for row in rows) == 5
    assert "Five questions ask for a capital city" in card("triviaqa")


def test_the_card_accounts_for_all_trivia_questions() -> None:
    section = bundled("triviaqa.md").partition("\n## Subjects\n")[2].partition("\n## ")[0]
    subjects, regions = (re.findall(r" (\d+)[,.]", " ".join(part.split())) for part in section.strip().split("\n\n"))
    assert sum(map(int, subjects)) == 200
    assert sum(map(int, regions)) == 200
    assert all(cells[-1] == "40" for cells in table("triviaqa", "Difficulty"))
    answered = re.search(r"it answers (\d+), (\d+), (\d+), (\d+) and (\d+) of 40 correctly \((\d+)", card("triviaqa"))
    assert answered
    *by_level, total = map(int, answered.groups())
    assert sum(by_level) == total


def test_no_trivia_question_is_close_to_a_published_one() -> None:
    public = [row["question"] for row in reference("triviaqa", "dev_unfiltered_first3000.jsonl")]
    value, *pair = closest([row["question"] for row in everything("triviaqa")], public)
    assert value < 0.50, pair
    text = card("triviaqa")
    assert f"against {len(public):,} questions of TriviaQA's unfiltered development set: {value:.2f}" in text
    assert f"between any two of the {len(everything('triviaqa'))} questions" in text


# E-mails


def test_customers_stand_in_their_mail_and_write_once() -> None:
    names = []
    for row in everything("extraction"):
        name = row["customer_name"]
        if name is not None:
            assert name in row["email"], row["id"]
            assert not re.match(r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Sir|Dame)\b", name), row["id"]
            names.append(normalize_name(name))
    assert len(set(names)) == len(names)
    missing = sum(row["customer_name"] is None for row in items("extraction"))
    assert f"null ({missing} of 200)" in card("extraction")


def test_categories_and_urgencies_are_legal_and_balanced() -> None:
    rows = items("extraction")
    assert {row["issue_category"] for row in everything("extraction")} == set(CATEGORIES)
    assert {row["urgency"] for row in everything("extraction")} == set(URGENCIES)
    cells = Counter((row["difficulty"], row["issue_category"]) for row in rows)
    assert cells == {(level, category): 8 for level in LEVELS for category in CATEGORIES}
    assert "40 of each, 8 at each level" in card("extraction")
    counts = Counter(row["urgency"] for row in rows)
    assert f"| high {counts['high']}, medium {counts['medium']}, low {counts['low']} |" in card("extraction")
    assert all(60 <= count <= 70 for count in counts.values())


def test_the_card_says_how_category_and_urgency_depend() -> None:
    low = Counter(row["issue_category"] for row in items("extraction") if row["urgency"] == "low")
    assert (
        f"low are {low['product']} of 40 e-mails about products, {low['account']} about accounts, "
        f"{low['billing']} about billing, {low['shipping']} about shipping and {low['technical']} about technical"
    ) in card("extraction")


def test_lengths_of_emails_are_those_of_their_level() -> None:
    rows = items("extraction")
    stated = {int(level): words for level, words, _ in table("extraction", "How they were made")}
    for level in LEVELS:
        lengths = [len(row["email"].split()) for row in at(level, rows)]
        assert stated[level] == f"{min(lengths)} to {max(lengths)}"


def test_requested_actions_are_one_short_sentence() -> None:
    for row in everything("extraction"):
        action = row["requested_action"]
        assert action.endswith("."), row["id"]
        assert "\n" not in action, row["id"]
        assert len(action.split()) <= 20, row["id"]


def test_addresses_end_in_example_domains() -> None:
    addresses = [found for row in everything("extraction") for found in re.findall(r"[\w.+-]+@[\w.-]+\w", row["email"])]
    assert len(addresses) >= 5
    assert [address for address in addresses if not re.search(r"[@.]example\.(?:com|org|net)$", address)] == []
    assert not [row["id"] for row in everything("extraction") if re.search(r"https?://|www\.", row["email"])]


# Dialogues


def test_the_card_counts_the_dialogues() -> None:
    rows = items("chat")
    counted = {name: [int(cell) for cell in cells] for name, _, *cells in table("chat", "Categories")}
    of_level = Counter((row["category"], row["difficulty"]) for row in rows)
    assert counted == {name: [*(of_level[name, level] for level in LEVELS), 15] for name in counted}
    turns = Counter(len(row["turns"]) for row in rows)
    assert f"{turns[2]} dialogues have two turns, {turns[3]} have three and {turns[4]} have four" in card("chat")
    found = re.search(r"passes (\d+), (\d+), (\d+), (\d+) and (\d+) of 12 \((\d+) of 60\)", card("chat"))
    assert found
    *levels, total = map(int, found.groups())
    assert sum(levels) == total
    assert 0.15 <= total / 60 <= 0.9


def test_no_dialogue_is_passed_by_saying_nothing_in_particular() -> None:
    for row in everything("chat"):
        for answer in ("It is what it is.", "it is what it is?", "IT IS", "a\nb", "Well."):
            assert TASKS["chat"].grader().grade(answer, row).score == 0, row["id"]


# Multiple choice


def test_choices_are_balanced_and_tell_nothing_by_place_or_length() -> None:
    rows = items("choice")
    places = Counter((row["category"], row["difficulty"], row["choices"].index(row["answer"])) for row in rows)
    assert len(places) == 4 * 5 * 4
    assert set(places.values()) == {3}
    counted = {name: [int(cell) for cell in cells] for name, _, *cells in table("choice", "Categories")}
    of_level = Counter((row["category"], row["difficulty"]) for row in rows)
    assert counted == {name: [*(of_level[name, level] for level in LEVELS), 60] for name in counted}
    assert {row["category"] for row in everything("choice")} == set(counted)

    only = {
        end: [row for row in rows if (lengths := [*map(len, row["choices"])]).count(end(lengths)) == 1]
        for end in (max, min)
    }
    right = {end: sum(len(row["answer"]) == end(map(len, row["choices"])) for row in only[end]) for end in only}
    for end, found in only.items():
        assert right[end] < 0.3 * len(found)
    text = card("choice")
    assert (
        f"the only longest one, in characters, of {right[max]} items and the only shortest one of {right[min]};" in text
    )
    assert f"in {len(only[max])} items and the shortest in {len(only[min])}," in text
    mean = [
        sum(len(choice) for row in rows for choice in row["choices"] if (choice == row["answer"]) == wanted) / count
        for wanted, count in ((True, 240), (False, 720))
    ]
    assert f"right choices have {mean[0]:.1f} characters and wrong ones {mean[1]:.1f}" in text
    for row in rows:
        assert len(row["answer"]) <= 2 * max(len(choice) for choice in row["choices"] if choice != row["answer"])


def test_no_two_choices_or_sets_of_choices_are_the_same() -> None:
    rows = everything("choice")
    assert all(len({normalize_answer(choice) for choice in row["choices"]}) == 4 for row in rows)
    assert len({frozenset(row["choices"]) for row in rows}) == len(rows)
    value, *pair = closest([row["question"] for row in rows], [row["question"] for row in items("triviaqa")])
    assert f"against the questions of `triviaqa.jsonl`: {value:.2f}" in card("choice"), pair


def test_the_levels_of_choices_are_as_hard_as_the_card_says() -> None:
    found = re.search(r"finds (\d+), (\d+), (\d+), (\d+) and (\d+) of 48 \((\d+) of 240", card("choice"))
    assert found
    *levels, total = map(int, found.groups())
    assert sum(levels) == total
    assert levels == sorted(levels, reverse=True)


# Pairs by which judges are measured


@pytest.mark.parametrize("rubric", RUBRICS, ids=lambda rubric: rubric.id)
def test_pairs_of_judges_are_as_the_card_says(rubric: Rubric) -> None:
    name = rubric.calibration
    pairs = load_pairs(name)
    text = " ".join(bundled(f"calibration/{name}.md").split())
    assert len(pairs) >= 150
    assert text.startswith(f"# Data card: {text[13:].partition(' (calibration')[0]} (calibration")
    assert f"{len(pairs)} pairs (`{name}.jsonl`)" in text
    assert len({pair.id for pair in pairs}) == len({(pair.first, pair.second) for pair in pairs}) == len(pairs)
    labels = Counter(pair.label for pair in pairs)
    assert f"({labels[True]})" in text
    assert f"({labels[False]})" in text
    halves = Counter(pair.is_for_choosing for pair in pairs)
    assert f"{halves[True]} to choose thresholds, {halves[False]} to measure" in text
    for pair in pairs:
        assert pair.second == pair.second.strip() != pair.first
    kinds = Counter((pair.kind, pair.label) for pair in pairs)
    rows = [line.strip("|").split("|")[:3] for line in bundled(f"calibration/{name}.md").splitlines() if "|" in line]
    shown = {tuple(cell.strip() for cell in row) for row in rows}
    yes, no = ("same", "different") if rubric is SAME_REQUEST else ("said", "not said")
    assert {(kind, yes if label else no, str(count)) for (kind, label), count in kinds.items()} <= shown


def test_first_texts_of_requests_are_the_gold_actions() -> None:
    gold = {row["id"]: row["requested_action"] for row in items("extraction")}
    assert all(row["first"] == gold[row["item"]] for row in read_rows(bundled("calibration/requested_action.jsonl")))


# Summaries


def test_texts_and_checklists_are_as_the_card_says() -> None:
    rows, text = items("summary"), card("summary")
    cells = Counter((row["category"], row["difficulty"]) for row in rows)
    assert set(cells.values()) == {3}
    assert Counter(row["category"] for row in rows) == {kind: int(n) for kind, n, _ in table("summary", "Categories")}
    stated = {int(level): words for level, words, _ in table("summary", "Difficulty")}
    for level in LEVELS:
        lengths = [len(row["document"].split()) for row in at(level, rows)]
        assert stated[level] == f"{min(lengths)} to {max(lengths)}"
    for name, of_item, of_example in (("must", 4, 3), ("must_not", 3, 2)):
        assert {len(row[name]) for row in rows} == {of_item}
        assert {len(row[name]) for row in examples("summary")} == {of_example}
        assert f"({of_item * 60} in all)" in text
    for field, shown in (("document", "124 to 272"), ("summary", "40 to 60")):
        lengths = [len(row[field].split()) for row in rows]
        assert f"{min(lengths)} to {max(lengths)}" == shown
        assert f"of {shown} words" in text
    assert {len(row["mentions"]) for row in rows} == {2, 3}
    statements = [each for row in everything("summary") for each in row["must"] + row["must_not"]]
    assert all(each.endswith(".") and len(each.split()) <= 20 for each in statements)


def test_calibration_summaries_are_of_bundled_texts_and_have_faults() -> None:
    by_id = {row["id"]: row for row in items("summary")}
    pairs = read_rows(bundled("calibration/summary.jsonl"))
    grouped: dict[str, list[Row]] = {}
    for pair in pairs:
        grouped.setdefault(pair["first"], []).append(pair)
    assert len(grouped) == 24
    for of_summary in grouped.values():
        [item] = {pair["item"] for pair in of_summary}
        row = by_id[item]
        assert [pair["second"] for pair in of_summary] == row["must"] + row["must_not"]
        faults = [pair["label"] != pair["kind"].startswith("fact") for pair in of_summary]
        assert any(faults)
    assert {by_id[pair["item"]]["difficulty"] for pair in pairs} == set(LEVELS)
    assert set(Counter(by_id[of[0]["item"]]["category"] for of in grouped.values()).values()) == {6}
