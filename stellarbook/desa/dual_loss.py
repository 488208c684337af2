r"""DualFormer's losses: two quadratic forms agree, and projected features are decorrelated.

Kamai, Bronstein & Perets (2025), Eqs. 4 to 7. Shown in chapter 04, with what they do not forbid.
"""

import torch

EPS = 1e-4  # under the root of a variance, as in VICReg


def dual(z1, z2, p1, p2):
    r"""Eq. 6, the mean over stars of
    :math:`(\langle z_1, p_1\rangle - \langle z_2, p_2\rangle)^2`.

    With :math:`p_1 = A z_1` and :math:`p_2 = A^T z_2` these are quadratic forms, which know the
    symmetric part of A alone: :math:`z^T A z = z^T A^T z`.

    Parameters
    ----------
    z1, z2, p1, p2 : (B, D) tensors

    Returns
    -------
    () tensor
    """
    return ((z1 * p1).sum(dim=1) - (z2 * p2).sum(dim=1)).square().mean()


def covariance(x, y):
    r"""Eq. 4, :math:`\frac1D \sum_{k \ne l} \mathrm{Cov}(x, y)_{kl}^2`, over the stars of a batch.

    Parameters
    ----------
    x, y : (B, D) tensors
        B of two at least.

    Returns
    -------
    () tensor

    Raises
    ------
    ValueError
        For one star, which has no covariance.
    """
    if len(x) < 2:
        raise ValueError(f"a batch of {len(x)} has no covariance")
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    found = x.T @ y / (len(x) - 1)  # (D, D)
    return (found.square().sum() - found.diagonal().square().sum()) / x.shape[1]


def variance(x):
    r"""VICReg's hinge, :math:`\max(0, 1 - \sqrt{\mathrm{Var} + \epsilon})`, mean over features.

    Bardes, Ponce & LeCun (2022), arXiv:2105.04906, Eqs. 1 and 2. The paper leaves it out as
    redundant. (B, D) -> ().
    """
    return (1 - (x.var(dim=0) + EPS).sqrt()).relu().mean()


def total(z1, z2, p1, p2, *, share=0.5, cross=True, spread=0.0):
    r"""The loss of a batch, Eq. 7: :math:`(1-\lambda)\,L_{dual} + \lambda\,L_{cov}`.

    Parameters
    ----------
    z1, z2, p1, p2 : (B, D) tensors
        Of `stellarbook.desa.DualFormer`.
    share : float
        λ.
    cross : bool
        Whether Eq. 5 has its third term, between the branches. In the authors' code it stands on a
        line of its own and does nothing.
    spread : float
        Weight of `variance` of both projections, which the paper leaves out: without it A = 0
        minimises the loss exactly.

    Returns
    -------
    dict of str to () tensor
        "loss", and its parts "dual", "covariance" and "variance".

    Notes
    -----
    In 32 bits. Shown in chapter 04.
    """
    with torch.autocast(z1.device.type, enabled=False):
        kind = torch.promote_types(z1.dtype, torch.float32)
        z1, z2, p1, p2 = (x.to(kind) for x in (z1, z2, p1, p2))
        agree = dual(z1, z2, p1, p2)
        mixed = covariance(p1, p1) + covariance(p2, p2)
        if cross:
            mixed = mixed + covariance(p1, p2)
        apart = variance(p1) + variance(p2)
        loss = (1 - share) * agree + share * mixed + spread * apart
    return {"loss": loss, "dual": agree, "covariance": mixed, "variance": apart}
