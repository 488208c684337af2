"""Published gyrochronology: the slow sequence of open clusters from 80 Myr to M67, 4 Gyr.

Bouma, Palumbo & Hillenbrand 2023 (ApJL 947, L3), extended to M67 in their code: a polynomial of
degree 7 in Teff for each of seven ages, monotone cubics (PCHIP) in between, and below the sequence
the stars that have not reached it yet. All constants here are those of the package gyrointerp 0.7
(its fitted polynomials, ``models.py``), which was read and not installed. Shown in chapter 01.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

# α Persei; Pleiades, Blanco-1, Psc-Eri; NGC 3532, Group-X; Praesepe; NGC 6811; NGC 6819,
# Ruprecht 147; M67. Gyr.
AGES = np.array([0.08, 0.12, 0.3, 0.67, 1.0, 2.6, 4.0])
TEFF = (3800.0, 6200.0)  # where the polynomials hold, K
# Highest power first, days as a function of kelvin.
POLYNOMIALS = np.array(
    [
        [
            -9.484760866015474753e-22,
            3.229480781052903746e-17,
            -4.683253752057297144e-13,
            3.749261168431301989e-09,
            -1.789490080983981903e-05,
            5.091854741523682559e-02,
            -7.997165032696078413e01,
            5.348497028057689749e04,
        ],
        [
            -6.573016268490315650e-22,
            2.408812937525206709e-17,
            -3.766840368854173506e-13,
            3.257973004982998250e-09,
            -1.683035478911028797e-05,
            5.192329087110898050e-02,
            -8.856856728835862214e01,
            6.444103120774662966e04,
        ],
        [
            1.238471657175405366e-21,
            -4.456935893099458903e-17,
            6.837373622327801360e-13,
            -5.796164384486123931e-09,
            2.932260333172816602e-05,
            -8.852304801268182088e-02,
            1.476513484166954413e02,
            -1.049340334531153785e05,
        ],
        [
            1.524240708977786029e-21,
            -5.256148217200714357e-17,
            7.711819279563588091e-13,
            -6.240493000711461302e-09,
            3.007902193618827962e-05,
            -8.635027932806735307e-02,
            1.366893986336174862e02,
            -9.200152072631662304e04,
        ],
        [
            9.045560602192627160e-22,
            -3.017574067632882561e-17,
            4.279089251329856177e-13,
            -3.344616419169157203e-09,
            1.556629783831268765e-05,
            -4.314809949099746716e-02,
            6.596019512257115025e01,
            -4.287741681303406949e04,
        ],
        [
            2.879112603095599350e-21,
            -9.819588226926770086e-17,
            1.424828987273058394e-12,
            -1.139741018526440718e-08,
            5.425534103463603873e-05,
            -1.536162348626069762e-01,
            2.393940407494881697e02,
            -1.582880084165617591e05,
        ],
        [
            4.299719815717238688e-21,
            -1.482076438045792414e-16,
            2.172293628880474999e-12,
            -1.754210272260689957e-08,
            8.424545375742273964e-05,
            -2.404640714660609413e-01,
            3.774734858921998466e02,
            -2.511906250172891014e05,
        ],
    ]
)
# Effective temperature (K) of the star that arrives on the main sequence at an age (Gyr): MIST 1.2,
# as gyrointerp carries it; constant outside.
ARRIVAL = (
    np.log10([0.08, 0.1, 0.126, 0.158, 0.2, 0.251, 0.398, 1.0]),
    np.array([4630.0, 4331.0, 4103.0, 3786.0, 3475.0, 3451.0, 3416.0, 3083.0]),
)


def slow_sequence(teff: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Return the period that a single star of the slow sequence has at its age.

    Parameters
    ----------
    teff : (n,) float
        K; clipped to 3800–6200.
    age : (n,) float
        Gyr. Below 0.08 the youngest cluster's period, beyond 4 the last slope goes on: an
        extrapolation, as in gyrointerp's ``4gyrextrap``.

    Returns
    -------
    (n,) float
        Days.
    """
    teff = np.clip(np.asarray(teff, float), *TEFF)
    age = np.asarray(age, float)
    periods = np.stack([np.polyval(p, teff) for p in POLYNOMIALS])  # (ages, n)
    # Stars never spin up: NGC 6811 is kept above Praesepe, 330 Myr younger.
    periods[4] = np.where(periods[4] < periods[3], periods[3] + 0.01, periods[4])
    cubic = PchipInterpolator(AGES, periods, axis=0)
    inside = np.clip(age, AGES[0], AGES[-1])
    piece = np.clip(np.searchsorted(AGES, inside, side="right") - 1, 0, len(AGES) - 2)
    c3, c2, c1, c0 = cubic.c[:, piece, np.arange(len(teff))]
    x = inside - AGES[piece]
    period = ((c3 * x + c2) * x + c1) * x + c0
    slope = (3 * c3 * x + 2 * c2) * x + c1  # at 4 Gyr for every older star
    return period + np.maximum(slope, 0) * np.maximum(age - AGES[-1], 0)


def width(age: np.ndarray) -> np.ndarray:
    """Return the scatter about the slow sequence at an age (Gyr), days (as gyrointerp)."""
    nodes, sigma = [0, 1, 2.6, 4, 5, 10], [0.51, 0.51, 1.4, 1.7, 2.0, 5.0]
    return PchipInterpolator(nodes, sigma)(np.clip(age, 0, 10))


def fast_share(teff: np.ndarray, age: np.ndarray, period: np.ndarray) -> np.ndarray:
    """Return the probability that a star has not reached the slow sequence yet.

    Equation 7 of Bouma et al. 2023 integrated over the period: a Gaussian about the slow sequence
    that sets in at the temperature of arrival, and a uniform distribution of density 1/20 d below
    it, that fades linearly with age.

    Parameters
    ----------
    teff, age, period : (n,) float
        K; Gyr; the slow sequence's period, d.
    """
    myr = 1000 * np.asarray(age, float)
    arrival = np.interp(np.log10(np.maximum(age, 1e-3)), *ARRIVAL)
    reached = 1 / (1 + np.exp(-np.exp(-4.885) * (teff - arrival)))
    softer = 1 / (1 + np.exp(-np.exp(-6.240) * (teff - arrival)))
    fading = np.clip(1 - (1 - 0.673) / 180 * (np.clip(myr, 120, 1000) - 120), 0, 1)
    fast = 8.256 * fading * (1 - softer) * np.maximum(period - 1.02, 0) / 20
    return fast / (fast + reached)
