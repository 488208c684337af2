"""The same network as its authors run it: an oracle for the tests, and the clock to beat.

One request a context, every context padded to 64 tokens, attention by
`torch.nn.MultiheadAttention` with its weights materialised. Same weights, same answers.
Chapter 10 times both.
"""

import torch
import torch.nn.functional as F
from torch import nn

from stellarbook.star_transformer.model import WINDOW


class PlainStarTransformer(nn.Module):
    """A `StarTransformer` (with values in its keys) rebuilt from torch's own layers.

    Parameters
    ----------
    model : StarTransformer
        Its attention's weights are copied; embedding, dense layers, norms and head are shared.

    Notes
    -----
    Layers and order of operations of Leung & Bovy (2024), Fig. 2. The released code differs in
    small things: it materialises the weights in the last blocks only, drops some of the attention
    and none of the dense layers' hidden units.
    """

    def __init__(self, model):
        super().__init__()
        self.embedding = model.embedding
        self.encoder = nn.ModuleList(PlainBlock(b) for b in model.encoder)
        self.decoder = nn.ModuleList(PlainBlock(b) for b in model.decoder)
        self.head, self.mean, self.log_variance = model.head, model.mean, model.log_variance

    def forward(self, token, value, request):
        """token, value (B, L ≤ 64), request (B, 1) -> mean and log variance, (B, 1) each."""
        token, value = (F.pad(x, (0, WINDOW - x.shape[1])) for x in (token, value))
        padding = token == 0
        x = self.embedding(token, value)
        for block in self.encoder:
            x = block(x, x, padding)
        y = self.embedding.request(request)
        for block in self.decoder:
            y = block(y, x, padding)
        y = self.head(y)
        return self.mean(y)[..., 0], self.log_variance(y)[..., 0]


class PlainBlock(nn.Module):
    def __init__(self, block):
        super().__init__()
        ours = block.attention
        d = ours.query.in_features
        self.attention = nn.MultiheadAttention(d, ours.heads, add_bias_kv=True, batch_first=True)
        three = (ours.query, ours.key, ours.value)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.cat([layer.weight for layer in three]))
            self.attention.in_proj_bias.copy_(torch.cat([layer.bias for layer in three]))
            self.attention.bias_k.copy_(ours.extra[:1, None])
            self.attention.bias_v.copy_(ours.extra[1:, None])
        self.attention.out_proj.load_state_dict(ours.out.state_dict())
        self.dense, self.norms, self.drop = block.dense, block.norms, block.drop

    def forward(self, x, context, padding):
        c, _ = self.attention(x, context, context, key_padding_mask=padding, need_weights=True)
        x = self.norms[0](x + self.drop(c))
        return self.norms[1](x + self.drop(self.dense(x)))
