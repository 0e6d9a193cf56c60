"""Which answers are accepted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.emails.checks import LARGEST_SIMILARITY, Accepted, problem_of_answer, problem_of_email, shingles
from quantexp.tasks.emails.plan import EmailPlan, email_plan
from quantexp.tasks.emails.prompt import Email
from quantexp.util.terminal import one_line, printable

NAMED = email_plan(0, 0, 0.0)
NAMELESS = email_plan(0, 0, 1.0)

TEXT = """Hello, since this morning the radio that I bought from you last week does not switch on any more.

Ana Müller"""

texts = st.text(st.sampled_from("abc .,\nÉ"), max_size=60)


def fields(plan: EmailPlan = NAMED, **changes: Any) -> dict[str, Any]:
    named = {"email": TEXT, "customer_name": "Ana Müller" if plan.named else None, "requested_action": "Mend it."}
    return named | {"issue_category": plan.category, "urgency": plan.urgency} | changes


def problem(plan: EmailPlan = NAMED, accepted: Accepted | None = None, **changes: Any) -> str:
    email = Email.model_validate(fields(plan, **changes))
    return str(problem_of_email(email, plan, accepted or Accepted()) or "")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"customer_name": "ana  MÜLLER"},  # as names are compared in grading
        {"customer_name": "Ana Mu\u0308ller"},
        {"email": TEXT + " (mobile)"},
        {"email": TEXT + "\n[1] the first invoice\n\tand a tab"},
    ],
)
def test_accepted(changes: dict[str, Any]) -> None:
    assert problem(**changes) == ""


def test_accepted_without_a_name() -> None:
    assert problem(NAMELESS) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"issue_category": "product"}, "other labels (issue_category product instead of technical)"),
        ({"urgency": "high"}, "other labels (urgency high instead of medium)"),
        ({"urgency": "Medium"}, "other labels (urgency Medium instead of medium)"),
        ({"customer_name": None}, "name (none, where one was asked for)"),
        ({"customer_name": "Ana Mülle"}, "name (it is not in the e-mail)"),
        ({"customer_name": "Bea Müller"}, "name (it is not in the e-mail)"),
        ({"customer_name": "x" * 1001}, "invalid (the field 'customer_name' must have at most 1000 characters"),
        ({"customer_name": "Dr. Ana Müller", "email": TEXT + "\nDr. Ana Müller"}, "name (it begins with a title)"),
        ({"email": TEXT + "\n[Your Phone Number]"}, "placeholder ([Your Phone Number])"),
        ({"email": "Ana Müller"}, "invalid (an e-mail of 2 words)"),
        ({"email": " "}, "invalid (the field 'email' must be non-blank text"),
        ({"requested_action": ""}, "invalid (the field 'requested_action' must be non-blank text"),
        ({"email": TEXT + "\x1b[2J"}, "invalid (the field 'email' holds a control character)"),
    ],
)
def test_rejected(changes: dict[str, Any], said: str) -> None:
    assert problem(**changes).startswith(said)


def test_a_name_where_none_was_asked_for() -> None:
    assert problem(NAMELESS, customer_name="Ana Müller") == "name (one, where none was asked for)"


def test_what_repeats_an_accepted_email_is_rejected() -> None:
    accepted = Accepted()
    accepted.add("mail-0001", "Something else entirely, about a parcel that never came to my house in spring.")
    accepted.add("mail-0002", TEXT.replace(",", " -- ").replace("week", "month").upper())
    assert problem(accepted=accepted).startswith("duplicate (similarity 0.")
    assert problem(accepted=accepted).endswith("to mail-0002)")
    assert similarity(TEXT, TEXT.upper()) == 1.0


@pytest.mark.parametrize(
    ("text", "finish_reason", "refusal", "said"),
    [
        (json.dumps(fields()), "stop", None, ""),
        (json.dumps(fields()), None, None, ""),
        (json.dumps(fields())[:40], "length", None, "truncated (cut off at max_tokens)"),
        (json.dumps(fields())[:40], "stop", None, "not in the schema (Invalid JSON: EOF while parsing"),
        ("", "stop", None, "not in the schema (Invalid JSON: EOF while parsing"),
        ("[]", "stop", None, "not in the schema (Input should be an object"),
        (json.dumps(fields(urgency=3)), "stop", None, "not in the schema (urgency: Input should be a valid string"),
        (json.dumps(fields(more=3)), "stop", None, "not in the schema (more: Extra inputs are not permitted"),
        ("", "stop", "I cannot do that.", "refused (I cannot do that.)"),
        ("", "content_filter", None, "refused (the server's content filter)"),
        ('{"email": "\\ud800"}', "stop", None, "not in the schema (Invalid JSON"),
        ("[" * 100_000, "stop", None, "not in the schema (Invalid JSON"),
    ],
)
def test_what_is_no_email(text: str, finish_reason: str | None, refusal: str | None, said: str) -> None:
    found = str(problem_of_answer(text, finish_reason, refusal) or "")
    assert found.startswith(said) if said else not found


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of two texts' shingles, from 0 to 1; 0 if one has no words."""
    ours, theirs = shingles(one), shingles(other)
    union = len(ours | theirs)
    return len(ours & theirs) / union if union else 0.0


@given(texts, texts)
def test_similarity_is_one_of_jaccard(one: str, other: str) -> None:
    assert 0 <= similarity(one, other) <= 1
    assert similarity(one, other) == similarity(other, one)
    assert similarity(one, one) == (1 if any(character.isalpha() for character in one) else 0)
    assert similarity(one, other) == similarity(one.upper(), f" {other.replace('.', '!')}\n")


@given(st.lists(texts, max_size=8), texts)
def test_the_nearest_is_the_most_similar(earlier: list[str], text: str) -> None:
    accepted = Accepted()
    for number, other in enumerate(earlier):
        accepted.add(str(number), other)
    similarities = [similarity(text, other) for other in earlier]
    nearest = accepted.nearest(text)
    assert (nearest[1] if nearest else 0) == max(similarities, default=0)
    assert nearest is None or similarities[int(nearest[0])] == nearest[1]


def test_a_few_common_words_are_no_repetition() -> None:
    other = "Hello, since this morning my account cannot be opened; the site wants a code that never comes.\n\nBo Li"
    assert 0 < similarity(TEXT, other) < LARGEST_SIMILARITY


@given(st.text(max_size=50))
def test_nothing_printed_can_steer_a_terminal(text: str) -> None:
    shown = printable(text)
    assert all(character in "\n\t" or character.isprintable() or not character.isascii() for character in shown)
    assert not set(shown) & {"\x1b", "\r", "\x07", "\x9b", "\u202e", "\u2066", "\u200b", "\x00"}
    assert printable(shown) == shown
    assert "\n" not in one_line(text)
    assert len(one_line(text, 20)) <= 20


def test_escapes_are_shown() -> None:
    assert printable("a\x1b[31mb\u202ec\rd\ne\ud800") == "a\\x1b[31mb\\u202ec\\rd\ne\\ud800"
