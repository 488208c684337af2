"""Six surveys' spectrographs: LAMOST, DESI, SDSS (BOSS), GALAH, APOGEE and Gaia XP.

Grids and line spreads are the surveys'. The noise is a model (`Instrument.sigma`): LAMOST's
efficiency is measured on 800 of its real spectra, that of the others is a plain bell in each arm.
What no model has: see `stellarbook.data.observe`. Shown in chapter 01.
"""

from functools import cache

import numpy as np

from stellarbook.data import xp_basis
from stellarbook.data.observe import Instrument
from stellarbook.data.records import air_to_vacuum

# Night-sky lines (air, Å) and by how many times they add to a pixel's variance. Wavelengths:
# Hanuschik 2003 and Osterbrock et al. 1996; strengths to 9010 Å from the noise of real LAMOST
# spectra, beyond by resemblance.
AIRGLOW = (
    *((5577.34, 4.0), (5889.95, 0.5), (5895.92, 0.5), (6300.30, 0.7), (6363.78, 0.4)),
    *((7276.41, 1.3), (7316.29, 0.8), (7340.89, 0.8), (7750.64, 1.4), (7794.11, 0.8)),
    *((7821.50, 1.1), (7913.71, 1.5), (7964.65, 0.9), (7993.33, 1.4), (8344.60, 2.8)),
    *((8399.17, 1.7), (8430.17, 2.3), (8465.21, 1.4), (8778.33, 1.9), (8827.10, 3.8)),
    *((8885.85, 2.2), (8919.53, 3.0), (8957.92, 2.3), (9001.12, 1.6), (9375.96, 2.5)),
    *((9439.65, 2.0), (9476.75, 1.5), (9502.82, 2.0), (9552.53, 2.0), (9620.63, 1.5)),
)
# The H band's, in vacuum (Rousselot et al. 2000); their one strength is a guess.
AIRGLOW_H = tuple(
    (wave, 2.0)
    for wave in (
        *(15187.14, 15240.95, 15287.79, 15332.40, 15395.33, 15597.63, 15631.44, 15702.54),
        *(15972.60, 16030.83, 16079.75, 16128.61, 16194.62, 16235.38, 16317.16, 16388.49),
        *(16442.16, 16475.65, 16502.37, 16553.81, 16692.38, 16840.48, 16903.68),
    )
)


def _sdss_fwhm(wave: np.ndarray) -> np.ndarray:
    """FWHM (Å) of the BOSS spectrographs: bossbrain's polynomials in the pixel of the coadds."""
    pixel = np.clip((np.log10(wave) - 3.5523) / 1e-4, 400, 4624)
    blue = (6.83669706e-14, -1.10388358e-10, -4.21884602e-07, 8.35079141e-04, 2.67629137)
    dichroic = (-1.82241977e-11, 1.81121293e-07, -6.74495096e-04, 1.11666990, -690.795349)
    red = (9.84869119e-14, -1.31647649e-09, 6.58716558e-06, -1.44335837e-02, 15.0830710)
    return np.select(
        [pixel < 2165, pixel < 2519], [np.polyval(c, pixel) for c in (blue, dichroic)], 0
    ) + np.where(pixel >= 2519, np.polyval(red, pixel), 0)


@cache
def _xp_basis() -> np.ndarray:
    """Orthonormal basis (343, 110) of the column space of Gaia's design matrix."""
    return np.linalg.svd(xp_basis.design_matrix(), full_matrices=False)[0]


def _instrument(name, waves: dict[str, np.ndarray], resolution, **others) -> Instrument:
    """Join arms, given by name; ``resolution`` is a function of the wavelength."""
    wave = np.concatenate(list(waves.values()))
    wave.flags.writeable = False  # one copy is shared
    ends = np.cumsum([len(w) for w in waves.values()])
    sizes = zip(waves.items(), ends, strict=True)
    arms = {arm: slice(int(end) - len(pixels), int(end)) for (arm, pixels), end in sizes}
    settings = {
        "arms": arms,
        "efficiency": dict.fromkeys(arms, (0.0, 0.0, -0.7)),  # a fourth at the ends
        "airglow": tuple((float(air_to_vacuum(line)), added) for line, added in AIRGLOW),
        "log": False,
    } | others
    return Instrument(name, wave, wave / resolution(wave), **settings)


_lamost = 10 ** (np.log10(3700) + 1e-4 * np.arange(3909))
LAMOST = _instrument(
    "lamost",
    {"blue": _lamost[_lamost < 5800], "red": _lamost[_lamost >= 5800]},
    lambda wave: 1800.0,
    efficiency={"blue": (-1.03, 1.41, -0.79, 0.15, -0.17), "red": (0.59, 0.26, -0.70, 0.11, -0.06)},
    lost=0.018,
    log=True,
)
# Abareshi et al. 2022: three cameras, R rising from 2000 in the blue to 5500 in the red.
DESI = _instrument(
    "desi",
    {
        "b": 3600 + 0.8 * np.arange(2751),
        "r": 5760 + 0.8 * np.arange(2326),
        "z": 7520 + 0.8 * np.arange(2881),
    },
    lambda wave: 2000 + 3500 * (wave - 3600) / (9824 - 3600),
    lost=0.005,
)
_sdss = 10 ** (3.5530 + 1e-4 * np.arange(4600))
SDSS = _instrument(
    "sdss",
    {"blue": _sdss[_sdss < 6000], "red": _sdss[_sdss >= 6000]},
    lambda wave: wave / _sdss_fwhm(wave),
    lost=0.01,
    log=True,
)
# De Silva et al. 2015: four arms, R 28,000. The grids differ by some Å from star to star; these are
# the medians of 23.
GALAH = _instrument(
    "galah",
    {
        name: air_to_vacuum(start + step * np.arange(4096))
        for name, start, step in (
            ("blue", 4713.6, 0.04600),
            ("green", 5648.8, 0.05470),
            ("red", 6478.0, 0.06313),
            ("infrared", 7585.2, 0.07356),
        )
    },
    lambda wave: 28_000.0,
    lost=0.005,
)
# The apStar grid and the pixels that DR17's detectors fill.
APOGEE = _instrument(
    "apogee",
    {"all": 10 ** (4.179 + 6e-6 * np.arange(8575))},
    lambda wave: 22_500.0,
    arms={"blue": slice(246, 3274), "green": slice(3585, 6080), "red": slice(6344, 8335)},
    efficiency=dict.fromkeys(("blue", "green", "red"), (0.0, 0.0, -0.2)),
    airglow=AIRGLOW_H,
    lost=0.02,
    log=True,
)
# Its pixels are samples of 110 basis functions, and these are the rest of its line spread: of all
# widths tried, 8 to 12 nm before them fit 300 real stars best (median residual 1.8 %).
GAIA_XP = _instrument(
    "gaia_xp",
    {"xp": 10 * xp_basis.WAVE},
    lambda wave: wave / 100.0,
    airglow=(),
    lost=0.0,
    basis=_xp_basis,
)
INSTRUMENTS = (LAMOST, DESI, SDSS, GALAH, APOGEE, GAIA_XP)
