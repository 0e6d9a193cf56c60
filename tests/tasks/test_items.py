"""Which items a job asks: loading, identity and the draw."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks import get_task
from quantexp.tasks.items import Item, draw_items, fingerprint, make_items
from quantexp.util.errors import UserError

POOL = tuple(Item(f"item-{number:03}", {}, None) for number in range(200))

GOLDEN = ["item-178", "item-162", "item-121", "item-165", "item-030", "item-045", "item-083", "item-177"]


def ids(chosen: tuple[Item, ...]) -> list[str]:
    return [item.id for item in chosen]


@given(st.sets(st.text(min_size=1), min_size=1, max_size=30), st.integers(0, 10**9), st.data())
def test_draw_is_without_replacement_and_a_larger_one_only_adds(
    names: set[str], seed: int, data: st.DataObject
) -> None:
    pool = [Item(name, {}, None) for name in sorted(names)]
    everything = ids(draw_items(pool, seed, None))
    limit = data.draw(st.integers(1, len(pool)))
    assert sorted(everything) == sorted(names)
    assert ids(draw_items(pool, seed, limit)) == everything[:limit]
    assert ids(draw_items(pool[::-1], seed, limit)) == everything[:limit]


def test_draw_of_a_seed_never_changes() -> None:
    # Results are reproduced by seed: a change here silently asks other questions.
    assert ids(draw_items(POOL, 0, 8)) == GOLDEN


def test_seeds_draw_different_items_and_all_items_alike() -> None:
    first = [draw_items(POOL[:4], seed, 1)[0].id for seed in range(400)]
    assert all(70 < first.count(item.id) < 130 for item in POOL[:4])
    assert len({tuple(ids(draw_items(POOL, seed, 20))) for seed in range(50)}) == 50


def test_limit_above_the_number_of_items_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"task\.limit=201 asks for more items than the 200 there are.*task\.limit=null"
    ):
        draw_items(POOL, 0, 201)


ROWS = st.lists(
    st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5) | st.lists(st.text(max_size=3)), max_size=4),
    max_size=5,
)


@given(ROWS, ROWS)
def test_fingerprints_agree_exactly_when_rows_do(left: list[dict[str, Any]], right: list[dict[str, Any]]) -> None:
    assert (fingerprint(left) == fingerprint(right)) == (left == right)


@given(ROWS.filter(bool), st.data())
def test_any_edit_changes_the_fingerprint(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    row = rows[place]
    key = data.draw(st.sampled_from(sorted(row)) if row else st.just("new"))
    edits: list[Mapping[str, Any]] = [row | {key: [row.get(key)]}, row | {key + "\u2028": "x"}]
    for edited in edits:
        assert fingerprint([*rows[:place], edited, *rows[place + 1 :]]) != fingerprint(rows)
    assert fingerprint([*rows, {}]) != fingerprint(rows)
    assert fingerprint(rows[1:]) != fingerprint(rows)


def test_fingerprint_ignores_the_order_of_keys_only() -> None:
    assert fingerprint([{"a": 1, "b": 2}]) == fingerprint([{"b": 2, "a": 1}])
    assert fingerprint([{"a": 1}, {"b": 2}]) != fingerprint([{"b": 2}, {"a": 1}])
    assert fingerprint([{"a": 1}]) != fingerprint([{"a": "1"}])


def clusters(*questions: str) -> list[str]:
    rows = [{"question": question, "aliases": ["Me"]} for question in questions]
    return [item.cluster for item in make_items(rows, get_task("triviaqa"), "here")]


def test_items_that_ask_the_same_share_a_cluster() -> None:
    first, *same = clusters("Who wrote Hamlet?", "who wrote  HAMLET", "Who wrote 'Hamlet' ?\n")
    assert set(same) == {first}
    assert len(set(clusters("Who wrote Hamlet?", "Who wrote Macbeth?", "Hamlet wrote who?"))) == 3


def test_a_cluster_never_changes() -> None:
    # It is written into tables of items: runs of different days are put together by it.
    assert clusters("Who wrote Hamlet?") == ["87b473173b5e8a1b"]


@given(st.lists(st.text(alphabet="aB ?1.", min_size=1).filter(str.strip), min_size=2, max_size=6))
def test_clusters_follow_the_words(questions: list[str]) -> None:
    words = [question.lower().replace("?", " ").replace(".", " ").split() for question in questions]
    found = clusters(*questions)
    for left in range(len(questions)):
        for right in range(left):
            assert (found[left] == found[right]) == (words[left] == words[right])
