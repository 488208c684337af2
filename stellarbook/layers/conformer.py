r"""Conformer blocks with rotary positions: attention sees far, convolution sees near.

`ConformerBlock` is the published one (Gulati et al. 2020, arXiv:2005.08100), `DesaBlock` what the
authors of DESA run under that name. Both know where a token is only through `rotary` (Su et al.
2021, arXiv:2104.09864) in their attention. Shown in chapter 02.

Shapes: B spectra, L tokens, d features, H heads.
"""

import torch
import torch.nn.functional as F
from torch import nn

BASE = 1e4  # Su et al. 2021, section 3.2.2: the slowest pair turns by 1 radian in BASE tokens


def rotary(x: torch.Tensor) -> torch.Tensor:
    r"""Turn each pair of features by an angle that grows with the token's position m.

    Features (2j, 2j + 1) of D are turned by :math:`m \theta_j`, :math:`\theta_j = 10000^{-2j/D}`
    (Su et al. 2021, Eqs. 14–15). The scalar product of two turned vectors depends on how far their
    tokens are apart, not on where they are.

    Parameters
    ----------
    x : (..., L, D) tensor
        Queries or keys; D even.

    Returns
    -------
    (..., L, D) tensor
        Computed in float32 at least, returned as given.
    """
    length, width = x.shape[-2:]
    kind = torch.promote_types(x.dtype, torch.float32)
    pair = torch.arange(0, width, 2, dtype=kind, device=x.device)
    position = torch.arange(length, dtype=kind, device=x.device)
    angle = position[:, None] * BASE ** (-pair / width)  # (L, D/2)
    cos, sin = angle.cos(), angle.sin()
    even, odd = x[..., 0::2].to(kind), x[..., 1::2].to(kind)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


class RotaryAttention(nn.Module):
    """Multi-head self-attention whose queries and keys are turned by `rotary`.

    Parameters
    ----------
    d, heads : int
        Width, and the heads that share it.
    turned : float
        Share of each head's features that are turned; the others ignore position.

    Raises
    ------
    ValueError
        If the heads do not divide the width, or the turned features are not in pairs.
    """

    def __init__(self, d: int, heads: int, turned: float = 1.0):
        super().__init__()
        if d % heads:
            raise ValueError(f"{heads} heads do not divide a width of {d}")
        self.heads, self.turned = heads, round(turned * d / heads)
        if self.turned % 2:
            raise ValueError(f"{self.turned} turned features of a head are not in pairs")
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, d) and (B, L) bool, False = padding that nobody attends to -> (B, L, d)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self._turn(q), self._turn(k)  # (B, H, L, d/H)
        mask = None if known is None else known[:, None, None]
        with torch.autocast("cpu", enabled=False):
            if not q.is_cuda:  # torch's CPU kernel is three times slower in 16 bits than in 32
                kind = torch.promote_types(q.dtype, torch.float32)
                q, k, v = q.to(kind), k.to(kind), v.to(kind)
            seen = F.scaled_dot_product_attention(q, k, v, mask)
        return self.out(seen.transpose(1, 2).flatten(2).to(x.dtype))

    def _turn(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([rotary(x[..., : self.turned]), x[..., self.turned :]], dim=-1)


class FeedForward(nn.Sequential):
    """Linear to ``4 d``, Swish, Dropout, Linear back to d, Dropout (Gulati et al. 2020, Fig. 4).

    (B, L, d) -> (B, L, d).
    """

    def __init__(self, d: int, dropout: float):
        super().__init__(
            nn.Linear(d, 4 * d),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(4 * d, d),
            nn.Dropout(dropout),
        )


class GatedConvolution(nn.Module):
    """The convolution of the Conformer (Gulati et al. 2020, Fig. 2), after its LayerNorm.

    Pointwise to ``2 d``, gated linear unit, depthwise over ``kernel`` tokens, BatchNorm, Swish,
    pointwise, Dropout.
    """

    def __init__(self, d: int, kernel: int, dropout: float):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel = {kernel}: an odd one has a middle")
        self.gate = nn.Linear(d, 2 * d)  # a pointwise convolution is a linear layer
        # BatchNorm has a bias of its own.
        self.depthwise = nn.Conv1d(d, d, kernel, padding=kernel // 2, groups=d, bias=False)
        self.norm = nn.BatchNorm1d(d)
        self.out = nn.Linear(d, d)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, d) and (B, L) bool, False = padding that counts as zero -> (B, L, d)."""
        x = F.glu(self.gate(x), dim=-1)  # (B, L, d)
        if known is not None:
            x = x * known[..., None]
        x = self.norm(self.depthwise(x.transpose(1, 2)))  # (B, d, L)
        return self.drop(self.out(F.silu(x).transpose(1, 2)))


class ConformerBlock(nn.Module):
    r"""The Conformer's block with rotary positions (Gulati et al. 2020, Eq. 1).

    .. math:: \tilde x = x + \tfrac12 \mathrm{FFN}(x), \quad
              x' = \tilde x + \mathrm{MHSA}(\tilde x), \quad
              x'' = x' + \mathrm{Conv}(x'), \quad
              y = \mathrm{LayerNorm}(x'' + \tfrac12 \mathrm{FFN}(x'')),

    each part with a LayerNorm of its own before it.

    Parameters
    ----------
    d, heads : int
        Width and heads of the attention.
    kernel : int
        Tokens that the depthwise convolution sees; odd (the paper: 32).
    dropout : float

    Raises
    ------
    ValueError
        If the heads do not divide the width into even parts, or the kernel is even.

    Notes
    -----
    Departure: rotary positions in place of relative sinusoidal ones, as DESA has them. In
    training, BatchNorm mixes the spectra of a batch, padding included. Shown in chapter 02.
    """

    def __init__(self, d: int, heads: int, kernel: int = 31, dropout: float = 0.1):
        super().__init__()
        self.first, self.second = FeedForward(d, dropout), FeedForward(d, dropout)
        self.attention = RotaryAttention(d, heads)
        self.convolution = GatedConvolution(d, kernel, dropout)
        self.drop = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(5))

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, d) and (B, L) bool, False = padding -> (B, L, d)."""
        x = x + 0.5 * self.first(self.norms[0](x))
        x = x + self.drop(self.attention(self.norms[1](x), known))
        x = x + self.convolution(self.norms[2](x), known)
        return self.norms[4](x + 0.5 * self.second(self.norms[3](x)))


class DesaBlock(nn.Module):
    r"""What DESA's authors run as a Conformer: attention, convolution, dense layer.

    .. math:: x' = \mathrm{LN}(x + \mathrm{MHSA}(x)), \quad
              x'' = \mathrm{LN}(x' + \mathrm{Swish}(\mathrm{BN}(\mathrm{Conv}(x')))), \quad
              y = \mathrm{LN}(x'' + \mathrm{FFN}(x''))

    No macaron halves, no gate, a convolution over all features at once, the norms after the sums;
    half of each head's features are turned. ``d = 2048, heads = 8`` is theirs for spectra, eight
    blocks of it; for light curves ``d = 512, heads = 8, dense=False``, five blocks.

    Parameters
    ----------
    d, heads : int
    kernel : int
        Tokens that the convolution sees; odd.
    dropout : float
        In the dense layer only.
    dense : bool
        Without it the block is y = x''.

    Raises
    ------
    ValueError
        As `ConformerBlock`.
    """

    def __init__(self, d: int, heads: int, kernel: int = 3, dropout: float = 0.2, dense=True):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel = {kernel}: an odd one has a middle")
        self.attention = RotaryAttention(d, heads, turned=0.5)
        self.convolution = nn.Conv1d(d, d, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(d)
        self.dense = FeedForward(d, dropout) if dense else None
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(3 if dense else 2))

    def forward(self, x: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """(B, L, d) and (B, L) bool, False = padding -> (B, L, d)."""
        x = self.norms[0](x + self.attention(x, known))
        near = x if known is None else x * known[..., None]
        near = F.silu(self.norm(self.convolution(near.transpose(1, 2)))).transpose(1, 2)
        x = self.norms[1](x + near)
        return x if self.dense is None else self.norms[2](x + self.dense(x))
