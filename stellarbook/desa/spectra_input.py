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
from stellarbook.data.pixels import resample
from stellarbook.data.simulated import observe

H_ALPHA = 10 ** (np.log10(6440) + 1e-4 * np.arange(172))  # Å, to 6700
GRIDS = {
    "desa": np.concatenate(list(DESA_ARMS.values())),  # (3600,)
    "normalise": np.concatenate([DESA_ARMS["blue"], H_ALPHA]),  # (1962,)
}
"""Rest wavelengths of a prepared spectrum, vacuum Å."""

SPREAD = 0.12  # of normalised fluxes: brings them near a standard deviation of 1
LIMIT = 8.0  # standard deviations: a cosmic ray says no more than this


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
        NaN where `desa` or `normalise` make NaN, and where ``wave`` does not reach.
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
    kind : str
        As in `prepare`.
    seed : int
    **others
        Of `stellarbook.data.simulated.observe`.

    Returns
    -------
    SpectraSample
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
    kind : str

    Returns
    -------
    x : (n, N) float32 tensor
        A row of NaN where a spectrum cannot be judged.
    flags : list of str
        Why not; empty where it can.
    """
    x = torch.full((len(spectra), len(GRIDS[kind])), torch.nan)
    flags = []
    for i, spectrum in enumerate(spectra):
        # Where arms overlap, the first one is read.
        keep = np.diff(np.maximum.accumulate(spectrum.wave), prepend=0) > 0
        wave, flux, ivar, mask = (
            getattr(spectrum, name)[keep] for name in ("wave", "flux", "ivar", "mask")
        )
        redshift = spectrum.meta.get("redshift", np.nan)
        flags.append(_fault(wave, mask, redshift, kind))
        if not flags[-1]:
            ivar = np.where(mask, 0.0, ivar)
            x[i] = prepare(wave, flux[None], ivar[None], torch.tensor([redshift]), kind)[0]
            if x[i].isnan().any():
                flags[-1] = "the flux is not positive, or an arm is lost"
    return x, flags


def _fault(wave, mask, redshift, kind):
    """Say why a spectrum cannot be judged; empty if it can."""
    if not np.isfinite(redshift):
        return "redshift unknown"
    grid = GRIDS[kind]
    rest = wave / (1 + redshift)
    if rest[0] > grid[0] or rest[-1] < grid[-1]:
        return f"covers {rest[0]:.0f}–{rest[-1]:.0f} Å at rest, not {grid[0]:.0f}–{grid[-1]:.0f} Å"
    inside = (rest >= grid[0]) & (rest <= grid[-1])
    step = np.median(np.diff(np.log10(rest[inside])))
    if step > 3e-4:
        return f"pixels of {step:.1e} in log10 wavelength: expected 1e-4, as LAMOST's"
    bad = mask[inside].mean()
    return f"{bad:.0%} of the pixels are masked" if bad > 0.5 else ""
