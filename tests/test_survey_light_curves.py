"""Light curves of Kepler stars from the reader's own folder, as records by name."""

import os

import numpy as np
import pytest
from light_curve_files import QUARTERS, native

from stellarbook.data import survey_files
from stellarbook.data.readers import read_light_curve

NAME = "kepler_lightcurves"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STELLARBOOK_DATA", str(tmp_path))
    return tmp_path


def test_records_by_name(folder):
    time = 120.5 + 0.02 * np.arange(8)
    time[2] = np.nan
    flux = np.stack([np.ones(8), [0, 128, 2, 16, 2, 0, 0, 0]], axis=1).astype("f4")
    flux[6, 0] = np.nan
    days = 0.02 * np.arange(5)
    arrays = {"LLC_42_t": time, "LLC_42_y": flux}
    arrays |= {"KEPSEISMIC_000000007_t": days + 54960, "KEPSEISMIC_000000007_y": np.ones((5, 1))}
    arrays |= {"PYSYD_9_t": days + 1500, "PYSYD_9_y": np.ones((5, 1))}
    np.savez(folder / f"{NAME}.npz", **arrays)
    curves = survey_files.load(NAME)
    assert list(curves) == ["KEPSEISMIC_000000007", "LLC_42", "PYSYD_9"]
    curve = curves["LLC_42"]
    assert len(curve) == 7 and curve.meta["untimed"] == 1
    assert np.flatnonzero(curve.mask).tolist() == [3, 5]  # safe mode, no flux
    assert curve.quality.tolist() == [0, 128, 16, 2, 0, 0, 0]
    zeros = [curve.meta["time_zero"] for curve in curves.values()]
    np.testing.assert_equal(zeros, [2400000, 2454833, np.nan])
    objects = [curve.meta["object"] for curve in curves.values()]
    assert objects == ["KIC 7", "KIC 42", "9"]
    assert curves["KEPSEISMIC_000000007"].meta["unit"] == "ppm"
    with pytest.raises(ValueError, match="where: kepler_lightcurves is read whole"):
        survey_files.load(NAME, where="x > 1")


def test_missing_and_damaged(folder):
    assert not survey_files.available(NAME)
    with pytest.raises(survey_files.SurveyFilesMissing, match=r"archive\.stsci\.edu.*sources LLC"):
        survey_files.load(NAME)
    path = folder / f"{NAME}.npz"
    for arrays, fault in (
        ({"LLC_1_t": np.arange(3.0)}, "LLC_1_y"),
        ({"TESS_1_t": np.arange(3.0), "TESS_1_y": np.ones((3, 1))}, "expected <source>_<KIC>_t"),
        ({"LLC_1_t": np.arange(3.0), "LLC_1_y": np.ones((2, 2))}, "columns of one length"),
        ({"LLC_1_t": np.zeros(3), "LLC_1_y": np.ones((3, 2))}, "expected increasing times"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(survey_files.SurveyFilesError, match=f"{path}.*{fault}"):
            survey_files.load(NAME)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(survey_files.SurveyFilesError, match="damaged or incomplete"):
        survey_files.load(NAME)


@native
def test_real_curves_are_the_missions():
    if not survey_files.available(NAME):
        pytest.skip(f"no {NAME}.npz in {os.environ['STELLARBOOK_DATA']}")
    curves = survey_files.load(NAME)
    packed, ours = curves["LLC_7660594"], read_light_curve(QUARTERS)
    n = len(ours)
    np.testing.assert_allclose(packed.time[:n], ours.time, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(packed.quality[:n], ours.quality)
    np.testing.assert_array_equal(packed.mask[:n], ours.mask)
    # Each quarter over one number, its median.
    for quarter in ours.meta["quarters"]:
        here = (ours.quarter == quarter) & ~ours.mask
        expected = ours.flux[here] / np.median(ours.flux[here])
        np.testing.assert_allclose(packed.flux[:n][here], expected, atol=2e-6)
