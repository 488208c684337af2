"""Numbers of several seeds as text."""

import numpy as np
import pandas as pd

from stellarbook.report.tables import over_seeds, written


def test_mean_and_spread_by_hand():
    assert written([1.0, 2.0, 3.0]) == "2.00 ± 1.00"
    assert written(np.array([0.1234]), 3) == "0.123"
    assert written(pd.Series([1.0, np.nan, 3.0]), 1) == "2.0 ± 1.4"
    assert written([np.nan]) == "" == written([])


def test_a_table_has_a_row_a_model_and_a_column_a_score():
    found = {"one": pd.DataFrame({"r2": [0.5, 0.7], "mae": [1.0, 1.0]})}
    found["two"] = pd.DataFrame({"r2": [0.9]})  # has no mae
    table = over_seeds(found, 1)
    assert list(table.index) == ["one", "two"]
    assert table.loc["one"].tolist() == ["0.6 ± 0.1", "1.0 ± 0.0"]
    assert table.r2["two"] == "0.9"
