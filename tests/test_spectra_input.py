"""What the encoder sees of a spectrum: lines at rest, one scale, a reason where there is none."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_emulator import archive_or_skip

from stellarbook.data.continuum import normalise
from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import DESI, LAMOST, SDSS
from stellarbook.data.readers import read_spectrum
from stellarbook.data.records import Spectrum
from stellarbook.data.simulated import observe
from stellarbook.desa.spectra_input import (
    ARMS,
    GRIDS,
    LIMIT,
    SPREAD,
    SpectraSample,
    prepare,
    prepare_spectra,
    simulated,
)

NATIVE = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent")).parent / "native"
LINES = (4101.7, 4341.7, 4862.7, 5185.0, 5270.0, 6564.6)
kinds = pytest.mark.parametrize("kind", GRIDS)


def stars(n=3, wave=LAMOST.wave, *, noise=0.01, redshift=0.0, seed=0):
    """Fluxes and inverse variances (n, pixels) of stars with lines, at redshifts."""
    rng = np.random.default_rng(seed)
    rest = wave / (1 + np.broadcast_to(redshift, n)[:, None])
    depth = rng.uniform(0.2, 0.6, (n, len(LINES), 1))
    lines = 1 - (depth * np.exp(-0.5 * ((rest[:, None] - np.array(LINES)[:, None]) / 4) ** 2)).sum(
        1
    )
    flux = 300 * lines * (1 + 0.4 * np.sin(wave / 1500))
    sigma = noise * flux
    return flux + sigma * rng.normal(size=flux.shape), sigma**-2


def record(wave=LAMOST.wave, *, redshift=1e-4, seed=0, mask=None, **meta):
    flux, ivar = stars(1, wave, seed=seed, redshift=redshift if -1 < redshift < 1 else 0)
    mask = np.zeros(len(wave), bool) if mask is None else mask
    return Spectrum(wave, flux[0], ivar[0], mask, {"redshift": redshift} | meta)


def between(low, high, wave=LAMOST.wave):
    return (wave > low) & (wave < high)


# --- prepare --------------------------------------------------------------------------------


def test_grids():
    assert {kind: len(grid) for kind, grid in GRIDS.items()} == {"desa": 3600, "normalise": 1962}
    for kind, arms in ARMS.items():
        assert (np.diff(GRIDS[kind]) > 0).all()
        for arm in arms:
            np.testing.assert_allclose(np.diff(np.log10(arm)), 1e-4, rtol=1e-6)
    assert GRIDS["normalise"][-1] > 6564.6 + 100 and GRIDS["desa"][-1] < LAMOST.wave[-1] / 1.001


@given(st.floats(-3e-3, 3e-3), st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_lines_return_to_rest(redshift, seed):
    flux, ivar = stars(2, redshift=redshift, noise=1e-4, seed=seed)
    x = prepare(LAMOST.wave, flux, ivar, np.full(2, redshift), "normalise").double().numpy()
    grid = GRIDS["normalise"]
    for line in (4862.7, 5185.0, 6564.6):
        near = np.abs(grid - line) < 12
        weight = x[:, near].max(axis=1, keepdims=True) - x[:, near]
        centre = (weight * grid[near]).sum(axis=1) / weight.sum(axis=1)
        assert np.abs(centre - line).max() < 0.2 * 1e-4 * np.log(10) * line  # a fifth of a pixel


@kinds
@pytest.mark.parametrize("redshift", [-2e-3, -1.1e-4, 7e-4])
def test_a_moving_star_looks_like_one_at_rest(kind, redshift):
    (moving, ivar), (at_rest, _) = (stars(4, redshift=z, noise=1e-3) for z in (redshift, 0))
    x = prepare(LAMOST.wave, moving, ivar, np.full(4, redshift), kind)
    y = prepare(LAMOST.wave, at_rest, ivar, np.zeros(4), kind)
    alike = [(x.roll(lag, dims=1) * y).mean().item() for lag in range(-5, 6)]
    assert np.argmax(alike) == 5
    assert (x - y).square().mean() < 0.2 * y.square().mean()


@kinds
@given(st.floats(1e-15, 1e15))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_flux_does_not_matter(kind, unit):
    flux, ivar = stars()
    z = np.full(3, 1e-4)
    one = prepare(LAMOST.wave, flux, ivar, z, kind)
    other = prepare(LAMOST.wave, flux * unit, ivar / unit**2, z, kind)
    torch.testing.assert_close(other, one, atol=1e-4, rtol=0)
    assert one.shape == (3, len(GRIDS[kind])) and one.dtype == torch.float32


def test_normalise_by_hand():
    z = np.array([1e-4, -4e-4, 0])
    flux, ivar = stars(redshift=z, noise=0.6)  # noise enough to reach the limit
    divided = normalise(LAMOST.wave, flux, ivar).flux.numpy()
    expected = [
        np.interp(GRIDS["normalise"], LAMOST.wave / (1 + shift), row)
        for shift, row in zip(z, divided, strict=True)
    ]
    expected = np.clip((np.array(expected) - 1) / SPREAD, -LIMIT, LIMIT)
    assert (np.abs(expected) == LIMIT).any()
    x = prepare(LAMOST.wave, flux, ivar, z, "normalise")
    np.testing.assert_allclose(x, expected, atol=1e-4)


@kinds
def test_scale(kind):
    flux, ivar = stars(20)
    x = prepare(LAMOST.wave, flux, ivar, np.zeros(20), kind)
    for arm in ARMS[kind] if kind == "desa" else ():
        inside = x[:, np.isin(GRIDS[kind], arm)]
        assert inside.mean(dim=1).abs().max() < 1e-4
        kept = inside.square().sum(dim=1) / (inside != 0).sum(dim=1)
        torch.testing.assert_close(kept, torch.ones(20), rtol=1e-3, atol=0)
    assert 0.3 < x.std() < 3
    assert (x.half().float() - x).abs().max() < 4e-3  # what a sample keeps


@kinds
@pytest.mark.filterwarnings("ignore:.*spectra are NaN")
def test_unknown_redshift_is_nan(kind):
    flux, ivar = stars()
    x = prepare(LAMOST.wave, flux, ivar, np.array([0, np.nan, 1e-4]), kind)
    assert x[1].isnan().all() and x[[0, 2]].isfinite().all()


def test_overlapping_arms_are_refused():
    flux, ivar = stars(1, DESI.wave)
    for kind in GRIDS:
        with pytest.raises(ValueError, match="increas"):
            prepare(DESI.wave, flux, ivar, np.zeros(1), kind)


# --- samples --------------------------------------------------------------------------------


def test_a_part_of_a_sample():
    sample = SpectraSample(torch.rand(6, 4).half(), torch.rand(6, 3).double(), torch.rand(6))
    for index in (slice(1, 3), torch.tensor([5, 0]), np.array([True, False] * 3)):
        part = sample[index]
        for name in ("x", "labels", "snr"):
            assert torch.equal(getattr(part, name), getattr(sample, name)[index])
    assert len(sample) == 6 and len(sample[1:3]) == 2


@pytest.mark.archives
@kinds
def test_simulated_is_emulate_observe_prepare(kind):
    archive_or_skip()
    labels = np.array([[5772, 4.44, 0, 0], [4600, 2.5, -1, 0.3], [6500, 4, -0.5, 0.1]])
    snr = np.array([20.0, 50, 100])
    sample = simulated(labels, snr, kind, 7, progress=False)
    generator = torch.Generator().manual_seed(7)
    flux = Emulator(LAMOST).flux(labels)
    seen, z = observe(LAMOST, flux, torch.tensor(snr).float(), generator)
    expected = prepare(LAMOST.wave, seen.flux, seen.ivar, z, kind)
    assert torch.equal(sample.x, expected.half()) and sample.x.dtype == torch.float16
    np.testing.assert_allclose(sample.labels, labels[:, :3], rtol=1e-6)
    assert sample.labels.dtype == torch.float64 and sample.snr.dtype == torch.float32
    np.testing.assert_array_equal(sample.snr, snr)
    # Real and simulated spectra go the same way.
    records = [
        Spectrum(LAMOST.wave, f, iv, m, {"redshift": float(shift)})
        for f, iv, m, shift in zip(*(t.numpy() for t in seen), z, strict=True)
    ]
    x, flags = prepare_spectra(records, kind)
    assert flags == ["", "", ""]
    torch.testing.assert_close(x, expected, atol=2e-3, rtol=0)
    again = simulated(labels, snr, kind, 7, progress=False)
    other = simulated(labels, snr, kind, 8, progress=False)
    assert torch.equal(again.x, sample.x) and not torch.equal(other.x, sample.x)
    still = simulated(labels, snr * 1e4, kind, 7, progress=False, chunk=2, velocity=0.0)
    assert still.x.shape == sample.x.shape and still.x.isfinite().all()
    with pytest.raises(ValueError, match="teff = 100"):
        simulated([[100, 4, 0, 0]], [50.0], kind, 0, progress=False)


# --- records --------------------------------------------------------------------------------


@kinds
def test_records_of_all_grids_in_any_order(kind):
    shifted = LAMOST.wave * 1.00012
    waves = [LAMOST.wave, SDSS.wave, LAMOST.wave, DESI.wave, shifted, SDSS.wave, LAMOST.wave]
    arms = {"arms": DESI.arms}
    records = [
        record(wave, seed=i, redshift=1e-4 * i, **(arms if wave is DESI.wave else {}))
        for i, wave in enumerate(waves)
    ]
    records.insert(2, record(redshift=np.nan))
    x, flags = prepare_spectra(records, kind)
    assert x.shape == (8, len(GRIDS[kind])) and x.dtype == torch.float32
    assert flags == ["", "", "redshift unknown", "", "", "", "", ""]
    assert x[2].isnan().all() and x[[0, 1, 3, 4, 5, 6, 7]].isfinite().all()
    for i, one in enumerate(records):
        alone, flag = prepare_spectra([one], kind)
        assert flag == [flags[i]]
        torch.testing.assert_close(alone[0], x[i], equal_nan=True, atol=1e-4, rtol=0)
        if "arms" not in one.meta and not flag[0]:
            z = [one.meta["redshift"]]
            by_hand = prepare(one.wave, one.flux[None], one.ivar[None], z, kind)
            torch.testing.assert_close(x[i : i + 1], by_hand, atol=1e-4, rtol=0)


def test_no_records():
    x, flags = prepare_spectra([], "desa")
    assert x.shape == (0, 3600) and flags == []


@kinds
def test_what_is_masked_and_where_arms_overlap_nothing_is_read(kind):
    one = record(DESI.wave, arms=DESI.arms)
    start = DESI.arms["r"].start
    overlap = np.zeros(len(one), bool)
    overlap[start:] = DESI.wave[start:] <= DESI.wave[start - 1]
    assert overlap.any()
    lost = np.random.default_rng(0).random(len(one)) < 0.05
    flux = np.where(overlap | lost, 1e9, one.flux)
    for junk in (flux, np.where(lost, np.nan, flux)):
        other = Spectrum(one.wave, junk, one.ivar, lost, one.meta)
        expected = Spectrum(one.wave, one.flux, one.ivar, lost, one.meta)
        (x, flags), (y, _) = (prepare_spectra([s], kind) for s in (other, expected))
        assert flags == [""] and torch.equal(x, y)


COARSE = 10 ** np.arange(3.56, 3.96, 5e-4)
FINE = 10 ** np.arange(3.575, 3.955, 5e-6)
HOLE = ~between(4200, 5400)


@pytest.mark.parametrize(
    ("spectrum", "reason"),
    [
        (record(redshift=np.nan), "redshift unknown"),
        (record(redshift=-9999.0), "redshift unknown"),
        (record(redshift=np.inf), "redshift unknown"),
        (record(redshift=0.5), "covers 2467–6066 Å at rest, not 3841–"),
        (record(redshift=-0.05), "covers 3895–"),
        (record(LAMOST.wave[:2000]), "covers 3700–5862 Å"),
        (record(LAMOST.wave[[0, -1]]), "pixels of inf"),
        (record(COARSE), "pixels of 5.0e-04 in log10 wavelength"),
        (record(FINE), "pixels of 5.0e-06 in log10 wavelength"),
        (record(LAMOST.wave[HOLE]), "of 3841–5799 Å is masked or missing"),
        (record(mask=between(4200, 5400)), "of 3841–5799 Å is masked or missing"),
        (record(mask=between(0, 5800)), "100% of 3841–5799 Å is masked or missing"),
        (record(mask=between(5799.5, 9e4)), "100% of .* Å is masked or missing"),
        (record(mask=np.arange(3909) % 5 > 1), "60% of 3841–5799 Å is masked"),
        (record(mask=np.ones(3909, bool)), "100% of 3841–5799 Å is masked"),
    ],
    ids=[
        *("nan", "-9999", "infinite", "far", "blue", "short", "two", "coarse", "fine", "hole"),
        *("stretch", "no-blue", "no-red", "scattered", "nothing"),
    ],
)
@kinds
def test_what_cannot_be_judged(kind, spectrum, reason):
    good = record(seed=3)
    x, flags = prepare_spectra([good, spectrum, good], kind)
    assert x[1].isnan().all() and x[[0, 2]].isfinite().all()
    assert flags[0] == flags[2] == ""
    assert re.search(reason, flags[1]), flags[1]


@kinds
def test_a_lost_arm_need_not_be_masked(kind):
    """Zeros with a fine inverse variance: no starlight either."""
    for low, high in ((0, 5800), (5799.5, 9e4), (0, 9e4)):
        one = record()
        dark = Spectrum(
            one.wave, np.where(between(low, high), 0, one.flux), one.ivar, one.mask, one.meta
        )
        x, flags = prepare_spectra([dark], kind)
        assert "100%" in flags[0] and x.isnan().all()
    negative = Spectrum(one.wave, -one.flux, one.ivar, one.mask, one.meta)
    assert "100%" in prepare_spectra([negative], kind)[1][0]


@kinds
def test_few_lost_pixels_are_no_reason(kind):
    mask = np.random.default_rng(0).random(3909) < 0.3
    x, flags = prepare_spectra([record(mask=mask), record()], kind)
    assert flags == ["", ""]
    assert (x[0] - x[1]).abs().median() < 0.2


def test_what_no_pixel_needs_may_be_lost():
    mask = between(5820, 6420) | between(6720, 9e4) | between(0, 3800)
    assert prepare_spectra([record(mask=mask)], "normalise")[1] == [""]


@pytest.mark.skipif(not NATIVE.is_dir(), reason="real survey files: set STELLARBOOK_DATA")
@kinds
def test_real_files(kind):
    files = sorted((NATIVE / "lamost_dr10").iterdir()) + sorted((NATIVE / "lamost_dr1").iterdir())
    spectra = [read_spectrum(file) for file in files if ".fits" in file.name]
    x, flags = prepare_spectra(spectra, kind)
    known = np.array([np.isfinite(s.meta["redshift"]) for s in spectra])
    assert known.sum() > 5
    for row, flag, judged in zip(x, flags, known, strict=True):
        assert (flag == "") == bool(row.isfinite().all()) == judged, flag
    assert 0.3 < x[torch.from_numpy(known)].std() < 3
