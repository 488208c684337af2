"""Stars scaled from the Sun: radius from gravity, oscillations from radius. Shown in chapter 01."""

import numpy as np

SUN = {"numax": 3090.0, "dnu": 135.1, "teff": 5777.0, "logg": 4.438}
"""ν_max and Δν (µHz), Teff (K), log g: Huber et al. (2011), ApJ 743, 143, as pbjam has them;
remembered."""


def radius(mass: np.ndarray, logg: np.ndarray) -> np.ndarray:
    """Return the radius in R☉ from mass (M☉) and log g."""
    return np.sqrt(mass * 10 ** (SUN["logg"] - logg))


def large_separation(mass: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return Δν, µHz, from mass and radius (solar): it goes as the root of the mean density."""
    return SUN["dnu"] * np.sqrt(mass / radius**3)
