"""What a companion shows in a spectrum: nothing of a twin, much of two velocities, by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from stellarbook.data.kepler_field import traces


def pairs(**changes):
    """Table and visits of: a single star, a pair, the same pair at twice the S/N."""
    table = {
        **{"source_id": [1, 2, 3], "teff": 5800.0, "logg": 4.4, "feh": 0.0, "alpha": 0.0},
        **{"radius": 1.0, "a_v": 0.0, "teff2": 5800.0, "logg2": 4.4, "radius2": 1.0},
    }
    visits = {"source_id": [1, 2, 3], "rv": 10.0, "rv2": 10.0, "snr": [50.0, 50.0, 100.0]}
    table = pd.DataFrame(table | {k: x for k, x in changes.items() if k in table})
    visits = pd.DataFrame(visits | {k: x for k, x in changes.items() if k in visits})
    table.loc[0, ["teff2", "logg2", "radius2"]] = np.nan
    visits.loc[0, "rv2"] = np.nan
    return table, visits


def found(**changes):
    return traces.standing_out(*pairs(**changes), progress=False)


def test_a_single_star_and_a_twin_at_one_velocity_stand_out_by_nothing():
    np.testing.assert_allclose(found(), 0, atol=1e-2)


def test_two_velocities_stand_out_as_the_signal_to_noise():
    single, pair, sharper = found(rv2=210.0)
    assert single == 0 and pair > 50
    assert sharper == pytest.approx(2 * pair)


def test_a_small_shift_is_one_stars_velocity():
    # Of twins the light's mean moves; what is left is of second order.
    apart = [found(rv2=10.0 + v)[1] for v in (5.0, 10.0, 20.0)]
    assert apart[0] < 1
    assert apart[2] / apart[1] == pytest.approx(4, rel=0.2)


def test_a_companion_of_another_temperature_shows_without_a_velocity():
    fainter = found(teff2=4200.0, logg2=4.6, radius2=0.65)
    assert fainter[1] > 3
    assert found(teff2=4200.0, logg2=4.6, radius2=0.1)[1] < 0.2 * fainter[1]


def test_what_a_combination_of_columns_makes_is_taken_away():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(2, 30, 4, generator=generator).double()
    rest = torch.randn(2, 30, generator=generator).double()
    y = columns @ torch.tensor([1e-6, 3.0, -2.0, 1.0]).double() + rest
    expected = rest - torch.stack(
        [c @ torch.linalg.lstsq(c, r).solution for c, r in zip(columns, rest, strict=True)]
    )
    torch.testing.assert_close(traces._beside(columns, y), expected)
    assert traces._beside(torch.zeros(1, 5, 2), torch.ones(1, 5)).isfinite().all()


def test_a_missing_column_is_named():
    table, visits = pairs()
    with pytest.raises(ValueError, match="visits: expected columns snr"):
        traces.standing_out(table, visits.drop(columns="snr"))
