"""Spectra of the simulated field: one star as the emulator has it, two as the sum of both."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest
from test_emulator import archive_or_skip

from stellarbook.data import archives, kepler_field, simulated
from stellarbook.data.continuum import normalise
from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import APOGEE, DESI, LAMOST
from stellarbook.data.kepler_field import spectra
from stellarbook.data.observe import C
from stellarbook.desa import spectra_input

STILL = {"response": 0.0, "blur": 0.0, "velocity_error": 0.0, "progress": False}
WIDTH = np.sqrt(2) * C / 1800 / 2.3548  # km/s, of a cross-correlation at LAMOST's resolution
STEP = np.log(LAMOST.wave[1] / LAMOST.wave[0])
SUN = {"teff": 5772.0, "logg": 4.44, "feh": 0.0, "alpha": 0.0, "radius": 1.0, "a_v": 0.0}
ALONE = {"teff2": np.nan, "logg2": np.nan, "radius2": np.nan}
TWIN = {"teff2": 5772.0, "logg2": 4.44, "radius2": 1.0}
K_DWARF = {"teff2": 4900.0, "logg2": 4.6, "radius2": 0.74}


def stars(*rows):
    """A table of stars like the Sun but for what the rows say."""
    made = [SUN | ALONE | {"source_id": i} | row for i, row in enumerate(rows)]
    return pd.DataFrame(made)


def visits(*rows):
    """A visit of each star, without noise."""
    rest = {"rv": 0.0, "rv2": np.nan, "snr": 1e6}
    return pd.DataFrame([rest | {"source_id": i} | row for i, row in enumerate(rows)])


def centre(flux, line, half=12.0):
    """Pixel centroid of a line's depth around a wavelength, as ln λ."""
    near = np.abs(LAMOST.wave - line) < half
    depth = flux[near].max() - flux[near]
    return (depth * np.log(LAMOST.wave[near])).sum() / depth.sum()


def profile(wave):
    """A flat spectrum with a line every 200 Å, of 76 km/s standard deviation: 1.1 pixels."""
    centres = np.arange(4000, 9000, 200)[:, None]
    return 1 - 0.5 * np.exp(-0.5 * ((wave / centres - 1) * C / 76) ** 2).sum(axis=0)


class Lines(torch.nn.Module):
    """An emulator's stand-in: `profile`, as bright as Teff⁴."""

    instrument, has_nets = LAMOST, True
    _ranges = Emulator._ranges

    def __init__(self, *_):
        super().__init__()

    def flux(self, labels):
        return (labels[:, :1] / 5000) ** 4 * torch.from_numpy(profile(LAMOST.wave)).float()


@pytest.fixture
def lines(monkeypatch):
    monkeypatch.setattr(spectra, "Emulator", Lines)


# --- without archives -------------------------------------------------------------------------


def test_a_single_star_is_moved_by_its_velocity(lines):
    table, rv = stars({}, {}, {}), [-250.0, 0.0, 90.0]
    seen = spectra.observe(table, visits(*({"rv": v} for v in rv)), **STILL)
    np.testing.assert_allclose(seen.redshift * C, rv)
    assert not seen.light2.any() and not seen.clipped.any() and not seen.clipped2.any()
    for flux, mask, v in zip(seen.flux.numpy(), seen.mask.numpy(), rv, strict=True):
        there = np.array([4800.0, 5000.0, 6400.0, 8000.0]) * (1 + v / C)
        whole = [x for x in there if not mask[np.abs(LAMOST.wave - x) < 20].any()]
        assert whole
        for x in whole:
            assert abs(centre(flux, x) - np.log(x)) < 0.03 * STEP


@pytest.mark.parametrize("velocities", [(130.0, -120.0), (-150.0, 110.0), (150.0, 400.0)])
def test_the_lines_of_a_pair_are_double(lines, velocities):
    """Each component at its own wavelength and, their continua alike, half as deep."""
    rv, rv2 = velocities
    seen = spectra.observe(stars(TWIN), visits({"rv": rv, "rv2": rv2}), **STILL)
    both = (profile(LAMOST.wave / (1 + rv / C)) + profile(LAMOST.wave / (1 + rv2 / C))) / 2
    good = ~seen.mask[0]
    inner = good.numpy() & (LAMOST.wave > 3900) & (LAMOST.wave < 8950)
    flux = seen.flux[0].numpy() / (2 * (5772 / 5000) ** 4)
    np.testing.assert_allclose(flux[inner], both[inner], atol=0.012)  # two interpolations
    whole = 0
    for line in (6400.0, 7000.0, 8000.0):
        if seen.mask[0][np.abs(LAMOST.wave - line) < 20].any():
            continue
        places = [line * (1 + v / C) for v in (rv, (rv + rv2) / 2, rv2)]
        one, between, two = 1 - np.interp(places, LAMOST.wave, flux)
        assert min(one, two) > 1.5 * between
        np.testing.assert_allclose([one, two], 0.25, atol=0.03)
        whole += 1
    assert whole


def test_the_light_of_a_companion_is_its_surface_times_its_flux(lines):
    table = stars(K_DWARF, {"teff2": 3600.0, "logg2": 4.9, "radius2": 0.3, "radius": 2.0})
    seen = spectra.observe(table, visits({"rv2": 0.0}, {"rv2": 0.0}), **STILL)
    ratio = [0.74**2 * (4900 / 5772) ** 4, 0.15**2 * (3600 / 5772) ** 4]
    np.testing.assert_allclose(seen.light2 / (1 - seen.light2), ratio, rtol=1e-5)
    level = seen.flux.masked_fill(seen.mask, 0).amax(dim=1) / (5772 / 5000) ** 4
    np.testing.assert_allclose(level - 1, ratio, atol=2e-3)


def test_one_more_companion_changes_no_other_star(lines):
    table = stars({}, {}, {})
    seen = spectra.observe(table, visits({}, {}, {}), **STILL)
    table.loc[1, list(TWIN)] = TWIN
    other = spectra.observe(table, visits({}, {"rv2": 40.0}, {}), **STILL)
    assert torch.equal(seen.flux[::2], other.flux[::2])
    assert not torch.equal(seen.flux[1], other.flux[1])


def test_blend():
    """The mean by light when the lines are one, the brighter star when they are two."""
    rv, rv2 = torch.tensor([0.0, 0.0, 10.0, 0.0, 7.0]), torch.tensor([10.0, 900.0, 0, 900, np.nan])
    light2 = torch.tensor([0.3, 0.3, 0.5, 0.7, 0.0])
    found = spectra.blend(rv.double(), rv2.double(), light2.double(), WIDTH)
    np.testing.assert_allclose(found, [3.0, 0.0, 5.0, 900.0, 7.0], atol=0.02)
    # In between, the highest point of two Gaussians.
    v = torch.linspace(-50, 300, 35_001, dtype=torch.float64)
    for apart in (60.0, 150.0, 220.0, 260.0):
        both = (
            0.6 * (-0.5 * (v / WIDTH) ** 2).exp() + 0.4 * (-0.5 * ((v - apart) / WIDTH) ** 2).exp()
        )
        one = torch.tensor([0.0], dtype=torch.float64)
        found = spectra.blend(one, one + apart, one + 0.4, WIDTH)
        assert abs(found - v[both.argmax()]) < 0.02


def test_the_survey_errs_in_the_redshift(lines):
    many = visits(*[{"source_id": 0}] * 600)
    seen = spectra.observe(stars({}), many, **STILL | {"velocity_error": 7.0})
    assert kstest(seen.redshift.numpy() * C / 7, "norm").pvalue > 1e-3


def test_stars_are_clipped_and_flagged(lines):
    rows = [{}, {"teff": 3100.0}, {"logg": 5.2}, {"teff": 13_000.0}, {"teff": 9000.0, "logg": 2.0}]
    rows += [{"feh": -3.0}, {"feh": 0.7}, {"alpha": 0.6}, K_DWARF]
    rows += [{"teff2": 2900.0, "logg2": 5.1, "radius2": 0.2}]
    table = stars(*rows)
    shots = visits(*[{}] * 8, {"rv2": 0.0}, {"rv2": 0.0})
    seen = spectra.observe(table, shots, **STILL)
    assert seen.clipped.tolist() == [False] + [True] * 7 + [False] * 2
    assert seen.clipped2.tolist() == [False] * 9 + [True]
    assert len(seen.flux) == len(shots) and seen.flux.isfinite().all()


def test_a_clipped_star_is_as_bright_as_its_own_temperature(lines):
    """By the ratio of black bodies: here at one wavelength, by hand, to that of 3500 K."""
    star = torch.tensor([[2800.0, 5.0, 0.0, 0.0], [3500.0, 5.0, 0.0, 0.0]], dtype=torch.float64)
    flux, clipped = spectra._surface(Lines(), list(star.T))
    assert clipped.tolist() == [True, False]
    pixel = np.searchsorted(LAMOST.wave, 7000.0)
    x = 1.438777e8 / LAMOST.wave[pixel]
    wanted = (np.exp(x / 3500) - 1) / (np.exp(x / 2800) - 1)
    assert float(flux[0, pixel] / flux[1, pixel]) == pytest.approx(wanted, rel=1e-4)


def test_apogee_has_no_alpha_to_clip():
    class NoNets(Lines):
        instrument, has_nets = APOGEE, False

    labels = torch.tensor([[5000.0, 3.0, 0.0, 0.2], [3000.0, 3.0, 0.0, 0.2]])
    inside, clipped = spectra.clip(NoNets(), labels)
    assert inside[:, 3].tolist() == [0.0, 0.0] and clipped.tolist() == [False, True]


def test_first_rows_stay_when_more_follow(lines):
    table = stars({}, TWIN, {"teff": 4500.0}, {}, K_DWARF)
    shots = visits({}, {"rv2": 30.0}, {}, {"rv": 20.0}, {"rv2": -40.0}).assign(snr=40.0)
    whole = spectra.observe(table, shots, seed=3, chunk=2, progress=False)
    again = spectra.observe(table, shots, seed=3, chunk=2, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    for number in (1, 2, 3, 4):
        few = spectra.observe(table, shots[:number], seed=3, chunk=2, progress=False)
        assert all(torch.equal(a, b[:number]) for a, b in zip(few, whole, strict=True))
    batches = list(spectra.batches(table, shots, seed=3, chunk=2, progress=False))
    assert [len(b.flux) for b in batches] == [2, 2, 1]
    other = spectra.observe(table, shots, seed=4, chunk=2, progress=False)
    assert not torch.equal(other.flux[0], whole.flux[0])
    # Two visits of one star in one chunk, or in two, have two noises.
    same = spectra.observe(table, shots.iloc[[0, 0, 0]], seed=3, chunk=2, progress=False)
    assert not torch.equal(same.flux[0], same.flux[1])
    assert not torch.equal(same.flux[0], same.flux[2])


@pytest.mark.parametrize("name", ["source_id", *spectra.PRIMARY, *spectra.COMPANION])
def test_a_column_that_the_table_lacks_is_named(name):
    with pytest.raises(ValueError, match=rf"^table: expected columns {name}$"):
        spectra.observe(stars({}).drop(columns=name), visits({}))


@pytest.mark.parametrize("name", ["source_id", "rv", "rv2", "snr"])
def test_a_column_that_the_visits_lack_is_named(name):
    with pytest.raises(ValueError, match=rf"^visits: expected columns {name}$"):
        spectra.observe(stars({}), visits({}).drop(columns=name))


def test_what_does_not_fit_is_refused(lines):
    with pytest.raises(ValueError, match="visits: source_id 1 is not in the table"):
        spectra.observe(stars({}), visits({}, {}))
    with pytest.raises(ValueError, match="table: source_id 0 is there more than once"):
        spectra.observe(stars({}, {"source_id": 0}), visits({}))
    with pytest.raises(ValueError, match=r"^a_v is missing of a star: source_id 1$"):
        spectra.observe(stars({}, {"a_v": np.nan}), visits({}, {}))
    with pytest.raises(ValueError, match=r"^rv2 is missing of a pair: source_id 0$"):
        spectra.observe(stars(TWIN), visits({}))
    with pytest.raises(ValueError, match=r"^teff2 is missing of a pair: source_id 1$"):
        spectra.observe(stars({}, TWIN | {"teff2": np.nan}), visits({}, {"rv2": 0.0}))
    with pytest.raises(ValueError, match="positive S/N"):
        spectra.observe(stars({}), visits({"snr": 0.0}), **STILL)
    with pytest.raises(ValueError, match="there are no visits"):
        spectra.observe(stars({}), visits({})[:0])
    with pytest.raises(ValueError, match="non-negative"):
        spectra.observe(stars({}), visits({}), seed=-1, **STILL)


# --- with the emulator ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def emulator():
    archive_or_skip()
    return Emulator(LAMOST)


@pytest.fixture(scope="module")
def field():
    archive_or_skip()
    for name in kepler_field.NEEDS:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")
    return kepler_field.load(3000, seed=2)


@pytest.mark.archives
def test_a_single_star_is_what_the_instrument_makes_of_the_emulators(emulator):
    """Reddened and moved; with noise, the very numbers of `simulated` with the same draws."""
    table = stars({"a_v": 0.7}, {"teff": 7000.0, "logg": 4.1, "feh": -0.6, "alpha": 0.2})
    shots = visits({"rv": 60.0}, {"rv": -35.0})
    seen = spectra.observe(table, shots, **STILL)
    model = emulator.flux(table[["teff", "logg", "feh", "alpha"]].to_numpy())
    model, _ = LAMOST.shift(model, torch.tensor([60.0, -35.0]))
    model = LAMOST.redden(model, torch.tensor([0.7, 0.0]))
    good = ~seen.mask
    assert ((seen.flux / model)[good] - 1).abs().max() < 1e-3  # the red end has S/N 4,000
    assert ((seen.flux / model)[good] - 1).std() < 2e-5

    rows = {x: np.repeat(table[x].to_numpy()[:1], 250) for x in table}
    generator = spectra._generator(9, 0)
    flux = emulator.flux(np.stack([rows[x] for x in ("teff", "logg", "feh", "alpha")], axis=1))
    flux = simulated.widened(LAMOST, flux, generator, 1.2)
    torch.randn(250, generator=generator, dtype=torch.float64)
    by_hand = LAMOST.observe(
        flux,
        torch.full((250,), 30.0),
        generator,
        torch.full((250,), 60.0),
        torch.full((250,), 0.7),
        0.08,
    )
    seen = spectra.observe(table, shots[:1].assign(snr=30.0), seed=9, progress=False)
    for a, b in zip(seen[:3], by_hand, strict=True):
        torch.testing.assert_close(a, b[:1], rtol=1e-4, atol=1e-4 * float(flux.median()))


@pytest.mark.archives
def test_twins_that_keep_still_look_like_one_star():
    archive_or_skip()
    shots = visits({"rv": 20.0}, {"rv": 20.0, "rv2": 20.0})
    seen = spectra.observe(stars({}, TWIN), shots, **STILL)
    good = ~seen.mask.any(dim=0)
    torch.testing.assert_close(seen.flux[1, good], 2 * seen.flux[0, good], rtol=1e-3, atol=0)
    assert seen.light2.tolist() == pytest.approx([0.0, 0.5])
    one, two = normalise(LAMOST.wave, seen.flux, seen.ivar).flux
    assert (one - two)[good].abs().max() < 5e-3  # other pixels are lost


@pytest.mark.archives
def test_a_pair_is_the_sum_of_its_stars(emulator):
    table = stars(K_DWARF | {"a_v": 0.3})
    seen = spectra.observe(table, visits({"rv": -80.0, "rv2": 120.0}), **STILL)
    one, two = emulator.flux([[5772.0, 4.44, 0, 0], [4900.0, 4.6, 0, 0]]).split(1)
    one, two = (LAMOST.shift(x, torch.tensor([v]))[0] for x, v in ((one, -80.0), (two, 120.0)))
    model = LAMOST.redden(one + 0.74**2 * two, torch.tensor([0.3]))
    inner = ~seen.mask[0]
    inner[:10] = inner[-10:] = False
    # Two interpolations of the companion by the one, one here.
    assert ((seen.flux / model - 1)[0, inner]).abs().max() < 5e-3
    photons = torch.tensor(LAMOST.wave) * LAMOST._in_arms("cpu")
    share = [float((x[0] * photons).sum()) for x in (one, 0.74**2 * two)]
    assert float(seen.light2) == pytest.approx(share[1] / sum(share), abs=3e-4)


@pytest.mark.archives
@pytest.mark.parametrize("rv2", [8.0, 60.0, 120.0, 200.0, 320.0])
def test_the_reported_velocity_is_where_a_template_fits_best(emulator, rv2):
    """Cross-correlation of the normalised pair with the primary's own template, 5000–6000 Å."""
    seen = spectra.observe(stars(K_DWARF), visits({"rv2": rv2}), **STILL)
    part = slice(*np.searchsorted(LAMOST.wave, [5000.0, 6000.0]))
    pair = normalise(LAMOST.wave, seen.flux, seen.ivar).flux[0, part] - 1
    grid = torch.arange(-60.0, 400.0, 0.5)
    template = emulator([[5772.0, 4.44, 0, 0]]).expand(len(grid), -1)
    template = LAMOST.shift(template, grid)[0][:, part] - 1
    template = (template - template.mean(dim=1, keepdim=True)) / template.std(dim=1, keepdim=True)
    best = grid[(template @ (pair - pair.mean())).argmax()]
    # The K dwarf's lines are the deeper ones: it counts for more than its light.
    assert abs(best - float(seen.redshift) * C) < 1 + 0.07 * min(rv2, 180)


@pytest.mark.archives
def test_shares_of_light_agree_with_the_isochrones(field):
    """`light2` of the table is of the G band: LAMOST's pixels see nearly that."""
    table = field.table
    seen = spectra.observe(table, field.visits, progress=False)
    rows = table.set_index("source_id").loc[field.visits["source_id"]]
    share = seen.light2.numpy()
    assert not share[~rows["binary"]].any()
    with np.errstate(divide="ignore"):
        ratio = 2.5 * np.log10(share / (1 - share) * (1 / rows["light2"] - 1))
    main = rows["binary"] & (rows["phase"] == "main_sequence") & rows["teff"].between(4000, 7500)
    warm, cool = main & (rows["teff2"] > 4000), main & (rows["teff2"] < 4000)
    assert warm.sum() > 300 and cool.sum() > 300
    assert np.sqrt((ratio[warm] ** 2).mean()) < 0.08 and ratio[warm].abs().max() < 0.25
    assert np.sqrt((ratio[cool] ** 2).mean()) < 0.25 and ratio[cool].abs().max() < 0.7
    low = rows["teff2"].to_numpy() < 3500
    assert (seen.clipped2.numpy() >= low).all() and low.any()
    assert seen.clipped.numpy().mean() < 0.03


@pytest.mark.archives
def test_the_first_visits_of_the_field_stay(field):
    few = kepler_field.load(800, seed=2)
    one = spectra.observe(field.table, field.visits[: len(few.visits) + 300], progress=False)
    two = spectra.observe(few.table, few.visits, progress=False)
    n = len(few.visits)
    assert torch.equal(one.mask[:n], two.mask) and torch.equal(one.clipped2[:n], two.clipped2)
    torch.testing.assert_close(one.redshift[:n], two.redshift)
    # An emulator's rows depend on their neighbours by float32's rounding.
    noise = two.ivar.clamp(min=1e-30).rsqrt()
    assert ((one.flux[:n] - two.flux) / noise)[~two.mask].abs().max() < 0.01


@pytest.mark.archives
@pytest.mark.parametrize("kind", ["normalise", "desa"])
def test_desas_encoder_can_read_them(field, kind):
    seen = spectra.observe(field.table, field.visits[:300], progress=False)
    x = spectra_input.prepare(LAMOST.wave, seen.flux, seen.ivar, seen.redshift, kind)
    assert x.shape == (300, len(spectra_input.GRIDS[kind])) and x.isfinite().all()


@pytest.mark.archives
def test_other_instruments_observe_them_too(field):
    seen = spectra.observe(field.table, field.visits[:20], instrument=DESI, progress=False)
    assert seen.flux.shape == (20, len(DESI)) and seen.flux.isfinite().all()
