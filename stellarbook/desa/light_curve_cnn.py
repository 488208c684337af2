"""The convolutional branch of DESA's light-curve encoder, on autocorrelation and spectrum.

`Pooled` is the paper's: places are averaged, or each gets weights of its own. `Peaks` is ours, for
transforms on a logarithmic axis of periods: a star that rotates twice as fast is the same picture,
moved, and so should the answer be. Shown in chapter 03.
"""

from itertools import pairwise

import torch
from torch import nn

DILATIONS = (1, 2, 4, 8)  # of `Peaks`, over and over
HALVED = 4  # places of the axis to one of `Peaks`


class Pooled(nn.Module):
    """Convolutions that halve what they read, then an average or every place.

    Parameters
    ----------
    channels : sequence of int
        Each but the first halves what it reads.
    places : int
        T, values of a transform.
    flatten : bool
        Give each place weights of its own; else they are averaged.

    Attributes
    ----------
    size : int
        F, features of a view.
    """

    def __init__(self, channels, places, *, flatten):
        super().__init__()
        self.flatten = flatten
        self.convolutions = nn.Sequential(
            convolution(2, channels[0], 9),
            *(nn.Sequential(nn.MaxPool1d(2), convolution(a, b, 5)) for a, b in pairwise(channels)),
        )
        self.size = channels[-1] * (places >> (len(channels) - 1) if flatten else 1)

    def forward(self, transforms):
        """(B, 2, T) -> (B, F)."""
        x = self.convolutions(transforms)
        return x.flatten(1) if self.flatten else x.mean(dim=2)


class Peaks(nn.Module):
    """Where on a logarithmic axis two transforms peak together: places vote, the mean counts.

    Parameters
    ----------
    channels : sequence of int
        The first two are halved; the others look ever further, dilated by `DILATIONS`, and add
        what they find to what they read, where they are as wide.
    axis : (T,) float
        The values' places: standardised log10 of their periods. T is a multiple of 4.
    readers : int
        Each gives every place a share of its own: one looks for the period, others may for its
        half or its double.

    Attributes
    ----------
    size : int
        F, features of a view. The first is where the first reader sees the period.

    Notes
    -----
    A reader's place is the mean of the places, each moved by what stands there, weighted by their
    shares (a softmax over places). So transforms moved along the axis move the answer by as much,
    as long as nothing is lost at its ends; and a peak that was learnt in one place is known in
    all. What else it gives is the width of the shares, the features where they are, and the
    greatest of each feature. Shown in chapter 03.
    """

    def __init__(self, channels, axis, *, readers=4):
        super().__init__()
        first, width, *others = channels
        layers = [convolution(2, first, 9), nn.MaxPool1d(2)]
        layers += [convolution(first, width, 5), nn.MaxPool1d(2)]
        for i, (a, b) in enumerate(pairwise((width, *others))):
            layer = convolution(a, b, 5, DILATIONS[i % len(DILATIONS)])
            layers.append(Added(layer) if a == b else layer)
        self.convolutions = nn.Sequential(*layers)
        last = (width, *others)[-1]
        self.shares = nn.Conv1d(last, readers, 1)
        self.moves = nn.Conv1d(last, readers, 1)
        middles = torch.tensor(axis, dtype=torch.float32).unflatten(0, (-1, HALVED)).mean(dim=1)
        self.register_buffer("middles", middles, persistent=False)
        self.size = readers * (2 + last) + last

    def forward(self, transforms):
        """(B, 2, T) -> (B, F)."""
        x = self.convolutions(transforms)  # (B, C, T / 4)
        shares = self.shares(x).softmax(dim=2)  # (B, readers, T / 4)
        place = (shares * (self.middles + self.moves(x))).sum(dim=2)
        width = (shares * (self.middles - place[..., None]).square()).sum(dim=2).sqrt()
        there = shares @ x.transpose(1, 2)  # (B, readers, C)
        return torch.cat([place, width, there.flatten(1), x.amax(dim=2)], dim=1)


class Added(nn.Module):
    """What a layer makes of x, added to x."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return x + self.layer(x)


def convolution(a, b, kernel, dilation=1):
    """From ``a`` to ``b`` channels of as many places, normalised."""
    reach = dilation * (kernel // 2)
    layer = nn.Conv1d(a, b, kernel, padding=reach, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm1d(b), nn.SiLU())
