"""Power spectra of Kepler stars as images of one bit a pixel.

The images come as they were made for a classifier of TESS stars (T'DA; Audenaert et al. 2021), in
the manner of Hon, Stello & Zinn (2018, ApJ 859, 64). Shown in chapter 03.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from stellarbook.data import splits
from stellarbook.data.survey_files.layout import SurveyFilesError, read_array

SIDE = 128
# Left to right, the bins' edges (µHz): evenly in the logarithm up to the Nyquist frequency of
# 29.4 minutes. From top to bottom, log10 of the power density, less its mean over a star's
# frequencies and over its standard deviation there, from 5 to −5.
FREQUENCY = np.geomspace(3.0, 283.0, SIDE + 1)
POWER = np.linspace(5.0, -5.0, SIDE + 1)
CLASSES = ("SOLARLIKE", "CONTACT_ROT", "DSCT_BCEP", "GDOR_SPB", "ECLIPSE", "RRLYR_CEPHEID")
KIC_NUMBERS = 20_000_000  # greater ones are other missions' stars
PACKED = SIDE * SIDE // 8


@dataclass(frozen=True, eq=False)
class PowerSpectrumImages:
    """Power spectra of one Kepler quarter, the ninth: an image a star.

    A column's pixels are set from the least to the greatest power in its bin of frequency. The
    axes are `FREQUENCY` and `POWER`. The level of the power, and with it the amplitude, is not in
    the image: each star's was taken out.

    Attributes
    ----------
    table : DataFrame (n rows, one a star)
        ``kic``; ``cls``, the variability class that T'DA gives, one of `CLASSES`; and what
        `labelled` has joined.
    packed : (n, 2048) uint8
        Bits of the pixels, row by row from the top, the first pixel in a byte's highest bit.

    Notes
    -----
    That the frequency axis is right shows in the contact binaries, whose tallest column is at
    twice their orbital frequency, and in the giants' ν_max. The power axis is that of the public
    code of T'DA (starclass, SLOSH) and agrees with images made of light curves of the same stars.
    Unknown is which light curves were taken and how they were filtered.
    Shown in chapter 03.
    """

    table: pd.DataFrame
    packed: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def labelled(self, labels: pd.DataFrame) -> "PowerSpectrumImages":
        """Return the same with columns that are looked up by ``kic``, NaN where unknown.

        ::

            images.labelled(catalogues.measured())

        Parameters
        ----------
        labels : DataFrame
            Indexed by KIC number, each once.

        Raises
        ------
        ValueError
            A number occurs twice, or a column is there already.
        """
        if not labels.index.is_unique:
            raise ValueError("labels repeat a KIC number")
        return replace(self, table=self.table.join(labels, on="kic"))

    def split(self, part: str) -> np.ndarray:
        """Return the row positions of "train", "val" or "test": about 80, 10, 10 % of the stars.

        By the hash of ``kic`` (`splits.hashed`).

        Raises
        ------
        ValueError
            There is no such part.
        """
        splits.check(part)
        return np.flatnonzero(splits.hashed(self.table["kic"].to_numpy()) == part)

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Return images, (m, 128, 128) uint8: 1 between the least and the greatest power."""
        return np.unpackbits(self.packed[rows], axis=1).reshape(-1, SIDE, SIDE)

    def outlines(self, rows: np.ndarray) -> np.ndarray:
        """Return the upper and lower end of each column, (m, 2, 128), in the units of `POWER`.

        Of real images they are all there is. A column without a pixel is above the image.
        """
        pixels = self.pixels(rows)
        # Of no pixel argmax says 0, the top; its lower end is the top, too.
        upper, lower = pixels.argmax(axis=1), SIDE - pixels[:, ::-1].argmax(axis=1)
        lower[~pixels.any(axis=1)] = 0
        return POWER[np.stack([upper, lower], axis=1)]


def kepler_q9(path: Path) -> PowerSpectrumImages:
    """Read the images of real Kepler stars.

    Synthetic images, and those of other missions' stars, are left out: all of the classes
    CONSTANT and APERIODIC.
    """
    packed = read_array(path, "im_packed", (None, PACKED))
    n = len(packed)
    kic, cls, real = (read_array(path, key, (n,)) for key in ("kic", "cls", "real"))
    if packed.dtype != np.uint8 or real.dtype != bool:
        raise SurveyFilesError(f"{path}: im_packed and real: expected bytes and truth values")
    chosen = real & (kic < KIC_NUMBERS)
    kic, cls = kic[chosen].astype(np.int64), cls[chosen].astype(str)
    if other := sorted(set(cls) - set(CLASSES)):
        raise SurveyFilesError(f"{path}: cls: {', '.join(other)}, expected {', '.join(CLASSES)}")
    if len(np.unique(kic)) != len(kic):
        raise SurveyFilesError(f"{path}: kic: expected each star once")
    return PowerSpectrumImages(pd.DataFrame({"kic": kic, "cls": cls}), packed[chosen])
