"""Garbage collection of a command's process.

The imports of a command leave some million objects that live as long as it does. Python looks through all of them again
and again while they come, and once more when the process ends, for a third of the time that the imports take.
"""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

YOUNG = 100_000
"""Objects after whose creation new ones are looked through, instead of Python's 700 or 2,000."""


@contextmanager
def collect_rarely() -> Iterator[None]:
    """Look for garbage less often for as long as the context lasts, and no more when the process ends."""
    before = gc.get_threshold()
    gc.set_threshold(YOUNG, *before[1:])
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)
