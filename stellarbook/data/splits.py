"""Star-level splits: lists of ``source_id``, the same for every chapter.

The lists are files of the package and are *read*; `ranked` is how they were made. They are of
stars, never of rows, so that no star is on both sides, and the hash makes them independent of the
order of the catalogue and of every quantity in it. Shown in chapter 01.
"""

import hashlib
from pathlib import Path

import numpy as np

PARTS = ("train", "val", "test")


def check(part: str) -> None:
    """Raise a ValueError unless a part is one of `PARTS`."""
    if part not in PARTS:
        raise ValueError(f"no split {part!r}: there are {', '.join(PARTS)}")


def ranked(source_id: np.ndarray) -> dict[str, np.ndarray]:
    """Split stars 80/10/10 by the rank of a hash of their identifier.

    Parameters
    ----------
    source_id : (n,) int
        Unique identifiers, in any order.

    Returns
    -------
    dict of str to (m,) int64
        Sorted identifiers of "train" (⌊0.8 n⌋ stars), "val" (⌊0.1 n⌋) and "test" (the rest).

    Raises
    ------
    ValueError
        If an identifier occurs twice.
    """
    source_id = np.asarray(source_id, dtype=np.int64)
    if len(np.unique(source_id)) != len(source_id):
        raise ValueError("source_id repeats a star: split stars, not rows")
    order = np.array(
        sorted(source_id.tolist(), key=lambda i: hashlib.sha256(str(i).encode()).digest()), np.int64
    )
    n = len(order)
    pieces = np.split(order, [n * 8 // 10, n * 8 // 10 + n // 10])
    return {part: np.sort(ids) for part, ids in zip(PARTS, pieces, strict=True)}


def hashed(source_id: np.ndarray) -> np.ndarray:
    """Assign each star to a part by its own hash alone, for samples of no fixed size.

    About 80/10/10, not exactly so; but a star keeps its part when more stars are added, which
    `ranked` cannot promise.

    Parameters
    ----------
    source_id : (n,) int

    Returns
    -------
    (n,) array of str
        "train", "val" or "test".
    """
    digests = (hashlib.sha256(str(i).encode()).digest() for i in np.asarray(source_id).tolist())
    tenth = np.fromiter((int.from_bytes(d[:8], "big") % 10 for d in digests), np.int64)
    return np.array(PARTS)[np.maximum(tenth - 7, 0)]


def read(sample: str) -> dict[str, np.ndarray]:
    """Return a sample's lists, as `ranked` does, e.g. ``read("xp_apogee")["test"]``."""
    with np.load(Path(__file__).with_name(f"{sample}_splits.npz")) as lists:
        return {part: np.cumsum(lists[part]) for part in PARTS}


def write(sample: str, source_id: np.ndarray, folder: Path = Path(__file__).parent) -> Path:
    """Write a new sample's lists; changing a published one would leak stars between chapters."""
    path = folder / f"{sample}_splits.npz"
    # Differences of sorted identifiers compress three times better than the identifiers.
    lists = {part: np.diff(ids, prepend=0) for part, ids in ranked(source_id).items()}
    np.savez_compressed(path, **lists)
    return path
