"""From downloads to arrays and back: known spectra, damage, a killed build, a cluster's steps.

The spectra here are written by astropy in LAMOST's layout, with a line at a known redshift; the
real files and arrays are used where ``STELLARBOOK_DATA`` is set.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.data import splits, survey_files
from stellarbook.data.instruments import DESI, GALAH, LAMOST
from stellarbook.data.readers import read_spectrum
from stellarbook.data.records import Spectrum
from stellarbook.data.survey_files import (
    SurveyFilesError,
    SurveyFilesMissing,
    available,
    build,
    load,
    obtain,
    shards,
)
from stellarbook.data.survey_files import __main__ as command
from stellarbook.data.survey_files.catalogue import add_labels, stars
from stellarbook.data.survey_files.grid import on_grid, rebinned
from stellarbook.data.survey_files.merge import merge
from stellarbook.data.survey_files.plan import count, plan

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
RULES = Path(survey_files.__file__).with_name("survey_files.smk")
DATA = Path(os.environ.get("STELLARBOOK_DATA", "/nonexistent"))
NATIVE = DATA.parent / "native"
native = pytest.mark.skipif(not NATIVE.is_dir(), reason="real files: set STELLARBOOK_DATA")
real = pytest.mark.skipif(not (DATA / "lamost_lrs.npz").exists(), reason="set STELLARBOOK_DATA")
HBETA = 4862.69  # Å, vacuum
WAVE = 10 ** (3.5682 + 1e-4 * np.arange(3909))  # LAMOST's own


def truth(i):
    """Return a star's redshift, flux, inverse variance and and-mask."""
    z = 1e-4 * (i % 7 - 3)
    line = np.exp(-((WAVE / (1 + z) - HBETA) ** 2) / 2 / 4**2)
    flux = (100.0 + i) * (1 + 0.1 * np.sin(WAVE / 300)) * (1 - 0.5 * line)
    ivar = np.full(len(WAVE), (20 / (100 + i)) ** 2)
    ivar[5] = 0
    flags = np.zeros(len(WAVE))
    flags[100 + i % 50] = 1
    return z, flux.astype(np.float32), ivar.astype(np.float32), flags.astype(np.float32)


def write(path, i, **cards):
    """Write star i as LAMOST's DR8 and later serve it."""
    z, *columns = truth(i)
    header = fits.Header()
    known = {"TELESCOP": "LAMOST", "OBSID": 1000 + i, "LMJD": 59000, "PLANID": "TEST", "SPID": 3}
    known |= {"FIBERID": i, "RA": 10 + 0.1 * i, "DEC": 30.0, "CLASS": "STAR", "SUBCLASS": "F5"}
    known |= {"Z": z, "Z_ERR": 1e-5, "SNRG": 20.0, "HELIO_RV": 12.3}
    for key, value in (known | cards).items():
        if value is not None:
            header[key] = value
    arrays = [*columns[:2], WAVE.astype(np.float32), columns[2]]
    names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK")
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, f"{len(WAVE)}E", array=values[None])
            for name, values in zip(names, arrays, strict=True)
        ],
        name="COADD",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([fits.PrimaryHDU(header=header), table]).writeto(path)
    return path


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """Twelve stars in folders with spaces, among files that are no spectra."""
    folder = tmp_path_factory.mktemp("my downloads")
    for i in range(12):
        write(folder / f"plate {i % 3}" / f"spec-{i:03d}.fits", i)
    whole = (folder / "plate 0/spec-000.fits").read_bytes()
    (folder / "plate 1/cut.fits").write_bytes(whole[:50_000])
    (folder / "empty.fits.gz").write_bytes(b"")
    (folder / "README").write_text("A letter from the archive.\n")
    (folder / ".hidden.fits").write_bytes(whole)
    (folder / "numbers.csv").write_text("".join(f"{4000 + i},{1 + i}\n" for i in range(50)))
    return folder


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "catalogue.csv"
    rows = [f"{1000 + i}|{5000 + i}|{-9999 if i == 2 else 4}|-0.5|50" for i in (*range(10), 77)]
    path.write_text("\n".join(["obsid|TEFF|logg|feh|teff_err", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def built(downloads, catalogue, tmp_path_factory):
    out = tmp_path_factory.mktemp("built")
    build(downloads, out, "lamost", labels=catalogue, processes=1, size=4, progress=False)
    return out


def opened(monkeypatch, out, name="lamost", where=None):
    monkeypatch.setenv("STELLARBOOK_DATA", str(out))
    return load(name, where)


def products(out):
    return {p.name: p.read_bytes() for p in sorted(Path(out).iterdir()) if p.is_file()}


# Build


def test_spectra_arrive_as_they_were(built, monkeypatch):
    sample = opened(monkeypatch, built)
    assert sample.table["obsid"].to_list() == [
        1000 + i for i in (0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11)
    ]
    np.testing.assert_array_equal(sample.wave, LAMOST.wave)
    assert sample.flux.dtype == sample.ivar.dtype == np.float32
    for row, i in enumerate(sample.table["obsid"] - 1000):
        z, flux, ivar, flags = truth(i)
        median = np.median(flux)
        star = sample.table.loc[row]
        assert star["med"] == pytest.approx(median, rel=1e-6)
        assert star["z"] == pytest.approx(z, abs=1e-12) and star["subclass"] == "F5"
        np.testing.assert_allclose(sample.flux[row], flux / median, rtol=2**-11)
        bad = (flags != 0) | (ivar == 0)
        np.testing.assert_array_equal(sample.ivar[row] == 0, bad)
        np.testing.assert_allclose(sample.ivar[row][~bad], (ivar * median**2)[~bad], rtol=2**-8.5)
        record = sample.spectrum(row)
        np.testing.assert_array_equal(record.mask, bad)
        assert record.meta["redshift"] == star["z"] and record.meta["object"] == str(1000 + i)


def test_labels_are_joined_by_obsid(built, monkeypatch):
    table = opened(monkeypatch, built).table.set_index("obsid")
    assert table.loc[1003, ["teff", "logg", "feh", "teff_error"]].to_list() == [5003, 4, -0.5, 50]
    assert np.isnan(table.loc[1002, "logg"]) and table.loc[1002, "teff"] == 5002
    assert table.loc[[1010, 1011], "teff"].isna().all()


def test_the_report_names_every_file_and_its_reason(downloads, catalogue, tmp_path, capsys):
    build(downloads, tmp_path, "lamost", labels=catalogue, processes=1, progress=False)
    skipped = pd.read_csv(tmp_path / "skipped.csv").set_index("file")["reason"]
    assert set(skipped.index) == {"plate 1/cut.fits", "empty.fits.gz", "README", "numbers.csv"}
    assert "truncated" in skipped["plate 1/cut.fits"] and "empty" in skipped["empty.fits.gz"]
    assert "expected a file of lamost, this is one of text" in skipped["numbers.csv"]
    assert not skipped.str.contains(str(downloads)).any()
    printed = capsys.readouterr().out
    assert "12 spectra of 12 stars" in printed and "4 files were skipped" in printed
    assert "10 of 12 found their labels" in printed


@pytest.mark.parametrize("size, processes", [(1, 1), (5, 2), (1000, None)])
def test_shards_and_processes_change_nothing(
    built, downloads, catalogue, tmp_path, size, processes
):
    words = {"labels": catalogue, "processes": processes, "size": size, "progress": False}
    build(downloads, tmp_path, "lamost", **words)
    assert products(tmp_path) == products(built)


def test_the_survey_is_recognised(built, downloads, catalogue, tmp_path):
    build(downloads, tmp_path, labels=catalogue, processes=1, progress=False)
    arrays = {k: v for k, v in products(tmp_path).items() if k != "skipped.csv"}
    assert arrays == {k: v for k, v in products(built).items() if k != "skipped.csv"}


def test_what_was_read_is_not_read_again(downloads, tmp_path, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "in" / "out"  # even inside the folder
    shutil.copytree(downloads, folder)
    read = []
    monkeypatch.setattr(
        shards,
        "read_spectrum",
        lambda path, *s: (read.append(path.name), read_spectrum(path, *s))[1],
    )

    def again():
        read.clear()
        build(folder, out, "lamost", processes=1, size=4, progress=False)
        return products(out)

    first = again()
    assert len(read) == 16
    assert again() == first and not read
    (out / "shards/00002.npz").unlink()
    assert again() == first and len(read) == 4
    damaged = out / "shards/00001.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert again() == first and len(read) == 4
    write(folder / "plate 2/spec-999.fits", 40)  # behind the others: a last shard of its own
    assert again() != first and read == ["spec-999.fits"]
    (folder / "plate 2/spec-999.fits").unlink()
    assert again() == first and not read
    assert len(list((out / "shards").glob("*.npz"))) == 4
    os.utime(folder / "plate 2/spec-011.fits", (1, 1))  # downloaded again
    assert again() == first and len(read) == 4


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc")
@pytest.mark.slow
def test_a_killed_build_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "in"
    source = write(folder / "0000.fits", 0, OBSID=None, LMJD=None)
    for i in range(1, 400):
        shutil.copy(source, folder / f"{i:04d}.fits")
    words = ["build", str(folder), str(tmp_path / "killed"), "--survey", "lamost", "--size", "4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "stellarbook.data.survey_files", *words, "--processes", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    place, end = tmp_path / "killed/shards", time.monotonic() + 120
    while len(list(place.glob("*.npz"))) < 5 and time.monotonic() < end:
        time.sleep(0.005)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert len(workers) >= 2 and not any(alive(pid) for pid in workers)
    finished = {p.name: p.stat().st_mtime_ns for p in place.glob("*.npz")}
    assert 5 <= len(finished) < 100 and not (tmp_path / "killed/lamost_lrs.npz").exists()
    words = {"processes": 1, "size": 4, "progress": False}
    build(folder, tmp_path / "killed", "lamost", **words)
    now = {p.name: p.stat().st_mtime_ns for p in place.glob("*.npz")}
    assert now.items() >= finished.items() and len(now) == 100
    build(folder, tmp_path / "whole", "lamost", **words | {"size": 400})
    assert products(tmp_path / "killed") == products(tmp_path / "whole")


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_memory_does_not_grow_with_the_sample(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    source = write(folder / "0000.fits", 0, OBSID=None, LMJD=None)
    for i in range(1, 300):
        (folder / f"{i:04d}.fits").symlink_to(source)
    build(folder, tmp_path, "lamost", processes=1, size=10, progress=False)
    spectra = (tmp_path / "lamost_lrs.npz").stat().st_size

    def peak(function):
        tracemalloc.start()
        function()
        height = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return height

    merge(tmp_path)  # imports
    assert peak(lambda: merge(tmp_path)) < 0.4 * spectra
    rows = "index % 100 == 0"
    assert peak(lambda: opened(monkeypatch, tmp_path, where=rows)) < 0.75 * spectra
    assert len(opened(monkeypatch, tmp_path, where=rows)) == 3


@pytest.mark.parametrize("together", [False, True])
def test_a_mixture_is_refused_unless_named(tmp_path, together):
    folder = tmp_path / "in"
    for i in range(3):
        write(folder / f"a{i}.fits", i)
    # GALAH's header and one arm.
    hdu = fits.PrimaryHDU(np.ones(100))
    hdu.header.update({"INSTRUME": "HERMES", "CRVAL1": 4720.0, "CDELT1": 0.05, "CRPIX1": 1})
    other = folder / ("b.fits" if together else "other/b.fits")
    other.parent.mkdir(exist_ok=True)
    fits.HDUList([hdu, fits.ImageHDU(np.full(100, 0.01))]).writeto(other)
    assert read_spectrum(other).meta["survey"] == "galah"
    with pytest.raises(SurveyFilesError, match=r"mixes surveys.*b\.fits is of galah.*survey="):
        build(folder, tmp_path / "out", processes=1, progress=False)
    build(folder, tmp_path / "out", "lamost", processes=1, progress=False)
    skipped = pd.read_csv(tmp_path / "out/skipped.csv")
    assert skipped["reason"].to_list() == ["expected a file of lamost, this is one of galah"]


def test_the_same_spectrum_twice_is_kept_once(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    write(folder / "a.fits", 0)
    write(folder / "b.fits", 0)
    write(folder / "c.fits", 1, OBSID=None)
    write(folder / "d.fits", 1, OBSID=None, Z=-9999.0, SNRG=-9999.0)
    write(folder / "e.fits", 2, FIBERID=7, Z=-9999.0, SNRG=-9999.0)
    build(folder, tmp_path, processes=1, size=2, progress=False)
    skipped = pd.read_csv(tmp_path / "skipped.csv").set_index("file")["reason"]
    assert skipped.to_dict() == {
        "b.fits": "the same spectrum twice, by obsid",
        "d.fits": "the same spectrum twice, by lmjd + planid + spid + fiberid",
    }
    sample = opened(monkeypatch, tmp_path)
    assert sample.table["file"].to_list() == ["a.fits", "c.fits", "e.fits"]
    assert sample.table["obsid"].isna().to_list() == [False, True, False]
    assert sample.table.loc[2, ["z", "snrg"]].isna().all()
    for row, i in enumerate((0, 1, 2)):
        np.testing.assert_allclose(
            sample.flux[row] * sample.table["med"][row], truth(i)[1], rtol=2**-11
        )


def test_what_cannot_be_built_says_why(tmp_path, downloads, catalogue):
    (tmp_path / "junk").mkdir()
    with pytest.raises(SurveyFilesError, match="no files"):
        build(tmp_path / "junk", tmp_path / "out")
    (tmp_path / "junk/a.txt").write_text("nothing")
    with pytest.raises(SurveyFilesError, match="none of its 1 files"):
        build(tmp_path / "junk", tmp_path / "out")
    with pytest.raises(SurveyFilesError, match=r"no spectrum of lamost could be read\.\n1 files"):
        build(tmp_path / "junk", tmp_path / "out", "lamost", processes=1, progress=False)
    with pytest.raises(SurveyFilesError, match="no such folder"):
        build(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ValueError, match="no grid for survey 'text'"):
        build(downloads, tmp_path / "out", "text")
    with pytest.raises(ValueError, match="processes 0"):
        build(downloads, tmp_path / "out", processes=0)
    with pytest.raises(SurveyFilesError, match="no such catalogue"):
        build(downloads, tmp_path / "out", "lamost", labels=tmp_path / "absent.csv")
    with pytest.raises(SurveyFilesError, match="no plan"):
        merge(tmp_path)
    content = plan(downloads, tmp_path / "out", "lamost", size=4)
    assert count(content) == 4
    shards.shard(tmp_path / "out", 1)
    with pytest.raises(SurveyFilesError, match="3 shards are missing or outdated: 0, 2, 3"):
        merge(tmp_path / "out")
    with pytest.raises(SurveyFilesError, match=r"no shard 4: .* has 0 to 3"):
        shards.shard(tmp_path / "out", 4)


# The command line and the cluster


def test_steps_are_the_build(built, downloads, catalogue, tmp_path, capsys):
    out = str(tmp_path)
    command.main(["plan", str(downloads), out, "--survey", "lamost", "--size", "4"])
    assert "4 shards, 0 to 3" in capsys.readouterr().out
    for i in (2, 0, 3, 1):
        command.main(["shard", out, str(i)])
    command.main(["merge", out, "--labels", str(catalogue)])
    assert products(tmp_path) == products(built)


@pytest.mark.slow
def test_snakemake_does_the_same(built, downloads, catalogue, tmp_path):
    out = tmp_path / "an out"

    def run(*words):
        config = [f"folder={downloads}", f"out={out}", "survey=lamost", f"labels={catalogue}"]
        done = subprocess.run(
            [
                SNAKEMAKE,
                "--snakefile",
                RULES,
                "--cores",
                "1",
                *words,
                "--config",
                *config,
                "size=8",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run()
    assert products(out) == products(built)
    times = {p: p.stat().st_mtime_ns for p in (out / "shards").glob("*.npz")}
    (out / "shards/00001.npz").unlink()
    run("--forcerun", "plan", "merge")
    changed = [p.name for p, t in times.items() if p.stat().st_mtime_ns != t]
    assert changed == ["00001.npz"] and products(out) == products(built)


@pytest.mark.parametrize("step", [[], ["build"], ["plan"], ["shard"], ["merge"], ["obtain"]])
def test_help_helps(step, capsys):
    with pytest.raises(SystemExit) as done:
        command.main([*step, "--help"])
    assert done.value.code == 0
    words = {"build": "--processes", "merge": "--labels", "shard": "NUMBER", "plan": "--survey"}
    assert words.get("".join(step), "usage") in capsys.readouterr().out


def test_errors_are_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"error: .*no such folder"):
        command.main(["build", str(tmp_path / "absent"), str(tmp_path)])
    command.main(["obtain", "lamost"])
    assert "obsid" in capsys.readouterr().out


# Grids


def test_a_near_grid_is_copied():
    i = np.arange(3900)  # as some files, it ends early
    wave = 10 ** (3.5682 + 1e-4 * i)
    spectrum = Spectrum(wave, 1.0 + i, 2.0 + i, i == 7)
    flux, ivar = on_grid(spectrum, LAMOST)
    np.testing.assert_array_equal(flux[:3900], 1.0 + i)
    np.testing.assert_array_equal(ivar[:3900], np.where(i == 7, 0, 2.0 + i))
    assert np.isnan(flux[3900:]).all() and (ivar[3900:] == 0).all()


def test_arms_that_overlap_keep_apart():
    first = np.zeros(len(DESI.wave))
    first[DESI.arms["r"]], first[DESI.arms["z"]] = 1, 2
    z = slice(0, DESI.arms["z"].stop - DESI.arms["z"].start)  # a file without two of its arms
    wave = DESI.wave[DESI.arms["z"]]
    spectrum = Spectrum(
        wave, first[DESI.arms["z"]], np.ones(len(wave)), wave < 0, {"arms": {"z": z}}
    )
    flux, ivar = on_grid(spectrum, DESI)
    np.testing.assert_array_equal(flux[DESI.arms["z"]], 2)
    assert np.isnan(flux[: DESI.arms["z"].start]).all()
    assert ivar.sum() == len(wave)


def test_pairs_of_pixels_are_averaged():
    wave = 5000 + np.arange(8.0)
    flux, sigma = np.arange(8.0), np.arange(1.0, 9)
    mask = np.array([0, 0, 0, 1, 0, 0, 1, 1], bool)
    new, ivar = rebinned(wave, flux, 1 / sigma**2, mask, wave[::2] + 0.5)
    np.testing.assert_allclose(new, [0.5, 2, 4.5, np.nan])
    np.testing.assert_allclose(ivar, [4 / (1 + 4), 1 / 9, 4 / (25 + 36), 0])


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(5, 60),
    m=st.integers(5, 60),
    start=st.floats(-3, 3),
    step=st.floats(0.3, 3),
)
def test_rebinning_conserves_flux(seed, n, m, start, step):
    rng = np.random.default_rng(seed)
    wave, flux = 5000 + np.arange(float(n)), rng.normal(size=n)
    new_wave = 5000 + start + step * np.arange(float(m))
    ones, none = np.ones(n), np.zeros(n, bool)
    new, ivar = rebinned(wave, flux, ones, none, new_wave)
    # By the running integral, which is a straight line within each old pixel.
    edges, integral = 4999.5 + np.arange(n + 1.0), np.concatenate([[0], np.cumsum(flux)])
    ends = new_wave[0] - step / 2 + step * np.arange(m + 1.0)
    covered = np.diff(np.interp(ends, edges, edges))
    expected = np.diff(np.interp(ends, edges, integral))
    there = covered > 1e-9
    np.testing.assert_allclose((new * covered)[there], expected[there], atol=1e-9)
    np.testing.assert_allclose(rebinned(wave, ones, ones, none, new_wave)[0][there], 1)
    np.testing.assert_array_equal(ivar[covered / step < 0.5 - 1e-9], 0)


def test_rebinned_errors_are_the_scatter_of_rebinned_noise():
    rng = np.random.default_rng(1)
    wave, sigma = 5000 + np.arange(30.0), np.linspace(0.5, 2, 30)
    new_wave = 5000.3 + 1.7 * np.arange(16.0)
    draws = [
        rebinned(wave, sigma * rng.normal(size=30), sigma**-2, wave < 0, new_wave)[0]
        for _ in range(4000)
    ]
    _, ivar = rebinned(wave, sigma, sigma**-2, wave < 0, new_wave)
    np.testing.assert_allclose(np.std(draws, axis=0) * np.sqrt(ivar), 1, atol=5 / np.sqrt(8000))


# Catalogues and stars


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet", "integers"])
def test_every_form_of_a_catalogue(form, tmp_path):
    rows = pd.DataFrame({"ObsID": [30.0, 10.0, 10.0], "Teff": [1.0, 2.0, 3.0], "z": "unused"})
    path = tmp_path / f"c.{'parquet' if form == 'integers' else form}"
    if form == "integers":
        rows = rows.astype({"ObsID": int})
    rows.to_parquet(path) if path.suffix == ".parquet" else rows.to_csv(path, index=False)
    table = pd.DataFrame({"obsid": pd.array([10, 20, None, 30], "Int64")})
    assert add_labels(table, path, "lamost") == 2
    np.testing.assert_array_equal(table["teff"], [2, np.nan, np.nan, 1])


def test_without_obsid_the_observation_is_the_name(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("obsid,lmjd,planid,spid,fiberid,feh\n5,55862,B6212,06,44,-1\n6,1,A,2,3,-2\n")
    table = pd.DataFrame(
        {
            "obsid": pd.array([None, 6, None], "Int64"),
            **{"lmjd": [55862, 9, 9], "planid": ["B6212", "Q", "Q"]},
            **{"spid": [6, 9, 9], "fiberid": [44, 9, 9]},
        }
    )
    assert add_labels(table, path, "lamost") == 2
    np.testing.assert_array_equal(table["feh"], [-1, -2, np.nan])


def test_identifiers_of_nineteen_digits_survive(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("source_id,feh\n5937083312263887617,1\n5937083312263887616,2\n")
    table = pd.DataFrame({"object": ["5937083312263887616"]})
    assert add_labels(table, path, "galah") == 1 and table["feh"][0] == 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("id,teff\n1,2\n", r"expected a column obsid or lmjd \+ planid .*, found id, teff"),
        ("obsid,colour\n1,2\n", "expected a label .*, found obsid, colour"),
        ("", "neither csv nor parquet"),
    ],
)
def test_a_wrong_catalogue_says_what_it_lacks(text, message, tmp_path, downloads):
    path = tmp_path / "c.csv"
    path.write_text(text)
    with pytest.raises(SurveyFilesError, match=message):
        build(downloads, tmp_path / "out", "lamost", labels=path)


def test_a_catalogue_of_other_stars_warns(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("obsid,teff\n1,2\n")
    with pytest.warns(UserWarning, match="no row of it"):
        assert add_labels(pd.DataFrame({"obsid": [5]}), path, "lamost") == 0


def test_rows_within_three_arcseconds_are_one_star():
    arcsec = 1 / 3600
    table = pd.DataFrame(
        {
            "ra": [10, 10, 0.2 * arcsec, 360 - 2 * arcsec, 10, np.nan, np.nan, 50],
            "dec": [20, 20 + 2 * arcsec, 0, 0, 20 + 4.5 * arcsec, 5, 5, 89.9],
            "obsid": pd.array([9, 7, 5, 6, 8, 3, None, None], "Int64"),
        }
    )
    assert stars(table).tolist() == [7, 7, 5, 5, 7, 3, -7, -8]
    assert stars(table.drop(columns="obsid")).tolist() == [-1, -1, -3, -3, -1, -6, -7, -8]
    assert stars(table[:0]).tolist() == []


# Load


def test_what_is_missing_says_how_to_obtain_it(tmp_path, monkeypatch):
    monkeypatch.delenv("STELLARBOOK_DATA", raising=False)
    assert not available("lamost")
    with pytest.raises(SurveyFilesMissing, match="STELLARBOOK_DATA is not set") as error:
        load("lamost")
    assert isinstance(error.value, FileNotFoundError)
    for word in ("Stellar Parameter Catalog of A, F, G and K Stars", "DR10 v2.0", "obsid"):
        assert word in str(error.value)
    for word in ("https://www.lamost.org/dr10/", "survey_files build", "lamost_lrs.npz", "VizieR"):
        assert word in str(error.value)
    monkeypatch.setenv("STELLARBOOK_DATA", str(tmp_path))
    (tmp_path / "lamost_lrs.npz").write_bytes(b"")
    assert not available("lamost")
    with pytest.raises(SurveyFilesMissing, match=r"lamost_lrs\.csv not in"):
        load("lamost")
    for name in ("miles", "gaia_xp_field", "galah", "mastar_means", "sdss", "desi", "apogee"):
        with pytest.raises(SurveyFilesMissing, match=rf"{name}\.npz"):
            load(name)
        assert "https://" in obtain(name) and "STELLARBOOK_DATA" in obtain(name)
    with pytest.raises(ValueError, match="no sample 'kepler'"):
        available("kepler")


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda t, a: t.drop(columns="snrg"),
            r"lamost_lrs\.csv: no column snrg, only file, object",
        ),
        (lambda t, a: t.assign(teff="hot"), r"lamost_lrs\.csv: teff: expected numbers"),
        (lambda t, a: t[:-1], r"flux has shape \(12, 3909\), expected \(11, 3909\)"),
        (lambda t, a: a.pop("snr") is None or t, "no array snr, only"),
        (lambda t, a: a.update(wave=a["wave"][::-1]), "wave: expected finite, increasing"),
        (lambda t, a: a.update(wave=a["wave"][:-1]), r"flux has shape .*, expected \(12, 3908\)"),
        (lambda t, a: a.update(flux=a["flux"].astype(str)), "flux is <U.*: expected numbers"),
    ],
)
def test_wrong_arrays_are_refused(change, message, built, tmp_path, monkeypatch):
    table = pd.read_csv(built / "lamost_lrs.csv")
    with np.load(built / "lamost_lrs.npz") as file:
        arrays = dict(file)
    changed = change(table, arrays)
    (table if changed is None else changed).to_csv(tmp_path / "lamost_lrs.csv", index=False)
    np.savez_compressed(tmp_path / "lamost_lrs.npz", **arrays)
    with pytest.raises(SurveyFilesError, match=message):
        opened(monkeypatch, tmp_path)


@pytest.mark.parametrize("cut", [10, 5_000, -30_000, -1])
def test_truncated_arrays_are_refused(cut, built, tmp_path, monkeypatch):
    shutil.copy(built / "lamost_lrs.csv", tmp_path)
    whole = (built / "lamost_lrs.npz").read_bytes()
    (tmp_path / "lamost_lrs.npz").write_bytes(whole[:cut])
    with pytest.raises(SurveyFilesError, match=r"lamost_lrs\.npz: damaged"):
        opened(monkeypatch, tmp_path)


def test_rows_can_be_chosen(built, monkeypatch):
    everything = opened(monkeypatch, built)
    some = opened(monkeypatch, built, where="teff > 5004 and snrg > 10")
    rows = np.flatnonzero(everything.table["teff"] > 5004)
    assert 0 < len(rows) < 12
    np.testing.assert_array_equal(some.flux, everything.flux[rows])
    np.testing.assert_array_equal(some.ivar, everything.ivar[rows])
    assert some.table["obsid"].to_list() == everything.table["obsid"][rows].to_list()
    with pytest.raises(ValueError, match="the columns are file"):
        opened(monkeypatch, built, where="nonsense > 3")


def test_no_star_is_on_both_sides(tmp_path, monkeypatch):
    for i in range(40):  # two visits a star
        write(tmp_path / "in" / f"{i:02d}.fits", i, RA=10 + (i // 2), DEC=5.0)
    build(tmp_path / "in", tmp_path, processes=1, progress=False)
    sample = opened(monkeypatch, tmp_path)
    assert sample.table["star"].nunique() == 20
    sides = {part: set(sample.table["star"][sample.split(part)]) for part in splits.PARTS}
    assert [len(side) for side in sides.values()] == [16, 2, 2]
    assert not (sides["train"] & sides["val"] | sides["train"] & sides["test"])
    assert sorted(np.concatenate([sample.split(p) for p in splits.PARTS])) == list(range(40))
    with pytest.raises(ValueError, match="no split 'half'"):
        sample.split("half")


# Real files and arrays


@native
def test_real_lamost_files_among_damaged_ones(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "in"
    for release in ("lamost_dr1", "lamost_dr10"):
        shutil.copytree(NATIVE / release, folder / release, copy_function=shutil.copyfile)
    whole = sorted((folder / "lamost_dr10").iterdir())[0].read_bytes()
    (folder / "half.fits.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "a.fits").write_bytes(os.urandom(5000))
    build(folder, tmp_path, processes=1, size=4, labels=DATA / "lamost_lrs.csv", progress=False)
    assert "12 of 15 found their labels" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "skipped.csv")["file"]) == {"a.fits", "half.fits.gz"}
    sample = opened(monkeypatch, tmp_path)
    packed = opened(monkeypatch, DATA) if (DATA / "lamost_lrs.npz").exists() else None
    for row, star in sample.table.iterrows():
        spectrum = read_spectrum(folder / star["file"])
        n = len(spectrum)
        assert np.abs(np.log10(spectrum.wave / sample.wave[:n])).max() < 0.02e-4
        assert star["med"] == np.median(spectrum.flux)
        flux = spectrum.flux / star["med"]
        np.testing.assert_allclose(sample.flux[row, :n], flux, rtol=2**-11, atol=1e-7)
        assert np.isnan(sample.flux[row, n:]).all() and (sample.ivar[row, n:] == 0).all()
        assert (sample.ivar[row, :n][spectrum.mask] == 0).all()
        good = ~spectrum.mask & (np.abs(flux) > 1e-3)
        expected = (spectrum.ivar * star["med"] ** 2)[good]
        np.testing.assert_allclose(sample.ivar[row, :n][good], expected, rtol=2**-8)
        assert star["z"] == spectrum.meta["redshift"]
        if packed is None or pd.isna(star["obsid"]):
            continue
        # The project's arrays were made of the same files, shifted by 0.016 pixels and not copied.
        (other, *_) = np.flatnonzero(packed.table["obsid"] == star["obsid"])
        ours, theirs = (s.flux[i, : n - 1] for s, i in ((sample, row), (packed, other)))
        theirs = theirs * packed.table["med"][other] / star["med"]
        step = np.maximum(np.abs(np.diff(ours, append=ours[-1])), np.abs(np.diff(ours, prepend=0)))
        near = np.abs(ours - theirs) <= 0.02 * step + 2**-9.5 * np.abs(ours) + 1e-6
        assert near[1:-1].all()
        for column in ("ra", "dec", "z", "snrg", "teff", "logg", "feh"):
            assert star[column] == pytest.approx(packed.table[column][other], nan_ok=True)


@native
def test_real_galah_arms_are_one_spectrum(tmp_path, monkeypatch):
    build(NATIVE / "galah", tmp_path, processes=1, progress=False)
    sample = opened(monkeypatch, tmp_path, "galah")
    assert len(sample) == 1 and sample.flux.shape == (1, len(GALAH.wave))
    assert np.isnan(sample.flux[0, GALAH.arms["infrared"]]).all()  # its file is not there
    file = read_spectrum(sorted((NATIVE / "galah").glob("*3.fits"))[0])
    old = file.flux[(file.wave > 6520) & (file.wave < 6600)].mean()
    window = (sample.wave > 6520) & (sample.wave < 6600)
    assert sample.flux[0, window].mean() * sample.table["med"][0] == pytest.approx(old, rel=1e-3)


@real
def test_real_lamost_arrays(monkeypatch):
    sample = opened(monkeypatch, DATA)
    table = sample.table
    assert len(sample) == 3101 and table["teff"].notna().sum() == 2406
    assert table["teff"].dropna().between(3500, 15_000).all() and not (table["snrg"] <= 0).any()
    np.testing.assert_allclose(sample.wave, LAMOST.wave)
    with np.load(DATA / "lamost_lrs.npz") as file:
        flux, snr = (file[name][:50].astype(float) for name in ("flux", "snr"))
    np.testing.assert_array_equal(sample.flux[:50], flux)
    good = (snr > 0) & (flux != 0) & np.isfinite(flux)
    np.testing.assert_allclose(sample.ivar[:50][good], (snr[good] / flux[good]) ** 2, rtol=1e-6)
    assert (sample.ivar[:50][~good] == 0).all()
    # Rows that repeat an obsid, and visits of one star, are one star.
    assert table.groupby("obsid")["star"].nunique().max() == 1
    assert table["star"].nunique() < table["obsid"].nunique() < len(table)


@real
def test_hbeta_of_real_stars_is_at_rest(monkeypatch):
    sample = opened(monkeypatch, DATA, where="snrg > 60 and 6500 < teff < 9000")
    grid = HBETA * np.exp(np.arange(-15, 15.1, 0.5) / 299_792.458 * 50)
    rest = [
        np.interp(grid, sample.wave / (1 + z), flux)
        for z, flux in zip(sample.table["z"], sample.flux, strict=True)
        if np.isfinite(z)
    ]
    depth = 1 - np.median(rest, axis=0) / np.median(rest, axis=0).max()
    velocity = 299_792.458 * (np.average(grid, weights=depth**4) / HBETA - 1)
    assert len(rest) > 300 and depth.max() > 0.3 and abs(velocity) < 10


@real
def test_real_miles(monkeypatch):
    sample = opened(monkeypatch, DATA, "miles")
    assert (
        sample.flux.shape == (788, 4300) and sample.ivar is None and (sample.table["z"] == 0).all()
    )
    assert sample.table["teff"].notna().sum() == 786 and sample.table["star"].is_unique
    hot = sample.table["teff"].between(7500, 10_000).to_numpy()
    flux = np.median(sample.flux[hot] / np.median(sample.flux[hot], axis=1)[:, None], axis=0)
    near = np.abs(sample.wave - HBETA) < 8
    depth = flux[near].max() - flux[near]
    assert np.average(sample.wave[near], weights=depth**2) == pytest.approx(HBETA, abs=0.3)
    with pytest.raises(ValueError, match="miles has no errors"):
        sample.spectrum(0)


@real
def test_real_gaia_xp(monkeypatch):
    sample = opened(monkeypatch, DATA, "gaia_xp_field")
    assert sample.flux.shape == sample.ivar.shape == (1500, 343)
    assert (sample.wave[0], sample.wave[-1]) == (3360, 10_200)
    np.testing.assert_allclose(np.median(sample.flux, axis=1), 1, rtol=1e-5)
    assert np.isfinite(sample.ivar).all() and (sample.ivar > 0).all()
    # G is a measure of the same photons: the median flux follows it.
    magnitude = -2.5 * np.log10(sample.table["med"])
    assert np.corrcoef(magnitude, sample.table["g"])[0, 1] > 0.98
    with pytest.raises(ValueError, match="read whole"):
        load("gaia_xp_field", where="g < 15")


@real
def test_real_galah_and_mastar(monkeypatch):
    galah = opened(monkeypatch, DATA, "galah")
    assert galah.flux.shape == (23, len(GALAH.wave)) and galah.table["star"].is_unique
    for arm in GALAH.arms.values():
        assert (np.isfinite(galah.flux[:, arm]).mean(axis=1) > 0.95).all()
    with np.load(DATA / "galah.npz") as file:
        name = galah.table["object"][0]
        start, step = file[f"{name}_3_w"]
        window = slice(1500, 2500)
        mean = file[f"{name}_3"][window].mean()
    wave = start + step * np.arange(1500, 2500) + 1.8  # vacuum is 1.8 Å redder there
    new = (galah.wave > wave[0]) & (galah.wave < wave[-1])
    assert galah.flux[0, new].mean() == pytest.approx(mean, rel=2e-3)
    mastar = opened(monkeypatch, DATA, "mastar_means")
    assert mastar.flux.shape == (65, 4538) and mastar.ivar is None
    assert mastar.wave[0] == pytest.approx(10**3.5601)
