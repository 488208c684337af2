"""The example light curves are those of the archives, byte by byte, and every one can be read."""

import hashlib
import io

import pandas as pd
import pytest

from stellarbook.data import archives, example_light_curves
from stellarbook.data.readers import read_light_curve


def test_every_file_has_an_archive_that_is_pinned():
    needed = {archive for archive, _ in example_light_curves.FILES.values()}
    assert needed == set(example_light_curves.NEEDS) <= set(archives.ARCHIVES)
    assert "example_light_curves" in archives.SAMPLES


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="no example light curve 'boss': there are kepler_q2"):
        example_light_curves.path("boss")


@pytest.mark.archives
@pytest.mark.parametrize("name", example_light_curves.FILES)
def test_a_file_is_its_archives_and_can_be_read(name):
    for archive in example_light_curves.NEEDS:
        file = archives.ARCHIVES[archive].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")
    example_light_curves.prepare()
    path = example_light_curves.path(name)
    member = archives.read(*example_light_curves.FILES[name])
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(member).digest()
    curve = read_light_curve(path)
    assert curve.meta["survey"] == name.split("_")[0] and curve.meta["file"] == path.name
    # What the short names promise.
    number = name.split("_")[-1].removeprefix("q")
    known = {"k2": "EPIC 211117077", "tess": "TIC 358108509", "2": "KIC 10002792"}
    known |= {"5": known["2"]}
    assert curve.meta["object"] == known.get(number, f"KIC {number}")
    if number in ("2", "5"):
        assert curve.meta["quarters"] == (int(number),)


@pytest.mark.archives
def test_known_periods_are_those_of_the_catalogue():
    file = archives.ARCHIVES["star-privateer"].file
    if not (archives.cache() / "archives" / file).exists():
        pytest.skip(f"{file} is not in the archives' cache")
    rows = archives.read("star-privateer", "star_privateer/catalogs/santos-19-21.csv")
    period = pd.read_csv(io.BytesIO(rows), index_col="target_id")["prot"]
    stars = [3733735, 8006161, 10644253]
    said = example_light_curves.__doc__
    assert all(f"{period[kic]:.2f}" in said for kic in stars)
