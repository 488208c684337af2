"""What DESA's spectra encoder sees of a spectrum, simulated or real: pixels at rest, on one scale.

Two ways to prepare: the paper's (`desa`, both arms standardised) and the book's (`normalise`, the
continuum divided out, in the blue arm and around Hα, where real LAMOST spectra agree with
simulated ones). Shown in chapter 02.
"""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from stellarbook.data.continuum import DESA_ARMS, desa, normalise
from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import LAMOST
from stellarbook.data.pixels import resample, unusable
from stellarbook.data.simulated import observe

H_ALPHA = 10 ** (np.log10(6440) + 1e-4 * np.arange(172))  # Å, to 6699
ARMS = {"desa": tuple(DESA_ARMS.values()), "normalise": (DESA_ARMS["blue"], H_ALPHA)}
GRIDS = {kind: np.concatenate(arms) for kind, arms in ARMS.items()}  # (3600,) and (1962,)
"""Rest wavelengths of a prepared spectrum, vacuum Å."""

SPREAD = 0.12  # of normalised fluxes: brings them near a standard deviation of 1
LIMIT = 8.0  # standard deviations: a cosmic ray says no more than this
STEPS = (2e-5, 3e-4)  # in log10 wavelength: pixels of a spectrograph that resembles LAMOST


def prepare(wave, flux, ivar, redshift, kind):
    """Prepare spectra: (n, pixels) on any vacuum grid -> (n, N) float32 on ``GRIDS[kind]``.

    Parameters
    ----------
    wave : (pixels,) float
        Vacuum, Å, increasing.
    flux, ivar : (n, pixels) float
        Pixels whose inverse variance is not positive are interpolated.
    redshift : (n,) float
        λ / (1 + z) is at rest; NaN gives a row of NaN.
    kind : str
        "desa" or "normalise".

    Returns
    -------
    (n, N) tensor
        NaN where `desa` or `normalise` make NaN, and where ``wave`` does not reach. Masked pixels
        are interpolated however many there are: `prepare_spectra` asks first.

    Raises
    ------
    ValueError
        If the shapes do not match or the wavelengths do not increase.

    Notes
    -----
    "desa" is section 4.1 of Kamai, Bronstein & Perets (2025), as `desa` has it. "normalise" is a
    departure: the continuum of `normalise`, less 1, over `SPREAD`, within ± `LIMIT`.
    """
    if kind == "desa":
        return desa(wave, flux, ivar, redshift).float()
    flux = normalise(wave, flux, ivar).flux
    at_rest = resample(wave, flux, GRIDS[kind], redshift)  # the only interpolation
    return ((at_rest - 1) / SPREAD).clamp(-LIMIT, LIMIT).float()


@dataclass
class SpectraSample:
    """Prepared spectra with what is known of their stars; `sample[index]` is a part of it.

    Attributes
    ----------
    x : (n, N) float16 tensor
        From `prepare`.
    labels : (n, 3) float64 tensor
        Teff (K), log g, [Fe/H]; NaN: unknown.
    snr : (n,) float32 tensor
    """

    x: torch.Tensor
    labels: torch.Tensor
    snr: torch.Tensor

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return SpectraSample(self.x[index], self.labels[index], self.snr[index])


def simulated(labels, snr, kind, seed, *, instrument=LAMOST, progress=True, chunk=500, **others):
    """Simulate LAMOST spectra and prepare them.

    Parameters
    ----------
    labels : (n, 4) float
        Teff, log g, [Fe/H], [α/Fe] within the emulator's domain.
    snr : (n,) float
        Positive: median of flux / standard error.
    kind : str
        As in `prepare`.
    seed : int
        Of the conditions and the noise.
    instrument : Instrument
        Another than LAMOST must reach as far.
    progress : bool
        Show a bar.
    chunk : int
        Spectra at a time. Another chunk, other random numbers.
    **others
        Of `stellarbook.data.simulated.observe`.

    Returns
    -------
    SpectraSample

    Raises
    ------
    ValueError
        For labels outside the emulator's domain and an S/N that is not positive.

    Notes
    -----
    Shown in chapter 02.
    """
    emulator = Emulator(instrument)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.as_tensor(np.asarray(labels), dtype=torch.float32)
    snr = torch.as_tensor(np.asarray(snr), dtype=torch.float32)
    pieces = []
    bar = tqdm(total=len(labels), desc="spectra", disable=not progress, unit_scale=True)
    for some, its_snr in zip(labels.split(chunk), snr.split(chunk), strict=True):
        seen, redshift = observe(instrument, emulator.flux(some), its_snr, generator, **others)
        pieces.append(prepare(instrument.wave, seen.flux, seen.ivar, redshift, kind).half())
        bar.update(len(some))
    bar.close()
    return SpectraSample(torch.cat(pieces), labels[:, :3].double(), snr)


def prepare_spectra(spectra, kind):
    """Prepare records of any grid, as `prepare`.

    Parameters
    ----------
    spectra : list of Spectrum
        Where the wavelengths of arms overlap, the first arm is read.
    kind : str

    Returns
    -------
    x : (n, N) float32 tensor
        A row of NaN where a spectrum cannot be judged.
    flags : list of str
        Why not: the redshift is unknown, the pixels do not reach or are too coarse or too fine, or
        an arm has no usable ones in more than half of it. Empty where it can.
    """
    x = torch.full((len(spectra), len(GRIDS[kind])), torch.nan)
    flags, alike = [], {}
    for i, spectrum in enumerate(spectra):
        keep = np.diff(np.maximum.accumulate(spectrum.wave), prepend=0) > 0
        wave, flux = spectrum.wave[keep], spectrum.flux[keep]
        ivar = np.where(spectrum.mask, 0.0, spectrum.ivar)[keep]
        redshift = float(spectrum.meta.get("redshift", np.nan))
        flags.append(_fault(wave, flux, ivar, redshift, kind))
        if not flags[-1]:
            alike.setdefault(wave.tobytes(), []).append((i, flux, ivar, redshift))
    for wave, rows in alike.items():  # all spectra of one grid at once
        index, flux, ivar, redshift = (list(column) for column in zip(*rows, strict=True))
        flux, ivar = np.stack(flux), np.stack(ivar)
        x[index] = prepare(np.frombuffer(wave), flux, ivar, redshift, kind)
    for i in x.isnan().any(dim=1).nonzero()[:, 0].tolist():
        x[i] = torch.nan
        flags[i] = flags[i] or "no continuum"
    return x, flags


def _fault(wave, flux, ivar, redshift, kind):
    """Say why a spectrum cannot be judged; empty if it can."""
    if not -1 < redshift < np.inf:  # −9999 is unknown too
        return "redshift unknown"
    grid, rest = GRIDS[kind], wave / (1 + redshift)
    if rest[0] > grid[0] or rest[-1] < grid[-1]:
        return f"covers {rest[0]:.0f}–{rest[-1]:.0f} Å at rest, not {grid[0]:.0f}–{grid[-1]:.0f} Å"
    inside = (rest >= grid[0]) & (rest <= grid[-1])
    step = np.median(np.diff(np.log10(rest[inside]))) if inside.sum() > 1 else np.inf
    if not STEPS[0] <= step <= STEPS[1]:
        return f"pixels of {step:.1e} in log10 wavelength: expected 1e-4, as LAMOST's"
    # What is interpolated over a gap, or a whole lost arm, is no measurement.
    bad = unusable(flux, ivar).numpy()
    for arm in ARMS[kind]:
        right = np.searchsorted(rest, arm).clip(1, len(rest) - 1)
        left = right - 1
        nearest = np.where(arm - rest[left] < rest[right] - arm, left, right)
        gap = rest[right] / rest[left] > 10 ** (10 * step)
        if (lost := (bad[nearest] | gap).mean()) > 0.5:
            return f"{lost:.0%} of {arm[0]:.0f}–{arm[-1]:.0f} Å is masked or missing"
    return ""
