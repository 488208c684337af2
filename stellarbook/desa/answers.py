"""What DESA's two encoders share: quantiles of labels as their answer, and how they are kept.

An encoder has ``settings``, the arguments that made it; ``scale``, the units of its labels;
``margins`` of their intervals, from `stellarbook.learn.conformal.calibrate`; ``metadata``.
Shown in chapters 02 and 03.
"""

from dataclasses import asdict

import numpy as np
import torch

from stellarbook.learn.checkpoint import CheckpointError, load_weights, save_weights
from stellarbook.learn.conformal import QUANTILES, calibrated
from stellarbook.learn.processes import pick_device
from stellarbook.learn.scales import Labels


def answers(head, x, labels):
    """Apply a head -> (B, labels, levels), in 32 bits: 16 would round Teff to 20 K."""
    with torch.autocast(x.device.type, enabled=False):
        return head(x.float()).unflatten(1, (labels, len(QUANTILES)))


def restore(scale, quantiles):
    """(n, labels, levels) standardised -> in the labels' own units."""
    return np.moveaxis(scale.restore(np.moveaxis(quantiles, 2, 0)), 0, 2)


def run(model, function, x, batch_size=512, device="auto"):
    """Apply a function of batches to (n, …), in eval mode and without gradients -> numpy.

    Of several tensors, a tuple of (n, …), the function takes a batch of each. The model is moved
    to the device; its mode is given back.
    """
    x = x if isinstance(x, tuple) else (x,)
    training = model.training
    model.to(device := pick_device(device)).eval()
    try:
        with torch.no_grad():
            parts = [
                function(*(part.to(device).float() for part in some)).cpu()
                for some in zip(*(one.split(batch_size) for one in x), strict=True)
            ]
    finally:
        model.train(training)
    return torch.cat(parts).numpy()


def intervals(encoder, raw, labels):
    """Columns of a table: medians, ``<label>_lo50, _hi50, _lo80, _hi80``, calibrated.

    Parameters
    ----------
    encoder : with ``scale`` and ``margins``
    raw : (n, labels, levels) array
        Standardised quantiles.
    labels : sequence of str

    Returns
    -------
    dict of str to (n,) array
    """
    values = calibrated(restore(encoder.scale, raw), encoder.margins)
    columns = {label: values[:, i, 2] for i, label in enumerate(labels)}
    for i, label in enumerate(labels):
        for name, level in (("lo50", 1), ("hi50", 3), ("lo80", 0), ("hi80", 4)):
            columns[f"{label}_{name}"] = values[:, i, level]
    return columns


def save(path, encoder, metadata, *, half):
    """Write weights, settings, scale and margins as safetensors; errors as `save_weights`."""
    about = {"settings": encoder.settings, "scale": asdict(encoder.scale)}
    about |= {"margins": encoder.margins.tolist(), "metadata": metadata or encoder.metadata}
    save_weights(path, encoder, about, half=half)


def load(path, kind):
    """Read what `save` wrote: an encoder of this kind on the CPU, in eval mode.

    Raises
    ------
    FileNotFoundError
        If there is none.
    CheckpointError
        If the file is damaged or of another model.
    """
    weights, about = load_weights(path)
    try:
        scale = Labels(**about["scale"])
        encoder = kind(**about["settings"], scale=scale)
        labels = len(encoder.margins)
        if not len(scale.centre) == len(scale.scale) == labels:
            raise ValueError(f"its scale is not of {labels} labels")
        encoder.load_state_dict(weights)
        encoder.margins = np.array(about["margins"], float).reshape(encoder.margins.shape)
        encoder.metadata = about["metadata"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold a {kind.__name__} ({error})") from error
    return encoder.eval()
