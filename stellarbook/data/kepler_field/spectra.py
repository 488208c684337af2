"""Spectra of the simulated field, one a visit, with the light of both stars: ``observe``.

A pair is two model spectra added at their luminosities, each at its own velocity. A spectrograph
then sees the sum, under the conditions of `stellarbook.data.simulated`. Dust is the star's own, of
the curve of Gordon et al. (2023). *Simulated stars.*

Stars outside the emulator's domain, most of them M dwarfs below 3500 K, take the nearest labels
inside and are flagged. The lines are then those of another star, but the continuum's brightness and
slope follow the star's own temperature, by the ratio of two black bodies: without it a companion of
2700 K would be five times too bright. Of dwarfs, the ratio of the two stars' light agrees with that
of the isochrones in G to 0.06 mag where the companion has more than 4000 K and 0.16 below (root
mean square).

Not modelled: broadening by rotation, eclipses during an exposure, spots and emission lines, light
of neighbours; below 4000 K the emulator has no proper molecules. Within |rv2 − rv| of an arm's end
the companion's last pixel stands for those beyond. Shown in chapter 01.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stellarbook.data.emulator import TEFF_RANGE, Emulator
from stellarbook.data.instruments import LAMOST
from stellarbook.data.observe import C, Instrument
from stellarbook.data.simulated import widened

PRIMARY = ("teff", "logg", "feh", "alpha", "radius", "a_v")
COMPANION = ("teff2", "logg2", "radius2")
SECOND_RADIATION = 1.438777e8  # hc/k, Å K


class FieldSpectra(NamedTuple):
    """What `observe` returns: a row for every visit.

    ``flux``, ``ivar``, ``mask``, (n, pixels): as of `Observation`, in units of the primary's
    surface flux as the emulator gives it. ``redshift``, (n,) float64: what the survey would report,
    v/c. ``light2``, (n,): the companion's share of the photons before dust and detector, 0 of
    single stars. ``clipped``, ``clipped2``, (n,) bool: whether the emulator does not know the
    primary, the companion, and the nearest labels stand for its own.
    """

    flux: torch.Tensor
    ivar: torch.Tensor
    mask: torch.Tensor
    redshift: torch.Tensor
    light2: torch.Tensor
    clipped: torch.Tensor
    clipped2: torch.Tensor


def observe(table: pd.DataFrame, visits: pd.DataFrame, **options) -> FieldSpectra:
    """Return the spectra of all visits at once, about 40 kB each of LAMOST (`batches` otherwise).

    Parameters
    ----------
    table, visits : DataFrame
        Of a `KeplerField`, or parts of them.
    **options
        Of `batches`.

    Returns
    -------
    FieldSpectra

    Raises
    ------
    ValueError
        As `batches`; and if there are no visits.

    Notes
    -----
    Shown in chapter 01.
    """
    parts = list(batches(table, visits, **options))
    if not parts:
        raise ValueError("there are no visits: nothing to observe")
    return FieldSpectra(*(torch.cat(column) for column in zip(*parts, strict=True)))


def batches(
    table: pd.DataFrame,
    visits: pd.DataFrame,
    *,
    instrument: Instrument = LAMOST,
    seed: int = 0,
    chunk: int = 250,
    progress: bool = True,
    velocity_error: float = 5.0,
    response: float = 0.08,
    blur: float = 1.2,
) -> Iterator[FieldSpectra]:
    """Yield spectra in the order of the visits, ``chunk`` at a time.

    The random numbers of a visit depend on the seed, the chunk and its row: the first rows of a
    longer table of visits have the same spectra, to float32's rounding. A part that is cut out
    of the middle has other noise.

    Parameters
    ----------
    table : DataFrame
        ``source_id``, `PRIMARY` and `COMPANION`, as `KeplerField` describes them: K, dex, R☉, mag.
        The companion's are NaN of single stars; its [Fe/H] and [α/Fe] are the primary's.
    visits : DataFrame
        ``source_id``, ``rv``, ``rv2`` (km/s; rv2 is NaN of single stars), ``snr``.
    instrument : Instrument
    seed : int
        Not negative.
    chunk : int
        Spectra at a time.
    progress : bool
        Show a bar.
    velocity_error : float
        Standard deviation of the survey's errors of radial velocities, km/s.
    response, blur : float
        As in `stellarbook.data.simulated.observe`.

    Yields
    ------
    FieldSpectra

    Raises
    ------
    ValueError
        A column is missing, a value is (then its column and star are named), a star is not in the
        table or twice; the S/N is not positive; the seed is negative.

    Notes
    -----
    One core observes about 1,400 LAMOST spectra a second. Shown in chapter 01.
    """
    rows = _rows(table, visits)
    emulator = Emulator(instrument)
    width = np.sqrt(2) * C / np.median(instrument.resolution) / 2.3548
    with tqdm(total=len(visits), desc="spectra", disable=not progress, unit_scale=True) as bar:
        for k, first in enumerate(range(0, len(visits), chunk)):
            generator = _generator(seed, k)
            number = min(chunk, len(visits) - first)
            # The last chunk is filled up with its last row: as many random numbers as in a full
            # one, so that the rows it has keep theirs when more follow.
            index = first + np.arange(chunk).clip(max=number - 1)
            star = {name: torch.from_numpy(column[index]) for name, column in rows.items()}
            flux, *about = shine(emulator, star)
            flux = widened(instrument, flux, generator, blur)
            error = torch.randn(chunk, generator=generator, dtype=torch.float64)
            rv, snr = star["rv"].float(), star["snr"].float()
            seen = instrument.observe(flux, snr, generator, rv, star["a_v"].float(), response)
            reported = blend(star["rv"], star["rv2"], about[0], width) + velocity_error * error
            yield FieldSpectra(*(x[:number] for x in (*seen, reported / C, *about)))
            bar.update(number)


def shine(emulator: Emulator, star: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the light of stars and pairs, the primary at rest, before dust and detector.

    Parameters
    ----------
    emulator : Emulator
    star : dict of str to (n,) float64 tensor
        `PRIMARY`, `COMPANION`, ``rv``, ``rv2``.

    Returns
    -------
    flux : (n, pixels) float32 tensor
        F₁ + (R₂/R₁)² F₂, the companion shifted by its velocity relative to the primary.
    light2, clipped, clipped2 : (n,) tensors
        As of `FieldSpectra`.
    """
    flux, clipped = _surface(emulator, [star[x] for x in ("teff", "logg", "feh", "alpha")])
    light2 = torch.zeros(len(flux), dtype=torch.float64)
    clipped2 = torch.zeros_like(clipped)
    pair = star["radius2"].isfinite().nonzero()[:, 0]
    if len(pair):
        two = {name: column[pair] for name, column in star.items()}
        labels = [two[x] for x in ("teff2", "logg2", "feh", "alpha")]
        companion, clipped2[pair] = _surface(emulator, labels)
        companion *= (two["radius2"] / two["radius"])[:, None].square().float()
        photons = _photons(emulator.instrument).to(flux)
        share = [x @ photons for x in (companion, flux[pair])]
        light2[pair] = (share[0] / (share[0] + share[1])).double()
        # Relative to the primary: λ (1 + v₂/c) = λ (1 + v/c) (1 + v₁/c).
        relative = (two["rv2"] - two["rv"]) / (1 + two["rv"] / C)
        moved, _ = emulator.instrument.shift(companion, relative.float())
        flux = flux.index_add_(0, pair, moved)
    return flux, light2, clipped, clipped2


def blend(rv: torch.Tensor, rv2: torch.Tensor, light2: torch.Tensor, width: float) -> torch.Tensor:
    """Return the velocity (n,) that a cross-correlation with one template finds of two stars.

    Its peak is the sum of two Gaussians, as high as the stars are bright, ``width`` km/s wide (the
    line spread's standard deviation times √2: spectrum and template). The maximum is found from the
    brighter star's velocity by the mean shift. Stars closer than the width make one peak at the
    mean weighted by light; of two peaks the brighter star's is reported.

    Parameters
    ----------
    rv, rv2 : (n,) tensor
        km/s; rv2 is NaN of single stars, which keep their rv.
    light2 : (n,) tensor
        The companion's share of the light.
    width : float
        km/s.
    """
    rv2 = torch.where(rv2.isnan(), rv, rv2)
    velocity = torch.where(light2 > 0.5, rv2, rv)
    for _ in range(50):
        one, two = ((-0.5 * ((velocity - v) / width) ** 2).exp() for v in (rv, rv2))
        one, two = (1 - light2) * one, light2 * two
        velocity = (one * rv + two * rv2) / (one + two)
    return velocity


def clip(emulator: Emulator, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring labels (n, 4) into the emulator's domain, temperature first.

    Returns
    -------
    labels : (n, 4) float32 tensor
    clipped : (n,) bool tensor
        Where that changed something; [α/Fe] does not count where the emulator has none.
    """
    labels = labels.float()
    ranges = emulator._ranges(labels[:, 0].clamp(*TEFF_RANGE))
    inside = torch.empty_like(labels)
    for i, (low, high) in enumerate(ranges):
        low, high = (torch.as_tensor(x, dtype=labels.dtype) for x in (low, high))
        inside[:, i] = labels[:, i].clamp(low, high)
    changed = inside != labels
    changed[:, 3] &= emulator.has_nets
    return inside, changed.any(dim=1)


def _surface(emulator: Emulator, labels: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Surface flux (n, pixels) and where labels were clipped (n,)."""
    labels = torch.stack(labels, dim=1)
    inside, clipped = clip(emulator, labels)
    flux = emulator.flux(inside)
    teff = labels[:, 0].float()
    beyond = (inside[:, 0] != teff).nonzero()[:, 0]
    if len(beyond):
        wave = torch.tensor(emulator.instrument.wave, dtype=torch.float32)
        own, taken = (
            torch.expm1(SECOND_RADIATION / wave / t[beyond, None]) for t in (teff, inside[:, 0])
        )
        flux[beyond] *= taken / own
    return flux, clipped


def _photons(instrument: Instrument) -> torch.Tensor:
    """Weights (pixels,) that sum flux to photons in the pixels of the arms."""
    weight = np.zeros(len(instrument))
    for arm in instrument.arms.values():
        weight[arm] = instrument.wave[arm] / instrument.wave.mean()
    return torch.from_numpy(weight)


def _generator(seed: int, k: int) -> torch.Generator:
    """Return the random numbers of chunk k."""
    state = np.random.SeedSequence([seed, k]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _rows(table: pd.DataFrame, visits: pd.DataFrame) -> dict[str, np.ndarray]:
    """Join what is needed of each visit's star, (n,) float64 by name, and refuse what is amiss."""
    needs = {"table": (*PRIMARY, *COMPANION), "visits": ("rv", "rv2", "snr")}
    for (what, names), frame in zip(needs.items(), (table, visits), strict=True):
        if missing := [x for x in ("source_id", *names) if x not in frame]:
            raise ValueError(f"{what}: expected columns {', '.join(missing)}")
    if not (stars := pd.Index(table["source_id"])).is_unique:
        twice = stars[stars.duplicated()][0]
        raise ValueError(f"table: source_id {twice} is there more than once")
    source = visits["source_id"].to_numpy()
    place = stars.get_indexer(source)
    if (place < 0).any():
        raise ValueError(f"visits: source_id {source[place < 0][0]} is not in the table")
    rows = {x: table[x].to_numpy(float)[place] for x in needs["table"]}
    rows |= {x: visits[x].to_numpy(float) for x in needs["visits"]}
    second = (*COMPANION, "rv2")
    pair = np.any([np.isfinite(rows[x]) for x in second], axis=0)
    for name, column in rows.items():
        wrong = ~np.isfinite(column) & (pair if name in second else True)
        if wrong.any():
            which = "a pair" if name in second else "a star"
            raise ValueError(f"{name} is missing of {which}: source_id {source[wrong][0]}")
    return rows
