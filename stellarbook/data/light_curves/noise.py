"""The photometer's white noise. Shown in chapter 01."""

import numpy as np


def long_cadence_noise(kp) -> np.ndarray:
    """Return the noise of one long cadence of Kepler, relative flux, by Kepler magnitude.

    Notes
    -----
    The lower envelope of what the mission measured: σ = √(c + 7 × 10⁶ max(1, Kp / 14)⁴) / c, with
    c = 3.46 × 10⁸ × 10^(0.4 (12 − Kp)) electrons a *long* cadence (Jenkins et al. 2010, ApJ 713,
    L120; agrees with several public codes). The 1.28 × 10⁷ found beside it belongs to the *short*
    cadence (Gilliland et al. 2010).
    """
    kp = np.asarray(kp, dtype=float)
    electrons = 3.46e8 * 10 ** (0.4 * (12 - kp))
    return np.sqrt(electrons + 7e6 * np.maximum(1, kp / 14) ** 4) / electrons
