"""Conformal intervals: what is promised, for any network and few stars, and Romano's formulae."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_pinball_loss

from stellarbook.learn.conformal import (
    QUANTILES,
    calibrate,
    calibrated,
    covered,
    hybrid_loss,
    pinball,
)

numbers = st.floats(-1e3, 1e3, allow_subnormal=False)
COVERAGE = np.array([0.8, 0.5])


def draw(rng, n, labels):
    """Draw labels that scatter by 2, whose network thinks by 1 about a wrong median."""
    mean = rng.normal(size=(n, labels))
    prediction = mean[..., None] + 0.3 + np.array([-1.28, -0.67, 0, 0.67, 1.28])
    return mean + 2 * rng.standard_t(4, size=(n, labels)), prediction


@given(arrays(float, st.integers(1, 20), elements=numbers), st.sampled_from(QUANTILES))
def test_pinball_agrees_with_sklearn_and_is_least_at_the_quantile(sample, level):
    def loss(value):
        prediction = torch.full((len(sample), 1), value, dtype=torch.float64)
        return float(pinball(torch.from_numpy(sample), prediction, [level]).mean())

    quantile = np.quantile(sample, level, method="inverted_cdf")
    other = mean_pinball_loss(sample, np.full(len(sample), quantile), alpha=level)
    assert loss(quantile) == pytest.approx(other, abs=1e-9)
    assert all(loss(quantile) <= loss(value) + 1e-9 for value in sample)


def test_pinball_by_hand():
    loss = pinball(
        torch.tensor([1.0, 3.0]), torch.tensor([[2.0, 2, 2], [2, 2, 2]]), (0.1, 0.5, 0.9)
    )
    torch.testing.assert_close(loss, torch.tensor([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]]))


def test_gradient_descent_finds_quantiles():
    sample = torch.from_numpy(np.random.default_rng(0).normal(size=2000))
    quantiles = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([quantiles], 0.05)
    for _ in range(200):
        optimiser.zero_grad()
        pinball(sample, quantiles.expand(2000, 5)).sum(dim=-1).mean().backward()
        optimiser.step()
    expected = np.quantile(sample, QUANTILES)
    np.testing.assert_allclose(quantiles.detach(), expected, atol=0.05)


def test_hybrid_loss_by_hand():
    flux, filled = torch.zeros(2, 4), torch.tensor([[1.0, 1, 0, 0], [2, 0, 0, 0]])
    truth = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    prediction = torch.zeros(2, 2, 5, requires_grad=True)
    # Star 1: MSE 1/2, one known label, Σ τ · 1 = 2.5. Star 2: MSE 1, no label.
    one, other = 0.75 * 0.5 + 0.25 * 2.5, 0.75 * 1.0
    arguments = filled, flux, prediction, truth, 0.25
    assert hybrid_loss(*arguments).item() == pytest.approx((one + other) / 2)
    weight = torch.tensor([30.0, 10.0])
    loss = hybrid_loss(*arguments, weight)
    assert loss.item() == pytest.approx((3 * one + other) / 4)
    assert hybrid_loss(*arguments, 7 * weight).item() == pytest.approx(loss.item())
    masked = torch.tensor([[True, False, False, False], [False, True, False, False]])
    one, other = 0.75 * 1 + 0.25 * 2.5, 0.0
    assert hybrid_loss(*arguments, masked=masked).item() == pytest.approx((one + other) / 2)
    loss.backward()
    expected = torch.zeros(2, 2, 5)
    expected[0, 0] = -0.25 * 0.75 * torch.tensor(QUANTILES)
    torch.testing.assert_close(prediction.grad, expected)  # nothing from unknown labels


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_hybrid_loss_has_two_ends(share):
    torch.manual_seed(0)
    flux, filled, truth, prediction = (torch.randn(s) for s in [(6, 9), (6, 9), (6, 3), (6, 3, 5)])
    mse = (filled - flux).square().mean()
    quantile = pinball(truth, prediction).sum(dim=-1).mean()
    expected = quantile if share else mse
    torch.testing.assert_close(hybrid_loss(filled, flux, prediction, truth, share), expected)


def reference(truth, low, high, coverage):
    """Romano et al. (2019), Algorithm 1, one star at a time and in exact fractions."""
    scores = sorted(max(a - y, y - b) for y, a, b in zip(truth, low, high, strict=True))
    rank = math.ceil(coverage * (1 + Fraction(1, len(scores))) * len(scores))
    return scores[rank - 1] if rank <= len(scores) else math.inf


@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_margins_agree_with_the_paper(n, seed):
    truth, prediction = draw(np.random.default_rng(seed), n, 2)
    margins = calibrate(truth, prediction)
    for label in range(2):
        for i, coverage in enumerate((Fraction(4, 5), Fraction(1, 2))):
            low, high = prediction[:, label, i], prediction[:, label, -1 - i]
            assert margins[label, i] == reference(truth[:, label], low, high, coverage)


@pytest.mark.parametrize(("n", "rank80", "rank50"), [(4, 4, 3), (9, 8, 5), (19, 16, 10)])
def test_rank_of_the_margin(n, rank80, rank50):
    # Intervals of no width about 0: the scores are |y| = 1 … n.
    truth = np.random.default_rng(n).permutation(n)[:, None] + 1.0
    margins = calibrate(truth, np.zeros((n, 1, 5)))
    assert margins.tolist() == [[rank80, rank50]]


def test_too_few_stars_promise_nothing():
    truth, prediction = draw(np.random.default_rng(1), 3, 1)
    margins = calibrate(truth, prediction)
    assert np.isinf(margins[0, 0]) and np.isfinite(margins[0, 1])
    quantiles = calibrated(prediction, margins)
    assert (quantiles[..., 0] == -np.inf).all() and (quantiles[..., -1] == np.inf).all()
    assert np.isfinite(quantiles[..., 1:4]).all()
    assert np.isinf(calibrate(truth * np.nan, prediction)).all()
    assert np.isinf(calibrate(truth[:0], prediction[:0])).all()


@pytest.mark.parametrize("n", [4, 10, 50, 400])
def test_coverage_is_what_was_promised(n):
    # Each of 4,000 columns is a calibration of its own, judged on 50 new stars.
    rng = np.random.default_rng(n)
    margins = calibrate(*draw(rng, n, 4000))
    truth, prediction = draw(rng, 50, 4000)
    before = covered(truth, prediction).mean(axis=0)
    assert (before < COVERAGE - 0.15).all()
    share = covered(truth, calibrated(prediction, margins))  # (4000, 2)
    error = share.std(axis=0) / 4000**0.5
    assert (share.mean(axis=0) > COVERAGE - 4 * error).all()
    # Too much by at most 1 / (n + 1), and nothing crosses here that would add to it.
    assert (share.mean(axis=0) < COVERAGE + 1 / (n + 1) + 4 * error).all()


def test_intervals_that_were_too_wide_shrink():
    rng = np.random.default_rng(2)
    prediction = rng.normal(size=(2000, 1, 1)) + 5 * np.array([-1.28, -0.67, 0, 0.67, 1.28])
    truth = prediction[..., 2] + rng.normal(size=(2000, 1))
    margins = calibrate(truth, prediction)
    assert (margins < 0).all()
    after = covered(truth, calibrated(prediction, margins))
    np.testing.assert_allclose(after, [COVERAGE], atol=2e-3)


@given(
    arrays(float, (5, 2, 5), elements=numbers),
    arrays(float, (2, 2), elements=st.floats(-500, 500)),
)
def test_nothing_crosses_and_nothing_is_cut_off(prediction, margins):
    quantiles = calibrated(prediction, margins)
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    ordered = np.sort(prediction, axis=-1)
    np.testing.assert_array_equal(quantiles[..., 2], ordered[..., 2])
    for i in range(2):
        assert (quantiles[..., i] <= ordered[..., i] - margins[:, i]).all()
        assert (quantiles[..., -1 - i] >= ordered[..., -1 - i] + margins[:, i]).all()
    untouched = calibrated(prediction, np.zeros((2, 2)))
    np.testing.assert_array_equal(untouched, ordered)


def test_unknown_labels_and_crossed_quantiles():
    rng = np.random.default_rng(3)
    truth, prediction = draw(rng, 200, 2)
    truth[:150, 1] = np.nan
    margins = calibrate(truth, rng.permuted(prediction, axis=-1))
    np.testing.assert_array_equal(margins[0], calibrate(truth[:, :1], prediction[:, :1])[0])
    known = calibrate(truth[150:, 1:], prediction[150:, 1:])
    np.testing.assert_array_equal(margins[1], known[0])
    share = covered(truth, prediction)
    np.testing.assert_array_equal(share[1], covered(truth[150:, 1:], prediction[150:, 1:])[0])
    prediction[:10] = np.nan
    assert np.isnan(calibrated(prediction, margins)[:10]).all()
    assert np.isfinite(calibrate(truth, prediction)).all()
    assert np.isnan(covered(truth * np.nan, prediction)).all()


def test_what_is_refused():
    truth, prediction = np.zeros((3, 2)), np.zeros((3, 2, 5))
    for levels in ((0.1, 0.5), (0.1, 0.5, 0.8), (0.9, 0.5, 0.1), (0.0, 0.5, 1.0)):
        with pytest.raises(ValueError, match="pairs about the median"):
            calibrate(truth, prediction[..., : len(levels)], levels)
    with pytest.raises(ValueError, match=r"\(n, labels, 5\)"):
        calibrate(truth, prediction[..., :3])
    with pytest.raises(ValueError, match="levels // 2"):
        calibrated(prediction, np.zeros((2, 1)))
