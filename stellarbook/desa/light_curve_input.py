"""What DESA's light-curve encoder sees of a star, simulated or real: views of one length.

A view is a window cut from a curve (`stellarbook.desa.light_curve_views`). Shown in chapter 03.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch
from tqdm import tqdm

from stellarbook.data import light_curves
from stellarbook.data.cadences import LONG_CADENCE, high_pass, on_cadences, stitch
from stellarbook.data.light_curve_channels import draw_starts
from stellarbook.desa.light_curve_views import LENGTH, views, width

MEASURED = 0.5  # of a window at least, or it is not judged
REST = 0.1  # of a window: as much at the end of a curve is not worth one more
LONGEST_SPAN = 5000  # days: longer than any mission watched a field


@dataclass
class LightCurveSample:
    """Views of stars with what is known of them; `sample[index]` is a part of it.

    V views of a star, L cadences, T values of a transform.

    Attributes
    ----------
    scores : (n, V, L) float16 tensor
        Smoothed flux of mean 0 and standard deviation 1.
    level : (n, V, 2) float32 tensor
        Mean and standard deviation of that relative flux, both times 2^k (section 4.2), k the
        absolute magnitude; NaN where it is unknown.
    transforms : (n, V, 2, T) float32 tensor
        Of `transforms`.
    labels : (n, 1) float64 tensor
        log10 of the rotation period in days; NaN: unknown.
    ids : (n,) int64 tensor
    """

    scores: torch.Tensor
    level: torch.Tensor
    transforms: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor

    def __len__(self):
        return len(self.scores)

    def __getitem__(self, index):
        return LightCurveSample(*(getattr(self, field.name)[index] for field in fields(self)))


def simulated(
    stars,
    *,
    length=LENGTH,
    cadences=None,
    crops=2,
    kind="log",
    filters=None,
    seed=0,
    progress=True,
    chunk=500,
    **others,
):
    """Simulate light curves and cut views from them.

    Parameters
    ----------
    stars : DataFrame
        As `stellarbook.data.light_curves.simulate` asks, and ``prot_known`` (bool; optional):
        whether the label is told, and ``kp_abs``, the absolute Kepler magnitude (optional).
    length : int
        Cadences of a view.
    cadences : int
        Of the curve that they are cut from; twice the length by default.
    crops : int
        Views of a star, each at a random place.
    kind : str
        Of `KINDS`.
    filters : sequence of float or None
        The views' high pass (`stellarbook.data.cadences.high_pass`) in days, one each in turn;
        None and 0: none.
    seed : int
        Of the simulation and the places.
    progress : bool
        Show a bar.
    chunk : int
        Stars at a time. Another chunk, other places.
    **others
        Of `simulate`.

    Returns
    -------
    LightCurveSample
        With the table's index for ``ids``.

    Raises
    ------
    ValueError
        As `simulate` and `views`.

    Notes
    -----
    Section 3.1.2 and 4.2: quarters are joined, the curve is filtered where asked, and cropped.
    Shown in chapter 03.
    """
    cadences = 2 * length if cadences is None else cadences
    generator = torch.Generator().manual_seed(seed)
    pieces = []
    bar = tqdm(total=len(stars), desc="light curves", disable=not progress, unit_scale=True)
    for first in range(0, len(stars), chunk):
        some = stars.iloc[first : first + chunk]
        seen = light_curves.simulate(some, days=cadences * LONG_CADENCE, seed=seed, **others)
        flux = stitch(seen.flux, seen.quarter)
        unknown = np.full(len(some), np.nan)
        k = some["kp_abs"].to_numpy(float) if "kp_abs" in some else unknown
        made = []
        for i in range(crops):
            wide = filters[i % len(filters)] if filters else None
            starts = draw_starts(*flux.shape, length, generator)[:, None]
            made.append(views(high_pass(flux, wide) if wide else flux, k, starts, length, kind))
        scores, level, both = (torch.cat(x, dim=1) for x in zip(*made, strict=True))
        known = some["prot_known"].to_numpy(bool) if "prot_known" in some else True
        prot = np.where(known & (some["prot"] > 0), some["prot"], np.nan)
        labels = torch.from_numpy(np.log10(prot))[:, None]
        ids = torch.tensor(some.index.to_numpy(np.int64))
        pieces.append((scores.half(), level, both, labels, ids))
        bar.update(len(some))
    bar.close()
    return LightCurveSample(*(torch.cat(parts) for parts in zip(*pieces, strict=True)))


def prepare_curves(curves, *, length=LENGTH, kind="log", magnitudes=None):
    """Cut records into windows, one after the other, and make views of them, as of simulations.

    Parameters
    ----------
    curves : list of LightCurve
        Of any length and mission; brought to Kepler's long cadence (`on_cadences`) and, unless
        they are relative already (ppm), joined quarter by quarter (`stitch`).
    length, kind
        As `views`.
    magnitudes : (n,) float, optional
        Absolute Kepler magnitudes; unknown by default.

    Returns
    -------
    sample : LightCurveSample
        Of m windows, one view each; ``ids`` says of which curve. At least half of each is
        measured. A curve shorter than a window is one window with a gap at its end; the windows
        of a longer one are spread evenly over it and overlap by as little as can be, where what is
        left is more than a tenth of a window.
    flags : list of str
        Why a curve has no window. Empty where it has.
    """
    k = np.full(len(curves), np.nan) if magnitudes is None else np.asarray(magnitudes, float)
    pieces, flags = [], []
    for i, record in enumerate(curves):
        flux, flag = _relative(record)
        if not flag:
            flux = torch.nn.functional.pad(flux, (0, max(0, length - len(flux))), value=torch.nan)
            count = max(1, int(np.ceil(len(flux) / length - REST)))
            starts = np.linspace(0, len(flux) - length, count).round()
            windows = flux.unfold(0, length, 1)[starts.astype(int)]
            measured = windows.isfinite().double().mean(dim=1)
            if (best := float(measured.max())) < MEASURED:
                days = length * LONG_CADENCE
                flag = f"{best:.0%} of a window of {days:.0f} days is measured, at the most"
            windows = windows[measured >= MEASURED]
        flags.append(flag)
        if not flag:
            n = len(windows)
            made = views(windows, np.full(n, k[i]), np.zeros((n, 1), int), length, kind)
            labels = torch.full((n, 1), torch.nan, dtype=torch.float64)
            pieces.append((made[0].half(), *made[1:], labels, torch.full((n,), i)))
    if not pieces:
        shapes = (0, 1, length), (0, 1, 2), (0, 1, 2, width(length, kind)), (0, 1), (0,)
        return LightCurveSample(*map(torch.empty, shapes)), flags
    return LightCurveSample(*(torch.cat(parts) for parts in zip(*pieces, strict=True))), flags


def _relative(record):
    """Flux about 1 at the long cadence, (N,) float32; or why there is none."""
    good = ~record.mask
    if not good.any():
        return None, "all cadences are masked"
    if np.ptp(record.time) > LONGEST_SPAN:
        return None, f"times span {np.ptp(record.time):.3g} days"
    flux = np.where(good, record.flux, np.nan)
    if record.meta.get("unit") == "ppm":
        flux = 1 + 1e-6 * flux
    else:
        flux = stitch(flux, record.quarter).numpy()
        if not np.isfinite(flux).any():
            return None, "no quarter has a positive median flux"
    if np.nanmin(flux) == np.nanmax(flux):
        return None, "the flux does not vary"
    return on_cadences(record.time, flux).float(), ""
