"""The layers of the star transformer: embedding, attention, block.

Leung & Bovy (2024), sections 2 and 3. Shown in chapter 10.
"""

import torch
import torch.nn.functional as F
from torch import nn

from stellarbook.layers.blocks import MLP


class Embedding(nn.Module):
    """The non-linear embedding of a value M of kind x, f(w_x · M) + b_x (Eq. 1); f is GELU.

    The same w_x stands for the kind when it is requested (section 3): what the encoder learns of
    a kind serves the decoder. Token 0 is padding; attention never looks at it.
    """

    def __init__(self, n, d):
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n + 1, d)))
        self.bias = nn.Parameter(nn.init.xavier_uniform_(torch.empty(n + 1, d)))

    def forward(self, token, value):
        """(B, L) token numbers and values -> (B, L, d)."""
        return F.gelu(self.request(token) * value[..., None]) + self.kind(token)

    def request(self, token):
        """(B, R) -> (B, R, d): w_x."""
        return F.embedding(token, self.weight)

    def kind(self, token):
        """(B, L) -> (B, L, d): b_x, all that is known of a token but its value."""
        return F.embedding(token, self.bias)


class Attention(nn.Module):
    """Multi-head attention (Eqs. 2–5) with one learned key and value beside the context's.

    The extra pair is the released code's: it gives an empty context something to look at.
    """

    def __init__(self, d, heads):
        super().__init__()
        if d % heads:
            raise ValueError(f"{heads} heads do not divide a width of {d}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(d, d) for _ in range(4))
        self.extra = nn.Parameter(nn.init.xavier_normal_(torch.empty(2, d)))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def _split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, L, d) -> (B, heads, L, d/h)

    def _keys(self, key, known):
        """Keys with the extra one, (B, L + 1, d), and their mask."""
        mask = None if known is None else F.pad(known, (0, 1), value=True)[:, None, None]
        return self._with_extra(self.key(key), 0), mask

    def _with_extra(self, x, which):
        return torch.cat([x, self.extra[which].to(x.dtype).expand(len(x), 1, -1)], dim=1)

    def forward(self, query, key, value, known):
        """query (B, Q, d), key and value (B, L, d), known (B, L) bool or None -> (B, Q, d)."""
        k, mask = self._keys(key, known)
        v = self._with_extra(self.value(value), 1)
        q, k, v = self._split(self.query(query)), self._split(k), self._split(v)
        with torch.autocast("cpu", enabled=False):
            if not q.is_cuda:  # torch's CPU kernel is three times slower in 16 bits than in 32
                q, k, v = q.float(), k.float(), v.float()
            c = F.scaled_dot_product_attention(q, k, v, mask)
        return self.out(c.transpose(1, 2).flatten(2))

    def weights(self, query, key, known):
        """The attention A of Eq. 3, (B, heads, Q, L + 1); the last column is the extra pair's."""
        k, mask = self._keys(key, known)
        q, k = self._split(self.query(query)), self._split(k)
        score = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        return (score if mask is None else score.masked_fill(~mask, -torch.inf)).softmax(-1)


class Block(nn.Module):
    """Attention, then a dense layer; after each Add & Norm (Eq. 6, Fig. 2)."""

    def __init__(self, d, heads, hidden, dropout):
        super().__init__()
        self.attention = Attention(d, heads)
        self.dense = MLP(d, d, (hidden,), dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))
        self.drop = nn.Dropout(dropout)

    def forward(self, x, query, key, value, known):
        """x, query (B, Q, d) -> (B, Q, d); the others as in `Attention`."""
        x = self.norms[0](x + self.drop(self.attention(query, key, value, known)))
        return self.norms[1](x + self.drop(self.dense(x)))
