"""How much of a companion a spectrum shows at best: ``standing_out``.

*Simulated stars.* Shown in chapter 05.
"""

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import LAMOST
from stellarbook.data.kepler_field import spectra
from stellarbook.data.observe import Instrument

STEPS = {"teff": 25.0, "logg": 0.05, "feh": 0.05, "alpha": 0.05}  # of the derivatives; K, dex
VELOCITY_STEP = 10.0  # km/s
SMOOTH = 10  # degree of the polynomial that a flux calibration may bend an arm by


def standing_out(
    table: pd.DataFrame,
    visits: pd.DataFrame,
    *,
    instrument: Instrument = LAMOST,
    chunk: int = 250,
    progress: bool = True,
) -> np.ndarray:
    r"""Return by how many standard deviations each visit's spectrum is no single star's.

    Of the logarithm of the noiseless flux, what a companion changes, less all that another
    temperature, gravity, metallicity, [α/Fe] or velocity of the primary and a smooth bend of each
    arm can explain, to first order. The norm of the rest, times the S/N of a pixel, is the
    square root of the :math:`\chi^2` that the best single star is expected to leave.

    Parameters
    ----------
    table, visits : DataFrame
        As of `spectra.batches`.
    instrument : Instrument
    chunk : int
        Spectra at a time.
    progress : bool
        Show a bar.

    Returns
    -------
    (n,) float64 array
        A row a visit: 0 of single stars.

    Raises
    ------
    ValueError
        As `spectra.batches`.

    Notes
    -----
    A reader that knows all single stars perfectly reaches this; one that learns, less. Two like
    stars at one velocity stand out by nothing. Shown in chapter 05.
    """
    rows = spectra._rows(table, visits)
    pair = np.flatnonzero(np.isfinite(rows["radius2"]))
    emulator = Emulator(instrument)
    inside, bends = _bends(instrument)
    found = np.zeros(len(visits))
    with tqdm(total=len(pair), desc="traces", disable=not progress, unit_scale=True) as bar:
        for some in np.split(pair, range(chunk, len(pair), chunk)):
            star = {name: torch.from_numpy(column[some]) for name, column in rows.items()}
            one = star | {name: torch.full_like(star[name], np.nan) for name in spectra.COMPANION}

            def light(star):
                return spectra.shine(emulator, star)[0].double().clamp(min=1e-30).log()

            alone = light(one)
            changes = [light(one | {x: one[x] + step}) - alone for x, step in STEPS.items()]
            shift = torch.full((len(some),), VELOCITY_STEP)
            away, towards = (instrument.shift(alone.exp().float(), v)[0] for v in (shift, -shift))
            changes.append(away.double().log() - towards.double().log())
            explained = torch.stack(changes, dim=2)[:, inside]  # (n, pixels, 5)
            explained = torch.cat([explained, bends.expand(len(some), -1, -1)], dim=2)
            left = _beside(explained, (light(star) - alone)[:, inside])
            found[some] = left.norm(dim=1).numpy() * rows["snr"][some]
            bar.update(len(some))
    return found


def _bends(instrument):
    """Pixels of the arms (m,), and Legendre polynomials of each, (m, arms · (SMOOTH + 1))."""
    pixels, polynomials = [], []
    for arm in instrument.arms.values():
        pixels.append(torch.arange(len(instrument))[arm])
        at = np.linspace(-1, 1, len(pixels[-1]))
        polynomials.append(torch.from_numpy(np.polynomial.legendre.legvander(at, SMOOTH)))
    return torch.cat(pixels), torch.block_diag(*polynomials)


def _beside(columns, y):
    """What no combination of columns (n, m, k) makes of y (n, m)."""
    scaled = columns / columns.norm(dim=1, keepdim=True).clamp(min=1e-12)
    basis, _ = torch.linalg.qr(scaled)
    return y - (basis @ (basis.mT @ y[..., None]))[..., 0]
