r"""What DualFormer is compared with: MoCo, SimSiam, VICReg and CLIP between two modalities.

Each has the trunk of `stellarbook.desa.dualformer` with self-attention alone, so that spectra and
light curves meet in the loss only, the same conditional labels, and heads that make it as large as
DualFormer to within five per cent. Each is a module with ``loss`` (of a batch) and ``embed`` (its
final features). Shown in chapters 04 and 05.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from stellarbook.desa import dual_loss
from stellarbook.desa.dualformer import PAPER, Trunk
from stellarbook.desa.light_curve_training import simsiam


class Towers(nn.Module):
    """Two towers and their projectors; what every baseline is built of.

    Parameters
    ----------
    spectra, light_curve, d, blocks, heads, labels, dropout
        Of `stellarbook.desa.DualFormer`.

    Attributes
    ----------
    projected : int
        Features that both projections have, together.
    """

    def __init__(
        self,
        *,
        spectra=1,
        light_curve=1,
        d=PAPER["d"],
        blocks=PAPER["blocks"],
        heads=PAPER["heads"],
        labels=PAPER["labels"],
        dropout=0.1,
    ):
        super().__init__()
        self.trunk = Trunk(spectra, light_curve, d, blocks, heads, labels, "self", dropout)
        self.projectors = nn.ModuleList(_projector(self.trunk.size) for _ in range(2))
        self.projected = 2 * (self.trunk.size // 2)

    def project(self, spectra, light_curve, labels=None):
        """(B, L1, W1), (B, L2, W2) and (B, labels) -> y1 and y2, (B, D / 2) each."""
        z = self.trunk(spectra, light_curve, labels)
        return tuple(p(x) for p, x in zip(self.projectors, z, strict=True))

    def embed(self, spectra, light_curve, labels=None):
        """Final features (B, D): z1 + z2, what is projected, as DualFormer's before V."""
        return sum(self.trunk(spectra, light_curve, labels))


class VICReg(Towers):
    r"""Variance, invariance, covariance (Bardes, Ponce & LeCun 2022, arXiv:2105.04906, Eq. 6).

    .. math:: L = 25\,\|y_1 - y_2\|^2 / D + 25\,[v(y_1) + v(y_2)] + c\,[L_{cov}(y_1, y_1) +
              L_{cov}(y_2, y_2)]

    Parameters
    ----------
    invariance, variance, covariance : float
        Weights: the paper's 25, 25 and 1; DESA's authors have 0.1 for the last.
    **sizes
        Of `Towers`.
    """

    def __init__(self, *, invariance=25.0, variance=25.0, covariance=1.0, **sizes):
        super().__init__(**sizes)
        self.weights = invariance, variance, covariance

    def loss(self, spectra, light_curve, labels=None, ids=None):
        """Loss of a batch and its three terms, a dict of () tensors."""
        y1, y2 = (y.float() for y in self.project(spectra, light_curve, labels))
        terms = {
            "invariance": F.mse_loss(y1, y2),
            "variance": dual_loss.variance(y1) + dual_loss.variance(y2),
            "covariance": dual_loss.covariance(y1, y1) + dual_loss.covariance(y2, y2),
        }
        weighted = (w * x for w, x in zip(self.weights, terms.values(), strict=True))
        return {"loss": sum(weighted), **terms}


class SimSiam(Towers):
    """Each modality predicts the other, whose gradient is stopped (Chen & He 2021).

    Parameters
    ----------
    **sizes
        Of `Towers`.

    Notes
    -----
    arXiv:2011.10566. The predictor's hidden layer is a quarter as wide as its output, as theirs.
    """

    def __init__(self, **sizes):
        super().__init__(**sizes)
        d = self.trunk.size // 2
        self.predictors = nn.ModuleList(_mlp(d, d // 4, d) for _ in range(2))

    def loss(self, spectra, light_curve, labels=None, ids=None):
        """Loss of a batch, a dict of () tensors."""
        y1, y2 = self.project(spectra, light_curve, labels)
        p1, p2 = (g(y) for g, y in zip(self.predictors, (y1, y2), strict=True))
        return {"loss": simsiam(p1, p2, y1, y2)}


class CLIP(Towers):
    """Each spectrum must find its light curve among those of the batch (Radford et al. 2021).

    Parameters
    ----------
    temperature : float
        To begin with; it is learnt.
    **sizes
        Of `Towers`.
    """

    def __init__(self, *, temperature=0.07, **sizes):
        super().__init__(**sizes)
        self.log_scale = nn.Parameter(torch.tensor(1 / temperature).log())

    def loss(self, spectra, light_curve, labels=None, ids=None):
        """Loss of a batch, a dict of () tensors; "found" is the share of right matches."""
        y1, y2 = (F.normalize(y.float()) for y in self.project(spectra, light_curve, labels))
        logits = self.log_scale.clamp(max=4.6).exp() * y1 @ y2.T  # as CLIP, at most 100
        right = torch.arange(len(logits), device=logits.device)
        both = F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)
        return {"loss": both / 2, "found": (logits.argmax(dim=1) == right).float().mean()}


class MoCo(Towers):
    r"""Momentum contrast between the modalities (He et al. 2020, arXiv:1911.05722).

    A spectrum's query must find the key of its light curve among a queue of earlier keys, and the
    other way round. Keys come from a copy of the towers that follows them,
    :math:`\theta_k \leftarrow m\,\theta_k + (1-m)\,\theta_q`, and have length 1.

    Parameters
    ----------
    queue : int
        K, keys of each modality that are kept.
    momentum : float
        m.
    temperature : float
    clean : bool
        MoCo-clean: stars are drawn, not spectra, so that no star is twice in a batch; and keys of
        the same star that wait in the queue do not count against it.
    **sizes
        Of `Towers`.

    Notes
    -----
    K, m and temperature are those of DESA's authors, in whose code the copy never moves and the
    queue holds keys of any length. Until the queue is full its empty places do not count.
    """

    def __init__(self, *, queue=4096, momentum=0.9, temperature=0.05, clean=False, **sizes):
        super().__init__(**sizes)
        self.momentum, self.temperature, self.clean = momentum, temperature, clean
        self.slow = nn.ModuleList([copy.deepcopy(self.trunk), copy.deepcopy(self.projectors)])
        self.slow.requires_grad_(False)
        self.register_buffer("keys", torch.zeros(2, queue, self.trunk.size // 2))
        self.register_buffer("owners", torch.full((queue,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.long))

    def loss(self, spectra, light_curve, labels=None, ids=None):
        """Loss of a batch, a dict of () tensors; "found" is the share of right matches.

        ``ids`` (B,), not negative, say whose each row is. In training the copy moves first, and the
        batch's keys enter the queue afterwards. In eval mode the others are the batch's own keys: a
        loss against the queue would depend on how full and how old it is.
        """
        if self.training:
            self._follow()
        queries = [F.normalize(y.float()) for y in self.project(spectra, light_curve, labels)]
        with torch.no_grad():
            trunk, projectors = self.slow
            z = trunk(spectra, light_curve, labels)
            both = zip(projectors, z, strict=True)
            keys = torch.stack([F.normalize(p(x).float()) for p, x in both])  # (2, B, D / 2)
        ids = self.owners.new_zeros(len(keys[0])) if ids is None else ids
        kept, owners = (self.keys, self.owners) if self.training else (keys, ids)
        if self.training:
            ignored = (owners < 0).expand(len(ids), -1)
        else:
            ignored = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
        if self.clean:
            ignored = ignored | (owners == ids[:, None])
        losses, found = [], []
        for query, key, queue in zip(queries, keys.flip(0), kept.flip(0), strict=True):
            own = (query * key).sum(dim=1, keepdim=True)
            others = (query @ queue.T).masked_fill(ignored, -torch.inf)
            logits = torch.cat([own, others], dim=1) / self.temperature  # (B, 1 + K)
            right = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
            losses.append(F.cross_entropy(logits, right))
            found.append((logits.argmax(dim=1) == 0).float().mean())
        if self.training:
            self._remember(keys, ids)
        return {"loss": sum(losses) / 2, "found": sum(found) / 2}

    @torch.no_grad()
    def _follow(self):
        fast = nn.ModuleList([self.trunk, self.projectors])
        for slow, new in zip(self.slow.parameters(), fast.parameters(), strict=True):
            slow.lerp_(new, 1 - self.momentum)

    @torch.no_grad()
    def _remember(self, keys, ids):
        size = self.keys.shape[1]
        at = (self.place + torch.arange(len(ids), device=ids.device)) % size
        self.keys[:, at[-size:]] = keys[:, -size:]
        self.owners[at[-size:]] = ids[-size:]
        self.place += len(ids)


def _projector(d):
    return _mlp(d, d, d // 2)


def _mlp(d, hidden, out):
    return nn.Sequential(
        nn.Linear(d, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out)
    )
