"""The list of changed verdicts, on hand-made tables."""

from collections.abc import Mapping

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from quantexp.evaluation.regrade_diff import changes_diff


def grades(*rows: tuple[str, float | None, str | None, str | None, Mapping[str, float]]) -> pd.DataFrame:
    """A per-item table: output, score, extracted, error and fields."""
    return pd.DataFrame(
        {
            "item_id": f"i{number}",
            "sample": 0,
            "output": output,
            "extracted": extracted,
            "score": score,
            **{f"score_{name}": value for name, value in fields.items()},
            "grading_error": error,
        }
        for number, (output, score, extracted, error, fields) in enumerate(rows)
    )


def test_each_changed_field_is_listed() -> None:
    before = grades(("out", 2 / 3, '{"a":1}', None, {"name": 1.0, "urgency": 1.0, "category": 0.0}))
    after = grades(("out", 2 / 3, '{"a":1}', None, {"name": 0.0, "urgency": 1.0, "category": 1.0, "new": 1.0}))
    assert changes_diff(before, after, "x-v1", "x-v2", "a job").splitlines() == [
        "--- x-v1  a job",
        "+++ x-v2",
        "@@ i0 @@",
        '-0.667  extracted: {"a":1}',
        '+0.667  extracted: {"a":1}',
        "-  name: 1",
        "+  name: 0",
        "-  category: 0",
        "+  category: 1",
        "+  new: 1",
        " 'out'",
    ]


def test_neither_another_reading_nor_another_set_of_fields_is_a_changed_verdict() -> None:
    before = grades(("out", 0.0, "7", None, {"old": 0.0}), ("", None, None, "not asked", {"old": float("nan")}))
    after = grades(("out", 0.0, None, "no number", {"new": 1.0}), ("", None, None, "not asked", {}))
    assert changes_diff(before, after, "x-v1", "x-v2", "a job") == ""


def test_of_a_long_output_the_end_is_shown() -> None:
    output = "x" * 100 + "\n" + "y" * 79
    diff = changes_diff(grades((output, 1.0, "7", None, {})), grades((output, 0.0, "8", None, {})), "a-v1", "a-v2", "j")
    assert diff.splitlines()[-1] == " ...'\\n" + "y" * 79 + "'"


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
"""A table cannot hold half a surrogate pair, and no output has one."""


@given(st.lists(st.tuples(text, st.sampled_from([0.0, 0.5, 1.0]), text), min_size=1, max_size=4), text)
def test_whatever_a_model_wrote_a_change_stays_on_its_lines(rows: list[tuple[str, float, str]], error: str) -> None:
    before = grades(*((output, 0.0, None, error, {}) for output, _, _ in rows))
    after = grades(*((output, score, extracted, None, {}) for output, score, extracted in rows))
    lines = changes_diff(before, after, "x-v1", "x-v2", "a job").split("\n")
    changed = sum(score > 0 for _, score, _ in rows)
    assert len(lines) == (2 + 4 * changed + 1 if changed else 1)
    assert all(line.isprintable() for line in lines)
    "\n".join(lines).encode()
