"""Long texts: what is hidden in them and where, what repeats, what is right, and what cannot be asked.

Numbers that the data card quotes are computed here and looked up in its text.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
from tests.tasks.test_bundled import closest, trigrams

from quantexp.config import TaskConfig, Tokenizer
from quantexp.config.schema import PromptConfig
from quantexp.tasks import get_task
from quantexp.tasks.items import Dataset, Item
from quantexp.tasks.long import LENGTHS, TASK, configure, load_items
from quantexp.tasks.long_filler import Draws, draw_prose, read_prose
from quantexp.tasks.long_items import DEPTHS, fill_text, make_rows
from quantexp.util.errors import UserError

ROWS = make_rows([1024])
CONFIG = TaskConfig("long", prompt=PromptConfig(1, "Read.", "{text}\n\nQuestion: {question}"), max_tokens=48)


@cache
def texts(tokens: int = 1024) -> dict[str, str]:
    """The texts of a length, if four characters are a token."""
    rows = ROWS if tokens == 1024 else make_rows([tokens])
    return {row["id"]: str(fill_text(row["id"], row, lambda text: len(text) <= 4 * tokens)) for row in rows}


def card() -> str:
    return " ".join(files("quantexp.tasks").joinpath("bundled", "long.md").read_text(encoding="utf-8").split())


def count(messages: Sequence[Any]) -> int:
    return sum(len(message["content"]) for message in messages) // 4


def grade(output: str, **fields: Any) -> tuple[float, str | None]:
    found = TASK.grader().grade(output, {"question": "?", "candidates": [], **fields})
    assert found.fields["all"] == float(found.score == 1)
    return found.score, found.extracted


# Items


def test_the_same_items_are_made_everywhere() -> None:
    # A change here needs another VERSION in long_items.py: runs before and after it are not of the same items.
    assert load_items([1024], Tokenizer.model).fingerprint[:16] == "311375990bdf6660"
    draws = Draws("seed")
    assert [draws.below(100) for _ in range(3)] == [34, 68, 2]
    assert make_rows([4096, 1024])[75:] == ROWS
    assert load_items([1024], Tokenizer.model).facts != load_items([1024], Tokenizer.characters).facts


def test_levels_and_kinds_are_those_of_the_card() -> None:
    section = files("quantexp.tasks").joinpath("bundled", "long.md").read_text(encoding="utf-8")
    table = [line.split("|")[1:-1] for line in section.split("\n") if re.match(r"\| `\w+` \|", line)]
    kinds = Counter(row["category"] for row in ROWS)
    assert {cells[0].strip(" `"): int(cells[-1]) for cells in table} == kinds
    levels = Counter(row["difficulty"] for row in ROWS)
    *first, last = (str(levels[level]) for level in range(1, 6))
    assert f"levels 1 to 5 have {', '.join(first)} and {last} items" in card()
    scored = re.search(r"scores (0\.\d+) on the 50 items", card())
    assert scored
    assert 0.15 <= float(scored[1]) <= 0.9


def test_every_item_is_asked_about_what_its_text_holds_once() -> None:
    for row in ROWS:
        text = texts()[row["id"]]
        assert all(text.count(needle) == 1 for needle in row["needles"]), row["id"]
        assert len(re.findall(r"\d{5}", text)) == sum(len(re.findall(r"\d{5}", each)) for each in row["needles"])
        assert 0.95 * 4096 < len(text) <= 4096
        assert TASK.grader().grade(TASK.target(row), row).score == 1
        if match := re.fullmatch(r"1024 tokens, (\d+)%", row["place"]):
            [*_, found] = [text.index(row["needles"][0]) / len(text)]
            assert abs(found - int(match[1]) / 100) < 0.08, row["id"]
    asked = Counter(row["place"] for row in ROWS)
    assert [asked[f"1024 tokens, {depth}%"] for depth in DEPTHS] == [6] * 5


def test_answers_follow_from_the_needles_alone() -> None:
    for row in ROWS:
        told, [first, *_] = row["needles"], row["answer"]
        if row["category"] == "variables":
            thing = re.search(r"the ([\w ]+) at the end", row["question"])
            assert thing
            assert [each for each in told if thing[1] in each][-1].split()[-1] == f"{first}."
        elif row["category"] == "counting":
            ship = re.search(r"ferry (\w+)", row["question"])
            assert ship
            assert sum(ship[1] in each for each in told) == int(first)
            assert len(told) == 2 * int(first)
        elif row["category"] == "aggregation":
            winds = {int(each.split()[-2]): each for each in told}
            assert f"at {first} the" in winds[max(winds)]
        elif row["category"] == "report" and "together" in row["question"]:
            staff = [int(n) for each in told for n in re.findall(r"(?:had|staff of|,) (\d+) people", each)]
            assert sum(staff) == int(first)


def test_texts_are_not_alike_and_the_card_says_how_much_they_repeat() -> None:
    value, *_ = closest([text for name, text in texts().items() if "-report-" not in name])
    assert value < 0.5
    assert f"largest value between two texts of 1024 tokens is {value:.2f}" in card()
    value, *_ = closest([text for name, text in texts().items() if "-report-" in name])
    assert f"between two reports {value:.2f}" in card()
    value, *_ = closest(read_prose())
    assert value < 0.05
    assert f"{len(read_prose())} paragraphs" in card()
    # In one long text.
    name, row = next((row["id"], row) for row in make_rows([32768]) if row["category"] == "needle")
    text = str(fill_text(name, row, lambda text: len(text) <= 4 * 32768))
    grams = [gram for paragraph in text.split("\n\n") for gram in trigrams(paragraph)]
    assert f"{100 * (1 - len({*grams}) / len(grams)):.0f}% of the word trigrams" in card()
    assert f"each paragraph comes {len(text) / sum(map(len, prose_round())):.1f} times" in card()


def prose_round() -> list[str]:
    """Filler up to where paragraphs come again."""
    stream = draw_prose("round")
    return [next(stream) for _ in range(2 * len(read_prose()))]


# Grading


@pytest.mark.parametrize(
    ("output", "score", "read"),
    [
        ("The archive number of the red drum in hall 7 is 12345.", 1, "12345"),
        ("12,345", 1, "12345"),
        ("12345 or 54321", 0, "12345, 54321"),
        ("123456", 0, None),
        ("The number is not in the text.", 0, None),
    ],
)
def test_a_number(output: str, score: float, read: str | None) -> None:
    assert grade(output, answer=["12345"]) == (score, read)


def test_several_numbers_are_scored_by_their_share_and_listing_everything_does_not_pay() -> None:
    answer = ["11111", "22222", "33333", "44444"]
    assert grade("1. 11111\n2. 22222\n3. 33333\n4. 44444", answer=answer)[0] == 1
    assert grade("11111 and 22222, and again 11111", answer=answer)[0] == 0.5
    assert grade(" ".join([*answer, "55555", "66666", "77777", "88888"]), answer=answer)[0] == 0.5


def test_counts_and_names() -> None:
    question = "How many people did the department of bridges have in 1907?"
    assert grade("In 1907 it had 41 people.", question=question, answer=["41"]) == (1, "41")
    assert grade("Seven times", answer=["7"]) == (1, "7")
    assert grade("7 or 8", answer=["7"])[0] == 0
    names = {"answer": ["Ole"], "candidates": ["Ole", "Olena", "Thea"]}
    assert grade("OLE has it.", **names) == (1, "Ole")
    assert grade("Olena", **names) == (0, "Olena")
    assert grade("Thea gave it to Ole", **names)[0] == 0


# Configuration


def test_texts_are_made_to_measure() -> None:
    task = configure(replace(CONFIG, lengths=[600, 1200]))
    data = task.load()
    items = [data.items[0], data.items[20], data.items[80]]
    requests = task.ask(items, "Be exact.", count)
    for item in items:
        [context] = requests[item.id].contexts
        system, user = context.messages
        assert system == {"role": "system", "content": "Be exact."}
        assert user["content"].startswith("Read.\n\n")
        assert user["content"].endswith(f"\n\nQuestion: {item.fields['question']}")
        assert 0.9 * (item.fields["length"] - 48) < count(context.messages) <= item.fields["length"] - 48


def test_a_server_counts_characters_if_it_is_told_to() -> None:
    items = TASK.load().items[:1]
    with pytest.raises(UserError, match=r"only the server knows: set task\.tokenizer=characters, which counts 4"):
        configure(CONFIG).ask(items, "", lambda _: 0)
    [request] = configure(replace(CONFIG, tokenizer=Tokenizer.characters)).ask(items, "", lambda _: 0).values()
    assert 0.9 * 976 < len(request.contexts[0].messages[-1]["content"]) / 4 <= 976


def loaded(**changes: Any) -> Dataset:
    return configure(replace(CONFIG, **changes)).load()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lengths": [256]}, r"task\.lengths=\[256\] must be different numbers of tokens, each at least 512"),
        ({"lengths": [1024, 1024]}, "must be different numbers"),
        ({"shots": 2}, r"task=long shows no worked examples: leave task\.shots out"),
        ({"prompt": PromptConfig(1, "", "{text}")}, r"task\.prompt\.item=\{text\} must hold \{text\} and \{question\}"),
    ],
)
def test_what_cannot_be_asked_is_told(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        loaded(**changes)


def test_an_item_that_leaves_no_room_is_told() -> None:
    item: Item = TASK.load().items[0]
    with pytest.raises(UserError, match=r"does not fit into 1024 tokens together with task\.max_tokens=1000"):
        configure(replace(CONFIG, max_tokens=1000)).ask([item], "", count)


def test_the_default_lengths_are_those_of_the_configuration() -> None:
    assert get_task("long") is TASK
    assert {item.fields["length"] for item in TASK.load().items} == {*LENGTHS}
