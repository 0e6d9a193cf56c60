"""Reviews of the e-mails by people: one verdict per line, bound to the e-mail's content."""

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import combinations

from pydantic import BaseModel, ConfigDict


class Verdict(Enum):
    """Verdict of a reviewer on an e-mail."""

    accept = "accept"
    reject = "reject"


class Review(BaseModel):
    """One verdict.

    Attributes:
        reviewer: who.
        id: the e-mail's.
        sha256: of its row (see `records.item_sha256`); another e-mail under the same id needs another verdict.
        verdict: whether it may stay.
        reason: why not.
        time: UTC, ISO 8601.
    """

    # Not strict: an enum's value would be refused in Python, though not in JSON.
    model_config = ConfigDict(extra="forbid", frozen=True)

    reviewer: str
    id: str
    sha256: str
    verdict: Verdict
    reason: str | None
    time: str


def select_latest(reviews: Iterable[Review]) -> dict[tuple[str, str], Review]:
    """Each reviewer's last verdict on each content, by reviewer and sha256."""
    return {(review.reviewer, review.sha256): review for review in reviews}


def select_rejected(reviews: Iterable[Review]) -> frozenset[str]:
    """Return the sha256 of every content that at least one reviewer rejects."""
    return frozenset(review.sha256 for review in select_latest(reviews).values() if review.verdict is Verdict.reject)


def agreement(verdicts: Mapping[tuple[str, str], Review], contents: frozenset[str]) -> list[tuple[str, str, int, int]]:
    """For each two reviewers: their names, how many contents both have judged, and on how many they agree."""
    by_reviewer: dict[str, dict[str, Verdict]] = {}
    for (reviewer, sha256), review in verdicts.items():
        if sha256 in contents:
            by_reviewer.setdefault(reviewer, {})[sha256] = review.verdict
    pairs = []
    for one, other in combinations(sorted(by_reviewer), 2):
        both = by_reviewer[one].keys() & by_reviewer[other].keys()
        if both:
            same = sum(by_reviewer[one][sha256] is by_reviewer[other][sha256] for sha256 in both)
            pairs.append((one, other, len(both), same))
    return pairs
