"""Cases of a test, of which `make test` tries some and `make test-slow` the others."""

from collections.abc import Sequence
from typing import Any

import pytest


def mark_slow(cases: Sequence[Any], after: int) -> list[Any]:
    """Mark the cases after the first so many as slow: variants of what those show, each a process of its own."""
    variants = [case if isinstance(case, tuple) else (case,) for case in cases[after:]]
    return [*cases[:after], *(pytest.param(*variant, marks=pytest.mark.slow) for variant in variants)]
