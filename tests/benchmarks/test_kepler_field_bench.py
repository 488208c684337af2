"""Simulated stars of the Kepler field per second, one thread."""

import pytest

from stellarbook.data import archives, kepler_field


@pytest.mark.archives
def test_load(benchmark):
    """Stars over the time; the tables behind them are read before."""
    for name in kepler_field.NEEDS:
        file = archives.ARCHIVES[name].file
        if not (archives.cache() / "archives" / file).exists():
            pytest.skip(f"{file} is not in the archives' cache")
    field = benchmark.pedantic(kepler_field.load, (20_000,), {"seed": 1}, rounds=3, warmup_rounds=1)
    assert len(field.table) == 20_000
