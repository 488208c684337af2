"""Damage of any kind to a file's bytes, for readers that must survive it."""

from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


@st.composite
def damage(draw):
    """Draw a function that damages bytes: cuts, flips, deletions, zeroed or repeated blocks."""
    # Half of the flips fall into the first header, where they hurt most.
    place = st.one_of(st.floats(0, 1), st.floats(0, 0.05))
    flips = draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=8))
    block = draw(
        st.none()
        | st.tuples(place, st.integers(1, 6000), st.sampled_from("delete zero twice".split()))
    )
    cut = draw(st.none() | st.floats(0, 1))

    def apply(content):
        content = bytearray(content)
        for where, value in flips:
            content[int(where * (len(content) - 1))] = value
        if block:
            start, size, how = int(block[0] * len(content)), block[1], block[2]
            piece = content[start : start + size]
            content[start : start + size] = {
                "delete": b"",
                "zero": bytes(len(piece)),
                "twice": piece * 2,
            }[how]
        return bytes(content if cut is None else content[: int(cut * len(content))])

    return apply


def thorough(examples):
    return settings(
        max_examples=examples,
        deadline=timedelta(seconds=30),  # nothing hangs
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
