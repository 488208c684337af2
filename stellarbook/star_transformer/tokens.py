"""What the star transformer knows of a star: 119 kinds of numbers, each with a name and a scale.

A *token* is a kind of measurement ("teff", "bp0"), its *value* a standardised number. A star is
whichever tokens were measured; NaN means that one was not, and it is simply absent.
Leung & Bovy (2024), sections 4 and 5. Shown in chapter 10.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stellarbook.data import xp_basis
from stellarbook.learn.metrics import mad_std

COLOURS = ("bprp", "jh", "jk")
LABELS = ("teff", "logg", "feh", "alpha_m", "a_k")
NAMES = (*xp_basis.NAMES, *COLOURS, *LABELS, "g")  # 119; the paper has 118 (section 5)
WITHHELD = ("bprp", "jk")  # never requested in training (section 5), for the test of section 7.2
LOG = ("teff",)  # modelled as log10: its range is a factor of six


@dataclass(frozen=True)
class Scales:
    """Median and MAD standard deviation of each token over the training stars.

    A value v becomes z = asinh((v − centre) / scale): linear near the median, logarithmic in the
    tails, for the sums of squares of Eq. 11 would otherwise be about a few odd stars.

    Attributes
    ----------
    names : tuple of str
        The vocabulary. Token i + 1 is ``names[i]``: token 0 is padding.
    centre, scale : tuple of float
        In the token's unit (log10 for `LOG`).
    low, high : tuple of float
        The range of the training values, likewise.

    Notes
    -----
    Leung & Bovy (2024) standardise by median and MAD; asinh is ours. Shown in chapter 10.
    """

    names: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, table, names=NAMES):
        """Measure the scales on training stars: a table with a column for each name.

        Raises
        ------
        ValueError
            If a column is missing, or has no finite value or no spread.
        """
        values = _columns(table, names)
        known = np.isfinite(values).any(axis=0)
        if not known.all():
            raise ValueError(f"{names[int(np.argmin(known))]!r} has no finite value in any star")
        centre, scale = np.nanmedian(values, axis=0), mad_std(values, axis=0)
        if not (scale > 0).all():
            raise ValueError(f"{names[int(np.argmin(scale))]!r} does not vary: it has no scale")
        extremes = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        lists = (tuple(map(float, column)) for column in (centre, scale, *extremes))
        return cls(tuple(names), *lists)

    def __post_init__(self):
        if {len(column) for column in vars(self).values()} != {len(set(self.names))}:
            raise ValueError("every token needs one name, centre, scale, low and high")

    def __len__(self):
        return len(self.names)

    def tokens(self, names):
        """Return the token numbers of names, (len(names),) long.

        Raises
        ------
        ValueError
            Naming what is not in the vocabulary.
        """
        known = {name: i + 1 for i, name in enumerate(self.names)}
        if unknown := [str(name) for name in names if name not in known]:
            raise ValueError(
                f"unknown: {', '.join(unknown)}; the vocabulary is {_abbreviated(self.names)}"
            )
        return torch.tensor([known[name] for name in names], dtype=torch.long)

    def standardise(self, table):
        """Return z of all columns that are in the vocabulary, (stars, tokens) float32.

        NaN where a value is missing or its column absent. Others' columns are left alone.
        """
        z = np.full((len(table), len(self)), np.nan, dtype=np.float32)
        here, values = self._known(table)
        z[:, here] = np.arcsinh((values - np.take(self.centre, here)) / np.take(self.scale, here))
        return z

    def read(self, table, names):
        """Return the token numbers and z of some columns, (stars, len(names)) tensors.

        Where a value is missing, or its column absent, both are 0.
        """
        token = self.tokens(names)
        value = torch.from_numpy(self.standardise(table)[:, token.numpy() - 1])
        return torch.where(value.isnan(), 0, token), value.nan_to_num()

    def errors(self, table):
        """Return the standard errors of z from the columns ``<name>_error``; 0 where not known.

        To first order: dz = dv / (scale · cosh z), and d log10 v = dv / (v ln 10). A negative
        error raises ValueError.
        """
        z = self.standardise(table)
        sigma = np.zeros_like(z)
        for i, name in enumerate(self.names):
            if name in table.columns and f"{name}_error" in table.columns:
                error = table[f"{name}_error"].to_numpy(dtype=float, na_value=np.nan)
                if (error < 0).any():
                    raise ValueError(f"'{name}_error' holds a negative value; unknown is NaN")
                if name in LOG:
                    value = table[name].to_numpy(dtype=float, na_value=np.nan)
                    error = error / (value * np.log(10))
                sigma[:, i] = error / (self.scale[i] * np.cosh(z[:, i]))
        return np.where(np.isfinite(sigma), sigma, 0).astype(np.float32)

    def outside(self, table):
        """Which values lie outside the training stars' range by more than a tenth of it.

        Returns (stars, tokens) bool; the range is that of the logarithm for `LOG`. The margin
        spares the star that is a little redder than all the training stars.
        """
        outside = np.zeros((len(table), len(self)), dtype=bool)
        here, values = self._known(table)
        low, high = np.take(self.low, here), np.take(self.high, here)
        margin = 0.1 * (high - low)
        outside[:, here] = (values < low - margin) | (values > high + margin)
        return outside

    def restore(self, z, sigma, names):
        """Undo `standardise` for (stars, len(names)) means and errors; returns both in units."""
        index = self.tokens(names).numpy() - 1
        z, sigma = np.asarray(z, dtype=float), np.asarray(sigma, dtype=float)
        centre, scale = np.take(self.centre, index), np.take(self.scale, index)
        value, error = centre + scale * np.sinh(z), scale * np.cosh(z) * sigma
        for j, name in enumerate(names):
            if name in LOG:
                value[:, j] = 10 ** value[:, j]
                error[:, j] *= value[:, j] * np.log(10)
        return value, error

    def _known(self, table):
        """Which of the vocabulary's columns a table has, and their values."""
        here = [i for i, name in enumerate(self.names) if name in table.columns]
        return here, _columns(table, [self.names[i] for i in here])


def _columns(table, names):
    """Columns as (stars, columns) float64; infinities are an error, log10 where `LOG` says so."""
    if absent := [name for name in names if name not in table.columns]:
        raise ValueError(f"the table has no column {', '.join(absent)}")
    values = np.empty((len(table), len(names)))
    for j, name in enumerate(names):
        try:
            values[:, j] = table[name].to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name!r} is not made of numbers: {error}") from error
    if np.isinf(values).any():
        name = names[int(np.isinf(values).any(axis=0).argmax())]
        raise ValueError(f"{name!r} holds an infinite value; a missing one is NaN")
    for j, name in enumerate(names):
        if name in LOG:
            if (values[:, j] <= 0).any():
                raise ValueError(f"{name!r} holds a value that is not positive")
            values[:, j] = np.log10(values[:, j])
    return values


def _abbreviated(names):
    """A vocabulary in one line: "bp0 … bp54, rp0 … rp54, bprp, …"."""
    arms = [[n for n in names if n in xp_basis.NAMES and n[:2] == arm] for arm in ("bp", "rp")]
    rest = [n for n in names if n not in xp_basis.NAMES]
    return ", ".join([f"{arm[0]} … {arm[-1]}" for arm in arms if arm] + rest)
