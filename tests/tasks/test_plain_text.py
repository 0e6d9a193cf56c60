"""The grader of plain text: how many tokens were the likeliest ones."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.plain_text import NEXT_TOKEN, TASK

TOKENS = st.lists(st.text(), min_size=1)


@given(TOKENS, st.data())
def test_the_score_is_the_share_of_places_that_agree(tokens: list[str], data: st.DataObject) -> None:
    held = [data.draw(st.sampled_from([token, token + "x"])) for token in tokens]
    grade = NEXT_TOKEN.grade(json.dumps(held, ensure_ascii=False), {"tokens": tokens})
    assert grade.score == sum(map(str.__eq__, held, tokens)) / len(tokens)
    assert grade.error is None


@given(st.text(), TOKENS)
def test_what_is_no_list_of_as_many_tokens_is_unreadable(output: str, tokens: list[str]) -> None:
    grade = NEXT_TOKEN.grade(output, {"tokens": tokens})
    try:
        held = json.loads(output)
    except ValueError:
        held = None
    if not isinstance(held, list) or len(held) != len(tokens):
        assert (grade.score, grade.error) == (0.0, f"not a list of {len(tokens)} tokens")


def test_the_text_itself_scores_1() -> None:
    fields = {"text": "a cat", "tokens": ["a", " cat"]}
    assert NEXT_TOKEN.grade(TASK.target(fields), fields).score == 1.0


@pytest.mark.parametrize("text", ["", " \n", 3, None])
def test_a_document_without_text_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be non-blank text"):
        TASK.validate({"text": text})
