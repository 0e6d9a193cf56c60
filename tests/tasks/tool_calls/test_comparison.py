"""Calls against wanted ones: names, values by their types, what may be left out, and the order of calls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.tasks.tool_calls.comparison import count_matches, is_match, is_same
from quantexp.tasks.tool_calls.reading import Call

SCHEMAS: dict[str, dict[str, Any]] = {
    "book_room": {
        "properties": {
            "city": {"type": "string"},
            "nights": {"type": "integer"},
            "price": {"type": "number"},
            "guests": {"type": "array", "items": {"type": "string"}},
            "address": {"type": "object", "properties": {"zip": {"type": "string"}}},
        }
    }
}
WANTED: dict[str, dict[str, list[Any]]] = {"book.room": {"city": ["New York", "NYC"], "nights": [2], "price": [80, ""]}}


@pytest.mark.parametrize(
    ("name", "arguments", "right"),
    [
        ("book.room", {"city": "New York", "nights": 2, "price": 80}, True),
        ("book_room", {"city": " new  york", "nights": 2}, True),
        ("book_room", {"city": "NYC", "nights": 2, "price": 80.0}, True),
        ("book_room", {"city": "NYC", "nights": 2.0}, False),
        ("book_room", {"city": "NYC", "nights": "2"}, False),
        ("book_room", {"city": "NYC", "nights": 2, "price": 81}, False),
        ("book_room", {"city": "NYC", "nights": True}, False),
        ("book_room", {"city": "NYC"}, False),
        ("book_room", {"city": "NYC", "nights": 2, "pets": 0}, False),
        ("book_room", {"city": "Boston", "nights": 2}, False),
        ("book_rooms", {"city": "NYC", "nights": 2}, False),
    ],
)
def test_a_call_is_right(name: str, arguments: dict[str, Any], right: bool) -> None:
    assert is_match(Call(name, arguments), WANTED, SCHEMAS) is right


@pytest.mark.parametrize(
    ("given_", "wanted", "schema", "same"),
    [
        (1, 1.0, {}, True),
        (1.0, 1, {"type": "float"}, True),
        (1.0, 1, {"type": "integer"}, False),
        (1, True, {}, False),
        (0, False, {}, False),
        (None, None, {}, True),
        (None, "", {}, False),
        ("It’s  ON", "it's on", {}, True),
        ("on.", "on", {}, False),
        ("1", 1, {}, False),
        (["a", "b"], ["A", "b"], {}, True),
        (["b", "a"], ["a", "b"], {}, False),
        ([1.0], [1], {"type": "array", "items": {"type": "number"}}, True),
        ([1.0], [1], {"type": "array", "items": {"type": "integer"}}, False),
        ({"zip": "N1"}, {"zip": ["N1", "n 1"], "street": ["", "x"]}, {"type": "object"}, True),
        ({"zip": "N2"}, {"zip": ["N1"]}, {}, False),
        ({}, {"zip": ["N1"]}, {}, False),
        ({"zip": "N1", "x": 1}, {"zip": ["N1"]}, {}, False),
        ([{"zip": "N1"}], [{"zip": ["N1"]}], {}, True),
    ],
)
def test_values_are_equal_by_their_types(given_: Any, wanted: Any, schema: dict[str, Any], same: bool) -> None:
    assert is_same(given_, wanted, schema) is same


@given(st.permutations([("a", 1), ("a", 2), ("b", 1)]))
def test_the_order_of_calls_does_not_matter(order: list[tuple[str, int]]) -> None:
    # The first of the wanted ones takes either: whichever it is given first must be given up for the second.
    wanted = [{"a": {"x": [1, 2]}}, {"a": {"x": [2]}}, {"b": {"x": [1]}}]
    assert count_matches([Call(name, {"x": value}) for name, value in order], wanted, {}) == 3


def test_each_call_counts_once() -> None:
    wanted = [{"a": {"x": [1]}}, {"a": {"x": [1]}}]
    assert count_matches([Call("a", {"x": 1})], wanted, {}) == 1
    assert count_matches([], wanted, {}) == 0
