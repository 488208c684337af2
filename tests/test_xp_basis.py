"""Coefficients to flux and back: closed forms, symmetries, what the prior may and may not do."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.data import xp_basis
from stellarbook.data.xp_basis import (
    NAMES,
    NOISE,
    WAVE,
    design_matrix,
    g_flux,
    least_squares,
    prior_share,
    pseudo_coefficients,
    synthesise,
    token_scales,
    truncated,
)

seeds = st.integers(0, 2**32 - 1)


def stars(seed, n=20):
    """Draw coefficients around the published medians, and magnitudes."""
    rng = np.random.default_rng(seed)
    scales = token_scales().loc[list(NAMES)]
    draw = rng.standard_normal((n, 110)) * scales["mad_std"].to_numpy()
    return scales["median"].to_numpy() + 0.5 * draw, rng.uniform(6, 17, n)


def test_the_grid_and_the_names():
    assert WAVE.shape == (343,) and WAVE[0] == 336 and WAVE[-1] == 1020
    assert NAMES[0] == "bp0" and NAMES[54] == "bp54" and NAMES[55] == "rp0" and len(NAMES) == 110
    assert len(token_scales()) == 118 and set(NAMES) <= set(token_scales().index)


def test_g_flux_by_hand():
    """Eq. 8: one electron a second at the zero point, 100 times more at five magnitudes less."""
    assert g_flux(25.6873668671) == pytest.approx(1)
    assert g_flux(20.6873668671) == pytest.approx(100)


def test_design_matrix_is_gaiaxpy_s_calibration_of_unit_vectors():
    import pandas as pd

    with matplotlib.rc_context():  # it turns on LaTeX
        from gaiaxpy import calibrate

    one = {"n_parameters": 55, "standard_deviation": 1.0, "n_relevant_bases": 55}
    one |= {"coefficient_errors": np.ones(55), "coefficient_correlations": np.zeros(1485)}
    unit = np.eye(110)
    sources = [
        {"source_id": i + 1}
        | {f"{arm}_{key}": value for arm in ("bp", "rp") for key, value in one.items()}
        | {"bp_coefficients": unit[i, :55], "rp_coefficients": unit[i, 55:]}
        for i in range(110)
    ]
    calibrated, wave = calibrate(pd.DataFrame(sources), save_file=False)
    assert np.array_equal(wave, WAVE)
    columns = np.stack(calibrated["flux"].to_numpy()).T
    np.testing.assert_allclose(design_matrix(), columns, rtol=1e-12, atol=0)


def test_the_map_forgets_much():
    singular = np.linalg.svd(design_matrix(), compute_uv=False)
    assert singular[0] / singular[-1] == pytest.approx(2.9e7, rel=0.01)


def test_design_matrix_cannot_be_changed_by_accident():
    with pytest.raises(ValueError):
        design_matrix()[0, 0] = 0


def test_map_is_the_formula(monkeypatch):
    """The decomposition gives what the textbook expression gives, star by star."""
    # The textbook's matrix at the real noise is beyond a solver: 1e13 between its eigenvalues.
    monkeypatch.setattr(xp_basis, "NOISE", 1e-3)
    coefficients, g = stars(0, 5)
    flux = synthesise(coefficients, g) * (1 + 1e-4 * np.sin(WAVE))  # out of the column space
    inferred = pseudo_coefficients(flux, g)
    scales = token_scales().loc[list(NAMES)]
    matrix, mean = design_matrix(), scales["median"].to_numpy()
    covariance = np.diag((3 * scales["mad_std"].to_numpy()) ** 2)
    for star in range(5):
        f = flux[star] / g_flux(g[star])
        # In units of the noise, or the numbers are too small for a solver.
        s = 1e-3 * np.median(f)
        signal = matrix @ covariance @ matrix.T / s**2
        gain = np.linalg.solve(signal + np.eye(343), (f - matrix @ mean) / s)
        expected = mean + covariance @ matrix.T @ gain / s
        error = (inferred[star] - expected) / scales["mad_std"].to_numpy()
        assert np.abs(error).max() < 1e-4


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_round_trip(seed):
    """Synthesised spectra come back: exactly as flux, and as coefficients where flux tells."""
    coefficients, g = stars(seed)
    flux = synthesise(coefficients, g)
    inferred = pseudo_coefficients(flux, g)
    median = np.median(flux, axis=1, keepdims=True)
    assert (np.abs(synthesise(inferred, g) - flux) < 3e-6 * median).all()
    scale = token_scales().loc[list(NAMES), "mad_std"].to_numpy()
    for star in range(len(g)):
        known = prior_share(NOISE * median[star, 0] / g_flux(g[star])) < 1e-4
        assert 5 < known.sum() < 110
        # The posterior is 3 × sqrt(1e-4) = 0.03 scales wide at most.
        assert (np.abs(inferred - coefficients)[star, known] < 0.15 * scale[known]).all()


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(-3, 3))
def test_brightness_does_not_matter(seed, fainter):
    """A star moved away: flux and F_G fall together, the coefficients stay."""
    coefficients, g = stars(seed)
    flux = synthesise(coefficients, g)
    scale = token_scales().loc[list(NAMES), "mad_std"].to_numpy()
    moved = pseudo_coefficients(flux * 10 ** (-0.4 * fainter), g + fainter)
    assert (np.abs(moved - pseudo_coefficients(flux, g)) < 1e-4 * scale).all()


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from([1, 3, 8192]))
def test_a_star_does_not_know_its_neighbours(seed, chunk):
    """Permuting stars permutes the result; chunks leave no trace."""
    coefficients, g = stars(seed)
    flux = synthesise(coefficients, g)
    order = np.random.default_rng(seed).permutation(len(g))
    scale = token_scales().loc[list(NAMES), "mad_std"].to_numpy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xp_basis, "CHUNK", chunk)
        permuted = pseudo_coefficients(flux[order], g[order])
    # Not bitwise: a matrix product may round another way in another shape.
    assert (np.abs(permuted - pseudo_coefficients(flux, g)[order]) < 1e-4 * scale).all()


def test_with_huge_noise_only_the_prior_speaks(monkeypatch):
    coefficients, g = stars(1)
    monkeypatch.setattr(xp_basis, "NOISE", 1e9)
    inferred = pseudo_coefficients(synthesise(coefficients, g), g)
    scales = token_scales().loc[list(NAMES)]
    assert (
        np.abs(inferred - scales["median"].to_numpy()) < 1e-6 * scales["mad_std"].to_numpy()
    ).all()


def test_prior_share_goes_from_data_to_prior():
    noises = 10.0 ** np.arange(-32, -14, 2)
    shares = np.array([prior_share(noise) for noise in noises])
    assert (np.diff(shares, axis=0) > -1e-9).all(), "more noise, more prior"
    assert shares[0].max() < 1e-3 and shares[-1].min() > 0.99
    assert ((shares > -1e-9) & (shares < 1 + 1e-9)).all()


def test_comparators_on_exact_spectra():
    coefficients, g = stars(2)
    flux = synthesise(coefficients, g)
    scale = token_scales().loc[list(NAMES), "mad_std"].to_numpy()
    assert (np.abs(least_squares(flux, g) - coefficients) < 1e-3 * scale).all()
    np.testing.assert_array_equal(truncated(flux, g, 110), least_squares(flux, g))
    everything = truncated(flux, g, 110, scaled=True)
    assert (np.abs(everything - coefficients) < 1e-3 * scale).all()
    # Truncated to k directions, the coefficients have no part along the others.
    _, _, right = np.linalg.svd(design_matrix())
    left_over = truncated(flux, g, 60) @ right[60:].T
    assert np.abs(left_over).max() < 1e-9 * np.abs(coefficients).max()


def test_least_squares_drowns_where_map_does_not():
    """With the library's noise of 1.4e-6, the very reason for a prior."""
    coefficients, g = stars(3, 200)
    flux = synthesise(coefficients, g)
    median = np.median(flux, axis=1, keepdims=True)
    flux += 1.4e-6 * median * np.random.default_rng(3).standard_normal(flux.shape)
    scale = token_scales().loc[list(NAMES), "mad_std"].to_numpy()
    worst = {
        method.__name__: np.median(np.abs(method(flux, g) - coefficients) / scale, axis=0).max()
        for method in (pseudo_coefficients, least_squares)
    }
    assert worst["pseudo_coefficients"] < 1 < 10 < worst["least_squares"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda flux, g: flux.__setitem__(4, np.nan),
        lambda flux, g: flux.__setitem__((4, 7), np.nan),
        lambda flux, g: flux.__setitem__((4, 7), np.inf),
        lambda flux, g: flux.__setitem__(4, -flux[4]),
        lambda flux, g: flux.__setitem__(4, 0),
        lambda flux, g: g.__setitem__(4, np.nan),
        lambda flux, g: g.__setitem__(4, np.inf),
        lambda flux, g: g.__setitem__(4, -np.inf),
    ],
    ids=["all NaN", "one NaN", "one inf", "negative", "zero", "G NaN", "G inf", "G -inf"],
)
@pytest.mark.parametrize("method", [pseudo_coefficients, least_squares])
def test_an_unusable_star_is_nan_and_hurts_no_other(spoil, method):
    coefficients, g = stars(4)
    flux = synthesise(coefficients, g)
    sound = method(flux, g)
    spoil(flux, g)
    with pytest.warns(UserWarning, match="1 of 20 spectra get NaN"):
        result = method(flux, g)
    assert np.isnan(result[4]).all()
    others = np.arange(20) != 4
    scale = token_scales().loc[list(NAMES), "mad_std"].to_numpy()
    assert (np.abs(result[others] - sound[others]) < 1e-3 * scale).all()


def test_wrong_shapes_and_numbers_are_refused():
    flux, g = np.ones((3, 343)), np.ones(3)
    for bad_flux, bad_g in [
        (flux[:, :-1], g),
        (flux[0], g[0]),
        (flux, g[:2]),
        (flux, g[:, None]),
    ]:
        with pytest.raises(ValueError, match="expected"):
            pseudo_coefficients(bad_flux, bad_g)
    for k in (0, 111):
        with pytest.raises(ValueError, match="directions"):
            truncated(flux, g, k)
    with pytest.raises(ValueError, match="coefficients"):
        synthesise(np.ones((3, 55)), g)


def test_no_stars_give_no_rows():
    assert pseudo_coefficients(np.empty((0, 343)), np.empty(0)).shape == (0, 110)
