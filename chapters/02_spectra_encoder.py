# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # DESA's spectra encoder: hidden pixels, labels, honest intervals
#
# DESA reads a star in two ways, by its spectrum and by its light curve, and
# brings both into one space {cite}`kamai2025desa`. Before they can meet, each
# needs an encoder of its own. This chapter builds the one for spectra: a
# convolutional network that fills in hidden pixels, a Conformer that reads
# $T_{\rm eff}$, $\log g$ and [Fe/H] from the same features, and a calibration
# that makes its intervals hold what they say. It is trained on **simulated
# LAMOST spectra**, asked how near it comes to the information limit, and then
# carried to **real LAMOST spectra** with few labels.
#
# **The paper's claims.** Of its Table 1, on APOGEE's labels
# {cite}`kamai2025desa`:
#
# > our model performs slightly better than StarGRUNet for $T_{\rm eff}$ and
# > [Fe/H], and slightly worse for $\log g$
#
# Our verdict, with a recurrent network in StarGRUNet's manner on the same
# spectra: **{glue:text}`verdict_gru_teff`** for $T_{\rm eff}$,
# **{glue:text}`verdict_gru_feh`** for [Fe/H],
# **{glue:text}`verdict_gru_logg`** for $\log g$. Of how its errors depend on
# the signal-to-noise ratio, by which it weighs the loss, it says
#
# > the sensitivity of our results to SNR is indeed better than StarGRUNet
#
# and of intervals that were calibrated on one label scale and used on
# another,
#
# > for the APOGEE labels, the coverage is lower.
#
# Our verdicts: **{glue:text}`verdict_weight`** and
# **{glue:text}`verdict_coverage`**.
#
# **What you need.** The public archives that `make data` fetches once. No
# GPU. The section on real spectra needs LAMOST files of your own; without
# them it says how to get them and goes on. The card above says how long this
# page took, and on what.

# %% tags=["parameters"]
seed = 0  # every random stream derives from it
device = "auto"  # a GPU where there is one
n_seeds = 1  # repetitions of the trainings that are compared
size = "small"  # of the encoder; or "large", or "paper", counted below
block = "conformer"  # the published one, or "desa", the authors' variant
dropout = 0.0  # of the encoder
n_real = 8000  # training stars at most that exist, with APOGEE's labels
n_drawn = 8000  # training stars that are drawn
n_held = 600  # of each kind, to validate, to calibrate, to test
compared_size = "small"  # of the encoders that are compared
steps = 100  # optimiser steps of the trainings that are compared
long_steps = 250  # of the encoder that is published and shown
settle_share = 0.5  # as many steps again, on whole spectra
batch_size = 64  # spectra a step
lr = 2e-3  # highest learning rate
trials = 2  # settings tried for each network
trial_steps = 20  # optimiser steps of each
ablation_steps = 20  # optimiser steps of each training of the ablation
ablation_stars = 2000  # training stars of the ablation
shares = [0.0, 0.5, 1.0]  # λ: of the labels in the loss
bound_steps = 400  # optimiser steps of each reader of one kind of star
bound_stars = 24000  # spectra that it learns from
bound_noises = 500  # spectra of one star that it is judged on
input_noises = 4000  # of one star, to measure what their preparation costs
few = [50, 200, 1000]  # real stars to learn from
draws = 2  # times that these are drawn
few_epochs = 50  # passes over them
few_steps = 120  # optimiser steps at most
real_epochs = 5  # passes over all real stars

# %%
import copy
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Markdown, display
from matplotlib.ticker import NullLocator
from myst_nb import glue
from stellarbook.data import example_files, splits, survey_files, xp_apogee
from stellarbook.data.emulator import Emulator
from stellarbook.data.instruments import LAMOST
from stellarbook.data.readers import read_spectrum
from stellarbook.data.simulated import draw_labels
from stellarbook.desa import (
    spectra_baselines,
    spectra_encoder,
    spectra_input,
    spectra_training,
)
from stellarbook.desa.spectra_encoder import (
    LABELS,
    PAPER,
    SMALL,
    SpectraEncoder,
)
from stellarbook.layers import conformer
from stellarbook.learn import bounds, conformal, metrics
from stellarbook.learn.processes import stream
from stellarbook.learn.scales import Labels
from stellarbook.report import chapters, claims, figures, source
from stellarbook.report.check import check

figures.style()
pd.set_option("display.precision", 3)
NAMES = {
    "teff": r"$T_{\rm eff}$ [K]",
    "logg": r"$\log g$ [dex]",
    "feh": "[Fe/H] [dex]",
}
DIGITS = {"teff": 0, "logg": 3, "feh": 3}
INPUT = "normalise"
# Of the simulated spectra, evenly in its logarithm: the median of both arms.
# Of real spectra it is the survey's own, in the g band.
SNR = (5, 200)

# %% [markdown]
# ## The idea
#
# A spectrum $\mathbf{x}$ loses some of its pixels: they are hidden. A CNN
# turns what is left into tokens. From them, a second CNN fills the spectrum
# in, $\hat{\mathbf{x}}$, and a Conformer {cite}`gulati2020conformer` with two
# dense layers predicts quantiles $\hat q_\tau$ of each label $y$. Both tasks
# train together,
#
# $$
# L = (1-\lambda)\,\frac1N\sum_i(\hat x_i-x_i)^2
#     + \lambda\sum_\tau\max\!\big(\tau r_\tau,\,(\tau-1)r_\tau\big),
# \qquad r_\tau = y-\hat q_\tau
# $$ (eq-hybrid)
#
# (Eq. 1 of {cite:t}`kamai2025desa`; the second sum, a mean over the labels, is
# the pinball loss of {cite:t}`koenker1978`). The paper weighs each star by its
# signal-to-noise; we find further down what that does, and leave it out. The
# paper chose $\lambda$ "arbitrarily" to be one half; we try others.
#
# Quantiles learned so promise nothing. Conformal prediction does
# {cite}`romano2019cqr`: with $n$ stars held back, each scored by
# how far its label lies outside the interval,
#
# $$
# E_i=\max\!\big(\hat q_{\rm low}-y_i,\;y_i-\hat q_{\rm high}\big),
# $$ (eq-score)
#
# every interval of $1-\alpha$, here $80\,\%$ and $50\,\%$, has its ends moved
# outwards by the $\lceil(n+1)(1-\alpha)\rceil$-th smallest $E_i$ (inwards,
# where that is negative). Then a new star *of the same kind* lies inside with
# a probability of at least $1-\alpha$, however bad the network is.

# %% [markdown]
# ## The data
#
# Stars whose spectra we can simulate at labels that we know. Some exist: the
# stars of chapter 01, at the labels that APOGEE measured; split by star, as
# everywhere in this book. They are mostly giants, and none is hotter than
# {glue:text}`hottest:,.0f` K. So others are drawn, mostly dwarfs and as hot as
# {glue:text}`hottest_drawn:,.0f` K. Every star is then observed as LAMOST
# would: a velocity and the survey's error of it, dust, a response that is not
# quite known, line spreads that differ, noise, lost pixels (chapter 01). Its
# S/N is the median over both arms; that of real spectra further down is the
# survey's own, in the $g$ band: the two are not the same number.

# %%
xp = xp_apogee.load()
emulator = Emulator(LAMOST)


def population(part, real, drawn, number):
    """Labels (n, 4), whether the star exists (n,), and an S/N for each."""
    rng = np.random.default_rng(stream(seed, 20, number))
    labels = xp.table.iloc[part][[*LABELS, "alpha_m"]].to_numpy(float)
    labels = labels[emulator.inside(labels).numpy()]
    labels = labels[rng.permutation(len(labels))[:real]]
    others = draw_labels(drawn, emulator, stream(seed, 21, number))
    exists = np.arange(len(labels) + drawn) < len(labels)
    order = rng.permutation(len(exists))
    snr = np.exp(rng.uniform(*np.log(SNR), len(exists)))
    return np.concatenate([labels, others])[order], exists[order], snr


held = xp.split("val")
parts = {
    "train": (xp.split("train"), n_real, n_drawn),
    "val": (held[::2], n_held // 2, n_held // 2),  # to choose weights
    "cal": (held[1::2], n_held, n_held),  # to calibrate intervals
    "test": (xp.split("test"), n_held, n_held),
}
populations = {
    name: population(*which, i)
    for i, (name, which) in enumerate(parts.items())
}

# %% tags=["nbval-check-output"]
for name, (_, exists, _) in populations.items():
    print(f"{name}: {exists.sum()} stars that exist, {(~exists).sum()} drawn")


# %%
def simulate(name, kind=INPUT, first=None):
    """The prepared spectra of a population, or of its first stars."""
    labels, _, snr = populations[name]
    number = stream(seed, 22, list(parts).index(name))
    return spectra_input.simulated(labels[:first], snr[:first], kind, number)


samples = {name: simulate(name) for name in parts}
train, val, cal, test = samples.values()
scale = Labels.of(train.labels.numpy(), log=[0])  # Teff in its logarithm

# %% tags=["hide-input"]
has_files = survey_files.available("lamost")
lamost = survey_files.load("lamost") if has_files else None
fig, axes = plt.subplots(
    1, 2 + has_files, figsize=(8.2, 3.1), sharex=True, sharey=True
)
labels, exists, _ = populations["train"]
shown = {"APOGEE's labels": labels[exists], "drawn": labels[~exists]}
if has_files:
    shown["LASP's labels, real LAMOST"] = (
        lamost.table[[*LABELS]].dropna().to_numpy()
    )
for axis, (name, found) in zip(axes, shown.items(), strict=True):
    found = found[np.random.default_rng(seed).permutation(len(found))[:4000]]
    dots = axis.scatter(
        *found[:, :2].T,
        c=found[:, 2],
        s=2,
        vmin=-1.5,
        vmax=0.5,
        cmap="viridis",
        rasterized=True,
    )
    axis.set_title(name, fontsize=9)
    axis.set_xlabel(NAMES["teff"])
axes[0].set(xlim=(13500, 3300), ylim=(5.1, -0.1), ylabel=NAMES["logg"])
fig.colorbar(dots, ax=axes, label=NAMES["feh"])
figures.show(
    fig,
    "fig-samples",
    data="simulated stars",
    source="the second panel; elsewhere labels of real stars",
    caption="""**The stars of this chapter.** Left: training stars that exist,
    at the labels that APOGEE measured; their LAMOST spectra are simulated.
    Next: training stars that are drawn."""
    + has_files
    * """ Last: stars with real LAMOST spectra, at the labels of
    the survey's own pipeline, LASP.""",
    alt="""Kiel diagrams. APOGEE's stars are giants and cool dwarfs; the drawn
    ones fill the plane from four to twelve thousand kelvin, mostly dwarfs."""
    + has_files
    * """ The real LAMOST stars are mostly dwarfs, up to twelve
    thousand kelvin.""",
)

# %% [markdown]
# ### What the network sees
#
# The paper's preprocessing divides both arms by a polynomial and standardises
# them, as chapter 01 shows step by step. The book's other way, `normalise`,
# divides by a running percentile and keeps the blue arm and the surroundings
# of Hα. Why we do not simply follow the paper: standardising divides out how
# deep the lines are as a whole, and clipping takes the strongest away. What
# that costs is measured below. Of its red arm, besides, most of what varies in
# real spectra of F and G dwarfs is noise and our own atmosphere, which is not
# simulated; without it we lose sodium's D lines and the calcium triplet.

# %%
source.show(spectra_input.prepare)

# %% tags=["hide-input"]
kinds = {"desa": r"paper: standardised", "normalise": r"normalised, scaled"}
sun = np.array([[5772, 4.44, 0.0, 0.0]])
fig, axes = plt.subplots(2, 1, figsize=(8.2, 4.2), sharex=True)
for axis, (kind, name) in zip(axes, kinds.items(), strict=True):
    grid = spectra_input.GRIDS[kind]
    for snr, colour in ((20, "0.75"), (150, figures.PALETTE[0])):
        x = spectra_input.simulated(
            sun, [snr], kind, stream(seed, 25), progress=False
        ).x[0]
        gaps = np.flatnonzero(np.diff(grid) > 50) + 1
        for piece in np.split(np.arange(len(grid)), gaps):
            axis.plot(
                grid[piece],
                x[piece],
                color=colour,
                linewidth=0.6,
                label=f"S/N {snr}" if piece[0] == 0 else None,
            )
    axis.set_ylabel(name)
axes[0].legend(ncols=2, loc="lower right")
axes[1].set_xlabel("rest wavelength in vacuum [Å]")
figures.show(
    fig,
    "fig-inputs",
    data="simulated stars",
    source="the Sun as LAMOST would see it",
    caption="""**Two ways to prepare a spectrum.** The Sun at two
    signal-to-noise ratios. Top: the paper's way, each arm with a mean of 0
    and a standard deviation of 1. Bottom: over its continuum, minus 1, in
    units of a fixed spread. Of the red arm only Hα is kept.""",
    alt="""Two panels of spectra against wavelength. In the upper one both
    arms have the same spread, and the red arm is noise with a few lines. In
    the lower one lines hang from zero.""",
)

# %% [markdown]
# ## The model
#
# Convolutions and poolings make tokens of pixels; the decoder goes the same
# way back. The labels are read through Conformer blocks with rotary positions
# {cite}`su2021rotary`. These know how far two tokens are apart, not where in
# the spectrum they are. The authors' code adds all tokens up before the dense
# layers (the paper does not say), so that the place of a line is known only as
# far as its surroundings give it away. Our small encoder gives each token
# weights of its own (`pooling="flatten"`); their way is one of the ablations,
# and below it is compared in full.

# %%
source.show(SpectraEncoder)

# %% [markdown]
# The Conformer of {cite:t}`gulati2020conformer` is a macaron: between two
# halves of a dense layer lie attention, which relates any two pieces of the
# spectrum, and a gated convolution over each feature by itself, which relates
# neighbours; each with a norm before it. What DESA's authors run under that
# name has no halves and no gate, a convolution over all features at once, and
# its norms afterwards. Both are here.

# %%
source.show(conformer.ConformerBlock.forward)

# %%
source.show(conformer.DesaBlock.forward)

# %% tags=["hide-input", "nbval-check-output"]
SIZES = {
    "small": SMALL,
    "large": SMALL
    | {"stem": 64, "stride": 2, "channels": (64, 128, 256, 256, 256)}
    | {"blocks": 4, "heads": 8, "head": 512},
    "paper": PAPER,
}


def weights(module):
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())


counts = {}
for name, options in SIZES.items():
    for kind in spectra_encoder.BLOCKS:
        with torch.device("meta"):  # counted without taking memory
            each = SpectraEncoder(**options, block=kind, input=INPUT)
        counts[f"{name}, {kind}"] = {
            "CNN": weights(each.cnn),
            "Conformer": weights(each.conformer),
            "decoder": weights(each.decoder),
            "head": weights(each.head),
            "all": weights(each),
        }
print(pd.DataFrame(counts).T.map("{:,}".format).to_string())

# %% tags=["remove-cell"]
small = counts[f"small, {block}"]
glue("head_share", small["head"] / small["all"], display=False)
glue("paper_size", counts["paper, desa"]["all"] / 1e6, display=False)
glue(
    "paper_conformer", counts["paper, desa"]["Conformer"] / 1e6, display=False
)

# %% [markdown]
# The paper says of its two encoders
#
# > about 500M and 11M, respectively
#
# and with the authors' blocks the full size has {glue:text}`paper_size:.1f`
# million weights, {glue:text}`paper_conformer:.1f` million of them in the
# blocks, as their code has. The small encoder keeps every part, with fewer
# blocks and poolings, and narrows it; its first convolution moves on by four
# pixels at a time, and its head, which reads every token, holds
# {glue:text}`head_share:.0%` of its weights.

# %% [markdown]
# ### Where the time goes
#
# Of the small encoder on the processor: the way forward in parts; then all of
# it and the way back, without the optimiser's update.


# %%
def seconds(function, repeats=3):
    """The fastest of a few calls."""
    took = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        took.append(time.perf_counter() - started)
    return min(took)


some = train.x[:batch_size].float()
some_truth = torch.from_numpy(
    scale.standardise(train.labels[:batch_size].numpy())
).float()
timed = SpectraEncoder(
    **SIZES[compared_size], input=INPUT, block=block, scale=scale
).train()
draw = torch.Generator().manual_seed(stream(seed, 40))
tokens = timed.tokens(some).detach()
features = timed.features(tokens).detach()


def whole_step():
    """Hide, fill, read, and go back."""
    hidden, _ = spectra_training.mask_pixels(some, draw)
    filled, quantiles = timed(hidden)
    conformal.hybrid_loss(filled, some, quantiles, some_truth).backward()


profile = {
    "hiding pixels": seconds(lambda: spectra_training.mask_pixels(some, draw)),
    "CNN": seconds(lambda: timed.tokens(some)),
    "decoder": seconds(lambda: timed.fill(tokens)),
    "Conformer": seconds(lambda: timed.features(tokens)),
    "head": seconds(lambda: timed.quantiles(features)),
    "all of it, and back": seconds(whole_step),
}
profile = pd.DataFrame({"milliseconds": 1e3 * pd.Series(profile)})
profile["spectra a second"] = 1e3 * batch_size / profile.milliseconds
profile.round(1)

# %% [markdown]
# ## Training
#
# Fifteen percent of the pixels are hidden, four fifths of these under a zero,
# the others under a value that belongs to another pixel.

# %%
source.show(spectra_training.mask_pixels)

# %% tags=["nbval-check-output"]
drawn = torch.randn(
    200, 2000, generator=torch.Generator().manual_seed(stream(seed, 26))
)
hidden, masked = spectra_training.mask_pixels(
    drawn, torch.Generator().manual_seed(stream(seed, 27))
)
zeros = (hidden == 0) & masked
print(f"hidden: {masked.float().mean():.3f} of the pixels")
print(f"under a zero: {zeros.sum() / masked.sum():.3f} of these")

# %%
place = chapters.run_folder() / "checkpoints" / "02_spectra_encoder"


def fresh(number=seed, size=compared_size, **changes):
    """An encoder with new weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(stream(seed, 23, number))
        options = {"input": INPUT, "block": block, "scale": scale}
        options |= {"dropout": dropout}
        return SpectraEncoder(**SIZES[size] | options | changes)


def learn(
    name,
    model,
    steps,
    lr,
    number=seed,
    data=(train, val),
    weighted=False,
    **changes,
):
    """The paper's training, then some steps on whole spectra.

    Returns the encoder as it was in between, and what it made of the
    validation spectra then, with the histories of both.
    """
    common = {"batch_size": batch_size, "device": device}
    common |= {"validate_every": max(1, steps // 8)}
    common |= {"seed": stream(seed, 24, number), "progress": name}
    history = spectra_training.pretrain(
        model,
        *data,
        steps=steps,
        lr=lr,
        weighted=weighted,
        checkpoint=place / f"{name}.pt",
        **common,
        **changes,
    )
    filler = copy.deepcopy(model)
    with_holes = spectra_training.quantiles(model, data[1])
    settling = spectra_training.train_on_labels(
        model,
        *data,
        steps=max(1, round(settle_share * steps)),
        lr=lr / 2,
        weighted=weighted,
        checkpoint=place / f"{name}-settled.pt",
        **common,
    )
    return filler, history, with_holes, settling


encoder = fresh(size=size)
filler, history, with_holes, settling = learn(
    "published", encoder, long_steps, lr=lr
)
as_left = copy.deepcopy(encoder)
spectra_training.measure_norms(encoder, train, device=device)

# %% tags=["remove-cell"]
labels, exists, _ = populations["train"]
glue("hottest", float(labels[exists, 0].max()), display=False)
glue("hottest_drawn", float(labels[~exists, 0].max()), display=False)
glue("settle_share", settle_share, display=False)
glue(
    "times_smaller",
    counts["paper, desa"]["all"] / weights(encoder),
    display=False,
)
glue("minutes", history.seconds / 60, display=False)
glue("settle_minutes", settling.seconds / 60, display=False)
glue("long_steps", long_steps, display=False)
glue("short_steps", steps, display=False)
glue("few_steps", few_steps, display=False)
glue("weights", weights(encoder), display=False)

# %% [markdown]
# The encoder of {glue:text}`weights:,.0f` weights took
# {glue:text}`minutes:.1f` minutes for {glue:text}`long_steps:,.0f` steps, and
# {glue:text}`settle_minutes:.1f` more to settle (a finished training is read
# from its checkpoint, so the card above may not include this). The encoders
# that are compared below had {glue:text}`short_steps:,.0f` steps with holes
# and {glue:text}`settle_share:.2f` times as many on whole spectra; the other
# networks as many in all, on whole spectra.

# %% tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.0))
for axis, shown, name in (
    (left, history.to_frame(), "hybrid loss, spectra with holes"),
    (right, settling.to_frame(), "pinball loss, whole spectra"),
):
    smooth = shown.loss.rolling(5, min_periods=1).mean()
    axis.plot(shown.step, smooth, linewidth=0.8, alpha=0.7, label="training")
    tested = shown.dropna(subset="validation")
    axis.plot(
        tested.step, tested.validation, "o-", markersize=3, label="validation"
    )
    axis.set(xlabel="step", ylabel=name, yscale="log")
    figures.plain_ticks(axis)
left.legend()
figures.show(
    fig,
    "fig-training",
    data="simulated spectra of real stars",
    source="and of drawn stars",
    caption="""**Training.** Left: the paper's training, {eq}`eq-hybrid`, on
    spectra with hidden pixels. Right: the steps that follow, on whole spectra
    and labels alone.""",
    alt="""Two panels of loss against step, training and validation.""",
)

# %% [markdown]
# ### Trained on holes, asked about whole spectra
#
# Most hidden pixels become 0, which in a normalised spectrum is the continuum:
# a spectrum with holes has shallower lines. The network learns
# to make up for that, and when it is then asked about a whole spectrum it
# makes up for what is not there. The paper does not mention it. Some more
# steps on whole spectra, {glue:text}`settle_share:.2f` times as many, are
# meant to mend it; the table shows whether they do. Every network of this
# chapter that was trained with holes gets them.


# %%
def median(found):
    """The middle one of the quantiles, (n, labels)."""
    return found[..., len(conformal.QUANTILES) // 2]


def predict(model, sample=test):
    """Medians of a sample's labels, (n, labels)."""
    return median(spectra_training.quantiles(model, sample))


before = {
    "holes only": with_holes,
    "settled": spectra_training.quantiles(as_left, val),
    "norms measured": spectra_training.quantiles(encoder, val),
}
truth = val.labels.numpy()
bright = (val.snr > 50).numpy()
holes = pd.DataFrame(
    {
        (name, measure): {
            NAMES[label]: function((median(found) - truth)[bright, j])
            for j, label in enumerate(LABELS)
        }
        for name, found in before.items()
        for measure, function in (
            ("median error", np.median),
            ("scatter", metrics.mad_std),
        )
    }
)
holes

# %% tags=["remove-cell"]
for name in before:
    found = holes[name, "median error"]
    glue(f"teff_{name.split()[0]}_median", float(found.iloc[0]), display=False)
    glue(f"feh_{name.split()[0]}_median", float(found.iloc[2]), display=False)

# %% [markdown]
# Of the validation stars with S/N > 50. In [Fe/H] the median error is
# {glue:text}`feh_holes_median:+.3f` dex before and
# {glue:text}`feh_settled_median:+.3f` dex after. (The scatter would fall with
# more steps of any kind.)
#
# A second bias can be BatchNorm's. Read out, it divides by moving averages
# over the features of the last few hundred spectra, and the noise of these
# moves all stars together. So its statistics are measured anew, on many more
# spectra {cite}`wu2021batch`: the median error in $T_{\rm eff}$ is
# {glue:text}`teff_norms_median:+.0f` K where it was
# {glue:text}`teff_settled_median:+.0f` K. One training may gain or lose by it;
# what is gone is the luck of the last few batches. This is done to every
# network that is judged below, but in the ablations and in the search for
# settings.

# %% [markdown]
# ### Filling in
#
# What the decoder makes of spectra of which it was shown a part. (It belongs
# to the encoder before it settled: the steps on labels alone move the
# features away from it.)

# %% tags=["hide-input"]
labels, exists, snr = populations["test"]
grid = spectra_input.GRIDS[INPUT]
wanted = {  # whether it exists, Teff, log g
    "K giant": (True, 4600, 2.4),
    "G dwarf": (True, 5700, 4.4),
    "A star, drawn": (False, 8500, 4.2),
}
fig, axes = plt.subplots(len(wanted), 1, figsize=(8.2, 5.4), sharex=True)
window = (grid > 4820) & (grid < 5220)
for axis, (name, (real_one, teff, logg)) in zip(
    axes, wanted.items(), strict=True
):
    apart = (
        np.abs(np.log(labels[:, 0] / teff)) / 0.05
        + np.abs(labels[:, 1] - logg) / 0.3
        + np.abs(np.log(snr / 40))
    )
    row = np.argmin(np.where(exists == real_one, apart, np.inf))
    clean = test.x[row : row + 1].float()
    hidden, masked = spectra_training.mask_pixels(
        clean, torch.Generator().manual_seed(stream(seed, 28))
    )
    filled = spectra_encoder.run(filler, lambda x: filler(x)[0], hidden)[0]
    shown, lost = clean[0].numpy(), masked[0].numpy() & window
    axis.plot(grid[window], shown[window], color="0.7", linewidth=0.9)
    axis.plot(grid[window], filled[window], linewidth=1.0)
    axis.plot(
        grid[lost], shown[lost], "o", markersize=3, color=figures.PALETTE[1]
    )
    axis.set_title(f"{name}, S/N {snr[row]:.0f}", loc="left", fontsize=8)
    axis.set_ylabel("prepared flux")
axes[-1].set_xlabel("rest wavelength in vacuum [Å]")
figures.show(
    fig,
    "fig-filled",
    data="simulated spectra of real stars",
    source="and of a drawn star, below",
    caption="""**Hidden pixels filled in**, around Hβ and Mg b. Grey: the
    spectrum. Orange: the pixels that were hidden. Blue: what the decoder
    makes of the others.""",
    alt="""Three spectra with points at the hidden pixels, and over each a
    line, the decoder's.""",
)

# %%
hidden, masked = spectra_training.mask_pixels(
    test.x.float(), torch.Generator().manual_seed(stream(seed, 29))
)
filled = spectra_encoder.run(filler, lambda x: filler(x)[0], hidden)
clean, masked = test.x.float().numpy(), masked.numpy()
steady = (test.snr > 100).numpy()
# Hidden between two that are not; not at the ends of the arms.
between = masked & ~np.roll(masked, 1, 1) & ~np.roll(masked, -1, 1)
between[:, [0, 1789, 1790, -1]] = False


def rms(error):
    """Root mean square, in units of the continuum."""
    return float(np.sqrt(np.mean(error**2)) * spectra_input.SPREAD)


fills = {
    "filled": rms((filled - clean)[steady][masked[steady]]),
    "mean spectrum": rms(
        (clean - train.x.float().mean(0).numpy())[steady][masked[steady]]
    ),
    "neighbours": rms(
        (0.5 * (np.roll(clean, 1, 1) + np.roll(clean, -1, 1)) - clean)[steady][
            between[steady]
        ]
    ),
}

# %% tags=["remove-cell"]
for key, value in fills.items():
    glue(f"fill_{key.split()[0]}", value, display=False)

# %% [markdown]
# Where the spectrum has S/N > 100, so that noise is small, hidden pixels are
# filled in to {glue:text}`fill_filled:.4f` of the continuum.
# The mean of the training spectra misses them by {glue:text}`fill_mean:.4f`,
# the mean of a pixel's two neighbours, where both are seen, by
# {glue:text}`fill_neighbours:.4f`.

# %% [markdown]
# ## Does it work?
#
# ### Baselines first
#
# Ridge regression on principal components; a plain CNN, StarNet
# {cite}`fabbro2018starnet`; a recurrent network in the manner of StarGRUNet
# {cite}`li2023stargrunet`, which the paper compares itself with. All see the
# same spectra and labels; the networks learn the same quantiles and take as
# many steps. First each network is tuned, by as many trials, on validation
# stars; the trials are shorter and see fewer stars than the trainings that
# follow. Ridge tries a whole grid. The encoders with weights and averages take
# the settings that were found for ours, which favours the recurrent network.
# One encoder, a control, learns from labels alone, as the baselines do: no
# pixel is ever hidden from it.

# %%
source.show(spectra_baselines.SpectraGRU)

# %%
few_train = train[: min(ablation_stars, len(train))]
networks = {
    "encoder": fresh,
    "plain CNN": lambda number, width: spectra_baselines.PlainCNN(
        input=INPUT, scale=scale, dense=(width, width // 2)
    ),
    "GRU": lambda number, d: spectra_baselines.SpectraGRU(
        input=INPUT, scale=scale, d=d
    ),
    "encoder, labels alone": fresh,
}
dials = {
    "encoder": ("dropout", [0.0, 0.1]),
    "plain CNN": ("width", [128, 256]),
    "GRU": ("d", [48, 64]),
    "encoder, labels alone": ("dropout", [0.0, 0.1]),
}


def made(
    name, settings, label, steps, number=seed, data=(train, val), **changes
):
    """A trained network, of as many steps in all as the others."""
    settings = dict(settings)
    lr = settings.pop("lr")
    with torch.random.fork_rng([]):
        torch.manual_seed(stream(seed, 30, number))
        model = networks[name](number, **settings)
    label = f"{name.replace(',', '').replace(' ', '-')}-{label}"
    if name == "encoder":
        learn(label, model, steps, lr, number, data, **changes)
    else:
        spectra_training.train_on_labels(
            model,
            *data,
            steps=steps + max(1, round(settle_share * steps)),
            lr=lr,
            batch_size=batch_size,
            validate_every=max(1, steps // 8),
            device=device,
            seed=stream(seed, 31, number),
            checkpoint=place / f"{label}.pt",
            progress=label,
        )
    return model


def attempt(name):
    """What a trial of the search does: ask for settings, train."""

    def train_one(trial):
        dial, choices = dials[name]
        settings = {
            "lr": trial.suggest_float("lr", 5e-4, 8e-3, log=True),
            dial: trial.suggest_categorical(dial, choices),
        }
        data = few_train, val
        return made(
            name, settings, f"trial-{trial.number}", trial_steps, data=data
        )

    return train_one


searches, best = {}, {}
for name in networks:
    searches[name], best[name] = spectra_baselines.search(
        attempt(name), val, trials=trials, seed=seed
    )
ridge = spectra_baselines.RidgePCA(train, val, seed=seed)
pd.concat(searches, names=["network", "trial"]).sort_values(
    ["network", "mae"]
).groupby("network").head(3)

# %%
seeds = range(seed, seed + n_seeds)
compared = {
    name: [made(name, best[name], f"seed-{n}", steps, n) for n in seeds]
    for name in networks
}
for name, changes in {
    "encoder, weighted by S/N": {},
    "encoder, weighted, tokens averaged": {"pooling": "mean"},
}.items():
    label = "averaged" if changes else "weighted"
    settings = best["encoder"] | changes
    compared[name] = [
        made("encoder", settings, f"{label}-{n}", steps, n, weighted=True)
        for n in seeds
    ]
for models in compared.values():
    for model in models:
        spectra_training.measure_norms(model, train, device=device)
truth = test.labels.numpy()
exists = populations["test"][1]


def mae(prediction, which=slice(None)):
    """Mean absolute errors, one a label."""
    return np.abs(prediction - truth)[which].mean(axis=0)


guesses = {"ridge on PCA": [ridge.predict(test)]}
guesses |= {name: [predict(m) for m in ms] for name, ms in compared.items()}
guesses["encoder, published"] = [predict(encoder)]
real_errors, all_errors = (
    {
        name: np.stack([mae(each, which) for each in found])
        for name, found in guesses.items()
    }
    for which in (exists, slice(None))
)


# %% tags=["hide-input"]
def written(values, label):
    """Mean and spread over seeds, in the label's digits."""
    text = f"{values.mean():.{DIGITS[label]}f}"
    if len(values) > 1:
        text += f" ± {values.std(ddof=1):.{DIGITS[label]}f}"
    return text


pd.DataFrame(
    {
        (group, NAMES[label]): {
            name: written(found[:, j], label) for name, found in rows.items()
        }
        for group, rows in (
            ("stars that exist", real_errors),
            ("with those drawn", all_errors),
        )
        for j, label in enumerate(LABELS)
    }
)

# %% [markdown]
# Mean absolute errors on test stars, over all signal-to-noise ratios. The
# paper's Table 1 has, in the same order of labels,
#
# > StarGRUNet 93.77 0.162 0.070
#
# > DESA (ours) 91.56 0.168 0.069
#
# Its labels are APOGEE's too, but its spectra are real and its training labels
# LASP's: its errors hold the difference of two label scales, which ours do
# not. So the numbers cannot be compared. The order can be asked of ours; but
# theirs rests on differences of one to four per cent, and our recurrent
# network is not StarGRUNet. The verdicts of the introduction, but for that on
# coverage, are of the encoder with the paper's weights and the authors'
# averages, the last row but one; its block, its preprocessing and its steps on
# whole spectra are ours.
#
# Judged by the spread over seeds (with one seed nothing is decided), our
# encoder beats the baselines beyond two standard errors in:
# {glue:text}`wins`. It does not in: {glue:text}`losses`. With weights and
# averages it does in: {glue:text}`wins_paper`; not in:
# {glue:text}`losses_paper`. The plain CNN does well with a fraction of the
# arithmetic. It shares with our encoder a dense layer that knows the place of
# every line, and is spared the steps on spectra with holes. What these cost
# the encoder shows the control, which learns from labels alone; what more
# steps bring it is in the last row.

# %% tags=["remove-cell"]
for key, row in (("", "encoder"), ("_paper", list(compared)[-1])):
    wins, losses = [], []
    for j, label in enumerate(LABELS):
        ours = real_errors[row][:, j]
        for name in ("ridge on PCA", "plain CNN", "GRU"):
            other = real_errors[name][:, j]
            error = np.sqrt(
                sum(
                    x.var(ddof=1) / len(x) if len(x) > 1 else 0
                    for x in (ours, other)
                )
            )
            won = len(ours) > 1 and other.mean() - ours.mean() > 2 * error
            (wins if won else losses).append(
                f"{NAMES[label].split(' [')[0]} ({name})"
            )
    glue(f"wins{key}", ", ".join(wins) or "nothing", display=False)
    glue(f"losses{key}", ", ".join(losses) or "nothing", display=False)

# %% tags=["nbval-check-output"]
for j, label in enumerate(LABELS):
    value = all_errors["encoder, published"][0, j]
    check(f"02_spectra_encoder: MAE of {label}", value)
check(
    "02_spectra_encoder: ridge, MAE of teff", all_errors["ridge on PCA"][0, 0]
)

# %% tags=["remove-cell"]
for j, label in enumerate(LABELS):
    claims.record(
        f"desa.spectra.{label}_mae",
        real_errors["encoder, published"][:, j],
        n=int(exists.sum()),
        data="simulated spectra of real stars",
    )
    # Differences in the direction that the paper claims.
    sign = -1 if label == "logg" else 1
    theirs = real_errors["encoder, weighted, tokens averaged"][:, j]
    gain = sign * (real_errors["GRU"][:, j] - theirs)
    verdict = claims.record(
        f"desa.spectra.against_gru_{label}",
        gain,
        n=int(exists.sum()),
        data="simulated spectra of real stars",
    )
    glue(f"verdict_gru_{label}", verdict["status"], display=False)

# %% [markdown]
# ### Intervals
#
# The quantiles are calibrated on stars that were held back for it, by
# {eq}`eq-score`.

# %%
source.show(conformal.calibrate)


# %%
def calibrated(sample, margins):
    """Quantiles of a sample, (n, labels, levels), widened by margins."""
    raw = spectra_training.quantiles(encoder, sample)
    return conformal.calibrated(raw, margins)


raw = spectra_training.quantiles(encoder, cal)
encoder.margins = conformal.calibrate(cal.labels.numpy(), raw)
predicted = calibrated(test, encoder.margins)
coverage = {
    "simulated, as learned": conformal.covered(
        truth, spectra_training.quantiles(encoder, test)
    ),
    "simulated, calibrated": conformal.covered(truth, predicted),
}


# %% tags=["hide-input"]
def draw_predictions(axes, truth, predicted, limits, scale="true"):
    """Predicted against true with both intervals; one panel a label."""
    order = np.random.default_rng(seed).permutation(len(truth))
    for j, (axis, label) in enumerate(zip(axes, LABELS, strict=True)):
        low, high = limits[label]
        axis.plot((low, high), (low, high), color="black", linewidth=0.7)
        for level, colour, width in ((0, "#CC79A7", 1.0), (1, "0.45", 2.0)):
            some = order[:60]
            axis.vlines(
                truth[some, j],
                predicted[some, j, level],
                predicted[some, j, -1 - level],
                color=colour,
                linewidth=width,
                alpha=0.8,
            )
        axis.plot(
            truth[order[:1500], j],
            predicted[order[:1500], j, 2],
            ".",
            markersize=1.2,
            color=figures.PALETTE[0],
            rasterized=True,
        )
        axis.set(xlim=(low, high), ylim=(low, high))
        axis.set_xlabel(f"{scale} {NAMES[label]}")
    axes[0].set_ylabel("predicted")


LIMITS = {"teff": (3500, 12500), "logg": (-0.2, 5.4), "feh": (-2.7, 0.8)}
fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.0))
draw_predictions(axes, truth, predicted, LIMITS)
figures.show(
    fig,
    "fig-predictions",
    data="simulated spectra of real stars",
    source="and of drawn stars; test stars",
    caption="""**Labels of the same scale**, after the upper row of the
    paper's Fig. 5. Points: the median for each test star. Lines, for some of
    them: the calibrated 80 % (pink) and 50 % (grey) intervals.""",
    alt="""Predicted against true temperature, surface gravity and
    metallicity: points about the diagonal, some with vertical intervals.""",
)

# %% tags=["nbval-check-output"]
for label, pair in zip(LABELS, coverage["simulated, calibrated"], strict=True):
    check(f"02_spectra_encoder: coverage of 80 %, {label}", pair[0])

# %% tags=["remove-cell"]
for key, name in (("raw", "as learned"), ("calibrated", "calibrated")):
    inside = coverage[f"simulated, {name}"]
    for i, level in enumerate((80, 50)):
        low, high = float(inside[:, i].min()), float(inside[:, i].max())
        glue(f"covered_{key}_{level}_low", low, display=False)
        glue(f"covered_{key}_{level}_high", high, display=False)
glue("n_cal", len(cal), display=False)
glue("n_test", len(test), display=False)

# %% [markdown]
# Calibrated on {glue:text}`n_cal` stars, the wide intervals hold
# {glue:text}`covered_calibrated_80_low:.1%` to
# {glue:text}`covered_calibrated_80_high:.1%` of the {glue:text}`n_test` test
# stars (they should hold $80\,\%$), depending on the label; as learned they
# held {glue:text}`covered_raw_80_low:.1%` to
# {glue:text}`covered_raw_80_high:.1%`. The narrow ones, which should hold
# half, hold {glue:text}`covered_calibrated_50_low:.1%` to
# {glue:text}`covered_calibrated_50_high:.1%`. The promise is of the mean over
# all stars like those that calibrated: among faint stars alone, say, or hot
# ones, the share may be another.

# %% [markdown]
# ### Signal-to-noise
#
# The paper weighs each star's loss by its S/N and credits the weights with
# results that depend less on it. The encoder was trained with them too, all
# else equal. (Weights that favour bright stars can hardly help faint ones; and
# a ratio of errors speaks against whoever is good at bright stars.)

# %%
edges = np.array([5, 10, 20, 40, 80, 200])


def by_snr(found):
    """Mean absolute error in bins of S/N, stars that exist, (bins, labels)."""
    bins = np.where(exists, np.digitize(test.snr.numpy(), edges) - 1, -1)
    return np.stack([mae(found, bins == i) for i in range(len(edges) - 1)])


curves = {
    "encoder": guesses["encoder"],
    "weighted by S/N": guesses["encoder, weighted by S/N"],
    "weighted, averaged": guesses["encoder, weighted, tokens averaged"],
    "GRU": guesses["GRU"],
    "ridge on PCA": guesses["ridge on PCA"],
    "published": guesses["encoder, published"],
}
curves = {name: [by_snr(g) for g in each] for name, each in curves.items()}

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.0))
middle = np.sqrt(edges[1:] * edges[:-1])
for j, (axis, label) in enumerate(zip(axes, LABELS, strict=True)):
    for colour, (name, found) in zip(
        figures.PALETTE, curves.items(), strict=False
    ):
        mean = np.mean(found, axis=0)[:, j]
        axis.plot(middle, mean, "o-", color=colour, markersize=3, label=name)
        if len(found) > 1:
            spread = np.std(found, axis=0, ddof=1)[:, j]
            axis.fill_between(
                middle, mean - spread, mean + spread, color=colour, alpha=0.15
            )
    axis.set(xscale="log", yscale="log", xlabel="S/N")
    axis.set_title(f"MAE of {NAMES[label]}", fontsize=9)
    axis.set_xticks([5, 10, 20, 50, 100, 200], [5, 10, 20, 50, 100, 200])
    axis.xaxis.set_minor_locator(NullLocator())
    figures.plain_ticks(axis)
figures.legend_above(axes[0], 3)
figures.show(
    fig,
    "fig-snr",
    data="simulated spectra of real stars",
    source="test stars",
    caption="""**Error against signal-to-noise**, after the paper's Fig. 14.
    Shaded: the spread over seeds. The published encoder was trained for
    longer, with the learning rate and the dropout of the parameters' cell
    instead of tuned ones.""",
    alt="""Mean absolute errors of three labels against signal-to-noise, one
    curve a method, with shaded spreads.""",
)


# %% tags=["remove-cell"]
def sensitivity(found):
    """How much worse the faintest are than the brightest, mean of labels."""
    return float(np.mean(np.log(found[0] / found[-1])))


slopes = {
    name: np.array([sensitivity(each) for each in found])
    for name, found in curves.items()
}
verdict = claims.record(
    "desa.spectra.snr_sensitivity",
    slopes["GRU"] - slopes["weighted, averaged"],
    n=int(exists.sum()),
    data="simulated spectra of real stars",
)
claims.record(
    "desa.spectra.snr_weight",
    slopes["encoder"] - slopes["weighted by S/N"],
    n=int(exists.sum()),
    data="simulated spectra of real stars",
)
glue("verdict_weight", verdict["status"], display=False)
for key, name in (
    ("weighted", "weighted by S/N"),
    ("unweighted", "encoder"),
    ("paper", "weighted, averaged"),
    ("gru", "GRU"),
):
    glue(f"slope_{key}", float(np.exp(slopes[name].mean())), display=False)

# %% [markdown]
# From the brightest bin to the faintest, errors grow by a factor of
# {glue:text}`slope_weighted:.1f` with the weights, of
# {glue:text}`slope_unweighted:.1f` without, of {glue:text}`slope_paper:.1f`
# with weights and averages, and of {glue:text}`slope_gru:.1f`
# for the recurrent network (geometric mean over labels and seeds).

# %% [markdown]
# ## Does it work for the right reason?
#
# Put the training stars' mean in place of a piece of the spectrum and see
# which label suffers: what a network reads should be where the lines are.

# %%
rows = np.flatnonzero((test.snr.numpy() > 60) & exists)[:400]
bright = test[rows]
grid = spectra_input.GRIDS[INPUT]
width = 32  # pixels
starts = np.arange(0, len(grid) - width, width)
usual = train.x.float().mean(0).half()
reference = np.abs(predict(encoder, bright) - bright.labels.numpy()).mean(0)
worse = []
for start in starts:
    hidden = bright.x.clone()
    hidden[:, start : start + width] = usual[start : start + width]
    part = spectra_input.SpectraSample(hidden, bright.labels, bright.snr)
    error = np.abs(predict(encoder, part) - bright.labels.numpy()).mean(0)
    worse.append(error / reference - 1)
worse = np.stack(worse)  # (pieces, labels)

# %% tags=["hide-input"]
LINES = {
    "Hδ": 4102.9,
    "Hγ": 4341.7,
    "Hβ": 4862.7,
    "Mg b": 5176.0,
    "Ca I": 4227.9,
    "Ca K": 3934.8,
    "Hα": 6564.6,
}
fig, axes = plt.subplots(
    3, 2, figsize=(8.4, 4.6), sharex="col", sharey="row", width_ratios=[7, 1]
)
for j, (row, label) in enumerate(zip(axes, LABELS, strict=True)):
    for axis, low, high in ((row[0], 3840, 5805), (row[1], 6435, 6705)):
        inside = (grid[starts] > low) & (grid[starts] < high)
        axis.bar(
            grid[starts][inside],
            100 * worse[inside, j],
            width=np.diff(grid)[starts][inside] * width,
            align="edge",
            color=figures.PALETTE[j],
        )
        axis.set_xlim(low, high)
        for name, line in LINES.items():
            if low < line < high:
                axis.axvline(line, color="0.6", linewidth=0.6, zorder=0)
                if j == 0:
                    axis.text(
                        line,
                        1.03,
                        name,
                        transform=axis.get_xaxis_transform(),
                        ha="center",
                        fontsize=7,
                    )
    row[0].set_ylabel(f"{NAMES[label].split(' [')[0]}:\ngrowth of MAE [%]")
axes[-1, 0].set_xlabel("hidden wavelengths, at rest in vacuum [Å]")
figures.show(
    fig,
    "fig-hidden",
    data="simulated spectra of real stars",
    source="test stars, S/N > 60",
    caption="""**What each label is read from.** How much the mean absolute
    error grows when a piece of the spectrum is that of the mean star, for
    stars that exist.""",
    alt="""Bars against wavelength for three labels; vertical lines mark known
    absorption lines.""",
)

# %% tags=["remove-cell"]
for j, label in enumerate(LABELS):
    top = int(np.argmax(worse[:, j]))
    ends = grid[starts[top]], grid[starts[top] + width - 1]
    glue(f"piece_{label}", "{:.0f}–{:.0f}".format(*ends), display=False)
    glue(f"growth_{label}", float(worse[top, j]), display=False)

# %% [markdown]
# $T_{\rm eff}$ suffers most without {glue:text}`piece_teff` Å
# ({glue:text}`growth_teff:+.0%`), $\log g$ without {glue:text}`piece_logg` Å
# ({glue:text}`growth_logg:+.0%`), [Fe/H] without {glue:text}`piece_feh` Å
# ({glue:text}`growth_feh:+.0%`).

# %% [markdown]
# ## Ablations
#
# Short trainings, {glue:text}`ablation_steps` steps with holes and
# {glue:text}`settle_share:.2f` times as many to settle, that differ in one
# thing from the first (the paper's preprocessing in several at once). Settling
# narrows the differences; so short, they rank gross effects only: ridge
# regression, with all training stars, errs by {glue:text}`ablation_ridge:.0f`
# K in $T_{\rm eff}$ on these test stars. The last two are controls: with
# shuffled labels nothing can be learned; with pixels in another order, the
# same everywhere, nothing is lost but neighbourhood.


# %%
judged = test[: min(1000, len(test))]
chosen = val[: min(250, len(val))]


def other_input(kind):
    """The ablation's stars, prepared in another way."""
    found = []
    for name, part in (
        ("train", few_train),
        ("val", chosen),
        ("test", judged),
    ):
        found.append(simulate(name, kind, first=len(part)))
    return found


def changed(sample, order=None, labels=None):
    """A sample with its pixels in another order, or with other labels."""
    x = sample.x if order is None else sample.x[:, order]
    labels = sample.labels if labels is None else sample.labels[labels]
    return spectra_input.SpectraSample(x, labels, sample.snr)


rng = np.random.default_rng(stream(seed, 32))
shuffled = rng.permutation(len(few_train))
order = rng.permutation(len(grid))
plain = few_train, chosen, judged
cases = {
    "ours": ({}, {}, plain),
    **{f"λ = {x:g}": ({}, {"share": x}, plain) for x in shares if x != 0.5},
    "only hidden pixels in the loss": ({}, {"masked_only": True}, plain),
    "weighted by S/N": ({}, {"weighted": True}, plain),
    "tokens averaged": ({"pooling": "mean"}, {}, plain),
    "the other block": (
        {"block": "desa" if block == "conformer" else "conformer"},
        {},
        plain,
    ),
    "the paper's preprocessing": ({"input": "desa"}, {}, other_input("desa")),
    "pixels in another order": (
        {},
        {},
        tuple(changed(part, order=order) for part in plain),
    ),
    "labels shuffled": (
        {},
        {},
        (changed(few_train, labels=shuffled), chosen, judged),
    ),
}
rows = []
for name, (of_model, of_training, data) in cases.items():
    for n in seeds:
        model = fresh(n, **of_model)
        key = "".join(c if c.isalnum() else "-" for c in name)
        middle_of = learn(
            f"ablation-{key}-{n}",
            model,
            ablation_steps,
            lr,
            n,
            data[:2],
            **of_training,
        )
        missed = np.abs(predict(model, data[2]) - judged.labels.numpy())
        hidden, masked = spectra_training.mask_pixels(
            data[2].x.float(), torch.Generator().manual_seed(stream(seed, 29))
        )
        filled = spectra_encoder.run(
            middle_of[0], lambda x, f=middle_of[0]: f(x)[0], hidden
        )
        lost = (
            filled[masked.numpy()] - data[2].x.float().numpy()[masked.numpy()]
        )
        rows.append(
            {
                "case": name,
                "seed": n,
                "filling": float(np.sqrt(np.mean(lost**2))),
            }
            | dict(zip(LABELS, missed.mean(axis=0), strict=True))
        )
ablation = pd.DataFrame(rows)

# %% tags=["hide-input"]
cases_shown = ablation.groupby("case", sort=False)
baseline = ablation[ablation.case == "ours"]
measures = {**NAMES, "filling": "filling, rms"}
fig, axes = plt.subplots(1, 4, figsize=(8.6, 3.6), sharey=True)
for axis, (column, name) in zip(axes, measures.items(), strict=True):
    for i, (case, group) in enumerate(cases_shown):
        values = group[column].to_numpy()
        # What a network never learned to do is left out.
        if column == "filling" and case == "λ = 1":
            continue
        control = case in ("pixels in another order", "labels shuffled")
        colour = "0.5" if control else figures.PALETTE[0]
        axis.plot(values, [i] * len(values), "o", markersize=4, color=colour)
    axis.axvline(baseline[column].mean(), color="0.8", zorder=0)
    axis.set(xscale="log")
    axis.set_title(
        f"MAE of {name}" if column != "filling" else name, fontsize=9
    )
    figures.plain_ticks(axis, "x")
axes[0].set_yticks(range(len(cases)), cases)
axes[0].invert_yaxis()
figures.show(
    fig,
    "fig-ablations",
    data="simulated spectra of real stars",
    source="and of drawn stars; test stars",
    caption="""**Ablations.** Each point is one short training; the line is
    the mean of the first row. λ is the share of the labels in the loss: with
    0 the network only fills pixels and meets labels first when it settles;
    with 1 it never fills any. Grey: controls. The last panel is in units of
    the prepared flux, so its row for the paper's preprocessing has units of
    its own.""",
    alt="""Dot plots of the error of three labels and of the filling for
    variants of the training; a vertical line marks the mean of the first.""",
)

# %% tags=["remove-cell"]
mean_of = ablation.groupby("case")[[*LABELS, "filling"]].mean()
mean_of = mean_of.reindex([*mean_of.index, *{"λ = 1"} - {*mean_of.index}])
for key, case in (
    ("ours", "ours"),
    ("masked", "only hidden pixels in the loss"),
    ("block", "the other block"),
    ("averaged", "tokens averaged"),
    ("desa", "the paper's preprocessing"),
    ("order", "pixels in another order"),
    ("shuffled", "labels shuffled"),
    ("supervised", "λ = 1"),
):
    for column in ("teff", "feh"):
        glue(
            f"ablation_{key}_{column}",
            float(mean_of.loc[case, column]),
            display=False,
        )
    glue(
        f"ablation_{key}_filling",
        float(mean_of.loc[case, "filling"]),
        display=False,
    )
glue("ablation_steps", ablation_steps, display=False)
error = np.abs(ridge.predict(judged) - judged.labels.numpy())
glue("ablation_ridge", float(error[:, 0].mean()), display=False)

# %% [markdown]
# In so few steps the errors in $T_{\rm eff}$ are
# {glue:text}`ablation_ours_teff:.0f` K, with the other block
# {glue:text}`ablation_block_teff:.0f` K, with averaged tokens
# {glue:text}`ablation_averaged_teff:.0f` K, from labels alone
# {glue:text}`ablation_supervised_teff:.0f` K, and with the paper's
# preprocessing {glue:text}`ablation_desa_teff:.0f` K. Counting hidden pixels
# only, the filling has an rms of {glue:text}`ablation_masked_filling:.3f`
# against {glue:text}`ablation_ours_filling:.3f`. With shuffled labels the
# error is {glue:text}`ablation_shuffled_teff:.0f` K.

# %% [markdown]
# ## The information limit
#
# How much do the spectra hold? With the emulator's derivatives $J$ and the
# noise's covariance $C$, no unbiased reader of the labels scatters by less
# than $\sqrt{(F^{-1})_{ii}}$, $F=J^TC^{-1}J$ {cite}`ting2017information`. A
# reader of normalised spectra does not know the continuum; nor shall the
# bound: the coefficients of a polynomial for each arm are fitted along. So is
# [α/Fe], which the network is not told either.

# %%
source.show(bounds.fisher)

# %% [markdown]
# The encoder of this chapter reads all kinds of stars and knows none of them
# especially well. To see what its architecture can do, copies of it are
# trained further on one kind of star each: spectra in a box around the star,
# with noise and an unknown response, whole and without velocity errors, their
# loss weighted by S/N, for bright spectra hold more. A reader may know the box
# and lean on its middle; our stars *are* its middle, where that costs no bias.
# At the lowest S/N, where the box is only a few errors wide, the ratio to the
# bound may therefore honestly lie below one. The table has the least scatter
# of a reader that leans so (as on a Gaussian of the box's variance), too, and
# holds the rms, bias included, against that.
#
# Part of what the spectra hold never reaches the network: a continuum that is
# found in a noisy spectrum moves with its noise. So there is a third limit, of
# the prepared pixels: their mean's derivatives and their covariance, from
# simulated spectra (the covariance's inverse is corrected for their finite
# number {cite}`hartlap2007`), at the highest S/N.

# %%
KINDS = {
    "K giant": (4700.0, 2.5, -0.1, 0.0),
    "solar twin": (5772.0, 4.44, 0.0, 0.0),
    "turn-off star": (6200.0, 4.1, -1.5, 0.3),
}
BOX = np.array([300, 0.5, 0.35, 0.15])
STEP = (20, 0.05, 0.03, 0.03)  # of the differences: corners are averaged
AT = (20, 50, 100)  # S/N
still = {
    "velocity": 0.0,
    "velocity_error": 0.0,
    "a_v": 0.0,
    "blur": 0.0,
    "response": 0.05,
    "progress": False,
}
seen = np.zeros(len(LAMOST), bool)
for piece in (spectra_input.GRIDS[INPUT][:1790], spectra_input.H_ALPHA):
    seen |= (LAMOST.wave >= piece[0]) & (LAMOST.wave <= piece[-1])


def limit(labels, snr):
    """Least scatter of one star: without bias, and leaning on the box."""
    labels = torch.tensor([labels], dtype=torch.float64)
    flux = emulator.flux(labels)
    slopes = bounds.jacobian(emulator.flux, labels, step=STEP)
    ivar = LAMOST.sigma(flux, snr) ** -2 * torch.from_numpy(seen)
    unknown = bounds.continuum(LAMOST.wave, flux, 5, LAMOST.arms.values())
    information = bounds.fisher(slopes, ivar, unknown)
    unbiased = bounds.cramer_rao(information)
    prior = torch.diag(torch.from_numpy(3 / BOX**2))  # of even odds in a box
    shrunk = torch.linalg.inv(information + prior)
    leaning = (shrunk @ information @ shrunk).diagonal(dim1=1, dim2=2).sqrt()
    return [least[0, : len(LABELS)].numpy() for least in (unbiased, leaning)]


def limit_prepared(star, snr, number):
    """Least scatter without bias of who is given the prepared pixels."""

    def spectra(labels, n, number):
        labels, snrs = np.repeat([labels], n, axis=0), np.full(n, float(snr))
        found = spectra_input.simulated(labels, snrs, INPUT, number, **still)
        return found.x.double()

    x = spectra(star, input_noises, stream(seed, 43, number))
    n, pixels = x.shape
    # The same noise on both sides of a difference: it cancels.
    again = stream(seed, 44, number)
    slopes = [
        (
            spectra(star + move, n // 4, again).mean(0)
            - spectra(star - move, n // 4, again).mean(0)
        )
        / (2 * move.sum())
        for move in np.diag(STEP)
    ]
    white = bounds.whitened(torch.stack(slopes, dim=-1)[None], torch.cov(x.T))
    information = bounds.fisher(white, torch.ones(1, pixels))
    information = information * (n - pixels - 2) / (n - 1)
    return bounds.cramer_rao(information)[0, : len(LABELS)].numpy()


def one_kind(name, star, number):
    """A copy of the encoder that knows one kind of star."""
    rng = np.random.default_rng(stream(seed, 33, number))
    labels = star + BOX * rng.uniform(-1, 1, (2 * bound_stars, 4))
    labels = labels[emulator.inside(labels).numpy()][:bound_stars]
    snr = rng.uniform(15, 130, len(labels))
    sample = spectra_input.simulated(
        labels, snr, INPUT, stream(seed, 34, number), **still
    )
    model = copy.deepcopy(encoder)
    model.scale = Labels.of(sample.labels.numpy(), log=[0])
    n_val = len(labels) // 10
    spectra_training.train_on_labels(
        model,
        sample[n_val:],
        sample[:n_val],
        steps=bound_steps,
        validate_every=max(1, bound_steps // 8),
        lr=1e-3,
        weighted=True,
        batch_size=batch_size,
        device=device,
        seed=stream(seed, 35, number),
        checkpoint=place / f"bound-{number}.pt",
        progress=name,
    )
    spectra_training.measure_norms(model, sample[n_val:], device=device)
    return model


rows = []
for number, (name, star) in enumerate(KINDS.items()):
    expert = one_kind(name, star, number)
    for i, snr in enumerate(AT):
        many = np.repeat([star], bound_noises, axis=0)
        repeated = spectra_input.simulated(
            many,
            np.full(bound_noises, snr, dtype=float),
            INPUT,
            stream(seed, 36, 10 * number + i),
            **still,
        )
        least, within = limit(star, snr)
        given = np.full(len(LABELS), np.nan)
        if snr == AT[-1]:
            given = limit_prepared(star, snr, number)
        for reader, model in (("one kind", expert), ("all kinds", encoder)):
            error = predict(model, repeated) - np.array(star[:3])
            for j, label in enumerate(LABELS):
                rows.append(
                    {
                        "star": name,
                        "snr": snr,
                        "reader": reader,
                        "label": label,
                        "bound": least[j],
                        "least, leaning": within[j],
                        "least, prepared": given[j],
                        "scatter": error[:, j].std(ddof=1),
                        "rms": np.sqrt(np.mean(error[:, j] ** 2)),
                    }
                )
limits = pd.DataFrame(rows)
limits["ratio"] = limits.scatter / limits.bound
limits["rms / leaning"] = limits.rms / limits["least, leaning"]
limits["prepared / bound"] = limits["least, prepared"] / limits.bound

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.2), sharey=True)
for axis, label in zip(axes, LABELS, strict=True):
    for colour, name in zip(figures.PALETTE, KINDS, strict=False):
        for reader, line in (("one kind", "o-"), ("all kinds", "o:")):
            part = limits[
                (limits.label == label)
                & (limits.star == name)
                & (limits.reader == reader)
            ]
            axis.plot(
                part.snr,
                part.ratio,
                line,
                color=colour,
                markersize=4,
                label=name if reader == "one kind" else None,
            )
        axis.plot(
            part.snr * 1.12,
            part["prepared / bound"],
            "_",
            color=colour,
            markersize=9,
            markeredgewidth=1.8,
        )
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set(xscale="log", yscale="log", xlabel="S/N")
    axis.set_title(NAMES[label].split(" [")[0], fontsize=9)
    axis.set_xticks(AT, AT)
    axis.minorticks_off()
    axis.set_yticks([1, 1.25, 1.5, 2, 3, 5], [1, 1.25, 1.5, 2, 3, 5])
    axis.set_ylim(
        min(0.7, 0.9 * limits.ratio.min()), max(3, 1.1 * limits.ratio.max())
    )
for line, reader in (("o-", "knows one kind"), ("o:", "reads all kinds")):
    axes[0].plot([], [], line, color="black", markersize=4, label=reader)
axes[0].plot(
    [], [], "_", color="black", markersize=9, label="least, of prepared pixels"
)
axes[0].set_ylabel("scatter / Cramér–Rao bound")
figures.legend_above(axes[0], 3)
figures.show(
    fig,
    "fig-bounds",
    data="simulated stars",
    source="LAMOST spectra with its noise model",
    caption="""**Against the information limit.** Scatter of what the encoder
    reads from many noisy spectra of one star, over the Cramér–Rao bound with
    [α/Fe] and the continuum unknown. Solid: copies trained further on one
    kind of star. Dotted: the encoder that reads all kinds. Dashes, at the
    highest S/N: the least scatter that the prepared pixels allow.""",
    alt="""Ratio of scatter to bound against signal-to-noise for three stars,
    solid and dotted, with a line at one and dashes at the right.""",
)

# %%
limits.pivot_table(
    index=["reader", "star", "snr"],
    columns="label",
    values=[
        "bound",
        "least, leaning",
        "ratio",
        "rms / leaning",
        "prepared / bound",
    ],
    sort=False,
)

# %% tags=["remove-cell"]
for label in LABELS:
    part = limits[(limits.label == label) & (limits.reader == "one kind")]
    claims.record(
        f"desa.spectra.cramer_rao_ratio.{label}",
        float(part.ratio.max()),
        n=bound_noises,
        data="simulated stars",
    )
    glue(f"ratio_{label}", float(part.ratio.max()), display=False)
    glue(f"ratio_mean_{label}", float(part.ratio.mean()), display=False)
    part = limits[(limits.label == label) & (limits.reader == "all kinds")]
    glue(f"ratio_all_{label}", float(part.ratio.mean()), display=False)
    given = part["prepared / bound"].dropna()
    glue(f"ratio_given_{label}", float(given.max()), display=False)
glue("n_pixels", len(spectra_input.GRIDS[INPUT]), display=False)

# %% [markdown]
# Copies that know one kind of star scatter, in the mean over stars and
# signal-to-noise, by {glue:text}`ratio_mean_teff:.2f` times the bound in
# $T_{\rm eff}$, {glue:text}`ratio_mean_logg:.2f` times in $\log g$ and
# {glue:text}`ratio_mean_feh:.2f` times in [Fe/H]; at worst by
# {glue:text}`ratio_teff:.2f`, {glue:text}`ratio_logg:.2f` and
# {glue:text}`ratio_feh:.2f`. The encoder for all kinds scatters by
# {glue:text}`ratio_all_teff:.2f`, {glue:text}`ratio_all_logg:.2f` and
# {glue:text}`ratio_all_feh:.2f` times the bound.
#
# The ratio grows with the signal-to-noise. Part of that is the preparation's:
# at the highest S/N no reader of the prepared pixels could scatter by less
# than up to {glue:text}`ratio_given_teff:.2f`,
# {glue:text}`ratio_given_logg:.2f` and {glue:text}`ratio_given_feh:.2f` times
# the bound. The rest is the network's own: what it has learnt of a filter for
# some {glue:text}`n_pixels` pixels from a finite number of noisy spectra.

# %% [markdown]
# ## Real LAMOST spectra
#
# Everything up to here was simulated. Now the same encoder reads **real**
# LAMOST spectra. Their labels are those of the survey's pipeline, LASP
# {cite}`wu2014`, which fits templates to these same spectra: what follows
# measures agreement with LASP, not with the truth. It is another label scale,
# another line spread, an atmosphere that we did not model. The simulation is
# the book's one emulator (the networks' ratio for dwarfs, chapter 01), with
# the random blur of `simulated.observe`. First the encoder as it is, then
# trained further on a few labelled stars, then on all of them.

# %%
if not has_files:
    print(survey_files.obtain("lamost"))

# %%
if has_files:
    table = lamost.table
    known = table[[*LABELS, "z"]].notna().all(axis=1).to_numpy()
    rows = np.flatnonzero(known)
    x = spectra_input.prepare(
        lamost.wave,
        lamost.flux[rows],
        lamost.ivar[rows],
        table.z.to_numpy()[rows],
        INPUT,
    )
    rows, x = rows[~x.isnan().any(1).numpy()], x[~x.isnan().any(1)]
    real = spectra_input.SpectraSample(
        x.half(),
        torch.from_numpy(table[[*LABELS]].to_numpy(float)[rows]),
        torch.from_numpy(table.snrg.fillna(1).to_numpy(np.float32)[rows]),
    )
    # By star: a fifth to test, a tenth of the others to calibrate.
    star = table["star"].to_numpy()[rows]
    outer = splits.ranked(np.unique(star))
    tested = np.isin(star, [*outer["val"], *outer["test"]])
    inner = splits.ranked(outer["train"])
    kept = np.isin(star, inner["val"])
    snrg = real.snr.numpy()
    teff, logg, feh = real.labels.numpy().T
    bright = snrg > 20
    core = (teff > 4800) & (teff < 7500) & (logg > 3.2) & (snrg > 40)
    near = (teff > 4600) & (teff < 7700) & (logg > 3.0) & bright
    pool = np.flatnonzero(~tested & ~kept)
    few_pool = np.flatnonzero(~tested & ~kept & near)
    few = [n for n in few if n <= len(few_pool)] or [len(few_pool)]
    core_test = np.flatnonzero(tested & core)
    wide_test = np.flatnonzero(tested & bright)
    print(
        f"{len(real)} spectra of {len(np.unique(star))} stars; to train "
        f"{len(pool)}, to calibrate {kept.sum()}, to test {tested.sum()}, "
        f"{len(core_test)} of them in the core"
    )

# %% [markdown]
# ### As it is
#
# The intervals were calibrated on simulated stars. On LASP's scale nothing
# guarantees them.

# %% tags=["hide-input"]
if has_files:
    test_real = real[wide_test]
    truth_real = test_real.labels.numpy()
    as_it_is = calibrated(test_real, encoder.margins)
    coverage["real, calibrated on simulated"] = conformal.covered(
        truth_real, as_it_is
    )
    fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.0))
    draw_predictions(axes, truth_real, as_it_is, LIMITS, scale="LASP's")
    figures.show(
        fig,
        "fig-predictions-real",
        data="real",
        source="LAMOST DR10, LASP's labels, S/N > 20",
        caption="""**Labels of another scale**, after the lower row of the
        paper's Fig. 5: real spectra, read by the encoder that has seen
        simulated ones only. Lines as in {numref}`fig-predictions`. It has seen
        none hotter than 12,000 K or richer in metals than 0.5 dex; stars
        beyond the axes are not drawn.""",
        alt="""Predicted against true labels of real stars, points and vertical
        intervals about the diagonal.""",
    )

# %% [markdown]
# ### With few labels
#
# How many labelled stars does it take? From the stars near the core (dwarfs of
# spectral type A to G) some are drawn, and the encoder learns further from
# them alone. The same network from scratch (ten times the passes, but as all
# no more than {glue:text}`few_steps` steps) and ridge regression (a fifth of
# its stars choose its settings) get the same stars. All are judged on real
# test stars of $4800$–$7500$ K with $\log g>3.2$ and S/N > 40 in the $g$ band.


# %%
def from_few(rows, name, model, rate, epochs, keep_norms):
    """Train on real stars and return the model."""
    batch = 16 if len(rows) <= 200 else 32
    spectra_training.train_on_labels(
        model,
        real[rows],
        steps=min(few_steps, max(1, epochs * len(rows) // batch)),
        lr=rate,
        keep_norms=keep_norms,
        noise=0.1,
        batch_size=batch,
        device=device,
        seed=stream(seed, 37),
        checkpoint=place / f"{name}.pt",
        progress=name,
    )
    if not keep_norms:
        spectra_training.measure_norms(model, real[rows], device=device)
    return model


def scatters(prediction, rows):
    """Robust scatter and median error of each label."""
    error = prediction - real.labels.numpy()[rows]
    return metrics.mad_std(error, axis=0), np.median(error, axis=0)


if has_files:
    transfer = []
    zero_shot = scatters(predict(encoder, real[core_test]), core_test)
    for n in few:
        for draw in range(draws):
            rng = np.random.default_rng(stream(seed, 38, draw))
            rows = rng.permutation(few_pool)[:n]
            learned = {
                "simulated first": lambda rows=rows, n=n, d=draw: predict(
                    from_few(
                        rows,
                        f"real-{n}-{d}",
                        copy.deepcopy(encoder),
                        4e-4,
                        few_epochs,
                        True,
                    ),
                    real[core_test],
                ),
                "real alone": lambda rows=rows, n=n, d=draw: predict(
                    from_few(
                        rows,
                        f"scratch-{n}-{d}",
                        fresh(d, dropout=0.2),
                        1e-3,
                        10 * few_epochs,  # it has more to learn
                        False,
                    ),
                    real[core_test],
                ),
                "ridge on PCA, real alone": lambda rows=rows: (
                    spectra_baselines.RidgePCA(
                        real[rows[: len(rows) * 4 // 5]],
                        real[rows[len(rows) * 4 // 5 :]],
                        seed=seed,
                    ).predict(real[core_test])
                ),
            }
            for how, prediction in learned.items():
                spread, offset = scatters(prediction(), core_test)
                for j, label in enumerate(LABELS):
                    transfer.append(
                        {
                            "how": how,
                            "n": len(rows),
                            "draw": draw,
                            "label": label,
                            "scatter": spread[j],
                            "median error": offset[j],
                        }
                    )
    transfer = pd.DataFrame(transfer)

# %% tags=["hide-input"]
if has_files:
    fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.2))
    for j, (axis, label) in enumerate(zip(axes, LABELS, strict=True)):
        axis.axhline(
            zero_shot[0][j], color="0.4", linestyle=":", label="simulated only"
        )
        part = transfer[transfer.label == label]
        for colour, (how, group) in zip(
            figures.PALETTE, part.groupby("how", sort=False), strict=False
        ):
            each = group.groupby("n").scatter.agg(["mean", "std"])
            axis.errorbar(
                each.index,
                each["mean"],
                each["std"],
                fmt="o-",
                markersize=4,
                color=colour,
                label=how,
            )
        axis.set(xscale="log", yscale="log", xlabel="real stars to learn from")
        axis.set_title(f"scatter of {NAMES[label]}", fontsize=9)
        axis.set_xticks(few, few)
        axis.minorticks_off()
        figures.plain_ticks(axis)
    figures.legend_above(axes[0], 4)
    figures.show(
        fig,
        "fig-few",
        data="real",
        source="LAMOST DR10, LASP's labels",
        caption="""**What simulation is worth.** Robust scatter on real test
        stars against the number of labelled real stars to learn from; bars
        are the spread over draws of these (the largest draws share nearly all
        of their stars). Dotted: none at all.""",
        alt="""Three panels of scatter against the number of real stars, three
        curves with error bars and a dotted line.""",
    )

# %%
if has_files:
    display(
        transfer.groupby(["label", "n", "how"], sort=False)[
            ["scatter", "median error"]
        ]
        .agg(["mean", "std"])
        .unstack("how")
        .round(3)
        .T
    )

# %% [markdown]
# ### With all of them
#
# Where the files are at hand, the weights that are saved are trained further
# on all real training stars and their intervals calibrated on real stars with
# S/N > 20 (those that come with the book are). The network from scratch takes
# as many steps; ridge again gives a fifth of its stars to choose its settings.
# They are judged on every labelled test star with S/N > 20, up to the hottest:
# stars of types A, F and G in equal parts, hardly any giants.

# %%
if has_files:
    published = copy.deepcopy(encoder)
    spectra_training.train_on_labels(
        published,
        real[pool],
        steps=max(1, real_epochs * len(pool) // 32),
        lr=4e-4,
        keep_norms=True,
        noise=0.1,
        batch_size=32,
        device=device,
        seed=stream(seed, 39),
        checkpoint=place / "real-all.pt",
        progress="all real stars",
    )
    held_back = real[np.flatnonzero(kept & bright)]
    published.margins = conformal.calibrate(
        held_back.labels.numpy(),
        spectra_training.quantiles(published, held_back),
    )
    own = conformal.calibrate(
        held_back.labels.numpy(),
        spectra_training.quantiles(encoder, held_back),
    )
    coverage["real, the same encoder, calibrated on real"] = conformal.covered(
        truth_real, calibrated(test_real, own)
    )
    widened = conformal.calibrated(
        spectra_training.quantiles(published, test_real), published.margins
    )
    coverage["real, trained further, calibrated on real"] = conformal.covered(
        truth_real, widened
    )
    forgot = mae(predict(published), exists)
    # The files are in no random order.
    mixed = np.random.default_rng(stream(seed, 41)).permutation(pool)
    n_val = len(pool) // 5
    real_ridge = spectra_baselines.RidgePCA(
        real[mixed[n_val:]], real[mixed[:n_val]], seed=seed
    )
    alone = fresh(dropout=0.2)
    spectra_training.train_on_labels(
        alone,
        real[pool],
        steps=max(1, real_epochs * len(pool) // 32),
        lr=1e-3,
        noise=0.1,
        batch_size=32,
        device=device,
        seed=stream(seed, 42),
        checkpoint=place / "alone-all.pt",
        progress="all real stars, from scratch",
    )
    spectra_training.measure_norms(alone, real[pool], device=device)
    wide = {
        "simulated only": median(as_it_is),
        "ridge on PCA, all real stars": real_ridge.predict(test_real),
        "real alone, all real stars": predict(alone, test_real),
        "simulated, then all real stars": median(widened),
    }
else:
    published, wide = encoder, {}
    forgot = real_errors["encoder, published"][0]

# %% tags=["hide-input"]
if has_files:
    edges_real = np.array([20, 40, 80, 160, 1000])
    centres = np.sqrt(edges_real[1:] * edges_real[:-1].astype(float))
    centres[-1] = 250
    bins = np.digitize(test_real.snr.numpy(), edges_real) - 1
    fig, axes = plt.subplots(2, 3, figsize=(8.4, 4.8), sharex=True)
    for j, label in enumerate(LABELS):
        for colour, (name, prediction) in zip(
            (figures.PALETTE[i] for i in (3, 2, 1, 0)),
            wide.items(),
            strict=True,
        ):
            error = (prediction - truth_real)[:, j]
            parts_of = [error[bins == i] for i in range(len(centres))]
            axes[0, j].plot(
                centres,
                [np.abs(x).mean() if len(x) else np.nan for x in parts_of],
                "o-",
                color=colour,
                markersize=3,
                label=name,
            )
            axes[1, j].plot(
                centres,
                [np.median(x) if len(x) else np.nan for x in parts_of],
                "o-",
                color=colour,
                markersize=3,
            )
        axes[0, j].set(yscale="log", xscale="log")
        axes[0, j].set_title(NAMES[label], fontsize=9)
        figures.plain_ticks(axes[0, j])
        axes[1, j].axhline(0, color="black", linewidth=0.6)
        axes[1, j].set_xlabel("S/N in $g$")
        axes[1, j].set_xticks([25, 50, 100, 250], [25, 50, 100, 250])
        axes[1, j].xaxis.set_minor_locator(NullLocator())
    axes[0, 0].set_ylabel("mean absolute error")
    axes[1, 0].set_ylabel("median error")
    figures.legend_above(axes[0, 0], 3)
    figures.show(
        fig,
        "fig-real",
        data="real",
        source="LAMOST DR10, LASP's labels, test stars",
        caption="""**Real A, F and G stars.** Mean absolute error and median
        error by signal-to-noise, on all labelled test stars.""",
        alt="""Two rows of three panels: absolute and median error by
        signal-to-noise for several readers.""",
    )

# %% [markdown]
# ### Coverage, before and after
#
# The share of test stars inside the intervals. From simulated to real stars
# two things change at once, the label scale and the spectra (and the real ones
# have S/N > 20, the simulated ones less, too); the paper's drop is of the
# scale alone. So our verdict on coverage, which is of our encoders, is of both
# together. On real stars the share itself is uncertain by some hundredths: so
# few calibrate it and test it.

# %% tags=["hide-input"]
pd.DataFrame(
    {
        (NAMES[label].split(" [")[0], level): {
            name: f"{inside[j, i]:.1%}" for name, inside in coverage.items()
        }
        for j, label in enumerate(LABELS)
        for i, level in enumerate(("80 %", "50 %"))
    }
)

# %% tags=["remove-cell"]
if has_files:
    for j, label in enumerate(LABELS):
        error = np.abs(wide["simulated, then all real stars"] - truth_real)[
            :, j
        ]
        claims.record(
            f"desa.spectra.real_lamost.{label}_mae",
            float(error.mean()),
            n=len(error),
            data="real",
        )
        error = np.abs(wide["ridge on PCA, all real stars"] - truth_real)[:, j]
        claims.record(
            f"desa.spectra.real_lamost.ridge_{label}_mae",
            float(error.mean()),
            n=len(error),
            data="real",
        )
        part = transfer[
            (transfer.label == label) & (transfer.how == "simulated first")
        ]
        for n, group in part.groupby("n"):
            name = f"desa.spectra.real_lamost.{label}_scatter_{n}"
            if name in claims.stated():
                claims.record(
                    name,
                    group.scatter.to_numpy(),
                    n=len(core_test),
                    data="real",
                )
    drop = []
    for model in compared["encoder"]:
        widths = conformal.calibrate(
            cal.labels.numpy(), spectra_training.quantiles(model, cal)
        )
        inside = [
            conformal.covered(
                part.labels.numpy(),
                conformal.calibrated(
                    spectra_training.quantiles(model, part), widths
                ),
            )[:, 0].mean()
            for part in (test, test_real)
        ]
        drop.append(inside[0] - inside[1])
    verdict = claims.record(
        "desa.spectra.coverage_drops", drop, n=len(truth_real), data="real"
    )
glue(
    "verdict_coverage",
    verdict["status"] if has_files else "not run: no LAMOST files",
    display=False,
)
# %% tags=["hide-input"]
GOALS = {  # set before this run, from prototypes
    ("scatter", 50): (65, 0.097, 0.062),
    ("scatter", 200): (53, 0.068, 0.047),
    ("scatter", 1000): (41, 0.050, 0.038),
    ("MAE, all stars", "all"): (150, 0.13, 0.11),
}
goals = []


def goal(what, label, aim, found, reached, digits, spread=np.nan):
    """Note a goal and what became of it."""
    goals.append(
        {
            "what": what,
            "label": NAMES[label],
            "goal": aim,
            "found": f"{found:.{digits}f}",
            "± draws": f"{spread:.{digits}f}" if np.isfinite(spread) else "–",
            "reached": "yes" if reached else "no",
        }
    )


for j, label in enumerate(LABELS):
    inside = 100 * coverage["simulated, calibrated"][j, 0]
    goal("80 % intervals, %", label, "78–82", inside, 78 <= inside <= 82, 1)
for label in LABELS:
    part = limits[(limits.label == label) & (limits.reader == "one kind")]
    worst = part.ratio.max()
    goal("worst scatter / bound", label, "1.25", worst, worst <= 1.25, 2)
for (what, n), aims in GOALS.items() if has_files else ():
    for j, (label, aim) in enumerate(zip(LABELS, aims, strict=True)):
        spread = np.nan
        if n == "all":
            error = wide["simulated, then all real stars"] - truth_real
            value = np.abs(error[:, j]).mean()
        else:
            part = transfer[(transfer.label == label) & (transfer.n == n)]
            if part.empty:
                continue
            each = part.groupby("how").scatter
            value, spread = (
                f()["simulated first"] for f in (each.mean, each.std)
            )
            what = f"scatter, {n} real stars"
        reached = value <= aim + np.nan_to_num(spread)
        digits = DIGITS[label]
        goal(what, label, f"{aim:g}", value, reached, digits, spread)
        if n in (50, 200):
            alone_here = each.mean()["real alone"]
            goal(
                f"… less than from scratch, {n}",
                label,
                f"< {alone_here:.{digits}f}",
                value,
                value < alone_here,
                digits,
                spread,
            )
display(pd.DataFrame(goals))

# %% [markdown]
# Goals that were set before the run, most of them from prototypes. They count
# as reached within one standard deviation over draws (the largest draws share
# most of their stars, so that their spread is too small).
#
# Of a thousand real stars the goals are the hardest to reach. No training here
# takes more than {glue:text}`few_steps` steps, so the largest draw has the
# fewest passes; on stars that were kept aside twice the steps helped, but not
# enough for $\log g$ (see the [lab log](lab_log.md)).

# %% tags=["hide-input"]
if has_files:
    part = transfer[transfer.n == transfer.n.min()].groupby(["how", "label"])
    least = part.scatter.mean()
    lines = []
    for how, text in (
        ("simulated first", "the encoder that saw simulated spectra first"),
        ("real alone", "the same network from scratch"),
        ("ridge on PCA, real alone", "ridge regression"),
    ):
        a, b, c = (least[how, label] for label in LABELS)
        lines.append(f"{text} {a:.0f} K, {b:.3f} dex, {c:.3f} dex")
    first = f"With {transfer.n.min()} labelled stars, "
    first += "$T_{\\rm eff}$, $\\log g$ and [Fe/H] scatter by: "
    lines_all = []
    for name, prediction in wide.items():
        a, b, c = np.abs(prediction - truth_real).mean(axis=0)
        lines_all.append(f"{name} {a:.0f} K, {b:.3f} dex, {c:.3f} dex")
    display(
        Markdown(
            first
            + "; ".join(lines)
            + ". Mean absolute errors on all test stars: "
            + "; ".join(lines_all)
            + ". What training on real dwarfs makes a network forget: on the "
            "simulated spectra of APOGEE's stars, mostly giants, it errs by "
            "{:.0f} K, {:.3f} dex, {:.3f} dex afterwards, ".format(*forgot)
            + "by {:.0f} K, {:.3f} dex, {:.3f} dex before.".format(
                *real_errors["encoder, published"][0]
            )
        )
    )

# %% [markdown]
# ### Your own spectrum
#
# The published weights read a spectrum as it comes from the archive. Why a
# spectrum cannot be judged stands in the last column.

# %%
source.show(SpectraEncoder.predict)

# %%
places = [example_files.path(name) for name in ("boss", "apstar_giant")]
published.predict([read_spectrum(path) for path in places])[
    [*LABELS, "teff_lo80", "teff_hi80", "flag"]
]

# %% tags=["remove-cell"]
about = {
    "input": INPUT,
    "labels": list(LABELS),
    "steps": long_steps,
    "batch_size": batch_size,
    "minutes": (history.seconds + settling.seconds) / 60,
    "seed": seed,
    "validation": settling.best,
    "data": "simulated LAMOST spectra of real and drawn stars"
    + (", then real LAMOST DR10" if has_files else ""),
    "rebuilt with": "STELLARBOOK_DATA" if has_files else "public archives",
    "profile": chapters.running_profile(),
    "test_mae": {
        label: float(
            np.abs(wide["simulated, then all real stars"] - truth_real)[
                :, j
            ].mean()
            if has_files
            else real_errors["encoder, published"][0, j]
        )
        for j, label in enumerate(LABELS)
    },
}
published.save(chapters.run_folder() / "weights" / "spectra_encoder", about)

# %% [markdown]
# ## Paper against ours

# %% tags=["hide-input"]
HTML(claims.table("02_spectra_encoder").to_html(index=False, border=0))

# %% [markdown]
# ## What we could not reproduce
#
# * **The sizes.** The paper's encoder has some half a billion weights and saw
#   millions of LAMOST spectra. Ours is {glue:text}`times_smaller:,.0f` times
#   smaller. The full size is built and counted above; it was neither trained
#   nor timed. Ten minutes of one GPU, the limit of this book, would not train
#   it: the profile `full` takes the one called large.
# * **The comparison on APOGEE's labels.** No star within our reach has both a
#   real LAMOST spectrum and APOGEE's labels. Simulated spectra at APOGEE's
#   labels are of one scale; the other scale is met with LASP's labels.
# * **StarGRUNet itself.** Its code and data were not at hand. The recurrent
#   network here is in its manner, and tuned as the others are.
#
# ## Departures
#
# * Spectra are normalised by a running percentile, in the blue arm and around
#   Hα; the paper's preprocessing is an ablation.
# * After the paper's training there are as many steps on whole spectra, and
#   the statistics of BatchNorm are measured anew.
# * Hidden pixels take values of other pixels of the batch; the authors draw
#   from a range that the first spectrum sets.
# * The dense layers read every token with weights of its own; the authors'
#   code adds tokens up. Where that is compared, they are averaged.
# * The loss is not weighted by S/N, but for the readers of one kind of star.
#   Where weights are compared, it is a weighted mean, so that S/N sets shares
#   and not the size of a step; the authors' code weighs the labels' half
#   alone.
# * The canonical Conformer block; the authors' is an ablation.
# * $T_{\rm eff}$ is learnt as its logarithm, all labels standardised; the
#   authors divide $T_{\rm eff}$ by the Sun's.
# * A warm-up and a cosine from a learning rate a hundred times the paper's
#   constant one.
# * Simulated spectra at APOGEE's and at drawn labels, hotter and fainter than
#   the paper's stars; theirs are real, at LASP's labels.
# * Conformal margins have the correction for finite samples, which the
#   authors' code leaves out.
#
# Three of these (every token its own weights, no weights by S/N, as many steps
# on whole spectra as with holes) were chosen after a first long run, in which
# the paper's way lost to the plain CNN; so was a dropout of zero for the
# published encoder. Validation stars gave the same order, but errors on the
# test stars had been seen: the encoder's place beside the plain CNN is not a
# blind result. The baselines were not designed anew.
#
# ## Exercises
#
# (A training that finds the checkpoint of another one stops: give a run with
# other parameters a folder of its own.)
#
# 1. Set `block = "desa"` and `long_steps` as large as you can wait for. Does
#    the better block of the ablation stay the better one?
# 2. Simulate without blur (`blur=0` in `spectra_input.simulated`) and look at
#    real stars again. How much of the bias in [Fe/H] comes from the line
#    spread?
# 3. Calibrate on real stars with S/N > 100 only. What happens to the coverage
#    of faint ones, and why does the theorem not forbid it?
# 4. Give the Cramér–Rao bound a known continuum (`continuum` left out). Which
#    label gains most, and could any reader of normalised spectra profit?
