"""Random numbers that belong to a star, not to its place in a table. Shown in chapter 01."""

from collections.abc import Iterator

import numpy as np


def streams(seed: int, names, part: int) -> Iterator[np.random.Generator]:
    """Yield each star's own random numbers, for one part of a simulation.

    Parameters
    ----------
    seed : int
        0 to 2⁶⁴ − 1.
    names : (stars,) int
        0 to 2⁶⁴ − 1.
    part : int

    Yields
    ------
    numpy.random.Generator
        One and the same, set anew for every star: it must be used before the next is asked for.

    Notes
    -----
    Philox (Salmon et al. 2011) encrypts a counter: seed and name are its key, the part the
    counter's highest word. Setting them costs a tenth of making a generator.
    """
    bits = np.random.Philox(0)
    generator = np.random.Generator(bits)
    state = bits.state
    state["state"]["counter"] = np.array([0, 0, 0, part], dtype=np.uint64)
    for name in names:
        state["state"]["key"] = np.array([seed, name], dtype=np.uint64)
        bits.state = state  # and an empty buffer
        yield generator
