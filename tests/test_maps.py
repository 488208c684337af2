"""Maps: what is near stays near, twice the same, and nobody else's threads are touched."""

import numpy as np
import pytest
import torch

from stellarbook.learn.maps import umap


def test_groups_stay_apart_and_the_map_is_the_same_twice():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 60)
    x = 8 * np.eye(3)[group] @ rng.standard_normal((3, 5)) + rng.standard_normal((180, 5))
    before = torch.get_num_threads()
    at = umap(x, neighbours=10)
    assert torch.get_num_threads() == before
    assert at.shape == (180, 2)
    np.testing.assert_array_equal(at, umap(x, neighbours=10))
    apart = np.linalg.norm(at[:, None] - at, axis=-1) + 1e9 * np.eye(180)
    assert (group[apart.argmin(axis=1)] == group).mean() > 0.95


def test_stars_that_cannot_be_placed():
    with pytest.raises(ValueError, match="1 of 20 stars are not finite"):
        umap(np.where(np.arange(20)[:, None] == 3, np.nan, np.ones((20, 2))), neighbours=5)
    with pytest.raises(ValueError, match="20 stars have no 30 neighbours each"):
        umap(np.zeros((20, 2)))
