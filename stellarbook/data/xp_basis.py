r"""Gaia XP: from spectra to coefficients and back.

Gaia publishes a BP/RP spectrum as 55 + 55 coefficients :math:`c` (De Angeli et al. 2023). A linear
map, the design matrix :math:`A` (343 × 110), gives the flux on 336–1020 nm: :math:`f = A c`. Where
only the flux is at hand, the coefficients must be inferred, and :math:`A` forgets much: its
condition number is 3 × 10⁷. What this module infers is therefore called *pseudo-coefficients*.

Everything is normalised by the G flux as in the star transformer (Leung & Bovy 2024, Eq. 8).
Shown in chapter 01.
"""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from stellarbook.data import archives

WAVE = np.arange(336.0, 1021.0, 2.0)  # (343,) nm, the sampling of Gaia's XP_SAMPLED
NAMES = tuple(f"{arm}{i}" for arm in ("bp", "rp") for i in range(55))
G_ZERO_POINT = 25.6873668671  # mag, Vega system (Riello et al. 2021)
NOISE = 2e-6  # of the median flux: how exactly the library's spectra follow the design matrix
PRIOR_WIDTH = 3.0  # in published MAD standard deviations: wide enough for rare stars
CHUNK = 8192  # stars at a time, so that memory does not grow with the sample


def g_flux(g: np.ndarray) -> np.ndarray:
    """Return the G-band flux F_G (e⁻ s⁻¹) of magnitudes (star transformer, Eq. 8)."""
    return 10 ** (0.4 * (G_ZERO_POINT - np.asarray(g, dtype=float)))


@cache
def token_scales() -> pd.DataFrame:
    """Return the published median and MAD standard deviation of the star transformer's tokens.

    Returns
    -------
    DataFrame
        Index: the 118 tokens (``bp0`` … ``rp54``, colours, labels); columns ``median, mad_std``,
        over 397,000 training stars (Leung & Bovy 2024, released model configuration).
    """
    return pd.read_csv(
        Path(__file__).with_name("star_transformer_token_scales.csv"), index_col="token"
    )


@cache
def design_matrix() -> np.ndarray:
    """Return the map from coefficients to flux, (343, 110), W m⁻² nm⁻¹ per e⁻ s⁻¹.

    The columns are `NAMES`; the rows are `WAVE`. It is the one that GaiaXPy ships (Montegriffo et
    al. 2023), each arm's basis functions times the weight by which the arms are merged. GaiaXPy is
    needed once: the matrix is kept in the cache.
    """

    def build(folder: Path) -> None:
        # Imported here: a machine that has the cached matrix may lack GaiaXPy.
        with matplotlib.rc_context():  # it turns on LaTeX for every figure of whoever imports it
            from gaiaxpy.core.config import load_xpmerge_from_xml, load_xpsampling_from_xml

        wave, weight = load_xpmerge_from_xml()
        basis = load_xpsampling_from_xml()  # per arm (55, 343)
        if not np.array_equal(wave, WAVE):
            raise ValueError("GaiaXPy's default sampling is no longer 336–1020 nm in steps of 2")
        np.save(folder / "matrix.npy", np.vstack([basis[a] * weight[a] for a in ("bp", "rp")]).T)

    folder = archives.distil("xp_design_matrix", (), build, version=1, size=302_000)
    matrix = np.load(folder / "matrix.npy")
    matrix.flags.writeable = False  # one copy is shared
    return matrix


def pseudo_coefficients(flux: np.ndarray, g: np.ndarray) -> np.ndarray:
    r"""Infer G-normalised XP coefficients from sampled spectra: the most probable ones.

    With the prior :math:`x \sim N(\mu, C)` and noise :math:`s`,

    .. math:: x = \mu + C A^T (A C A^T + s^2 I)^{-1} (f - A \mu),

    where :math:`f` is the flux over :math:`F_G`, :math:`\mu` and :math:`C` come from the published
    medians and (3 × MAD standard deviation)², and :math:`s` is 2 × 10⁻⁶ of the star's median flux.
    Directions that the flux determines are data; in the others, mostly high orders, the prior's
    mean remains (`prior_share`).

    Parameters
    ----------
    flux : (n, 343) float
        W m⁻² nm⁻¹ on 336–1020 nm in steps of 2 nm.
    g : (n,) float
        Gaia G, mag.

    Returns
    -------
    (n, 110) float64
        ``bp0`` … ``bp54, rp0`` … ``rp54``, each over F_G. NaN, with one warning, for stars with a
        missing pixel, no finite G or a median flux that is not positive: nothing is filled in.

    Raises
    ------
    ValueError
        If the shapes are not (n, 343) and (n,).

    Notes
    -----
    One singular value decomposition of :math:`A C^{1/2}` serves every star: a star's own noise
    only changes the 110 factors by which its projections are damped.
    """
    mean, width = _prior()
    left, singular, right = _whitened()
    back = right * width[:, None]  # (110 coefficients, 110 directions)
    expected = design_matrix() @ mean

    def infer(normalised: np.ndarray, noise: np.ndarray) -> np.ndarray:
        along = (normalised - expected) @ left  # (n, 110 directions)
        along *= singular / (singular**2 + noise[:, None] ** 2)
        return mean + along @ back.T

    return _each(flux, g, infer)


def truncated(flux: np.ndarray, g: np.ndarray, k: int, scaled: bool = False) -> np.ndarray:
    """Invert the design matrix along its ``k`` strongest directions only, as a comparison.

    Parameters
    ----------
    flux, g : (n, 343) and (n,) float
        As in `pseudo_coefficients`, which tells the returned array and its NaN too.
    k : int
        1 to 110 directions.
    scaled : bool
        False: directions of A itself; the strongest are not those in which stars differ. True:
        of A C^½, about the published medians: the prior of `pseudo_coefficients` with a sharp
        cut in place of its noise.

    Raises
    ------
    ValueError
        As `pseudo_coefficients`, and for an impossible ``k``.
    """
    if not 1 <= k <= len(NAMES):
        raise ValueError(f"k = {k}: there are 1 to {len(NAMES)} directions")
    if scaled:
        mean, width = _prior()
        left, singular, right = _whitened()
        right = right * width[:, None]
    else:
        mean = np.zeros(len(NAMES))
        left, singular, right_t = np.linalg.svd(design_matrix(), full_matrices=False)
        right = right_t.T
    inverse = (left[:, :k] / singular[:k]) @ right[:, :k].T  # (343, 110)
    expected = design_matrix() @ mean
    return _each(flux, g, lambda normalised, noise: mean + (normalised - expected) @ inverse)


def least_squares(flux: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Invert the design matrix along all its directions: exact, and swamped by noise.

    Parameters, returned array and errors are those of `pseudo_coefficients`.
    """
    return truncated(flux, g, len(NAMES))


def synthesise(coefficients: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the flux (n, 343), W m⁻² nm⁻¹, of G-normalised coefficients (n, 110) at G (n,)."""
    coefficients = np.asarray(coefficients, dtype=float)
    if coefficients.ndim != 2 or coefficients.shape[1] != len(NAMES):
        raise ValueError(f"coefficients have shape {coefficients.shape}, not (n, {len(NAMES)})")
    return coefficients @ design_matrix().T * g_flux(g)[:, None]


def prior_share(noise: float) -> np.ndarray:
    """Return the share of each coefficient's prior variance that the flux leaves, (110,), 0 to 1.

    Parameters
    ----------
    noise : float
        A star's s, i.e. `NOISE` × median flux / F_G. 0: the coefficient is measured; 1: it is
        the prior.
    """
    _, singular, right = _whitened()
    return 1 - (right**2) @ (singular**2 / (singular**2 + noise**2))


def _prior() -> tuple[np.ndarray, np.ndarray]:
    scales = token_scales().loc[list(NAMES)]
    return scales["median"].to_numpy(), PRIOR_WIDTH * scales["mad_std"].to_numpy()


@cache
def _whitened() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return U (343, 110), S (110,), V (110, 110) of A C^½ = U S Vᵀ."""
    left, singular, right_t = np.linalg.svd(design_matrix() * _prior()[1], full_matrices=False)
    return left, singular, right_t.T


def _each(flux: np.ndarray, g: np.ndarray, infer: Callable) -> np.ndarray:
    """Apply ``infer(flux / F_G, s)`` to the usable stars, in chunks; the others get NaN."""
    flux, g = np.asarray(flux), np.asarray(g, dtype=float)
    if flux.ndim != 2 or flux.shape[1] != len(WAVE) or g.shape != flux.shape[:1]:
        raise ValueError(
            f"flux has shape {flux.shape} and g {g.shape}: expected (n, {len(WAVE)}) and (n,)"
        )
    result = np.full((len(flux), len(NAMES)), np.nan)
    for start in range(0, len(flux), CHUNK):
        rows = slice(start, start + CHUNK)
        with np.errstate(all="ignore"):  # what is unusable is found below
            normalised = flux[rows] / g_flux(g[rows])[:, None]  # (m, 343) float64
            median = np.median(normalised, axis=1)
        usable = np.isfinite(normalised).all(axis=1) & (median > 0) & np.isfinite(median)
        block = result[rows]
        block[usable] = infer(normalised[usable], NOISE * median[usable])
    if lost := int(np.isnan(result[:, 0]).sum()):
        warnings.warn(
            f"{lost} of {len(flux)} spectra get NaN coefficients: a missing pixel, no finite G or "
            "a median flux that is not positive",
            stacklevel=3,
        )
    return result
