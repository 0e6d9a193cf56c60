"""Calibration pairs: two texts and a label, bundled, by which judges and embedders are measured before they count."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class CalibrationPair:
    """Two texts with the right answer to a rubric's question.

    Attributes:
        id: unique within its set.
        first: the first text.
        second: the second text.
        label: whether the right answer is yes.
        kind: why it is so, for tables.
    """

    id: str
    first: str
    second: str
    label: bool
    kind: str

    @property
    def is_for_choosing(self) -> bool:
        """True in the half on which thresholds are chosen; agreement is reported on the other. Fixed by the id."""
        return hashlib.sha256(self.id.encode()).digest()[0] % 2 == 0


@cache
def load_pairs(name: str) -> tuple[CalibrationPair, ...]:
    """Return the bundled pairs of this name, in the order of the file."""
    text = files("quantexp.tasks").joinpath("bundled", "calibration", f"{name}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple(CalibrationPair(row["id"], row["first"], row["second"], row["label"], row["kind"]) for row in rows)


def hash_pairs(pairs: Sequence[CalibrationPair]) -> str:
    """sha256 of the pairs with their labels, in order."""
    rows = [[pair.id, pair.first, pair.second, pair.label] for pair in pairs]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
