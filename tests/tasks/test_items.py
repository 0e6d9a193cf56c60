"""Which items a job asks: loading, identity and the draw."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.config import DataConfig
from quantexp.errors import UserError
from quantexp.tasks import TASKS, get_task, items
from quantexp.tasks.items import Item, drawn, fingerprint, load

TRIVIAQA = get_task("triviaqa")
BUNDLED = DataConfig("bundled")

POOL = tuple(Item(f"item-{number:03}", {}, None) for number in range(200))

GOLDEN = ["item-178", "item-162", "item-121", "item-165", "item-030", "item-045", "item-083", "item-177"]


def ids(chosen: tuple[Item, ...]) -> list[str]:
    return [item.id for item in chosen]


@given(st.sets(st.text(min_size=1), min_size=1, max_size=30), st.integers(0, 10**9), st.data())
def test_draw_is_without_replacement_and_a_larger_one_only_adds(
    names: set[str], seed: int, data: st.DataObject
) -> None:
    pool = [Item(name, {}, None) for name in sorted(names)]
    everything = ids(drawn(pool, seed, None))
    limit = data.draw(st.integers(1, len(pool)))
    assert sorted(everything) == sorted(names)
    assert ids(drawn(pool, seed, limit)) == everything[:limit]
    assert ids(drawn(pool[::-1], seed, limit)) == everything[:limit]


def test_draw_of_a_seed_never_changes() -> None:
    # Results are reproduced by seed: a change here silently asks other questions.
    assert ids(drawn(POOL, 0, 8)) == GOLDEN


def test_seeds_draw_different_items_and_all_items_alike() -> None:
    first = [drawn(POOL[:4], seed, 1)[0].id for seed in range(400)]
    assert all(70 < first.count(item.id) < 130 for item in POOL[:4])
    assert len({tuple(ids(drawn(POOL, seed, 20))) for seed in range(50)}) == 50


def test_limit_above_the_number_of_items_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"task\.limit=201 asks for more items than the 200 there are.*task\.limit=null"
    ):
        drawn(POOL, 0, 201)


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


@pytest.mark.parametrize("name", sorted(TASKS))
def test_bundled_items_load(name: str) -> None:
    data = load(BUNDLED, get_task(name))
    assert len(data.items) >= 40
    assert data.examples
    assert not {item.id for item in data.examples} & {item.id for item in data.items}
    assert not {str(item.fields) for item in data.examples} & {str(item.fields) for item in data.items}
    assert all("difficulty" not in item.fields and "id" not in item.fields for item in data.items)


def test_unknown_data_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.name=hub is unknown; choose bundled"):
        load(DataConfig("hub"), TRIVIAQA)


class Folder:
    """Puts rows where the bundled ones are read from."""

    def __init__(self, path: Path) -> None:
        self.path = path / "bundled"
        self.path.mkdir()
        self.write([{"id": "example", "question": "Who?", "aliases": ["Me"]}], "triviaqa_examples.jsonl")

    def write(self, rows: list[dict[str, Any]], name: str = "triviaqa.jsonl", ensure_ascii: bool = False) -> None:
        lines = [json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows]
        (self.path / name).write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(items, "files", lambda _: tmp_path)
    return Folder(tmp_path)


def test_unicode_line_separators_do_not_split_a_row(folder: Folder) -> None:
    question = "One\u2028two\u2029three\u0085four\x0bfive\x0csix\x1cseven?"
    rows = [{"id": "a", "question": question, "aliases": ["É"]}, {"id": "b", "question": "Who?", "aliases": ["B"]}]
    folder.write(rows)
    plain = load(BUNDLED, TRIVIAQA)
    assert [item.fields["question"] for item in plain.items] == [question, "Who?"]
    folder.write(rows, ensure_ascii=True)
    assert load(BUNDLED, TRIVIAQA) == plain


def test_duplicate_ids_are_refused(folder: Folder) -> None:
    row = {"id": "twice", "question": "Who?", "aliases": ["Me"]}
    folder.write([row, {**row, "id": "once"}, row])
    with pytest.raises(UserError, match=r"bundled/triviaqa: the id twice occurs twice"):
        load(BUNDLED, TRIVIAQA)


def test_rows_without_an_id_are_numbered(folder: Folder) -> None:
    folder.write([{"question": "Who?", "aliases": ["Me"]}, {"question": "What?", "aliases": ["It"], "difficulty": 3}])
    assert [(item.id, item.difficulty) for item in load(BUNDLED, TRIVIAQA).items] == [("1", None), ("2", 3)]


def test_a_bad_row_is_named(folder: Folder) -> None:
    folder.write([{"id": "good", "question": "Who?", "aliases": ["Me"]}, {"id": "bad", "question": "Who?"}])
    with pytest.raises(UserError, match=r"bundled/triviaqa, item bad: .*'aliases', which is missing\.$"):
        load(BUNDLED, TRIVIAQA)
