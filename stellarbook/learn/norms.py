"""The statistics of BatchNorm, measured anew after a training. Shown in chapters 02 and 03."""

import torch
from torch import nn

from stellarbook.learn.processes import pick_device


def measure_norms(model, read, n, *, most=12_800, seed=0, batch_size=512, device="auto"):
    """Measure the statistics of BatchNorm anew, without dropout.

    What a training leaves are moving averages over the last few hundred stars: their noise is a
    bias of everything that the network reads.

    Parameters
    ----------
    model : module
        In place; it comes back in eval mode, on the device.
    read : callable
        ``(index) -> …``: shows the model the stars at these positions, on the device.
    n : int
        Stars like those that it was trained on.
    most : int
        Of these, drawn at random.
    seed : int
        Of the draw.
    batch_size : int
        Stars at a time, at most.
    device : str
        See `pick_device`.

    Notes
    -----
    Wu & Johnson (2021), arXiv:2105.07576, section 3. Shown in chapter 02.
    """
    model.to(pick_device(device)).eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:most]
    with torch.no_grad():
        for part in order.tensor_split(-(-len(order) // batch_size)):  # of equal weight
            read(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
