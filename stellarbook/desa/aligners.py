"""DualFormer and its alternatives by name, built and trained in one line.

Shown in chapters 04 and 05.
"""

from functools import partial

import torch

from stellarbook.desa.alignment_baselines import CLIP, MoCo, SimSiam, VICReg
from stellarbook.desa.alignment_training import align
from stellarbook.desa.dualformer import PAPER, SMALL, DualFormer
from stellarbook.learn.processes import stream

ALIGNERS = {
    "DualFormer": DualFormer,
    "MoCo": MoCo,
    "MoCo-clean": partial(MoCo, clean=True),
    "SimSiam": SimSiam,
    "VICReg": VICReg,
    "CLIP": CLIP,
}
SIZES = {"small": SMALL, "paper": PAPER}
# One dial of each that is searched beside its learning rate and weight decay, and its choices.
DIALS = {
    "DualFormer": ("dropout", (0.0, 0.1)),
    "MoCo": ("temperature", (0.05, 0.2)),
    "MoCo-clean": ("temperature", (0.05, 0.2)),
    "SimSiam": ("dropout", (0.0, 0.1)),
    "VICReg": ("covariance", (0.1, 1.0)),
    "CLIP": ("temperature", (0.05, 0.2)),
}
TRAINING = ("lr", "weight_decay")  # settings of the training
LOSS = ("spread", "cross", "share")  # of DualFormer's loss; all others are the model's


def build(name, settings, train, seed=0):
    """Begin an aligner for tokens like those of ``train``.

    Parameters
    ----------
    name : str
        Of `ALIGNERS`.
    settings : dict
        Of the model; those of its training and loss are left aside.
    train : Pairs
        Whose widths count.
    seed : int
        Of the first weights.

    Returns
    -------
    module

    Raises
    ------
    KeyError
        For another name.

    Notes
    -----
    Shown in chapter 04.
    """
    widths = {"spectra": train.spectra.shape[2], "light_curve": train.light_curve.shape[2]}
    own = {key: x for key, x in settings.items() if key not in TRAINING + LOSS}
    with torch.random.fork_rng([]):
        torch.manual_seed(stream(seed, 71))
        return ALIGNERS[name](**widths | own)


def learn(name, settings, train, val, *, seed=0, **others):
    """Build an aligner and train it.

    Parameters
    ----------
    name, settings, train, seed
        Of `build`; ``settings`` also of the training (`TRAINING`) and of DualFormer's loss
        (`LOSS`).
    val : Pairs
    **others
        Of `alignment_training.align`.

    Returns
    -------
    module
        The trained aligner.
    History

    Raises
    ------
    KeyError, ValueError, CheckpointError
        As `build` and `align`.

    Notes
    -----
    Shown in chapter 04.
    """
    model = build(name, settings, train, seed)
    training = {key: settings[key] for key in TRAINING if key in settings}
    weights = {key: settings[key] for key in LOSS if key in settings}
    options = {"weights": weights, "seed": stream(seed, 72), **training, **others}
    return model, align(model, train, val, **options)
