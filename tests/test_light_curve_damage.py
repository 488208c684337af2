"""Files that are no light curve, and damage of any kind: a record or a `ReadError`, no more."""

import gzip
import warnings

import numpy as np
import pytest
from astropy.io import fits
from damage import damage, thorough
from hypothesis import given
from hypothesis import strategies as st
from light_curve_files import NATIVE, QUARTERS, example, kepseismic, mission, native, text

from stellarbook.data.readers import ReadError, files, read_light_curve, read_spectrum
from stellarbook.data.records import LightCurve

TIME = 54953.5 + 0.0204 * np.arange(30)
BACK = 100 - 0.02 * np.arange(30)


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"PDCSAP_FLUX": None}, "HDU LIGHTCURVE: no column PDCSAP_FLUX, only TIME, CADENCENO"),
        ({"SAP_QUALITY": None}, "HDU LIGHTCURVE: no column SAP_QUALITY"),
        ({"TIME": BACK}, "time: expected increasing times, 99.98 follows 100 at cadence 1"),
        ({"TIME": np.full(30, 5.0)}, "time: expected increasing times"),
        ({"TIME": np.full(30, np.nan)}, "no cadence has a time"),
        ({"PDCSAP_FLUX": np.full(30, np.nan)}, "all cadences are masked: expected at least one"),
        ({"SAP_QUALITY": np.full(30, 128 + 2, "i4")}, "all cadences are masked"),
        ({"SAP_QUALITY": np.full(30, -1, "i4")}, "quality: expected whole numbers"),
        ({"PDCSAP_FLUX": np.ones((30, 4, 5))}, "expected columns of one length"),
        ({"n": 0}, "HDU LIGHTCURVE: expected a table with at least one row"),
        ({"cards": {"BJDREFI": "soon"}}, "header keyword BJDREFI: expected a number, found 'soon'"),
        ({"cards": {"TELESCOP": "CoRoT"}}, r"none of KEPSEISMIC, .*its telescope: CoRoT"),
    ],
)
def test_mission_files_that_are_no_light_curve(changes, fault, tmp_path):
    path = mission(tmp_path / "lc.fits", **changes)
    with pytest.raises(ReadError, match=fault) as error:
        read_light_curve(path)
    assert str(error.value).startswith(str(path))


def test_without_its_extension(tmp_path):
    with fits.open(mission(tmp_path / "lc.fits")) as hdus:
        hdus["LIGHTCURVE"].name = "TARGETTABLES"  # what a target-pixel file has
        hdus.writeto(tmp_path / "pixels.fits")
    with pytest.raises(ReadError, match=r"no HDU LIGHTCURVE: .* 1 TARGETTABLES, 2 APERTURE"):
        read_light_curve(tmp_path / "pixels.fits")


@pytest.mark.parametrize("table", [True, False], ids=["archive", "authors"])
def test_kepseismic_files_that_are_none(table, tmp_path):
    one = np.ones(30)
    for (time, flux, marks), fault in (
        ((TIME, one, None), "no HDU"),
        ((TIME, one, one[:20]), r"expected 30 of 0, 1 or 2, found shape \(20,\)"),
        ((TIME, one, 3 * one), "expected 30 of 0, 1 or 2"),
        ((TIME, one, 0 * one), "all cadences are masked"),
        ((TIME[::-1], one, one), "time: expected increasing"),
    ):
        path = kepseismic(tmp_path / "a.fits", time, flux, marks, table)
        with pytest.raises(ReadError, match=fault):
            read_light_curve(path)
    header = fits.getheader(path)
    fits.PrimaryHDU(np.ones((5, 3)), header).writeto(path, overwrite=True)
    with pytest.raises(ReadError, match=r"HDU 0: expected two columns, found shape \(5, 3\)"):
        read_light_curve(path)


@pytest.mark.parametrize(
    "lines, fault",
    [
        (["2 1", "1 1"], "time: expected increasing times, 1 follows 2 at cadence 1"),
        (["1 1", "2 two"], "line 2: expected numbers"),
        (["1 1", "2 1 2"], "line 2: expected 2 numbers, found 3"),
        (["1", "2"], "line 1: expected 2 numbers"),
        (["1 nan", "2 nan"], "all cadences are masked"),
        (["nan 1", "nan 1"], "no cadence has a time"),
        (["time,flux,error", "1,1", "2,1"], "names 3 columns, the rows have 2"),
        (["wave,flux", "5000,1", "5001,1"], "read spectra with read_spectrum"),
        (["a,b", "1,1", "2,1"], "columns a, b: expected a time and a flux$"),
        (["time,flux,quality", "1,1,0.5", "2,1,0"], "quality: expected whole numbers"),
        (["hello world"], "0 lines of numbers"),
        ([" ", ""], "the file is empty"),
        (["<?xml version='1.0'?><VOTABLE/>"], "a zip or a VOTable"),
    ],
)
def test_text_that_is_no_light_curve(lines, fault, tmp_path):
    path = text(tmp_path / "star.txt", *lines)
    with pytest.raises(ReadError, match=fault) as error:
        read_light_curve(path)
    assert str(error.value).startswith(str(path))


@native
def test_spectra_are_sent_to_read_spectrum():
    for folder, survey in (
        ("lamost_dr1", "lamost"),
        ("lamost_dr10", "lamost"),
        ("galah", "galah"),
        ("gaia_xp_continuous", "gaia_xp_continuous"),
    ):
        path = sorted(NATIVE.glob(f"{folder}/*[!4].*"))[-1]
        with pytest.raises(ReadError, match=f"a file of {survey}: read spectra with read_spectrum"):
            read_light_curve(path)


def test_light_curves_are_sent_to_read_light_curve(tmp_path):
    one = np.ones(30)
    for path, known in (
        (mission(tmp_path / "a"), "Kepler, K2 or TESS"),
        (kepseismic(tmp_path / "b", TIME, one, one), "KEPSEISMIC"),
        (kepseismic(tmp_path / "c", TIME, one, one, table=False), "KEPSEISMIC"),
    ):
        with pytest.raises(ReadError, match=f"a file of {known}: read light curves with read_l"):
            read_spectrum(path)


def test_lists_of_what_is_not_one_star(tmp_path):
    first = mission(tmp_path / "a.fits")
    later = 200 + 0.02 * np.arange(30)
    other = mission(tmp_path / "b.fits", TIME=later, cards={"OBJECT": "KIC 43"})
    tess = mission(tmp_path / "c.fits", "TESS", TIME=later)
    for paths, fault in (
        ([], "an empty list"),
        ([first, first], r"a\.fits and a\.fits overlap in time"),
        ([first, other], r"a\.fits, b\.fits: expected one object, found KIC 42, KIC 43"),
        ([first, tess], "expected one survey, found kepler, tess"),
        ([first, tmp_path / "none"], "none: cannot be opened"),
    ):
        with pytest.raises(ReadError, match=fault):
            read_light_curve(paths)
    assert read_light_curve([first]).meta["file"] == "a.fits"


@pytest.mark.parametrize("content", [b"", b"\0" * 5760, gzip.compress(b"")])
def test_empty(content, tmp_path):
    (tmp_path / "lc.fits").write_bytes(content)
    with pytest.raises(ReadError, match="the file is empty"):
        read_light_curve(tmp_path / "lc.fits")


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"1" * 100_000))
    with pytest.raises(ReadError, match="exceeds 1,000 bytes"):
        read_light_curve(tmp_path / "bomb.gz")


@native
def test_truncated(tmp_path):
    whole, path = QUARTERS[2].read_bytes(), tmp_path / "lc.fits"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"HDU 1 \(LIGHTCURVE\): its header promises 435,400 bytes"):
        read_light_curve(path)
    path.write_bytes(gzip.compress(whole)[:-2000])
    with pytest.raises(ReadError, match=r"damaged gzip: truncated\?"):
        read_light_curve(path)
    path.write_bytes(whole[:2880])
    with pytest.raises(ReadError, match=r"lc\.fits"):
        read_light_curve(path)


# Damage of any kind


def outcome(path, content):
    """Read damaged bytes: a sound record or a `ReadError` naming the file, and no warning."""
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            curve = read_light_curve(path)
        except ReadError as error:
            assert str(path) in str(error)
        else:
            assert isinstance(curve, LightCurve) and not curve.mask.all()
            assert np.isfinite(curve.flux[~curve.mask]).all() and (np.diff(curve.time) > 0).all()
            assert not (curve.flux_err[~curve.mask] <= 0).any()
    assert not caught, caught[0]


@native
@pytest.mark.parametrize("quarter", [0, 1])
@thorough(60)
@given(harm=damage())
def test_damaged_kepler(quarter, harm, tmp_path):
    outcome(tmp_path / "damaged", harm(QUARTERS[quarter].read_bytes()))


@pytest.mark.archives
@pytest.mark.parametrize("name", ["kepler_q5", "k2", "tess", "kepseismic_8006161"])
@thorough(25)
@given(harm=damage())
def test_damaged_examples(name, harm, tmp_path):
    outcome(tmp_path / "damaged", harm(example(name).read_bytes()))


@pytest.mark.parametrize("kind", ["kepler", "tess", "archive", "authors", "text", "gzip"])
@thorough(60)
@given(harm=damage())
def test_damaged_written(kind, harm, tmp_path):
    path, one = tmp_path / "damaged", np.ones(30)
    if kind in ("kepler", "tess", "gzip"):
        mission(path, "TESS" if kind == "tess" else "Kepler")
    elif kind == "text":
        text(path, "# BJD - 2454833", "time,flux,error", *(f"{t:.4f},1.5,0.1" for t in TIME))
    else:
        kepseismic(path, TIME, one, one, table=kind == "archive")
    content = path.read_bytes()
    outcome(path, harm(gzip.compress(content) if kind == "gzip" else content))


@thorough(100)
@given(content=st.one_of(st.binary(max_size=3000), st.text(max_size=500).map(str.encode)))
def test_garbage(content, tmp_path):
    for magic in (b"", b"SIMPLE  =", b"\x1f\x8b", b"PK\x03\x04", b"# %ECSV", b"<?xml", b"time,f\n"):
        outcome(tmp_path / "garbage", magic + content)


@pytest.mark.parametrize("keyword", ["NAXIS", "TFIELDS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT"])
def test_absurd_sizes_cost_nothing(keyword, tmp_path):
    content = mission(tmp_path / "lc.fits").read_bytes()
    at = content.index(f"{keyword:<8}=".encode(), content.index(b"BINTABLE"))
    for value in (999, 10**9, 10**17, -1, -230, -2880):
        absurd = content[:at] + f"{keyword:<8}= {value:>20}".encode() + content[at + 30 :]
        outcome(tmp_path / "absurd", absurd)
