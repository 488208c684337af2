"""`read_light_curve` against real files of the missions, read a second time here by astropy alone.

The files lie beside ``STELLARBOOK_DATA`` or in the archives' cache; without them their tests are
skipped. What no real file at hand shows is written here after the missions' data models.
"""

import gzip

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from astropy.timeseries import TimeSeries
from light_curve_files import QUARTERS, example, kepseismic, mission, native, text

from stellarbook.data.readers import kepler, read_light_curve

# Default bitmasks of lightkurve, as its documentation gives them.
LIGHTKURVE = {"kepler": 1130799, "k2": 1130799, "tess": 175}
EXAMPLES = {"kepler_q2": 2, "kepler_q5": 5, "k2": 4, "tess": 1}


def agrees(path, survey, quarter):
    """Compare a mission's file with what `astropy.io.fits` reads of it."""
    curve = read_light_curve(path)
    with fits.open(path) as hdus:
        above, below, rows = hdus[0].header, hdus["LIGHTCURVE"].header, hdus["LIGHTCURVE"].data
        timed = np.isfinite(rows["TIME"])
        flags = rows["QUALITY" if survey == "tess" else "SAP_QUALITY"][timed]
        flux = rows["PDCSAP_FLUX"][timed]
        np.testing.assert_array_equal(curve.time, rows["TIME"][timed])
        np.testing.assert_array_equal(curve.flux, flux)
        np.testing.assert_array_equal(curve.flux_err, rows["PDCSAP_FLUX_ERR"][timed])
    np.testing.assert_array_equal(curve.quality, flags)
    bad = (flags & LIGHTKURVE[survey]) != 0
    np.testing.assert_array_equal(curve.mask, bad | np.isnan(flux))
    assert 0 < curve.mask.sum() < len(curve) / 10
    assert (curve.quarter == quarter).all() and curve.meta["quarters"] == (quarter,)
    meta = curve.meta
    assert meta["untimed"] == (~timed).sum() and meta["survey"] == survey
    assert meta["time_zero"] == below["BJDREFI"] == {"tess": 2457000}.get(survey, 2454833)
    # TIMEDEL is the spacecraft's; at the barycentre a cadence is longer or shorter by 1e-4.
    assert meta["cadence"] == pytest.approx(below["TIMEDEL"], rel=2e-4)
    assert (meta["ra"], meta["dec"]) == (above["RA_OBJ"], above["DEC_OBJ"])
    assert meta["magnitude"] == above["TESSMAG" if survey == "tess" else "KEPMAG"]
    assert meta["object"] == above["OBJECT"] and meta["unit"] == "e-/s"
    assert meta["file"] == path.name and meta["header"]["DATA_REL"] == above["DATA_REL"]
    assert curve.flux.dtype == np.float64 and curve.flux.dtype.isnative
    return curve


@native
@pytest.mark.parametrize("quarter", range(4))
def test_kepler(quarter):
    agrees(QUARTERS[quarter], "kepler", quarter)


@pytest.mark.archives
@pytest.mark.parametrize("name", EXAMPLES)
def test_missions(name):
    curve = agrees(example(name), name.split("_")[0], EXAMPLES[name])
    assert curve.meta["band"] == ("T" if name == "tess" else "Kp")
    if name == "tess":
        assert curve.meta["labels"]["teff"] == 2824 and np.isnan(curve.meta["labels"]["m_h"])


@pytest.mark.archives
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXAMPLES)
def test_astropy_has_the_same_times_and_fluxes(name):
    curve = read_light_curve(example(name))
    series = TimeSeries.read(example(name), format="tess.fits" if name == "tess" else "kepler.fits")
    zero = Time(curve.meta["time_zero"], format="jd", scale="tdb")
    # Calendar dates hold a time to 1e-11 days at best.
    np.testing.assert_allclose(curve.time, (series.time - zero).to_value("jd"), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(curve.flux, np.asarray(series["pdcsap_flux"]))


@native
def test_quarters_of_a_star_join_in_order():
    curves = [read_light_curve(path) for path in QUARTERS]
    whole = read_light_curve([QUARTERS[i] for i in (2, 0, 3, 1)])
    for name in ("time", "flux", "flux_err", "mask", "quality"):
        expected = np.concatenate([getattr(curve, name) for curve in curves])
        np.testing.assert_array_equal(getattr(whole, name), expected)
    np.testing.assert_array_equal(whole.quarter, np.repeat(range(4), [len(c) for c in curves]))
    assert whole.meta["quarters"] == (0, 1, 2, 3)
    assert whole.meta["untimed"] == sum(c.meta["untimed"] for c in curves)
    # Between quarters the telescope turned: the gaps are there.
    gaps = np.diff(whole.time)[np.diff(whole.quarter) > 0]
    assert (gaps > 1).all() and len(gaps) == 3


@pytest.mark.parametrize("telescope, bits", [("Kepler", 21), ("TESS", 16)])
def test_every_quality_bit(telescope, bits, tmp_path):
    flags = np.r_[0, 1 << np.arange(bits)].astype("i4")
    name = "QUALITY" if telescope == "TESS" else "SAP_QUALITY"
    path = mission(tmp_path / "lc.fits", telescope, n=bits + 1, **{name: flags})
    curve = read_light_curve(path)
    default = LIGHTKURVE[telescope.lower()]
    np.testing.assert_array_equal(curve.mask, (flags & default) != 0)
    np.testing.assert_array_equal(curve.quality, flags)
    assert (curve.flux == 5000).all()  # under the mask too
    named = kepler.TESS_BITS if telescope == "TESS" else kepler.KEPLER_BITS
    masked = {name for name, bit in named.items() if curve.mask[bit + 1]}
    assert masked == set(kepler.BAD[telescope.lower()])
    assert kepler.bad_bits(telescope.lower()) == default


def test_nothing_is_dropped_but_cadences_without_a_time(tmp_path):
    time = 100 + 0.02 * np.arange(30)
    time[[3, 4]] = np.nan
    time[20:] += 50
    flux, error = np.full(30, 5000, "f4"), np.full(30, 2, "f4")
    flux[10], error[[10, 11]] = np.nan, np.nan
    columns = {"TIME": time, "PDCSAP_FLUX": flux, "PDCSAP_FLUX_ERR": error}
    curve = read_light_curve(mission(tmp_path / "lc.fits", **columns))
    assert len(curve) == 28 and curve.meta["untimed"] == 2
    np.testing.assert_array_equal(curve.time, time[np.isfinite(time)])
    np.testing.assert_array_equal(np.flatnonzero(curve.mask), [8])
    assert np.isnan(curve.flux[8]) and np.isnan(curve.flux_err[9])
    assert np.diff(curve.time).max() > 50 and curve.meta["cadence"] == pytest.approx(0.02)


def test_mission_quarter_and_zero_come_from_the_header(tmp_path):
    path = tmp_path / "lc.fits"
    k2 = {"QUARTER": None, "CAMPAIGN": 12, "MISSION": "K2"}
    curve = read_light_curve(mission(path, cards=k2))
    assert curve.meta["survey"] == "k2" and (curve.quarter == 12).all()
    tess = {"QUARTER": None, "SECTOR": 40, "KEPMAG": None, "TESSMAG": 9.5, "BJDREFF": 0.25}
    curve = read_light_curve(mission(path, "TESS", cards=tess))
    assert curve.meta["survey"] == "tess" and curve.meta["time_zero"] == 2457000.25
    assert (curve.meta["magnitude"], curve.meta["band"]) == (9.5, "T")
    assert (curve.quarter == 40).all()
    curve = read_light_curve(mission(path, cards={"QUARTER": None, "KEPMAG": None}))
    assert (curve.quarter == -1).all() and curve.meta["quarters"] == ()
    assert np.isnan(curve.meta["magnitude"])


def test_gzip_and_any_name(tmp_path):
    whole = mission(tmp_path / "star.txt")
    (tmp_path / "star.csv").write_bytes(gzip.compress(whole.read_bytes()))
    np.testing.assert_array_equal(
        read_light_curve(tmp_path / "star.csv").flux, read_light_curve(whole).flux
    )


# KEPSEISMIC


@pytest.mark.archives
@pytest.mark.parametrize("kic", [3733735, 8006161, 10644253])
def test_kepseismic(kic):
    curve = read_light_curve(example(f"kepseismic_{kic}"))
    with fits.open(example(f"kepseismic_{kic}")) as hdus:
        time, flux = hdus[0].data.T
        marks, header = hdus[1].data, hdus[0].header
    np.testing.assert_array_equal(curve.time, time)
    np.testing.assert_array_equal(curve.flux, flux)
    np.testing.assert_array_equal(curve.mask, marks != 1)
    assert np.isnan(curve.flux_err).all() and curve.meta["unit"] == "ppm"
    assert (curve.quarter == -1).all()  # the header's QUARTER is only the last
    assert curve.meta["object"] == f"KIC {kic}" and curve.meta["filter_days"] == header["TSFILTER"]
    assert abs(curve.flux.mean()) < 0.05 * curve.flux.std()
    # The header says that all three count from BJD 2454833. One counts from its first cadence.
    zero = curve.meta["time_zero"]
    assert zero == 2400000 if curve.time[0] > 1 else np.isnan(zero)


@pytest.mark.archives
@pytest.mark.parametrize("kic", [8006161, 10644253])
def test_kepseismic_is_masked_where_kepler_did_not_observe(kic):
    """The marks and the zero of time, which no header tells, by another star's mission files."""
    curve = read_light_curve(example(f"kepseismic_{kic}"))
    time = curve.time + curve.meta["time_zero"] - 2454833
    inside, steps = np.zeros(len(curve), bool), 0
    for name in ("kepler_q2", "kepler_q5"):
        seen = read_light_curve(example(name)).time
        for i in np.flatnonzero(np.diff(seen) > 0.5):
            # Light reaches the barycentre from two stars of the field up to minutes apart.
            inside |= (time > seen[i] + 0.03) & (time < seen[i + 1] - 0.03)
            steps += 1
    assert steps >= 3 and inside.sum() > 60
    assert curve.mask[inside].all() and (curve.quality[inside] == 2).all()
    assert curve.mask.mean() < 0.5
    # What was filled in has less noise than what was measured.
    second = np.abs(np.convolve(curve.flux, [1, -2, 1], "valid"))
    runs = np.convolve(curve.mask, [1, 1, 1], "valid")
    if kic == 8006161:
        assert np.median(second[runs == 3]) < 0.2 * np.median(second[runs == 0])


@pytest.mark.parametrize("table", [True, False], ids=["archive", "authors"])
def test_kepseismic_layouts(table, tmp_path):
    flux, marks = np.sin(np.arange(40) / 5), np.ones(40, int)
    flux[30:], marks[30:], marks[5:8] = 0, 0, 2
    for first, zero in ((54953.5, 2400000), (120.5, 2454833), (0, np.nan), (1500, 2454833)):
        time = first + 0.0204 * np.arange(40)
        curve = read_light_curve(kepseismic(tmp_path / "a", time, flux, marks, table))
        np.testing.assert_array_equal(curve.flux, flux)
        np.testing.assert_array_equal(np.flatnonzero(curve.mask), [5, 6, 7, *range(30, 40)])
        np.testing.assert_array_equal(curve.quality, np.select([marks == 0, marks == 2], [1, 2]))
        np.testing.assert_equal(curve.meta["time_zero"], zero)
        assert curve.meta["survey"] == "kepseismic" and curve.meta["magnitude"] == 11


# Text


def test_text_of_two_and_three_columns(tmp_path):
    rng = np.random.default_rng(0)
    time, flux = np.sort(rng.uniform(0, 90, 200)), rng.normal(1, 1e-3, 200)
    rows = list(zip(time, flux, strict=True))
    plain = text(tmp_path / "a.dat", "# a star", *(f"{t:.8f}\t{f:.8f}" for t, f in rows))
    curve = read_light_curve(plain)
    np.testing.assert_allclose(curve.time, time, atol=1e-8)
    np.testing.assert_allclose(curve.flux, flux, atol=1e-8)
    assert np.isnan(curve.flux_err).all() and not curve.mask.any()
    assert np.isnan(curve.meta["time_zero"]) and curve.meta["unit"] == "unknown"
    assert curve.meta["survey"] == "text" and curve.meta["untimed"] == 0
    third = text(tmp_path / "b.csv", *(f"{t};{f};0.001" for t, f in rows))
    assert (read_light_curve(third).flux_err == 0.001).all()


def test_text_with_names(tmp_path):
    lines = ["cadence,quality,Flux [ppm],BTJD,flux_err,sector", "1,0,-5,1325.5,1,3"]
    lines += [
        "2,8,7,1325.6,1,3",
        "3,0,,1325.7,,4",
        "4,0,6,,1,4",
        "5,0,6,1330.9,-1,4",
        "6,0,6,1331,,4",
    ]
    curve = read_light_curve(text(tmp_path / "a.csv", *lines))
    assert curve.time.tolist() == [1325.5, 1325.6, 1325.7, 1330.9, 1331]
    np.testing.assert_array_equal(curve.flux, [-5, 7, np.nan, 6, 6])
    assert curve.mask.tolist() == [False, True, True, True, False]
    assert curve.quality.tolist() == [0, 8, 0, 0, 0] and curve.quarter.tolist() == [3, 3, 4, 4, 4]
    meta = {"time_zero": 2457000, "unit": "ppm", "untimed": 1, "quarters": (3, 4)}
    assert curve.meta | meta == curve.meta


@pytest.mark.parametrize(
    "head, first, zero",
    [
        ("time,flux", 2455000.5, 0),
        ("bjd,flux", 2455000.5, 0),
        ("bjd,flux", 5000.5, np.nan),
        ("bkjd,flux", 120.5, 2454833),
        ("mjd flux", 54953.5, 2400000.5),
        ("# BJD - 2454833, ppm", 120.5, 2454833),
        ("# time [BJD−2457000.0]\ntime (d), flux (e-/s)", 1325, 2457000),
        ("# 2454833 cadences", 120.5, np.nan),
    ],
)
def test_zero_points_of_texts(head, first, zero, tmp_path):
    rows = (
        f"{first + i / 50:.5f} {i}" if "," not in head else f"{first + i / 50:.5f},{i}"
        for i in range(9)
    )
    curve = read_light_curve(text(tmp_path / "a.txt", *head.split("\n"), *rows))
    np.testing.assert_equal(curve.meta["time_zero"], zero)
    assert len(curve) == 9 and curve.meta["cadence"] == pytest.approx(0.02, rel=1e-3)
