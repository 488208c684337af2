"""Simulated stars of the Kepler field and their spectra per second, one thread."""

import pytest

from stellarbook.data import archives, emulator, kepler_field
from stellarbook.data.kepler_field import spectra


@pytest.mark.archives
def test_load(benchmark):
    """Stars over the time; the tables behind them are read before."""
    for name in kepler_field.NEEDS:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")
    field = benchmark.pedantic(kepler_field.load, (20_000,), {"seed": 1}, rounds=3, warmup_rounds=1)
    assert len(field.table) == 20_000


@pytest.mark.archives
def test_spectra(benchmark):
    """LAMOST spectra of 2,000 visits, two in five of pairs, over the time."""
    for name in (*kepler_field.NEEDS, *emulator.NEEDS):
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")
    field = kepler_field.load(2_000, seed=1)
    visits = field.visits.head(2_000)
    options = {"progress": False}
    seen = benchmark.pedantic(
        spectra.observe, (field.table, visits), options, rounds=3, warmup_rounds=1
    )
    assert len(seen.flux) == 2_000
