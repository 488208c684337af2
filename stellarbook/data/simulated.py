"""Simulated samples: labels of stars, and what a survey would deliver of them.

Labels are those of real stars (then the spectra are *simulated spectra of real stars*) or drawn
(`draw_labels`: *simulated stars*). Shown in chapter 02.
"""

import numpy as np
import torch

from stellarbook.data.emulator import Emulator
from stellarbook.data.observe import C, Instrument, Observation
from stellarbook.data.pixels import contiguous
from stellarbook.data.reality import alpha_of

TAPS = 4  # pixels on each side that `blurred` uses


def draw_labels(n: int, emulator: Emulator, seed: int) -> np.ndarray:
    """Draw stars of which there is no better sample: A, F, G and K, mostly dwarfs.

    Three quarters lie evenly in 4000–8000 K, the others in 7000–12000 K; four fifths evenly in
    log g 3–5, the others in 0.5–5; [Fe/H] is normal, −0.4 ± 0.6; [α/Fe] rises towards low
    [Fe/H] as in the Galaxy, to 0.35, ± 0.07. A star that the emulator does not take, one in nine,
    is drawn again: most of them have more than 0.5 in [Fe/H], the others are hot giants.

    Parameters
    ----------
    n : int
    emulator : Emulator
    seed : int

    Returns
    -------
    (n, 4) array
        Teff (K), log g, [Fe/H], [α/Fe].

    Notes
    -----
    Shown in chapter 02.
    """
    rng = np.random.default_rng(seed)
    stars = np.empty((0, 4))
    while len(stars) < n:
        m = 2 * n
        teff = np.where(rng.random(m) < 0.75, rng.uniform(4e3, 8e3, m), rng.uniform(7e3, 12e3, m))
        logg = np.where(rng.random(m) < 0.8, rng.uniform(3, 5, m), rng.uniform(0.5, 5, m))
        feh = rng.normal(-0.4, 0.6, m)
        alpha = alpha_of(feh) + rng.normal(0, 0.07, m)
        drawn = np.stack([teff, logg, feh, alpha], axis=1)
        stars = np.concatenate([stars, drawn[emulator.inside(drawn).cpu().numpy()]])
    return stars[:n]


def observe(
    instrument: Instrument,
    flux: torch.Tensor,
    snr: torch.Tensor,
    generator: torch.Generator,
    *,
    velocity: float = 60.0,
    velocity_error: float = 5.0,
    a_v: float = 0.4,
    response: float = 0.08,
    blur: float = 1.2,
) -> tuple[Observation, torch.Tensor]:
    """Observe model spectra under conditions drawn as a survey has them.

    Parameters
    ----------
    instrument : Instrument
    flux : (n, pixels) tensor
        At rest: from `Emulator.flux`.
    snr : (n,) tensor
        Positive: median of flux / standard error over the good pixels.
    generator : torch.Generator
        On the device of ``flux``.
    velocity, velocity_error : float
        Standard deviations of the stars' radial velocities and of the survey's errors of them,
        km/s.
    a_v : float
        Scale of the extinction A_V, half a normal distribution, mag.
    response : float
        See `Instrument.observe`.
    blur : float
        Widest additional Gaussian blur (standard deviation, pixels), drawn evenly from 0: line
        spreads differ from fibre to fibre, and LAMOST's is wider than R = 1800 (chapter 01).

    Returns
    -------
    observation : Observation
    redshift : (n,) tensor
        As the survey would give it: the star's, v/c, with its error.

    Raises
    ------
    ValueError
        As `Instrument.sigma`.

    Notes
    -----
    Shown in chapter 02.
    """

    def draw(kind):
        return kind(len(flux), generator=generator, device=flux.device, dtype=flux.dtype)

    v, error = velocity * draw(torch.randn), velocity_error * draw(torch.randn)
    flux = widened(instrument, flux, generator, blur)
    extinction = a_v * draw(torch.randn).abs()
    seen = instrument.observe(flux, snr, generator, v, extinction, response)
    return seen, (v + error) / C


def widened(
    instrument: Instrument, flux: torch.Tensor, generator: torch.Generator, blur: float
) -> torch.Tensor:
    """Blur spectra (n, pixels), each by its own draw from 0 to ``blur`` pixels, arm by arm.

    0 changes nothing and draws nothing.
    """
    if not blur:
        return flux
    sigma = blur * torch.rand(len(flux), generator=generator, device=flux.device, dtype=flux.dtype)
    parts = [blurred(flux[:, s], sigma) for s in contiguous(instrument.wave)]
    return torch.cat(parts, dim=1)


def blurred(flux: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Blur spectra (n, pixels), each by a Gaussian of its own sigma (n,), pixels.

    The Gaussian is cut off at `TAPS` pixels, so sigma should not exceed 1.3; an end's last pixel
    stands for those beyond it. A sigma of 0 changes nothing.
    """
    offset = torch.arange(-TAPS, TAPS + 1, device=flux.device)
    weight = torch.exp(-0.5 * (offset / sigma.clamp(min=1e-3)[:, None]) ** 2)
    weight = weight / weight.sum(dim=1, keepdim=True)  # (n, taps)
    padded = torch.nn.functional.pad(flux, (TAPS, TAPS), mode="replicate")
    shifted = padded.unfold(1, flux.shape[1], 1)  # (n, taps, pixels), a view
    return torch.einsum("nt,ntp->np", weight, shifted)
