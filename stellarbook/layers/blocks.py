"""Building blocks that more than one system uses."""

from torch import nn


class MLP(nn.Sequential):
    """Multi-layer perceptron: (Linear, GELU, Dropout) a hidden layer, then Linear.

    Parameters
    ----------
    n_in, n_out : int
        Widths of the input and the output.
    hidden : sequence of int
        Widths of the hidden layers; empty gives a linear map.
    dropout : float
        Probability that a hidden unit is dropped in training.

    Notes
    -----
    (B, n_in) -> (B, n_out). GELU: Hendrycks & Gimpel (2016), arXiv:1606.08415.
    The specialist baseline; shown in chapter 01.
    """

    def __init__(self, n_in, n_out, hidden=(384, 384, 384), dropout=0.0):
        layers, width = [], n_in
        for w in hidden:
            layers += [nn.Linear(width, w), nn.GELU(), nn.Dropout(dropout)]  # (B, w)
            width = w
        super().__init__(*layers, nn.Linear(width, n_out))  # (B, n_out)
