"""What `load` returns: a table and arrays."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stellarbook.data import splits
from stellarbook.data.records import Spectrum


@dataclass(frozen=True, eq=False)
class SurveySample:
    """Spectra of one survey, a row each.

    Attributes
    ----------
    survey : str
    table : DataFrame (n rows)
        At least ``star`` (int64: rows of one star have one number) and ``z``, the redshift by which
        wave / (1 + z) is at rest (NaN: unknown); what else, `load` says of each sample. Missing is
        NaN.
    wave : (pixels,) float64
        Vacuum, Å, the same for all rows.
    flux : (n, pixels) float32
        In the unit of `unit`; NaN where the survey has no pixel. Under the mask (ivar 0) it means
        nothing.
    ivar : (n, pixels) float32, or None
        Inverse variance of ``flux``, 0 where masked. None: the survey gave no errors.
    unit : str
    """

    survey: str
    table: pd.DataFrame
    wave: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray | None
    unit: str

    def __len__(self) -> int:
        return len(self.table)

    def split(self, part: str) -> np.ndarray:
        """Return the row positions of "train", "val" or "test": 80, 10, 10 % of the *stars*.

        By a hash of ``star`` (`splits.ranked`), so that no star is on both sides, however often it
        was observed.

        Raises
        ------
        ValueError
            There is no such part.
        """
        splits.check(part)
        stars = splits.ranked(self.table["star"].unique())[part]
        return np.flatnonzero(self.table["star"].isin(stars))

    def spectrum(self, row: int) -> Spectrum:
        """Return one row as the record that `read_spectrum` gives, e.g. for an encoder's predict.

        Raises
        ------
        ValueError
            The sample has no errors, and a record without errors is all masked.
        """
        if self.ivar is None:
            raise ValueError(f"{self.survey} has no errors: use the arrays")
        star = self.table.iloc[row]
        labels = {key: float(star[key]) for key in ("teff", "logg", "feh") if key in star}
        return Spectrum(
            self.wave,
            self.flux[row],
            self.ivar[row],
            self.ivar[row] <= 0,
            {
                "survey": self.survey,
                "file": str(star.get("file", "")),
                "object": str(star.get("obsid", star.get("object", star["star"]))),
                "unit": self.unit,
                "redshift": float(star["z"]),
                "redshift_error": float(star.get("z_error", np.nan)),
                "ra": float(star.get("ra", np.nan)),
                "dec": float(star.get("dec", np.nan)),
                "labels": labels,
                "header": {},
            },
        )
