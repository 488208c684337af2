"""How fast to learn: schedules of the learning rate, and the default optimiser."""

import math

import torch


def cosine(warmup=0, final=0.0):
    """Linear warm-up, then half a cosine down to `final` (a fraction of the learning rate).

    Parameters
    ----------
    warmup : int
        Steps of the warm-up.
    final : float
        Factor reached at the end.

    Returns
    -------
    callable
        `(step, steps) -> factor` on the learning rate, for `fit(schedule=…)`.

    Notes
    -----
    Loshchilov & Hutter (2017), arXiv:1608.03983, eq. 5 with one period. Shown in chapter 01.
    """

    def factor(step, steps):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        phase = (step - warmup) / max(1, steps - warmup)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, phase)))

    return factor


def warm_restarts(period, final=0.0):
    """Cosine from 1 to `final`, again and again every `period` steps.

    Loshchilov & Hutter (2017), arXiv:1608.03983, eq. 5; parameters as in `cosine`.
    """

    def factor(step, steps):
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * (step % period) / period))

    return factor


def adamw(model, lr, weight_decay):
    """AdamW (arXiv:1711.05101) that decays matrices but not biases, gains and scalars."""
    weights = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in weights if p.ndim >= 2]
    vectors = [p for p in weights if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr)


def muon(model, lr, weight_decay):
    """Muon for the hidden matrices, AdamW for all else: embeddings, gains, biases, last layers.

    Muon replaces a matrix's momentum by the nearest orthogonal matrix, scaled so that one learning
    rate serves both (K. Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982). A module named
    "embedding", and matrices of one or two rows or columns, are left to AdamW, without decay.

    Returns
    -------
    list of Optimizer
        For `fit(optimizer=muon)`. Shown in chapter 10.
    """
    hidden, rest = [], []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            matrix = weight.ndim == 2 and min(weight.shape) > 2 and "embedding" not in name
            (hidden if matrix else rest).append(weight)
    optimizers = []
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, fused=True))
    return optimizers
