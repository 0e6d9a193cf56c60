"""Memory beside the weights, as runs record it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantexp.models.footprint import CELLS, Footprint, find_footprint, read_footprints, write_footprints
from quantexp.util.errors import UserError

sizes = st.integers(0, 2**50)
known = st.dictionaries(
    st.integers(1, 2**16).map(lambda steps: CELLS * steps), st.tuples(sizes, sizes), min_size=1, max_size=8
).map(lambda found: tuple(Footprint(context, *found[context]) for context in sorted(found)))


@given(known)
def test_what_is_written_is_read(footprints: tuple[Footprint, ...]) -> None:
    assert read_footprints(write_footprints(footprints)) == footprints
    for each in footprints:
        assert find_footprint(footprints, each.context) == each


def test_contexts_between_and_beyond_lie_on_a_line() -> None:
    footprints = (Footprint(2048, 100, 40), Footprint(4096, 200, 40), Footprint(8192, 400, 80))
    assert find_footprint(footprints, 3072) == Footprint(3072, 150, 40)
    assert find_footprint(footprints, 6144) == Footprint(6144, 300, 60)
    assert find_footprint(footprints, 12288) == Footprint(12288, 600, 120)
    assert find_footprint(footprints, 100) == footprints[0], "from above"
    assert find_footprint((), 2048) is None
    assert find_footprint(footprints[:1], 4096) is None


@pytest.mark.parametrize(
    "text", ["[[1, 2]]", "[[1, 2, -3]]", '[["1", 2, 3]]', "[[1.5, 2, 3]]", "3", "null", "", "[[1, 2, 3", "[{}]"]
)
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_footprints(text)
