"""The distilled emulator against its two sources, evaluated and blurred here the long way."""

import os
import pickle

import numpy as np
import pytest
import torch

from stellarbook.data import archives, emulator_source
from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import APOGEE, GAIA_XP, LAMOST
from stellarbook.data.records import air_to_vacuum

PIXELS = np.arange(60, 3909, 29)  # enough of them, and quick
SUN = (5772.0, 4.44, 0.0, 0.0)
GIANTS = [(3800, 1.0, -0.5, 0.1), (4600, 2.5, -1.2, 0.3), (5500, 3.4, 0.2, 0.0)]
NETS = ["3500-4200", "4000-5000", "4900-6000"]


def archive_or_skip():
    for name in emulator_source.NEEDS:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")


@pytest.fixture(scope="module")
def lamost():
    archive_or_skip()
    return Emulator(LAMOST)


@pytest.fixture(scope="module")
def sources():
    archive_or_skip()
    kinds = ("coolstars", "hotdwarfs")
    return {kind: emulator_source.cannon(kind) for kind in kinds} | {
        kind: emulator_source.net(kind) for kind in NETS
    }


def cannon(model, labels):
    """Evaluate the polynomial in full: 150,001 pixels."""
    x = (np.asarray(labels[:3]) - model.centre) / model.scale
    return model.theta @ np.prod(x**model.powers, axis=1)


def boss(model, labels):
    """Evaluate a network in full: 14,001 pixels."""
    return (model.hidden(np.array([labels])) @ model.weights[2].T + model.biases[2])[0]


def blurred(spectrum, start, step):
    """Convolve with LAMOST's line spread at `PIXELS`, one by one."""
    grid = start + step * np.arange(len(spectrum))
    result = []
    for wave, fwhm in zip(LAMOST.wave[PIXELS], LAMOST.fwhm[PIXELS], strict=True):
        wave = emulator_source.vacuum_to_air(wave)
        weight = np.exp(-4 * np.log(2) * ((grid - wave) / fwhm) ** 2)
        result.append((weight * spectrum).sum() / weight.sum())
    return np.array(result)


def agree(emulated, reference, rms, largest):
    difference = emulated.numpy()[PIXELS] - np.clip(reference, 0, 1.3)
    assert difference.std() < rms and np.abs(difference).max() < largest


def stars(n, seed=0):
    """Draw labels inside the ranges, of all temperatures."""
    rng = np.random.default_rng(seed)
    teff = rng.uniform(3500, 12_000, n)
    logg = rng.uniform(np.clip(1.25e-3 * (teff - 6000), 0, 2.5), 5)
    feh = rng.uniform(-2.5 + np.clip(1e-3 * (teff - 8000), 0, 1), 0.5)
    return torch.from_numpy(np.column_stack([teff, logg, feh, rng.uniform(-0.5, 0.5, n)]))


# --- without archives -----------------------------------------------------------------------


def test_line_spread_by_hand():
    wave, fwhm = np.array([5000.0, 5000.03]), np.array([2.0, 3.0])
    matrix = emulator_source.line_spread(wave, fwhm, 4900.0, 0.1, 2001).toarray()
    grid = 4900 + 0.1 * np.arange(2001)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_allclose(matrix @ grid, wave, atol=1e-4)  # a straight line stays
    peak, half = matrix[0, 1000], matrix[0, 1010]  # 1 Å = FWHM / 2 away
    assert half / peak == pytest.approx(0.5, abs=1e-3)


def test_air_and_vacuum_are_inverse_and_hbeta_is_hbeta():
    wave = np.linspace(3400, 17_000, 50)
    np.testing.assert_allclose(air_to_vacuum(emulator_source.vacuum_to_air(wave)), wave, rtol=1e-12)
    assert emulator_source.vacuum_to_air(4862.69) == pytest.approx(4861.33, abs=0.005)


def test_a_pickle_may_construct_only_what_is_listed():
    with pytest.raises(pickle.UnpicklingError, match="system is not on the list"):
        emulator_source._unpickle(pickle.dumps(os.system))
    with pytest.raises(pickle.UnpicklingError, match="eval is not on the list"):
        emulator_source._unpickle(pickle.dumps(eval))


# --- against the sources --------------------------------------------------------------------


@pytest.mark.archives
@pytest.mark.parametrize(("labels", "net"), zip(GIANTS, NETS, strict=True))
def test_a_giant_is_the_network(lamost, sources, labels, net):
    reference = blurred(boss(sources[net], labels), 3500, 0.5)
    agree(lamost(np.array([labels]))[0], reference, rms=1.1e-3, largest=0.005)


@pytest.mark.archives
def test_a_dwarf_takes_over_the_ratio(lamost, sources):
    dwarf, giant = (5772, 4.44, 0.0, 0.2), (5772, 3.5, 0.0, 0.2)
    c, c_giant = (blurred(cannon(sources["coolstars"], x), 3000, 0.1) for x in (dwarf, giant))
    b = blurred(boss(sources["4900-6000"], giant), 3500, 0.5)
    agree(lamost(np.array([dwarf]))[0], c * b / c_giant, rms=1.1e-3, largest=0.005)


@pytest.mark.archives
def test_between_6000_and_7000_the_ratio_fades(lamost, sources):
    star, edge = (6500, 4.2, -0.3, 0.3), (6000, 3.5, -0.3)
    c, c_edge = (blurred(cannon(sources["coolstars"], x), 3000, 0.1) for x in (star, edge))
    alpha, solar = (blurred(boss(sources["4900-6000"], (*edge, a)), 3500, 0.5) for a in (0.15, 0.0))
    reference = c * (solar / c_edge) ** 0.5 * alpha / solar  # w(6500 K) = 1/2
    agree(lamost(np.array([star]))[0], reference, rms=1.1e-3, largest=0.005)


@pytest.mark.archives
@pytest.mark.parametrize(
    ("kind", "labels"), [("coolstars", (7300, 4.0, -0.5, 0)), ("hotdwarfs", (9500, 4.0, -0.5, 0))]
)
def test_a_hot_star_is_the_polynomial(lamost, sources, kind, labels):
    reference = blurred(cannon(sources[kind], labels), 3000, 0.1)
    agree(lamost(np.array([labels]))[0], reference, rms=3e-4, largest=3e-3)


@pytest.mark.archives
def test_the_continuum_of_the_sun(lamost):
    """4π H (1 R☉ / 1 au)² is the solar constant's share: 1.92 W m⁻² nm⁻¹ at 500 nm (ASTM E490)."""
    flux = lamost.flux(np.array([SUN]))[0].numpy()
    near = (LAMOST.wave > 4950) & (LAMOST.wave < 5050)
    irradiance = 4 * np.pi * flux[near].mean() * (6.957e5 / 1.495979e8) ** 2 / 100
    assert irradiance == pytest.approx(1.92, rel=0.06)


# --- as a function --------------------------------------------------------------------------


@pytest.mark.archives
@pytest.mark.parametrize("labels", [*GIANTS, SUN, (4100, 4.6, 0, 0.1), (6500, 4, -1, 0.2)])
def test_gradient_is_that_of_finite_differences(labels):
    archive_or_skip()
    emulator = Emulator(LAMOST).double()
    labels = torch.tensor([labels], dtype=torch.float64)
    for column, step in enumerate((0.01, 1e-4, 1e-4, 1e-4)):
        tangent = torch.zeros_like(labels)
        tangent[0, column] = 1
        _, slope = torch.func.jvp(emulator, (labels,), (tangent,))
        ahead, behind = (emulator(labels + s * tangent) for s in (step, -step))
        finite = (ahead - behind) / (2 * step)
        error = (slope - finite).abs() / finite.abs().max()
        # A network's corners (leaky ReLU) and the clip spoil single differences, not the others.
        assert error.median() < 1e-6 and error.quantile(0.95) < 1e-2


@pytest.mark.archives
def test_backward_agrees_with_forward(lamost):
    labels = stars(6).float().requires_grad_()
    (back,) = torch.autograd.grad(lamost(labels).sum(), labels)
    tangent = torch.zeros_like(labels)
    tangent[:, 1] = 1
    forward = torch.func.jvp(lamost, (labels.detach(),), (tangent,))[1].sum(dim=1)
    np.testing.assert_allclose(back[:, 1], forward, rtol=1e-3, atol=1e-2)


@pytest.mark.archives
@pytest.mark.parametrize(("logg", "feh"), [(4.5, 0.0), (4.5, -1.0), (2.0, -0.5)])
def test_no_seams(lamost, logg, feh):
    hottest = 12_000 if logg > 2.5 else 7500
    edges = torch.tensor([4000.0, 4200, 4900, 5000, 6000, 7000, 7600, 8000, 8400])
    edges = edges[edges < hottest]

    def at(teff):
        fixed = torch.tensor([logg, feh, 0.0]).expand(len(teff), 3)
        return lamost(torch.column_stack([teff, fixed]))

    jump = (at(edges + 0.05) - at(edges - 0.05)).abs().amax(dim=1)
    assert jump.max() < 1e-3  # a tenth of a degree
    spectra = at(torch.arange(3500.0, hottest, 10))
    change = spectra.diff(dim=0)
    assert change.abs().max() < 0.02 and change.pow(2).mean(dim=1).sqrt().max() < 0.009
    assert change.pow(2).mean(dim=1).sqrt().median() < 0.0012


@pytest.mark.archives
def test_batches_do_not_matter(lamost):
    labels = stars(300)
    together = lamost(labels)
    assert together.shape == (300, 3909) and together.dtype == torch.float32
    assert 0 <= together.min() and together.max() <= 1.3
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(lamost(labels[order]), together[order], atol=2e-5)
    for star in (0, 17, 299):
        np.testing.assert_allclose(lamost(labels[star : star + 1])[0], together[star], atol=2e-5)
    assert lamost(labels[:0]).shape == (0, 3909)
    np.testing.assert_allclose(lamost(labels.numpy()), together)


@pytest.mark.archives
def test_alpha(lamost):
    labels = torch.tensor([SUN, (4500, 2, -1, 0), (7200, 4, 0, 0)])
    rich = labels + torch.tensor([0, 0, 0, 0.3])
    triplet = np.abs(LAMOST.wave - 5176) < 12
    change = (lamost(rich) - lamost(labels))[:, triplet].mean(dim=1)
    assert change[0] < -0.005 and change[1] < -0.01  # Mg b deepens
    assert change[2] == 0  # too hot: the answer has faded out
    assert lamost.alpha_valid(rich).tolist() == [True, True, False]
    outside = torch.tensor([[5000, 4, 0, float("nan")], [5000, 4, 0, 0.9]])
    assert not lamost.alpha_valid(outside).any()


# --- refusals -------------------------------------------------------------------------------


@pytest.mark.archives
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((3400, 4, 0, 0), r"labels\[1\]: teff = 3400 is outside 3500 to 12000"),
        ((12_001, 4, 0, 0), "teff = 12001"),
        ((5000, 5.2, 0, 0), "logg = 5.2 is outside 0 to 5 at Teff = 5000 K"),
        ((9000, 2, 0, 0), "logg = 2 is outside 2.5 to 5 at Teff = 9000 K"),
        ((5000, 4, -2.6, 0), "feh = -2.6 is outside -2.5 to 0.5"),
        ((9000, 4, -2, 0), "feh = -2 is outside -1.5 to 0.5 at Teff = 9000 K"),
        ((5000, 4, 0, 0.6), "alpha_fe = 0.6 is outside -0.5 to 0.5"),
        ((float("nan"), 4, 0, 0), "teff = nan"),
        ((5000, 4, float("nan"), 0), "feh = nan"),
    ],
)
def test_labels_outside_are_refused_or_flagged(lamost, labels, message):
    labels = torch.tensor([SUN, labels])
    with pytest.raises(ValueError, match=message):
        lamost(labels)
    with pytest.raises(ValueError, match=message):
        lamost.flux(labels)
    flux = Emulator(LAMOST, outside="nan")(labels)
    assert flux[1].isnan().all()
    np.testing.assert_allclose(flux[0], lamost(labels[:1])[0], atol=2e-5)


@pytest.mark.archives
def test_wrong_shapes_and_options_are_refused(lamost):
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        lamost(np.array(SUN))
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        lamost(np.array([SUN[:3]]))
    with pytest.raises(ValueError, match="expected"):
        Emulator(LAMOST, outside="clip")


@pytest.mark.archives
def test_apogee_knows_no_alpha():
    archive_or_skip()
    emulator = Emulator(APOGEE)
    assert emulator(np.array([SUN])).shape == (1, 8575)
    assert not emulator.alpha_valid(np.array([SUN])).any()
    with pytest.raises(ValueError, match=r"apogee know no \[α/Fe\] but 0"):
        emulator(np.array([(*SUN[:3], 0.1)]))


@pytest.mark.archives
def test_gaia_xp_has_a_flux_only():
    archive_or_skip()
    emulator = Emulator(GAIA_XP)
    flux = emulator.flux(np.array([SUN, (4500, 2, -1, 0.2)]))
    assert flux.shape == (2, 343) and (flux > 0).all()
    assert (flux.diff(dim=1).abs() / flux[:, 1:]).max() < 0.15  # no step where the networks begin
    with pytest.raises(ValueError, match=r"use \.flux"):
        emulator(np.array([SUN]))


@pytest.mark.archives
def test_all_distillates_are_small():
    archive_or_skip()
    files = (archives.cache() / "distilled").glob("emulator_*/*.safetensors")
    assert 0 < sum(file.stat().st_size for file in files) <= 15e6
