r"""Intervals that hold what they promise: conformalised quantile regression.

A network learns quantiles with the pinball loss; nothing forces 80 % of new stars into what it
calls an 80 % interval. Stars held back correct that (Romano, Patterson & Candès 2019,
arXiv:1905.03222): the interval is widened by the quantile of how far *they* lie outside. If these
stars and a new one are exchangeable, the new one lies inside with at least the stated probability,
however bad the network is. On average over stars, not for each kind of star; and on the label
scale of the stars held back, not on another. Shown in chapter 02.
"""

import math

import numpy as np
import torch

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)  # DESA's: 80 % and 50 % intervals and the median


def pinball(truth, prediction, levels=QUANTILES) -> torch.Tensor:
    r"""Pinball loss, :math:`\max(\tau r, (\tau - 1) r)` with :math:`r = y - \hat y_\tau`.

    Its mean is least where :math:`\hat y_\tau` is the quantile τ (Koenker & Bassett 1978).

    Parameters
    ----------
    truth : (...) tensor
    prediction : (..., levels) tensor
    levels : sequence of float
        The τ of each prediction, between 0 and 1.

    Returns
    -------
    (..., levels) tensor
    """
    residual = truth[..., None] - prediction  # (..., levels)
    levels = torch.as_tensor(levels, dtype=residual.dtype, device=residual.device)
    return torch.maximum(levels * residual, (levels - 1) * residual)


def known_pinball(truth, prediction, levels=QUANTILES) -> torch.Tensor:
    """`pinball` summed over levels, 0 where the truth is NaN: (n, labels) and (n, labels, levels).

    Divided by the number of labels, not of those present, a mean over stars stays one over shares
    of a batch, as `stellarbook.learn.fit.fit` asks.

    Returns
    -------
    (n, labels) tensor
    """
    known = truth.isfinite()
    return pinball(torch.where(known, truth, 0.0), prediction, levels).sum(dim=-1) * known


def hybrid_loss(
    filled, flux, prediction, truth, share=0.5, weight=None, masked=None, levels=QUANTILES
) -> torch.Tensor:
    r"""DESA's loss, :math:`(1 - \lambda) L_\mathrm{ssl} + \lambda L_\mathrm{sup}` (Eq. 1).

    Parameters
    ----------
    filled, flux : (n, pixels) tensors
        Spectra as the decoder fills them and as they were before masking. L_ssl is the mean square
        of their difference.
    prediction : (n, labels, levels) tensor
        Quantiles. L_sup is their `pinball` loss, summed over levels, averaged over labels.
    truth : (n, labels) tensor
        NaN: not known. Such a label does not count, a star without any teaches by its flux alone.
    share : float
        λ, 0 to 1.
    weight : (n,) tensor, optional
        Of each star's loss, positive: its signal-to-noise (section 3.1.1).
    masked : (n, pixels) bool, optional
        Only these pixels count in L_ssl. Without it all do, as in the authors' code.
    levels : sequence of float

    Returns
    -------
    () tensor
        The weighted mean over stars: weights set shares, not the size of a step.

    Notes
    -----
    Departure: the authors' code multiplies L_sup alone by S/N / 1000, the paper weighs the "final
    loss". Shown in chapter 02.
    """
    error = (filled - flux).square()  # (n, pixels)
    known = truth.isfinite()  # (n, labels)
    miss = known_pinball(truth, prediction, levels)  # (n, labels)
    pixels = torch.ones_like(error) if masked is None else masked.to(error.dtype)
    loss = (1 - share) * _mean(error, pixels) + share * _mean(miss, known.to(miss.dtype))  # (n,)
    return loss.mean() if weight is None else (weight * loss).sum() / weight.sum()


def calibrate(truth, prediction, levels=QUANTILES) -> np.ndarray:
    r"""Measure by how much intervals must be widened, on stars held back from training.

    A star's score is how far it lies outside (inside: negative),
    :math:`E_i = \max(\hat q_\mathrm{low} - y_i, y_i - \hat q_\mathrm{high})` (Romano et al. 2019,
    Eq. 6). The margin is the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest of n scores.

    Parameters
    ----------
    truth : (n, labels) float
        NaN here or in a prediction: the star is left out of that label.
    prediction : (n, labels, levels) float
        Quantiles; should they cross, they are sorted.
    levels : sequence of float
        Odd in number, increasing, symmetric about the median.

    Returns
    -------
    (labels, intervals) float64
        Margins in the labels' units, the widest interval's first; negative where the intervals
        were too wide. Infinite where the stars are too few to promise anything: an 80 % interval
        needs 4.

    Raises
    ------
    ValueError
        If the levels or the shapes are not as told.

    Notes
    -----
    The authors' code leaves out the + 1, and so covers too little with few stars.
    Shown in chapter 02.
    """
    truth, prediction = _checked(truth, prediction, levels)
    margins = np.empty((truth.shape[1], len(levels) // 2))
    for i in range(margins.shape[1]):
        coverage = levels[-1 - i] - levels[i]
        scores = np.maximum(prediction[..., i] - truth, truth - prediction[..., -1 - i])
        for label, score in enumerate(scores.T):
            score = np.sort(score[~np.isnan(score)])
            # Rounding must not push a whole number up: 0.9 − 0.1 may be a little more than 0.8.
            rank = math.ceil((len(score) + 1) * coverage - 1e-9)
            margins[label, i] = score[rank - 1] if rank <= len(score) else np.inf
    return margins


def calibrated(prediction, margins) -> np.ndarray:
    """Widen the intervals of quantiles by their margins.

    Parameters
    ----------
    prediction : (n, labels, levels) float
    margins : (labels, intervals) float
        From `calibrate`.

    Returns
    -------
    (n, labels, levels) float64
        Increasing along the last axis; the median is unchanged. Margins of two intervals can make
        the wider one the narrower, a negative one can turn an interval over: each is extended to
        contain those within it, and the median. Nothing is ever cut off, so every promise holds.

    Raises
    ------
    ValueError
        If the shapes do not match.
    """
    prediction, margins = np.asarray(prediction, dtype=float), np.asarray(margins, dtype=float)
    middle = margins.shape[-1]
    if prediction.ndim != 3 or margins.shape != (prediction.shape[1], prediction.shape[2] // 2):
        raise ValueError(
            f"prediction has shape {prediction.shape} and margins {margins.shape}: expected "
            "(n, labels, levels) and (labels, levels // 2)"
        )
    quantiles = np.sort(prediction, axis=-1)
    quantiles[..., :middle] -= margins
    quantiles[..., middle + 1 :] += margins[:, ::-1]
    # From the median outwards, none lies within the one before it.
    below = np.minimum.accumulate(quantiles[..., middle::-1], axis=-1)[..., ::-1]
    above = np.maximum.accumulate(quantiles[..., middle:], axis=-1)
    return np.concatenate([below, above[..., 1:]], axis=-1)


def covered(truth, prediction, levels=QUANTILES) -> np.ndarray:
    """Return the share of stars inside each interval, (labels, intervals), the widest first.

    Parameters and errors are those of `calibrate`; NaN where a label has no star.
    """
    truth, prediction = _checked(truth, prediction, levels)
    known = np.isfinite(truth) & ~np.isnan(prediction).any(axis=-1)
    inside = [
        (prediction[..., i] <= truth) & (truth <= prediction[..., -1 - i]) & known
        for i in range(len(levels) // 2)
    ]
    with np.errstate(invalid="ignore"):  # 0 / 0
        return np.stack([part.sum(axis=0) / known.sum(axis=0) for part in inside], axis=1)


def _mean(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Mean over the last axis of what counts; 0 where nothing does."""
    return (values * counts).sum(dim=-1) / counts.sum(dim=-1).clamp(min=1)


def _checked(truth, prediction, levels) -> tuple[np.ndarray, np.ndarray]:
    """Return arrays, the quantiles in order."""
    levels = np.asarray(levels, dtype=float)
    pairs = len(levels) // 2
    symmetric = np.allclose(levels + levels[::-1], 1)
    if len(levels) % 2 == 0 or (np.diff(levels) <= 0).any() or not symmetric or levels[0] <= 0:
        raise ValueError(f"levels {levels.tolist()}: expected {pairs} pairs about the median")
    truth, prediction = np.asarray(truth, dtype=float), np.asarray(prediction, dtype=float)
    if truth.ndim != 2 or prediction.shape != (*truth.shape, len(levels)):
        raise ValueError(
            f"truth has shape {truth.shape} and prediction {prediction.shape}: expected "
            f"(n, labels) and (n, labels, {len(levels)})"
        )
    return truth, np.sort(prediction, axis=-1)
