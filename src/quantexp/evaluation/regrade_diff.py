"""Diff of the grades that two graders do not share, in the form of a `git diff`."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from quantexp.tracking.tags import FIELD

TAIL = 80
"""Characters of an output's end that are shown: where graders look for the answer, on one line of a terminal."""


def changes_diff(before: pd.DataFrame, after: pd.DataFrame, old: str, new: str, job: str) -> str:
    """Return the outputs of a job whose verdict changed: score, or score of a field.

    An output that is read in another way but scores the same has not changed; an item that was never asked has no
    verdict.

    Args:
        before: a per-item table.
        after: the same rows with other verdicts.
        old: id of the grader before.
        new: id of the grader after.
        job: which job this is, in words.

    Returns:
        A header and the changes, each line ended; empty when nothing changed. Text is escaped where it would break
        a line or control the terminal.
    """
    several = bool((before["sample"] > 0).any())
    lines: list[str] = []
    for was, now in zip(before.to_dict("records"), after.to_dict("records"), strict=True):
        changed = _changed(was, now)
        if changed:
            sample = f" (sample {now['sample']})" if several else ""
            lines += [f"@@ {_escaped(str(now['item_id']))}{sample} @@", *_change(was, now, changed)]
    if not lines:
        return ""
    return "".join(f"{line}\n" for line in [f"--- {old}  {_escaped(job)}", f"+++ {new}", *lines])


def count_changes(diff: str) -> int:
    """Count the outputs that a diff lists."""
    return sum(line.startswith("@@ ") for line in diff.splitlines())


def _changed(was: Mapping[Any, Any], now: Mapping[Any, Any]) -> list[str]:
    """Return the columns with another score.

    A field that only one grader has does not make a change by itself, nor does one that is neither right nor wrong.
    """
    fields = [name for name in dict.fromkeys([*was, *now]) if str(name).startswith(FIELD)]
    scores = {name: (_score(was, name), _score(now, name)) for name in ("score", *fields)}
    shared = any(
        None not in pair and pair[0] != pair[1] and (name == "score" or {*pair} <= {0.0, 1.0})
        for name, pair in scores.items()
    )
    return [name for name, (before, after) in scores.items() if before != after] if shared else []


def _change(was: Mapping[Any, Any], now: Mapping[Any, Any], changed: list[str]) -> Iterator[str]:
    for sign, row in (("-", was), ("+", now)):
        read = row["grading_error"] if pd.isna(row["extracted"]) else f"extracted: {row['extracted']}"
        yield f"{sign}{row['score']:.3g}  {_escaped(str(read))}"
    for name in changed:
        for sign, row in (("-", was), ("+", now)):
            score = _score(row, name)
            if name != "score" and score is not None:
                yield f"{sign}  {_escaped(name.removeprefix(FIELD))}: {score:.3g}"
    output = str(now["output"])
    yield f" {'...' if len(output) > TAIL else ''}{output[-TAIL:]!r}"


def _score(row: Mapping[Any, Any], name: str) -> float | None:
    score = row.get(name)
    return None if pd.isna(score) else float(score)


def _escaped(text: str) -> str:
    """Return the text on one line, with nothing in it that a terminal would obey."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
