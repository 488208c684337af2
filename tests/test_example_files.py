"""The example files are those of the archives, byte by byte, and every one can be read."""

import hashlib

import pytest

from stellarbook.data import archives, example_files
from stellarbook.data.readers import read_spectrum

SURVEY = {"apstar": "apogee", "boss": "sdss", "datalink": "gaia_xp_continuous"}


def needs():
    for name in example_files.NEEDS:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")


def test_every_file_has_an_archive_that_is_pinned():
    assert {archive for archive, _ in example_files.FILES.values()} == set(example_files.NEEDS)
    assert set(example_files.NEEDS) <= set(archives.ARCHIVES)
    assert "example_files" in archives.SAMPLES


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="no example file 'kepler': there are apstar_dwarf"):
        example_files.path("kepler")


@pytest.mark.archives
@pytest.mark.parametrize("name", example_files.FILES)
def test_a_file_is_its_archives_and_can_be_read(name):
    needs()
    example_files.prepare()
    path = example_files.path(name)
    member = archives.read(*example_files.FILES[name])
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(member).digest()
    spectrum = read_spectrum(path)
    assert spectrum.meta["survey"] == SURVEY[name.split("_")[0]]
    assert spectrum.meta["file"] == path.name and spectrum.snr > 50
