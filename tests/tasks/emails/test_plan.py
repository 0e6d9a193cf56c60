"""What e-mails are asked for: balanced whatever their number, and always the same."""

from collections import Counter
from collections.abc import Hashable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.emails.plan import DOMAINS, LENGTHS, ORIGINS, TONES, TWISTS, email_plan, request_seed
from quantexp.tasks.emails.prompt import Email, expected_tokens, messages, prompt_sha256, schema
from quantexp.tasks.extraction import ANSWER_FIELDS, CATEGORIES, TASK, URGENCIES

seeds = st.integers(0, 2**64)


def spread(found: Iterable[Hashable], possible: int) -> int:
    """How much the counts of all possible values differ at most."""
    counts = list(Counter(found).values())
    return max(counts, default=0) - (min(counts) if len(counts) == possible else 0)


@given(st.integers(0, 400), seeds)
def test_any_number_of_emails_is_balanced(items: int, seed: int) -> None:
    plans = [email_plan(slot, seed, 0.15) for slot in range(items)]
    assert spread(((plan.category, plan.urgency) for plan in plans), 15) <= 1
    assert spread((plan.category for plan in plans), 5) <= 1
    assert spread((plan.urgency for plan in plans), 3) <= 1
    for name, options in {
        "domain": DOMAINS, "length": LENGTHS, "tone": TONES, "origin": ORIGINS, "twist": TWISTS,
    }.items():  # fmt: skip
        assert spread((getattr(plan, name) for plan in plans), len(options)) <= 1


@given(st.integers(0, 30), seeds, st.integers(0, 1000))
def test_the_share_without_a_name_is_kept_in_all_and_in_each_pair(blocks: int, seed: int, thousandths: int) -> None:
    share = thousandths / 1000
    plans = [email_plan(slot, seed, share) for slot in range(15 * blocks)]
    assert abs(sum(not plan.named for plan in plans) - 15 * blocks * share) <= 0.5 + 1e-9
    by_pair = Counter((plan.category, plan.urgency) for plan in plans if not plan.named)
    for pair in [(category, urgency) for category in CATEGORIES for urgency in URGENCIES]:
        assert abs(by_pair[pair] - blocks * share) < 1 + 1e-9


def test_two_hundred_as_the_bundled_ones_are() -> None:
    plans = [email_plan(slot, 0, 0.15) for slot in range(200)]
    assert Counter(plan.category for plan in plans) == dict.fromkeys(CATEGORIES, 40)
    assert sorted(Counter(plan.urgency for plan in plans).values()) == [66, 67, 67]
    assert 28 <= sum(not plan.named for plan in plans) <= 32
    assert len({prompt_sha256(plan) for plan in plans}) == 200


def test_the_plan_is_the_same_on_every_machine() -> None:
    """A changed plan is another prompt: files that were made before could not be gone on with."""
    first = email_plan(0, 0, 0.15)
    assert (first.category, first.urgency, first.named) == ("technical", "medium", True)
    assert request_seed(0, 3, 1) == 1074248588


@given(st.integers(0, 10_000), seeds, st.integers(1, 100))
def test_request_seeds_fit_every_server(slot: int, seed: int, attempt: int) -> None:
    assert 0 <= request_seed(seed, slot, attempt) < 2**31
    assert request_seed(seed, slot, attempt) != request_seed(seed, slot, attempt + 1)


def test_the_prompt_asks_for_what_is_planned_by_the_tasks_own_definitions() -> None:
    plan = email_plan(0, 0, 0.0)
    system, user = messages(plan)
    for words in ("charges, invoices, refunds, payment", "a deadline within two days", "without a title"):
        assert words in system["content"]
    assert f"- issue_category: {plan.category}\n- urgency: {plan.urgency}\n" in user["content"]
    assert f'beginning with "{plan.initial}"' in user["content"]
    nameless = messages(email_plan(0, 0, 1.0))[1]["content"]
    assert "customer_name is null" in nameless
    read, written = expected_tokens(plan)
    assert 300 < read < 1500
    assert 50 < written < 500


def test_the_schema_is_strict_and_is_the_tasks() -> None:
    made = schema()
    assert tuple(made["properties"]) == TASK.required_fields == ("email", *ANSWER_FIELDS)
    assert set(made["required"]) == set(made["properties"])
    assert made["additionalProperties"] is False
    assert made["properties"]["issue_category"]["enum"] == list(CATEGORIES)
    assert made["properties"]["urgency"]["enum"] == list(URGENCIES)
    assert tuple(Email.model_fields) == TASK.required_fields
