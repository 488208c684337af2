"""Maps of feature spaces in two dimensions: ``umap``.

Shown in chapters 04 and 05.
"""

import warnings

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler


def umap(x, *, neighbours=30, seed=0):
    """UMAP of standardised features; the neighbours are found exactly.

    Parameters
    ----------
    x : (n, D) array
        Finite.
    neighbours : int
        That are looked at; at most n − 1.
    seed : int
        The map depends on it and on the features only.

    Returns
    -------
    (n, 2) float32 array

    Raises
    ------
    ValueError
        If a feature is not finite, or for too few stars.

    Notes
    -----
    McInnes, Healy & Melville (2018), arXiv:1802.03426. Standardised, no feature rules by its unit.
    Shown in chapter 04.
    """
    from umap import UMAP

    x = np.asarray(x, dtype=np.float32)
    if not np.isfinite(x).all():
        raise ValueError(f"{(~np.isfinite(x)).any(axis=1).sum()} of {len(x)} stars are not finite")
    if len(x) <= neighbours:
        raise ValueError(f"{len(x)} stars have no {neighbours} neighbours each")
    x = StandardScaler().fit_transform(x)
    near = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors()  # without the star itself
    itself = np.arange(len(x))[:, None], np.zeros((len(x), 1), np.float32)
    distances, indices = (
        np.hstack([own, found])[:, :neighbours]
        for own, found in zip(itself[::-1], near, strict=True)
    )
    threads = torch.get_num_threads()
    try:
        # One thread: with more the map would not be the same twice.
        options = {"n_neighbors": neighbours, "random_state": seed, "n_jobs": 1}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "precomputed_knn")  # new stars cannot be added
            return UMAP(precomputed_knn=(indices, distances), **options).fit_transform(x)
    finally:
        torch.set_num_threads(threads)  # numba sets those of every user of the OpenMP library
