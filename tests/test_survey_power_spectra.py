"""Images of power spectra from the reader's own folder: bits, labels by KIC, splits by star."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.data import archives, splits, survey_files
from stellarbook.data.kepler_field import catalogues
from stellarbook.data.survey_files.power_spectra import (
    CLASSES,
    FREQUENCY,
    POWER,
    SIDE,
    PowerSpectrumImages,
)

NAME = "kepler_q9"
FILE = "kepler_q9_psd_images.npz"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("STELLARBOOK_DATA", str(tmp_path))
    # A KIC number twice in a catalogue: the first counts.
    seismic = pd.DataFrame({"kic": [11, 7, 11], "numax": [50.0, 80.0, 51.0]})
    rotation = pd.DataFrame({"kic": [5, 99], "prot": [12.5, 3.0]})
    monkeypatch.setattr(catalogues, "seismic", lambda: seismic)
    monkeypatch.setattr(catalogues, "rotation", lambda: rotation)
    return tmp_path


def arrays(**others):
    """Two real stars, one synthetic, one of K2, one more real; and the pixels of all."""
    pixels = np.random.default_rng(0).integers(0, 2, (5, SIDE, SIDE), dtype=np.uint8)
    return {
        "im_packed": np.packbits(pixels.reshape(5, -1), axis=1),
        "kic": np.array([5, 11, -1, 201_131_882, 13]),
        "cls": np.array(["CONTACT_ROT", "SOLARLIKE", "CONSTANT", "APERIODIC", "ECLIPSE"]),
        "real": np.array([True, True, False, True, True]),
    } | others, pixels


def test_real_kepler_stars_with_labels_by_kic(folder):
    content, pixels = arrays()
    np.savez(folder / FILE, **content)
    images = survey_files.load(NAME)
    assert list(images.table) == ["kic", "cls"]
    images = images.labelled(catalogues.measured())
    assert images.table["kic"].tolist() == [5, 11, 13] and len(images) == 3
    assert images.table["cls"].tolist() == ["CONTACT_ROT", "SOLARLIKE", "ECLIPSE"]
    np.testing.assert_equal(images.table["numax"].to_numpy(), [np.nan, 50.0, np.nan])
    np.testing.assert_equal(images.table["prot"].to_numpy(), [12.5, np.nan, np.nan])
    assert images.packed.shape == (3, SIDE * SIDE // 8) and images.packed.dtype == np.uint8
    np.testing.assert_array_equal(images.pixels(np.array([0, 1, 2])), pixels[[0, 1, 4]])
    np.testing.assert_array_equal(images.pixels(np.array([2])), pixels[[4]])
    with pytest.raises(ValueError, match="repeat a KIC number"):
        images.labelled(pd.DataFrame({"kp": [1.0, 2.0]}, index=[5, 5]))
    with pytest.raises(ValueError, match="columns overlap"):
        images.labelled(catalogues.measured())
    with pytest.raises(ValueError, match=f"where: {NAME} is read whole"):
        survey_files.load(NAME, where="numax > 1")


def test_missing_and_damaged(folder):
    assert not survey_files.available(NAME)
    with pytest.raises(survey_files.SurveyFilesMissing, match=r"tasoc/starclass.*im_packed"):
        survey_files.load(NAME)
    for damage, fault in (
        ({"im_packed": np.zeros((5, 100), np.uint8)}, "im_packed"),
        ({"im_packed": np.zeros((5, 2048))}, "expected bytes"),
        ({"real": np.ones(5)}, "truth values"),
        ({"kic": np.arange(4)}, "kic"),
        ({"kic": np.array([5, 5, -1, 201_131_882, 13])}, "each star once"),
        ({"cls": np.array(["PULSAR"] * 5)}, "PULSAR, expected SOLARLIKE"),
    ):
        np.savez(folder / FILE, **arrays(**damage)[0])
        with pytest.raises(survey_files.SurveyFilesError, match=f"{FILE}.*{fault}"):
            survey_files.load(NAME)
    path = folder / FILE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(survey_files.SurveyFilesError, match="damaged or incomplete"):
        survey_files.load(NAME)


def drawn(upper, lower):
    """Images of columns from pixel ``upper`` to before ``lower``, (n, 128) each."""
    row = np.arange(SIDE)[:, None]
    pixels = (row >= upper[:, None]) & (row < lower[:, None])  # (n, 128, 128)
    table = pd.DataFrame({"kic": np.arange(len(upper)), "cls": CLASSES[0]})
    table[["numax", "prot"]] = np.nan
    return PowerSpectrumImages(table, np.packbits(pixels.reshape(len(upper), -1), axis=1))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_outlines_undo_the_drawing(seed):
    ends = np.sort(np.random.default_rng(seed).integers(0, SIDE + 1, (2, 3, SIDE)), axis=0)
    ends[0] = np.minimum(ends[0], SIDE - 1)
    ends[1] = np.maximum(ends[1], ends[0] + 1)
    images = drawn(*ends)
    np.testing.assert_array_equal(images.outlines(np.arange(3)), POWER[ends.swapaxes(0, 1)])


def test_an_empty_column_is_above_the_image():
    upper, lower = np.full((1, SIDE), 30), np.full((1, SIDE), 40)
    lower[0, 7] = 30
    outline = drawn(upper, lower).outlines(np.array([0]))[0]
    assert outline[:, 7].tolist() == [5.0, 5.0]
    assert outline[:, 8].tolist() == [POWER[30], POWER[40]]


def test_splits_are_of_stars():
    table = pd.DataFrame({"kic": np.arange(1000, 3000), "cls": CLASSES[0]})
    images = PowerSpectrumImages(table, np.zeros((2000, 2048), np.uint8))
    parts = {part: images.split(part) for part in splits.PARTS}
    assert sorted(np.concatenate(list(parts.values()))) == list(range(2000))
    assert 0.75 < len(parts["train"]) / 2000 < 0.85
    shuffled = PowerSpectrumImages(table.iloc[::-1].reset_index(drop=True), images.packed)
    for part, rows in parts.items():
        assert set(table["kic"][rows]) == set(shuffled.table["kic"][shuffled.split(part)])
    with pytest.raises(ValueError, match="no split 'tests'"):
        images.split("tests")


# --- the real images ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    if not survey_files.available(NAME):
        pytest.skip(f"no {FILE}: set STELLARBOOK_DATA")
    for name in catalogues.NEEDS:
        if not (archives.cache() / "archives" / archives.ARCHIVES[name].file).exists():
            pytest.skip(f"{name} is not in the archives' cache")
    return survey_files.load(NAME).labelled(catalogues.measured())


def test_real_columns_are_one_run_of_pixels(real):
    """The outlines hold everything: nothing but a run of pixels in any column."""
    rows = np.arange(0, len(real), 7)
    pixels = np.pad(real.pixels(rows), ((0, 0), (1, 1), (0, 0))).astype(np.int8)
    assert np.abs(np.diff(pixels, axis=1)).sum(axis=1).max() == 2


def test_real_numax_is_where_the_axis_says(real):
    """Giants' power above a cubic through the columns peaks at the catalogue's ν_max."""
    numax = real.table["numax"].to_numpy()
    rows = np.flatnonzero((numax > 15) & (numax < 150))
    upper = real.outlines(rows)[:, 0]
    x = np.arange(SIDE) + 0.5
    column = np.log(numax[rows] / FREQUENCY[0]) / np.log(FREQUENCY[1] / FREQUENCY[0])
    smooth = np.stack([np.polyval(np.polyfit(x, y, 3), x) for y in upper])
    offset = x - column[:, None]
    excess = [(upper - smooth)[np.abs(offset - d) < 1.5].mean() for d in range(-30, 31, 3)]
    assert abs(range(-30, 31, 3)[int(np.argmax(excess))]) <= 3  # columns of 0.015 dex


def test_real_labels_are_where_they_should_be(real):
    known = real.table.groupby("cls")[["numax", "prot"]].count()
    assert set(known.index) == set(CLASSES)
    assert (known.drop("SOLARLIKE")["numax"] == 0).all()  # only oscillators have a ν_max
    assert known["prot"].idxmax() == "CONTACT_ROT"
    assert len(np.unique(real.packed, axis=0)) == len(real)  # no image twice
