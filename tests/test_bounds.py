"""Cramér–Rao bounds against closed forms, plain inverses and least squares, and the emulator."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stellarbook.data import archives, emulator_source
from stellarbook.data.instruments import GAIA_XP, LAMOST
from stellarbook.learn.bounds import (
    conditional,
    continuum,
    cramer_rao,
    fisher,
    jacobian,
    one_step,
    velocity,
    whitened,
)

X = torch.linspace(-8, 8, 801, dtype=torch.float64)
STEP = float(X[1] - X[0])
seeds = st.integers(0, 2**32 - 1)


def line(labels):
    """Absorb with a Gaussian: labels (n, 3) are depth, centre and width."""
    depth, centre, width = labels.T[..., None]
    return 1 - depth * torch.exp(-0.5 * ((X - centre) / width) ** 2)


def draw(seed, n=2, pixels=40, labels=3, nuisances=4):
    rng = np.random.default_rng(seed)
    shapes = (n, pixels, labels), (n, pixels, nuisances)
    directions, nuisance = (torch.from_numpy(rng.normal(size=shape)) for shape in shapes)
    ivar = torch.from_numpy(rng.gamma(2, size=(n, pixels)) * (rng.random((n, pixels)) > 0.2))
    return directions, ivar, nuisance


# --- closed forms ---------------------------------------------------------------------------


def test_a_straight_line():
    x, sigma = torch.tensor([0.0, 1, 2, 5, 9, 11]).double(), 0.3
    slopes = jacobian(lambda ab: ab[:, :1] + ab[:, 1:] * x, torch.tensor([[7.0, 2]]).double())
    information = fisher(slopes, torch.full((1, 6), sigma**-2))
    spread = (x - x.mean()).square().sum()
    intercept = sigma * (1 / 6 + x.mean() ** 2 / spread).sqrt()
    expected = [intercept.item(), sigma / spread.sqrt().item()]
    assert cramer_rao(information)[0].tolist() == pytest.approx(expected)
    alone = [sigma / 6**0.5, sigma / x.square().sum().sqrt().item()]
    assert conditional(information)[0].tolist() == pytest.approx(alone)


@pytest.mark.parametrize("step", [None, (1e-4, 1e-4, 1e-4)])
def test_a_gaussian_line(step):
    """Landman, Roussel-Dupré & Tanigawa 1982: sums over pixels are integrals, ∫g² = √π w."""
    depth, width, sigma = 0.6, 0.8, 0.01
    slopes = jacobian(line, torch.tensor([[depth, 0.1, width]]).double(), step)
    information = fisher(slopes, torch.full((1, 801), sigma**-2))
    unit = sigma * (STEP / (np.pi**0.5 * width)) ** 0.5
    shape = unit * 2**0.5 * width / depth
    expected = [unit * 1.5**0.5, shape, shape]
    assert cramer_rao(information)[0].tolist() == pytest.approx(expected, rel=1e-6)
    alone = [unit, shape, shape * (2 / 3) ** 0.5]
    assert conditional(information)[0].tolist() == pytest.approx(alone, rel=1e-6)


def test_slopes_by_hand():
    labels = torch.tensor([[0.5, 0.3, 0.7], [0.2, -1, 1.5]], dtype=torch.float64)
    depth, centre, width = labels.T[..., None]
    profile = torch.exp(-0.5 * ((X - centre) / width) ** 2)
    u = (X - centre) / width
    by_hand = torch.stack([-profile, -depth * profile * u / width, -depth * profile * u**2 / width])
    expected = by_hand.movedim(0, -1)
    torch.testing.assert_close(jacobian(line, labels), expected)
    torch.testing.assert_close(jacobian(line, labels, (0.1, 1e-5, 1e-5)), expected)
    # One star many times, without copies; whole numbers.
    same = jacobian(line, labels[:1].expand(3, 3))
    torch.testing.assert_close(same, expected[:1].expand(3, -1, -1))
    assert jacobian(torch.square, [[1, 3]]).tolist() == [[[2, 0], [0, 6]]]
    # A corner: the derivative on one side, the mean of both over a step.
    corner = [jacobian(torch.relu, [[0.01]], step).item() for step in (None, (1.0,))]
    assert corner == pytest.approx([1, 0.505])


# --- algebra --------------------------------------------------------------------------------


@given(seeds, st.booleans())
def test_nuisances_are_what_the_inverse_of_everything_says(seed, prior):
    directions, ivar, nuisance = draw(seed)
    precision = torch.tensor([0.0, 1, 30, 1e4]).double() * prior
    both = torch.cat([directions, nuisance], dim=-1)
    everything = (both.mT * ivar[:, None]) @ both
    everything[:, 3:, 3:] += torch.diag(precision)
    expected = torch.linalg.inv(everything)[:, :3, :3]
    information = fisher(directions, ivar, nuisance, precision if prior else None)
    torch.testing.assert_close(torch.linalg.inv(information), expected)
    errors = expected.diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(cramer_rao(information), errors)


@given(seeds)
def test_one_step_is_least_squares(seed):
    directions, ivar, nuisance = draw(seed)
    rng = np.random.default_rng(seed)
    flux = torch.from_numpy(rng.normal(size=ivar.shape))
    start = torch.from_numpy(rng.normal(size=(2, 3)))
    both = torch.cat([directions, nuisance], dim=-1)
    estimate = one_step(lambda t: (directions @ t[..., None])[..., 0], start, flux, ivar, nuisance)
    for star in range(2):
        weight = ivar[star].sqrt()
        oracle = np.linalg.lstsq(weight[:, None] * both[star], weight * flux[star])[0]
        np.testing.assert_allclose(estimate[star], oracle[:3], rtol=1e-6, atol=1e-8)


@given(seeds)
def test_knowledge_helps_and_ignorance_hurts(seed):
    directions, ivar, nuisance = draw(seed)
    known, free = (cramer_rao(fisher(directions, ivar, n)) for n in (None, nuisance))
    some = cramer_rao(fisher(directions, ivar, nuisance, torch.full((4,), 5.0)))
    assert (known <= some * (1 + 1e-9)).all() and (some <= free * (1 + 1e-9)).all()
    assert (conditional(fisher(directions, ivar)) <= known * (1 + 1e-9)).all()
    fewer = ivar * (torch.arange(40) != 7)
    assert (cramer_rao(fisher(directions, fewer, nuisance)) >= free * (1 - 1e-9)).all()
    torch.testing.assert_close(cramer_rao(fisher(directions, 4 * ivar, nuisance)), free / 2)
    mixed = nuisance @ torch.linalg.qr(nuisance[:, :4])[0]  # the same directions, otherwise
    torch.testing.assert_close(cramer_rao(fisher(directions, ivar, mixed)), free)


def test_other_names_for_the_labels():
    labels = torch.tensor([[0.5, 0.3, 0.7]], dtype=torch.float64)
    ivar = torch.rand(1, 801, generator=torch.Generator().manual_seed(0)).double()

    def area(x):  # depth × width, centre in other units, log width
        width = x[:, 2].exp()
        return torch.stack([x[:, 0] / width, x[:, 1] / 1e5, width], dim=1)

    renamed = torch.tensor([[0.35, 3e4, np.log(0.7)]], dtype=torch.float64)
    one = cramer_rao(fisher(jacobian(line, labels), ivar))[0]
    two = cramer_rao(fisher(jacobian(lambda x: line(area(x)), renamed), ivar))[0]
    assert two[1].item() == pytest.approx(1e5 * one[1].item())
    assert two[2].item() == pytest.approx(one[2].item() / 0.7)  # δ ln w = δw / w
    change = jacobian(area, renamed)[0]
    errors = change @ torch.linalg.inv(fisher(jacobian(lambda x: line(area(x)), renamed), ivar)[0])
    torch.testing.assert_close((errors @ change.T).diagonal().sqrt(), one)


def test_what_is_not_fixed_is_infinite():
    directions, ivar, nuisance = draw(0)
    same = directions[..., [0, 1, 2, 0]]  # labels 0 and 3 change the flux alike
    bound = cramer_rao(fisher(same, ivar, nuisance))
    assert bound.isinf().tolist() == [[True, False, False, True]] * 2
    rest = cramer_rao(fisher(directions, ivar, nuisance))[:, 1:]
    torch.testing.assert_close(bound[:, 1:3], rest)
    # A sum of labels, in other units, is another's.
    sum_of = torch.cat([directions, 1e4 * directions[..., :1] + directions[..., 1:2]], dim=-1)
    assert cramer_rao(fisher(sum_of, ivar))[0].isinf().tolist() == [True, True, False, True]
    as_nuisance = torch.cat([nuisance, 3e3 * directions[..., 1:2]], dim=-1)
    for precision in (torch.float32, torch.float64):
        bound = cramer_rao(fisher(directions, ivar, as_nuisance.to(precision).double()))
        assert bound.isinf().tolist() == [[False, True, False]] * 2
    nothing = cramer_rao(fisher(directions * torch.tensor([1.0, 1, 0]), ivar))
    assert nothing.isinf().tolist() == [[False, False, True]] * 2
    assert cramer_rao(fisher(directions, 0 * ivar)).isinf().all()
    assert conditional(fisher(directions, 0 * ivar)).isinf().all()
    with pytest.raises(ValueError, match="label 0 leaves no trace"):
        one_step(lambda t: (same @ t[..., None])[..., 0], torch.zeros(2, 4).double(), ivar, ivar)


def test_masked_pixels_say_nothing():
    directions, ivar, nuisance = draw(1)
    flux = torch.randn(2, 40, generator=torch.Generator().manual_seed(1)).double()
    holed = [x.clone() for x in (flux, directions, nuisance)]
    for x in holed:
        x[ivar == 0] = torch.nan
    expected = fisher(directions, ivar, nuisance)
    torch.testing.assert_close(fisher(holed[1], ivar, holed[2]), expected)
    estimates = [
        one_step(lambda t, d=d: (d @ t[..., None])[..., 0], torch.ones(2, 3).double(), f, ivar, n)
        for f, d, n in ((flux, directions, nuisance), holed)
    ]
    torch.testing.assert_close(*estimates)
    # Nuisances of an arm without pixels, and the same one twice, take nothing.
    more = torch.cat([nuisance, nuisance[..., :1], 0 * nuisance], dim=-1)
    torch.testing.assert_close(fisher(directions, ivar, more), expected)


@given(seeds)
def test_correlated_pixels(seed):
    directions, _, _ = draw(seed)
    rng = np.random.default_rng(seed)
    root = torch.from_numpy(rng.normal(size=(40, 60)))
    whole = whitened(directions, root @ root.T)
    expected = directions.mT @ torch.linalg.inv(root @ root.T) @ directions
    torch.testing.assert_close(fisher(whole, torch.ones(1, 40)), expected)
    basis = torch.linalg.qr(torch.from_numpy(rng.normal(size=(40, 9))))[0]
    small = root[:9] @ root[:9].T
    inverse = torch.linalg.pinv(basis @ small @ basis.T, rtol=1e-10)
    inside = fisher(whitened(directions, small, basis), torch.ones(1, 9))
    torch.testing.assert_close(inside, directions.mT @ inverse @ directions)
    alone = whitened(directions, torch.eye(40))
    torch.testing.assert_close(alone, directions)


def test_gaia_xp_pixels_are_110_numbers():
    basis = torch.from_numpy(GAIA_XP.basis())
    slope = basis @ torch.linspace(0, 1, 110).double()[:, None]
    white = whitened(slope[None], 0.01 * torch.eye(110), basis)
    assert white.shape == (1, 110, 1)
    expected = 100 * slope.square().sum()
    torch.testing.assert_close(fisher(white, torch.ones(1, 110))[0, 0, 0], expected)


# --- nuisances ------------------------------------------------------------------------------


def test_a_wrong_continuum_is_in_the_directions():
    wave = np.r_[np.linspace(4000, 5000, 200), np.linspace(6400, 6700, 90)]
    flux = torch.rand(3, 290, generator=torch.Generator().manual_seed(0)).double() + 0.5
    directions = continuum(wave, flux, 3)
    assert directions.shape == (3, 290, 8)
    blue, red = slice(200), slice(200, 290)
    assert (directions[:, red, :4] == 0).all() and (directions[:, blue, 4:] == 0).all()
    torch.testing.assert_close(directions[:, :, [0, 4]].sum(dim=-1), flux)
    wrong = flux * torch.from_numpy(np.where(wave < 6000, (wave / 4000) ** 3, 2 - wave / 5000))
    # A flux that only its continuum moves tells of nothing else.
    assert (fisher(wrong[..., None], torch.ones(1, 290), directions) == 0).all()
    steeper = flux * torch.from_numpy((wave / 4000) ** 4)
    assert (fisher(steeper[..., None], torch.ones(1, 290), directions) > 0).all()
    one_arm = continuum(wave, flux, 3, arms=[slice(0, 290)])
    x = (wave - 5350) / 1350
    expected = flux * torch.from_numpy(4 * x**3 - 3 * x)
    torch.testing.assert_close(one_arm[..., 3], expected)


@pytest.mark.parametrize(("width", "error"), [(3.0, 0.01), (2.4, 0.05)])
def test_velocity_of_a_gaussian_line(width, error):
    log = np.log(LAMOST.wave)
    sigma = width / 2.3548 * (log[1] - log[0])
    u = (log - log[1000] - 0.3 * (log[1] - log[0])) / sigma
    flux = 1 - 0.5 * np.exp(-0.5 * u**2)
    slope = velocity(LAMOST.wave, torch.from_numpy(flux)[None])[0, :, 0]
    expected = -0.5 * np.exp(-0.5 * u**2) * u / sigma / 299_792.458
    assert np.abs(slope - expected).max() < error * np.abs(expected).max()
    # A star that recedes is seen moving to the red: as the instrument shifts it.
    moved = LAMOST.shift(torch.from_numpy(flux)[None], torch.tensor([0.1]).double())[0][0]
    change = (moved - flux) / 0.1
    assert np.corrcoef(change, slope)[0, 1] > 0.995


def test_velocity_knows_arms():
    wave = np.r_[np.linspace(4000, 4100, 50), np.linspace(6000, 6100, 50)]
    flux = torch.from_numpy(np.where(wave < 5000, 1 + np.log(wave), -3 * np.log(wave)))[None]
    slope = velocity(wave, flux)[0, :, 0] * 299_792.458
    expected = torch.from_numpy(np.where(wave < 5000, -1.0, 3.0))
    torch.testing.assert_close(slope, expected, rtol=1e-6, atol=1e-6)


# --- scatter --------------------------------------------------------------------------------


def test_one_step_reaches_the_bound():
    labels, n = torch.tensor([[0.6, 0.1, 0.8]], dtype=torch.float64), 4000
    flux = line(labels)
    sigma = 0.002 * (1 + torch.rand(1, 801, generator=torch.Generator().manual_seed(0)).double())
    nuisance = continuum(4000 + X.numpy(), flux, 2)
    rng = torch.Generator().manual_seed(1)
    error = torch.randn(n, 3, generator=rng).double() * 0.1  # of a continuum that is wrong
    wrong = flux + (nuisance @ error[..., None])[..., 0] * 0.1
    noisy = wrong + sigma * torch.randn(n, 801, generator=rng).double()
    residual = one_step(line, labels, noisy, sigma**-2, nuisance) - labels
    bound = cramer_rao(fisher(jacobian(line, labels), sigma**-2, nuisance))
    pull = residual / bound
    assert (pull.mean(dim=0).abs() < 4 / n**0.5).all()
    assert (pull.std(dim=0) - 1).abs().max() < 4 / (2 * n) ** 0.5
    # Who takes the continuum for granted does worse than anyone need do.
    naive = one_step(line, labels, noisy, sigma**-2) - labels
    assert naive[:, 0].std() > 2 * bound[0, 0]


def test_a_prior_of_the_continuum_is_used():
    labels, n = torch.tensor([[0.6, 0.1, 0.8]], dtype=torch.float64), 4000
    flux = line(labels)
    nuisance = continuum(4000 + X.numpy(), flux, 8)
    precision = torch.linspace(1, 9, 9).double() * 1e4
    rng = torch.Generator().manual_seed(2)
    error = torch.randn(n, 9, generator=rng).double() / precision.sqrt()
    noise = 0.05 * torch.randn(n, 801, generator=rng).double()
    noisy = flux + (nuisance @ error[..., None])[..., 0] + noise
    ivar = torch.full((1, 801), 400.0)
    arguments = ivar, nuisance, precision
    pull = one_step(line, labels, noisy, *arguments) - labels
    pull = pull / cramer_rao(fisher(jacobian(line, labels), *arguments))
    # The centre and the width are curved: to first order only. The depth is not.
    assert (pull[:, 0].std() - 1).abs() < 4 / (2 * n) ** 0.5
    assert (pull.std(dim=0) - 1).abs().max() < 0.1


# --- the emulator ---------------------------------------------------------------------------

STARS = torch.tensor(  # a K giant, a Sun, a turn-off star
    [(4700, 2.5, -0.1, 0), (5777, 4.44, 0, 0), (6200, 4.1, -1.5, 0.3)], dtype=torch.float64
)
# Bounds of an independent prototype (emulator, differences and algebra of its own) for S/N 50 a
# pixel, σ = √f / 50. Range (Å), degree of a continuum that is fitted along with the velocity.
PROTOTYPE = {
    (3900, 5600, None): [
        (9.2, 0.027, 0.0117, 0.0048),
        (9.7, 0.022, 0.0093, 0.0087),
        (14.6, 0.055, 0.0203, 0.0220),
    ],
    (3900, 5600, 5): [
        (14.6, 0.038, 0.0196, 0.0065),
        (11.0, 0.025, 0.0168, 0.0126),
        (16.5, 0.060, 0.0287, 0.0308),
    ],
    (3700, 9000, None): [
        (6.9, 0.023, 0.0092, 0.0040),
        (8.0, 0.017, 0.0081, 0.0079),
        (11.0, 0.034, 0.0147, 0.0177),
    ],
    (3700, 9000, 10): [
        (10.5, 0.030, 0.0147, 0.0043),
        (9.0, 0.020, 0.0132, 0.0085),
        (12.7, 0.040, 0.0240, 0.0261),
    ],
}


@pytest.fixture(scope="module")
def emulator():
    from stellarbook.data.emulator import Emulator

    for name in emulator_source.NEEDS:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")
    return Emulator(LAMOST)


@pytest.mark.archives
def test_slopes_of_the_emulator(emulator):
    double = type(emulator)(LAMOST).double()
    exact = jacobian(double, STARS)
    assert exact.shape == (3, 3909, 4)
    scale = exact.abs().amax(dim=(0, 1))
    finite = jacobian(double, STARS, (0.01, 1e-5, 1e-5, 1e-5))
    assert ((exact - finite).abs() / scale).flatten(0, 1).quantile(0.99, dim=0).max() < 1e-5
    single = jacobian(emulator, STARS)
    assert single.dtype == torch.float32 and ((single - exact).abs() / scale).max() < 1e-5
    # Through a chunk of many stars, and through what is fixed around it.
    many = jacobian(emulator, STARS.repeat(70, 1))
    torch.testing.assert_close(many[-3:].double(), exact, rtol=1e-3, atol=1e-5)
    solar = jacobian(lambda x: double(torch.nn.functional.pad(x, (0, 1))), STARS[:2, :3])
    torch.testing.assert_close(solar, exact[:2, :, :3])


@pytest.mark.archives
@pytest.mark.parametrize("case", PROTOTYPE, ids=str)
def test_bounds_are_those_of_a_prototype(emulator, case):
    lowest, highest, degree = case
    part = (LAMOST.wave >= lowest) & (LAMOST.wave <= highest)
    flux, slopes = emulator(STARS), jacobian(emulator, STARS, (20, 0.05, 0.03, 0.03))
    ivar, nuisance = 2500 / flux[:, part], None
    if degree:
        moving = velocity(LAMOST.wave, flux)[:, part]
        nuisance = torch.cat([continuum(LAMOST.wave[part], flux[:, part], degree), moving], dim=-1)
    bound = cramer_rao(fisher(slopes[:, part], ivar, nuisance))
    np.testing.assert_allclose(bound, PROTOTYPE[case], rtol=0.12)


@pytest.mark.archives
def test_one_step_of_the_emulator_reaches_the_bound(emulator):
    n, step = 2000, (20, 0.05, 0.03, 0.03)
    part = (LAMOST.wave >= 4000) & (LAMOST.wave <= 5600)
    rng = torch.Generator().manual_seed(0)
    for star in STARS[:, None]:
        flux = emulator(star)
        sigma = LAMOST.sigma(flux, 100.0)
        noisy = flux + sigma * torch.randn(n, 3909, generator=rng)
        nuisance = continuum(LAMOST.wave, flux, 5, [slice(*np.flatnonzero(part)[[0, -1]])])
        arguments = sigma**-2.0 * torch.from_numpy(part), nuisance
        residual = one_step(emulator, star, noisy, *arguments, step=step) - star
        bound = cramer_rao(fisher(jacobian(emulator, star, step), *arguments))
        assert ((residual / bound).std(dim=0) - 1).abs().max() < 4 / (2 * n) ** 0.5
