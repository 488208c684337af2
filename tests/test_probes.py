"""Clusters against classes by hand, linear readers against what was put in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.learn import probes


def test_matching_is_the_best_of_all():
    found = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    truth = np.array(list("bbaccaaa"))
    assert probes.matched(found, truth) == {0: "b", 1: "c", 2: "a"}
    scores = probes.agreement(found, truth)
    assert scores["accuracy"] == 7 / 8
    # As numbers: a 0, b 1, c 2. The cluster's number is the class's for the star at place 2 alone.
    assert scores["unmatched"] == 1 / 8


@given(st.permutations(range(4)), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_numbering_clusters_otherwise_changes_the_unmatched_score_alone(order, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 200)
    found = np.where(rng.random(200) < 0.7, truth, rng.integers(0, 4, 200))
    one, other = probes.agreement(found, truth), probes.agreement(np.array(order)[found], truth)
    for name in ("accuracy", "ari", "nmi"):
        assert one[name] == pytest.approx(other[name])
    assert other["unmatched"] <= one["accuracy"] + 1e-12


def test_more_clusters_than_classes_and_the_other_way_round():
    truth = np.array(list("aabb"))
    assert probes.agreement(np.array([0, 1, 2, 2]), truth)["accuracy"] == 3 / 4
    assert probes.agreement(np.zeros(4, int), truth)["accuracy"] == 2 / 4
    with pytest.raises(ValueError, match="3 clusters and 4 classes"):
        probes.agreement(np.zeros(3, int), truth)


def test_separate_blobs_are_found():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 80)
    x = np.array([[0, 0], [30, 0], [0, 4]])[truth] + 0.1 * rng.standard_normal((240, 2))
    scores = probes.agreement(probes.clusters(x, 3), truth)
    assert scores["accuracy"] == scores["ari"] == pytest.approx(1)


def test_a_linear_relation_is_read_from_few_stars_and_none_of_them_judged():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3)) * [1, 1e3, 1e-3] + 5
    y = x @ np.array([[1.0, 0], [0, 2e-3], [500, 1]]) + [10, -4]
    y[7] = np.nan
    truth, guess, rows = probes.few_shot(x, y)
    assert len(rows) == 199 - 40 and 7 not in rows
    np.testing.assert_allclose(guess, y[rows])
    np.testing.assert_array_equal(truth, y[rows])
    np.testing.assert_allclose(probes.r2(truth, guess), 1)
    # Nothing to read: no better than the mean, and judged so.
    truth, guess, _ = probes.few_shot(np.zeros((200, 3)), y)
    assert (probes.r2(truth, guess) <= 0).all()


def test_scores_by_hand():
    truth, guess = np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [2.0], [4.0]])
    assert probes.r2(truth, guess) == pytest.approx(1 - (1 / 3) / (2 / 3))
    assert probes.within(truth, guess) == pytest.approx(2 / 3)
    assert probes.within(-truth, -guess, 0.5) == 1
