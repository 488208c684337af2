r"""The information limit: how well any method can read labels from a noisy spectrum.

With flux :math:`f(\theta)`, Gaussian noise of covariance :math:`C` that does not depend on the
labels and :math:`J = \partial f / \partial\theta`, the Fisher information is
:math:`F = J^T C^{-1} J`, and no unbiased estimate scatters by less than
:math:`\sqrt{(F^{-1})_{ii}}` (Cramér 1946; Rao 1945). What must be fitted together with the labels,
a continuum or a velocity, takes information away: its derivatives, the nuisance directions, are
projected out. Of spectra: Ting et al. 2017, ApJ 843, 32. Shown in chapter 02.

The bound to compare a method with is that of what it is given: spectra divided by a continuum that
was found in them are worth no more than with a continuum fitted along, in [Fe/H] little more than
half as precise. And a network can undercut every bound where its training labels hardly reach
beyond the errors: it leans towards their mean, and that is a bias.

Everything is batched, on the device of its input; information and bounds are float64.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from stellarbook.data.observe import C
from stellarbook.data.pixels import contiguous

SINGULAR = 1e-12  # of the information, labels scaled to their own: less is rounding


def jacobian(function: Callable, labels, step=None) -> torch.Tensor:
    """Differentiate spectra by labels.

    Parameters
    ----------
    function : callable
        Labels (n, k) → flux (n, pixels), each row for itself, as
        `stellarbook.data.emulator.Emulator` and its ``flux``.
    labels : (n, k) float
    step : (k,) float, optional
        Central differences over ± these steps, for functions that no gradient passes through
        (without a step their derivatives are 0: everything in `stellarbook.data.continuum`) or
        that have corners: networks with leaky ReLUs change their slopes from one label to the
        next, and a difference as wide as the errors sees their mean.

    Returns
    -------
    (n, pixels, k) tensor
        Per unit of each label, in the function's precision. Without steps by forward
        differentiation, exact: a label costs as much as five spectra; with steps, as two.
    """
    labels = torch.as_tensor(labels)
    labels = labels.contiguous() if labels.is_floating_point() else labels.double()
    columns = []
    for i, unit in enumerate(torch.eye(labels.shape[1]).to(labels)):
        if step is None:
            columns.append(torch.func.jvp(function, (labels,), (unit.expand_as(labels),))[1])
        else:
            ahead, behind = (function(labels + s * step[i] * unit) for s in (1, -1))
            columns.append((ahead - behind) / (2 * step[i]))
    return torch.stack(columns, dim=-1)


def fisher(jacobian, ivar, nuisance=None, precision=None) -> torch.Tensor:
    r"""Return the Fisher information of the labels, (n, k, k), whatever the nuisances are.

    .. math:: F = J^T W J - J^T W N (N^T W N + P)^{-1} N^T W J, \quad W = C^{-1},

    the inverse of the labels' block of the inverse of everything's information.

    Parameters
    ----------
    jacobian : (n, pixels, k) float
        From `jacobian`. Fewer columns: the other labels are known.
    ivar : (n, pixels) float
        Inverse variance, 0 where masked; pixels are independent (if not: `whitened`).
    nuisance : (n, pixels, m) float, optional
        Flux per unit of what is fitted along: `continuum`, `velocity`, joined by ``torch.cat``.
    precision : (m,) float, optional
        1 / variance of what is known about each nuisance beforehand (diagonal of P); 0: nothing.

    Returns
    -------
    (n, k, k) float64 tensor
        Prior knowledge of the labels adds: ``fisher(...) + torch.diag(1 / prior**2)``.

    Notes
    -----
    n may be 1 in some arguments. Shown in chapter 02.
    """
    left = _left(jacobian, ivar, nuisance, precision)
    return left.mT @ left


def cramer_rao(fisher) -> torch.Tensor:
    """Return the least standard errors (..., k) of labels that are all unknown.

    Parameters
    ----------
    fisher : (..., k, k) tensor

    Returns
    -------
    (..., k) float64 tensor
        √(F⁻¹)_ii. Infinite for each label that the spectrum does not fix, alone or in combination
        with others; the rest keep their errors.
    """
    scale, values, vectors = _spectrum(fisher)
    lost = values <= SINGULAR
    share = vectors.square()  # (..., label, direction)
    variance = (share / values.masked_fill(lost, torch.inf)[..., None, :]).sum(dim=-1)
    free = (share * lost[..., None, :]).sum(dim=-1) > 1e-10
    return (variance.sqrt() * scale).masked_fill(free, torch.inf)


def conditional(fisher) -> torch.Tensor:
    """Return the least standard error (..., k) of each label when all others are known, 1/√F_ii."""
    return _double(fisher).diagonal(dim1=-2, dim2=-1).rsqrt()


def one_step(
    function: Callable, labels, flux, ivar, nuisance=None, precision=None, step=None
) -> torch.Tensor:
    r"""Estimate labels by one step of maximum likelihood from labels close by.

    .. math:: \hat\theta = \theta_0 + F^{-1} J^T W' [y - f(\theta_0)],

    :math:`W'` the weight left by the nuisances. Of a function that is straight between
    :math:`\theta_0` and the truth the estimate is unbiased and reaches the bound.

    Parameters
    ----------
    function, step
        As for `jacobian`.
    labels : (n, k) float
        θ₀.
    flux, ivar, nuisance, precision
        Spectra (n, pixels); the others as for `fisher`. Where ivar is 0 the flux may be anything.

    Returns
    -------
    (n, k) float64 tensor
        Many noises of one star cost one Jacobian if ``labels`` and ``ivar`` have one row.

    Raises
    ------
    ValueError
        If a spectrum does not fix a label.
    """
    labels = torch.as_tensor(labels)
    ivar = _double(ivar)
    left = _left(jacobian(function, labels, step), ivar, nuisance, precision)
    residual = (_double(flux) - _double(function(labels))).where(ivar > 0, 0.0)
    residual = ivar.sqrt() * residual  # (n, pixels)
    # A prior's rows have no residual: the nuisances are where it expects them.
    score = residual[..., None, :] @ left[..., : residual.shape[-1], :]  # (n, 1, k)
    information = left.mT @ left
    if (lost := cramer_rao(information).isinf()).any():
        raise ValueError(f"label {int(lost.nonzero()[0, -1])} leaves no trace of its own: masked?")
    return _double(labels) + torch.linalg.solve(information, score.mT)[..., 0]


def continuum(wave, flux, degree: int, arms: Iterable[slice] | None = None) -> torch.Tensor:
    """Return the directions in which a wrong continuum moves spectra: flux × Chebyshev.

    Parameters
    ----------
    wave, flux : (pixels,), (n, pixels) float
    degree : int
        Of the polynomials in wavelength; the constant is one of them.
    arms : iterable of slice, optional
        Each with polynomials of its own; by default the stretches of `contiguous`.

    Returns
    -------
    (n, pixels, arms × (degree + 1)) float64 tensor
        Flux per unit of each coefficient of the relative error. 0 outside the coefficient's arm.
    """
    flux, wave = _double(flux), np.asarray(wave, dtype=float)
    columns = []
    for arm in contiguous(wave) if arms is None else arms:
        x = wave[arm]
        x = 2 * (x - x.min()) / (x.max() - x.min()) - 1
        basis = np.zeros((len(wave), degree + 1))
        basis[arm] = np.polynomial.chebyshev.chebvander(x, degree)
        columns.append(basis)
    return flux[..., None] * torch.from_numpy(np.concatenate(columns, axis=1)).to(flux.device)


def velocity(wave, flux) -> torch.Tensor:
    """Return the direction in which a radial velocity moves spectra, (n, pixels, 1), per km/s.

    −∂f/∂ln λ / c, of a quintic spline through each stretch of contiguous pixels: within 1 % for
    lines 3 pixels wide (full width at half maximum), 5 % at 2.4. Select pixels afterwards: at
    ends it is worse, and a stretch of fewer than 6 is refused (ValueError).
    """
    flux, wave = _double(flux), np.asarray(wave, dtype=float)
    slope = torch.empty_like(flux)
    for stretch in contiguous(wave):
        x = np.log(wave[stretch])
        spline = make_interp_spline(x, flux[..., stretch].cpu().numpy(), k=5, axis=-1)
        slope[..., stretch] = torch.from_numpy(spline(x, 1)).to(flux)
    return (-slope / C)[..., None]


def whitened(directions, covariance, basis=None) -> torch.Tensor:
    r"""Turn correlated pixels into independent numbers of variance 1: `fisher` then has ivar 1.

    Parameters
    ----------
    directions : (n, pixels, k) float
        A Jacobian or nuisances.
    covariance : (pixels, pixels) or, with a basis, (rank, rank) float
    basis : (pixels, rank) float, optional
        With orthonormal columns: the pixels' covariance is :math:`B C_b B^T`, as Gaia XP's, whose
        343 pixels are 110 numbers (``GAIA_XP.basis()``). What lies outside is not observed.

    Returns
    -------
    (n, pixels or rank, k) float64 tensor
        :math:`L^{-1} B^T J` with :math:`L L^T = C_b`, so that :math:`F = J^T C^+ J`.
    """
    directions = _double(directions)
    if basis is not None:
        directions = _double(basis).to(directions).mT @ directions
    factor = torch.linalg.cholesky(_double(covariance).to(directions))
    return torch.linalg.solve_triangular(factor, directions, upper=False)


def _left(directions, ivar, nuisance, precision) -> torch.Tensor:
    """What nuisances leave of directions, in units of the noise; the prior adds m rows."""
    directions = _weighted(directions, ivar)
    if nuisance is None:
        return directions
    nuisance = _weighted(nuisance, ivar)
    m = nuisance.shape[-1]
    if precision is not None:
        rows = torch.diag(_double(precision).to(nuisance).sqrt()).expand(*nuisance.shape[:-2], m, m)
        nuisance = torch.cat([nuisance, rows], dim=-2)
        directions = torch.nn.functional.pad(directions, (0, 0, 0, m))
    scale, values, vectors = _spectrum(nuisance.mT @ nuisance)
    # Orthonormal; those that say nothing, of an arm without pixels, drop out.
    weight = values.clamp(min=SINGULAR).rsqrt() * (values > SINGULAR)
    unit = nuisance @ (scale[..., None] * vectors * weight[..., None, :])
    left = directions - unit @ (unit.mT @ directions)
    left = left - unit @ (unit.mT @ left)  # again: of a large part little may be left
    share = left.square().sum(dim=-2, keepdim=True)
    return left.where(share > SINGULAR * directions.square().sum(dim=-2, keepdim=True), 0.0)


def _weighted(directions, ivar) -> torch.Tensor:
    """Directions (n, pixels, k) in units of the noise; masked pixels may hold anything."""
    directions, weight = _double(directions), _double(ivar).sqrt()[..., None]
    return weight * directions.where(weight > 0, 0.0)


def _spectrum(matrix) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scale that gives a matrix a diagonal of 1 (0 stays 0), then eigenvalues and -vectors."""
    matrix = _double(matrix)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    scale = diagonal.rsqrt().where(diagonal > 0, 1.0)
    return scale, *torch.linalg.eigh(scale[..., None] * matrix * scale[..., None, :])


def _double(values) -> torch.Tensor:
    return torch.as_tensor(values).detach().double()
