"""Parallel questions: answers normalised by the rules of their language, and read as choices on request."""

import json
import re
import unicodedata
from collections import Counter
from importlib.resources import files
from itertools import combinations
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.composing import compose_job, initialize_hydra

from quantexp.engines.llama_cpp.engine import LlamaCpp
from quantexp.evaluation.choices import ChoicePrompter
from quantexp.evaluation.prompts import Prompter
from quantexp.tasks import get_task, open_task
from quantexp.tasks.data import load
from quantexp.tasks.languages import ARTICLES, TASK, UNSPACED, normalize_local_answer
from quantexp.tasks.requests import Choose, Generate
from quantexp.util.errors import UserError

BUNDLED = files("quantexp.tasks") / "bundled"
ITEMS, EXAMPLES = (
    [json.loads(line) for line in (BUNDLED / f"languages{end}.jsonl").read_text(encoding="utf-8").splitlines()]
    for end in ("", "_examples")
)
CARD = " ".join((BUNDLED / "languages.md").read_text(encoding="utf-8").split())

LANGUAGES = (*ARTICLES, *sorted(UNSPACED), "Arabic", "Klingon")


@example(text="A\u00af", language="Chinese")
@given(text=st.text(), language=st.sampled_from(LANGUAGES))
def test_normal_forms_are_idempotent(text: str, language: str) -> None:
    once = normalize_local_answer(text, language)
    assert normalize_local_answer(once, language) == once


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("English", "The Blue Whale.", "blue whale"),
        ("German", "Die WEISSE Straße", "weiße strasse"),
        ("French", "L’oxygène !", "oxygène"),
        ("Spanish", "«El Cairo»", "cairo"),
        ("Italian", "l'Equatore", "equatore"),
        ("Chinese", "１２ 个。", "12个"),
        ("Japanese", "ｱﾏｿﾞﾝ 川", "アマゾン川"),
        ("Arabic", "اَلْقَاهِرَة", "القاهره"),
        ("Arabic", "٧", "7"),
        ("Arabic", "أفريقيا", "إفريقيا"),
    ],
)
def test_what_is_written_in_two_ways_is_one_answer(language: str, one: str, other: str) -> None:
    assert normalize_local_answer(one, language) == normalize_local_answer(other, language)


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("French", "péché", "pêche"),
        ("English", "a", ""),
        ("German", "das", "die"),
        ("Spanish", "el", "la"),
        ("Japanese", "ハ", "バ"),
        ("English", "vitamin D", "vitamin A"),
    ],
)
def test_what_differs_stays_apart(language: str, one: str, other: str) -> None:
    assert normalize_local_answer(one, language) != normalize_local_answer(other, language)


def _row(**changed: Any) -> dict[str, Any]:
    row = {
        **{"category": "German", "parallel": "p", "question": "Wer?", "choices": ["a", "der Hund"]},
        **{"answer": "der Hund", "aliases": ["der Hund", "Dackel"]},
    }
    return {**row, **changed}


@pytest.mark.parametrize(
    ("grader", "output", "score"),
    [
        ("languages", " Hund.\n\nFrage: ...", 1),
        ("languages", "„Dackel“", 1),
        ("languages", "Es ist der Hund", 0),
        ("languages", "dog", 0),
        ("languages-contains", "Es ist der Hund, glaube ich.", 1),
        ("languages-contains", "Hundert", 0),
        ("languages-contains", "die Katze", 0),
    ],
)
def test_short_answers(grader: str, output: str, score: float) -> None:
    assert TASK.grader(grader).grade(output, _row()).score == score


def test_a_mention_where_words_have_no_spaces() -> None:
    row = _row(category="Japanese", choices=["東京", "大阪"], answer="東京", aliases=["東京", "8"])
    grade = TASK.grader("languages-contains").grade
    assert grade("日本の首都は東京です。", row).score == 1
    assert grade("1989年です。", row).score == 0
    assert TASK.grader("languages").grade("… \n", row).error == "empty output"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"aliases": []}, "aliases"),
        ({"aliases": [" "]}, "aliases"),
        ({"aliases": "Hund"}, "aliases"),
        ({"answer": "B"}, "must be the text of the right choice"),
        ({"category": ""}, "category"),
        ({"parallel": None}, "parallel"),
    ],
)
def test_items_that_cannot_be_graded_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TASK.validate(_row(**changed))


def test_the_grader_chooses_the_request() -> None:
    with initialize_hydra():
        written, chosen = (compose_job("task=languages", f"task/grader={name}") for name in ("languages", "acc"))
    assert open_task(written.task).request is Generate
    assert open_task(chosen.task).request is Choose
    with pytest.raises(UserError, match="has no such grader"):
        open_task(written.task).grader("acc")
    assert get_task("languages").default_grader == "acc"


def test_an_item_in_all_languages_is_one_cluster() -> None:
    with initialize_hydra():
        config = compose_job("task=languages")
    items = load(config.data, open_task(config.task)).items
    clusters: dict[str, set[str]] = {}
    for item in items:
        clusters.setdefault(item.cluster, set()).add(item.fields["category"])
    assert {len(languages) for languages in clusters.values()} == {8}
    assert len(clusters) == 40


def test_worked_examples_are_in_the_language_of_the_item(engine: LlamaCpp) -> None:
    with initialize_hydra():
        written, chosen = (
            compose_job("task=languages", f"task/grader={name}", "task.shots=2") for name in ("languages", "acc")
        )
    data = load(written.data, open_task(written.task))
    prompter = Prompter(open_task(written.task), written.task, written.model, data.examples, engine)
    reader = ChoicePrompter(open_task(chosen.task), chosen, data.examples, engine, False)
    for item in data.items[:8]:
        own = [each for each in data.examples if each.fields["category"] == item.fields["category"]]
        for text in (prompter.prompt(item).text, reader.question(item).prompt.text):
            shown = [each.fields["question"] in text for each in data.examples]
            assert shown == [each in own[:2] for each in data.examples]
        assert item.fields["question"] in prompter.columns(item)["question"]
    assert prompter.hashes.keys() == {"sha256", "words_sha256"}
    others = [each for each in data.examples if each.fields["category"] != "English"]
    with pytest.raises(UserError, match="for which there are no worked examples"):
        Prompter(open_task(written.task), written.task, written.model, others, engine).prompt(data.items[0])
    with pytest.raises(UserError, match="than the 1 there are for category German"):
        Prompter(open_task(written.task), written.task, written.model, data.examples[:9], engine)


def test_no_accent_is_lost_and_no_word_is_split() -> None:
    assert normalize_local_answer("Perù", "Italian") != normalize_local_answer("Peru", "Italian")
    assert unicodedata.is_normalized("NFKC", normalize_local_answer("Pérou", "French"))


NAMES = ("English", "German", "French", "Spanish", "Italian", "Chinese", "Japanese", "Arabic")


def test_every_question_is_asked_in_every_language() -> None:
    for rows in (ITEMS, EXAMPLES):
        asked: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            asked.setdefault(row["parallel"], []).append(row)
        for same in asked.values():
            assert tuple(row["category"] for row in same) == NAMES
            assert len({row["difficulty"] for row in same}) == 1
    assert len({row["parallel"] for row in [*ITEMS, *EXAMPLES]}) == 40 + 6
    count = sum(len(row["aliases"]) for row in ITEMS)
    assert f"There are {count:,} aliases, {count / 320:.1f} per item" in CARD


def test_no_question_contains_its_answer_and_no_wrong_choice_is_one() -> None:
    for row in [*ITEMS, *EXAMPLES]:
        language = row["category"]
        accepted = {normalize_local_answer(alias, language) for alias in row["aliases"]}
        assert row["aliases"][0] == row["answer"], row["id"]
        assert len(set(row["aliases"])) == len(row["aliases"]), row["id"]
        assert "" not in accepted, row["id"]
        wrong = {normalize_local_answer(choice, language) for choice in row["choices"] if choice != row["answer"]}
        assert len(wrong) == 3, row["id"]
        assert not wrong & accepted, row["id"]
        question = normalize_local_answer(row["question"], language)
        found = [alias for alias in accepted if f" {alias} " in f" {question} "]
        if language in UNSPACED:
            found = [alias for alias in accepted if alias in question and len(alias) > 1]
        assert not found, row["id"]


def test_questions_are_not_alike_by_their_letters_either() -> None:
    for language in sorted(UNSPACED):
        letters = [re.findall(r"\w", row["question"]) for row in [*ITEMS, *EXAMPLES] if row["category"] == language]
        grams = [{tuple(text[at : at + 3]) for at in range(len(text) - 2)} for text in letters]
        value = max(len(one & other) / len(one | other) for one, other in combinations(grams, 2))
        assert value < 0.35
        assert f"in {language} {'is ' * (language == 'Chinese')}{value:.2f}" in CARD


def test_right_choices_stand_in_all_places_equally_often() -> None:
    rows = ITEMS
    places = [(row["category"], row["difficulty"], row["choices"].index(row["answer"])) for row in rows]
    assert set(Counter((language, place) for language, _, place in places).values()) == {10}
    assert set(Counter((level, place) for _, level, place in places).values()) == {16}
    ends = []
    for end in (max, min):
        only = [row for row in rows if [*map(len, row["choices"])].count(end(map(len, row["choices"]))) == 1]
        ends.append((sum(len(row["answer"]) == end(map(len, row["choices"])) for row in only), len(only)))
    (longest, all_longest), (shortest, all_shortest) = ends
    assert (
        f"only longest one, in characters, of {longest} items and the only shortest one of {shortest}; one choice "
        f"alone is the longest in {all_longest} items and the shortest in {all_shortest}."
    ) in CARD
