"""Index of the place of each key, for millions of keys."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from quantexp.store.segments import KEY_BYTES, PLACE, Batch

RECENT = 1 << 16
"""So many keys are kept in a dict, which is quick to add to, before they go into the arrays, which are small. Sorting
a million keys anew takes about half a second: some microseconds for each key added."""


class Place(NamedTuple):
    """Place of a record: its segment's name, the byte where its line begins, the bytes of it."""

    segment: str
    offset: int
    length: int


class Index:
    """The first place of every key, in the order of the segments' names and then of the file."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._keys = np.empty(0, f"S{KEY_BYTES}")
        self._places = np.empty(0, PLACE)
        self._recent: dict[bytes, Place] = {}

    def add(self, batches: Sequence[tuple[str, Batch]]) -> None:
        """Take in what was found in segments, given by name."""
        if sum(len(batch.keys) for _, batch in batches) + len(self._recent) > RECENT:
            self._merge(batches)
            return
        for name, batch in batches:
            keys = batch.keys.tobytes()
            for number, (_, length, offset) in enumerate(batch.places.tolist()):
                self.add_one(keys[number * KEY_BYTES : (number + 1) * KEY_BYTES], Place(name, offset, length))

    def add_one(self, key: bytes, place: Place) -> None:
        """Take in one record."""
        known = self._recent.get(key)
        self._recent[key] = place if known is None else min(known, place)
        if len(self._recent) > RECENT:
            self._merge([])

    def find(self, keys: Sequence[bytes]) -> dict[bytes, Place]:
        """Return the places of those keys that are there."""
        found = {key: self._recent[key] for key in keys if key in self._recent}
        if keys and len(self._keys):
            wanted = np.frombuffer(b"".join(keys), f"S{KEY_BYTES}")
            nearest = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
            hits = np.flatnonzero(self._keys[nearest] == wanted)
            for hit, (segment, length, offset) in zip(hits.tolist(), self._places[nearest[hits]].tolist(), strict=True):
                place = Place(self._names[segment], offset, length)
                found[keys[hit]] = min(place, found.get(keys[hit], place))
        return found

    def _number(self, name: str) -> int:
        if name not in self._numbers:
            self._numbers[name] = len(self._names)
            self._names.append(name)
        return self._numbers[name]

    def _merge(self, batches: Sequence[tuple[str, Batch]]) -> None:
        for name, batch in batches:
            batch.places["segment"] = self._number(name)
        recent = [(self._number(place.segment), place.length, place.offset) for place in self._recent.values()]
        keys = np.concatenate(
            [
                self._keys,
                *(batch.keys for _, batch in batches),
                np.frombuffer(b"".join(self._recent), f"S{KEY_BYTES}"),
            ]
        )
        places = np.concatenate([self._places, *(batch.places for _, batch in batches), np.array(recent, PLACE)])
        rank = np.empty(len(self._names), np.intp)
        rank[sorted(range(len(rank)), key=self._names.__getitem__)] = np.arange(len(rank))
        order = np.lexsort((places["offset"], rank[places["segment"]]))
        keys, places = keys[order], places[order]
        self._keys, first = np.unique(keys, return_index=True)  # the first of equal ones, as documented
        self._places = places[first]
        self._recent = {}
