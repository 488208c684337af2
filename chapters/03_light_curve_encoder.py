# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # DESA's light-curve encoder: two views of a star, one period
#
# A star that rotates carries its spots in and out of sight, and its light
# comes back to itself once a rotation. DESA's second encoder reads light
# curves {cite}`kamai2025desa`: a CNN looks at the autocorrelation and the
# spectrum of the curve, a Conformer at the curve itself; two windows cut from
# one star's curve must agree (SimSiam {cite}`chen2021simsiam`), and both must
# tell the rotation period, with an interval. It is trained on **simulated
# stars**, whose periods are known, and asked about **real** Kepler stars. A
# second, small encoder reads images of real power spectra.
#
# **The paper's claims.** Of its periods it says, of a CNN on Kepler's light
# curves {cite}`blancato2020`,
#
# > they reported a Root Mean Squared Error (RMSE) of 5.2 days. Our RMSE is
# > 2.61 days, a factor of two lower.
#
# Our verdict on the order, with a small CNN that reads the autocorrelation of
# the same stars (theirs read the curve): **{glue:text}`verdict_cnn`**; the
# factor is {glue:text}`cnn_factor:.1f`. Of an earlier encoder, to which it
# calls this one similar, it says that it
#
# > showed that using both the ACF and the normalized light curve together is
# > better than using each one alone for period detection
#
# Our verdicts: **{glue:text}`verdict_both_curve`** against the curve alone,
# **{glue:text}`verdict_both_transforms`** against autocorrelation and spectrum
# alone.
#
# **What you need.** The public archives that `make data` fetches once. No
# GPU. The real light curves of four stars are public; other curves and the
# images need files of your own: without them the page says how to get these,
# and goes on. The card above says how long this page took, and on what.

# %% tags=["parameters"]
seed = 0  # every random stream derives from it
device = "auto"  # a GPU where there is one
n_seeds = 1  # repetitions of the trainings that are compared
size = "small"  # of the encoder; or "paper", counted below
kind = "log"  # of the transforms; or "linear", the paper's
n_field = 50000  # stars of the simulated field
n_train = 6000  # of those whose period would be found, to train
n_held = 1000  # to validate, to calibrate, to test
share = 0.5  # λ, of the period in the loss
long_steps = 500  # optimiser steps of the encoder that is published
steps = 250  # of the trainings that are compared
batch_size = 128  # stars a step
lr = 2e-3  # highest learning rate
noise = 0.05  # added to the transforms at each step
trials = 3  # settings tried for each method
trial_steps = 60  # optimiser steps of each
tree_trials = 10  # settings tried for boosted trees
ablation_steps = 60  # optimiser steps of each training of the ablation
ablation_stars = 3000  # training stars of the ablation
n_copies = 100  # simulated copies of each real star
image_steps = 150  # optimiser steps of the encoder of images

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import HTML, Markdown, display
from myst_nb import glue
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from stellarbook.data import (
    example_light_curves,
    kepler_field,
    light_curves,
    survey_files,
)
from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.data.kepler_field import catalogues
from stellarbook.data.kepler_field.population import kepler_magnitude
from stellarbook.data.readers import read_light_curve
from stellarbook.data.survey_files.power_spectra import (
    CLASSES,
    FREQUENCY,
    POWER,
)
from stellarbook.desa import (
    light_curve_baselines,
    light_curve_input,
    light_curve_training,
    light_curve_views,
    power_spectrum_baselines,
    power_spectrum_encoder,
    spectra_baselines,
)
from stellarbook.desa.light_curve_cnn import Peaks
from stellarbook.desa.light_curve_encoder import (
    HALVING,
    PAPER,
    SMALL,
    LightCurveEncoder,
)
from stellarbook.learn import conformal, metrics
from stellarbook.learn.processes import stream
from stellarbook.learn.scales import Labels
from stellarbook.report import chapters, claims, figures, source
from stellarbook.report.check import check

figures.style()
pd.set_option("display.precision", 3)
SIZES = {"small": SMALL if kind == "log" else HALVING, "paper": PAPER}
LENGTH = SIZES[size]["length"]
NORMS = 4000  # stars that BatchNorm's statistics are measured on
place = chapters.run_folder() / "checkpoints" / "03_light_curve_encoder"

# %% [markdown]
# ## The idea
#
# Two windows are cut from the light curve of a star, at random. The backbone
# and an MLP make features of each, $z_1$ and $z_2$; a second MLP $g$ tries to
# tell one from the other. With $\bar z$ for a $z$ through which no gradient
# flows,
#
# $$
# L_{\rm ssl}=-\tfrac12\cos\!\big(g(z_1),\bar z_2\big)
#             -\tfrac12\cos\!\big(g(z_2),\bar z_1\big),
# \qquad
# L=(1-\lambda)\,L_{\rm ssl}
#   +\lambda\sum_\tau\max\!\big(\tau r_\tau,\,(\tau-1)r_\tau\big),
# $$ (eq-simsiam)
#
# with $r_\tau=\log P_{\rm rot}-\hat q_\tau$ and the quantiles $\hat q_\tau$
# that a head reads from $z$ (Eqs. 1 to 3 of {cite:t}`kamai2025desa`). The
# paper prints $L_{\rm ssl}$ without the minus. Minimised so, it would set the
# two views of a star against each other.
#
# Nothing in $L_{\rm ssl}$ forbids that all stars get the same features. What
# keeps SimSiam from it is the stopped gradient: we try it without.
#
# The two windows overlap, by two thirds on average, and the second goes
# through the filter of KEPSEISMIC's curves: they agree on what neither that
# filter nor some weeks change, as the star's period, how active it is, how it
# flickers. That is what such features can learn without labels. The period's
# intervals are calibrated as in chapter 02.

# %% [markdown]
# ## The data
#
# Stars of the simulated Kepler field of chapter 01, split by star; of these,
# the ones whose period a survey would have found, for only such have labels.
# Their light curves last six months; a view is half of that, about a quarter
# of Kepler's. The first view of a star is as the mission would have it, the
# second is filtered as KEPSEISMIC's curves are.

# %%
FILTERS = (None, 55.0)  # days: half of the views as KEPSEISMIC's
field = kepler_field.load(n_field, seed)
stars = field.table.set_index("source_id")
# A star's distance may be unknown, as that of the real ones further down is:
# one star in four does without its absolute magnitude.
rng = np.random.default_rng(stream(seed, 58))
magnitude = kepler_magnitude(stars.sdss_g_abs, stars.sdss_r_abs)
stars["kp_abs"] = np.where(rng.random(len(stars)) > 0.25, magnitude, np.nan)
has_period = (stars.prot_found & stars.prot.notna()).to_numpy(bool)


def some(part, most):
    """Row positions of the first stars of a part with a period."""
    rows = field.split(part)
    return rows[has_period[rows]][:most]


held = some("val", 2 * n_held)
parts = {
    "train": some("train", n_train),
    "val": held[::2],  # to choose weights
    "cal": held[1::2],  # to calibrate intervals
    "test": some("test", n_held),
}

# %% tags=["nbval-check-output"]
for name, rows in parts.items():
    print(f"{name}: {len(rows)} simulated stars")


# %%
def simulate(name, kind=kind, first=None):
    """The prepared views of a part, or of its first stars."""
    number = stream(seed, 50, list(parts).index(name))
    return light_curve_input.simulated(
        stars.iloc[parts[name][:first]],
        length=LENGTH,
        kind=kind,
        filters=FILTERS,
        seed=number,
    )


samples = {name: simulate(name) for name in parts}
train, val, cal, test = samples.values()
scale = Labels.of(train.labels.numpy(), log=[])
truth = test.labels.numpy()[:, 0]  # log10 of days
tested = stars.iloc[parts["test"]]

# %% tags=["hide-input"]
wanted = {"fast": 3, "typical": 15, "slow": 35}  # days
fig, axes = plt.subplots(3, len(wanted), figsize=(8.4, 5.6))
days = LONG_CADENCE * np.arange(LENGTH)
lags = LONG_CADENCE * (
    light_curve_views.periods(LENGTH) if kind == "log" else np.arange(LENGTH)
)
for column, (name, period) in zip(axes.T, wanted.items(), strict=True):
    far = np.abs(truth - np.log10(period)) + (tested.sph.to_numpy() < 800)
    row = int(np.argmin(far))
    for view in (0, 1):
        colour = figures.PALETTE[view]
        column[0].plot(
            days[::6],
            test.scores[row, view, ::6].float() - 5 * view,
            linewidth=0.5,
            color=colour,
        )
        for axis, which in zip(column[1:], (0, 1), strict=True):
            values = test.transforms[row, view, which]
            at = lags if kind == "log" else np.arange(len(values))
            axis.plot(at, values, linewidth=0.8, color=colour)
    column[0].set_title(f"{name}: {10 ** truth[row]:.1f} days", fontsize=9)
    column[0].set(xlabel="day of the view", yticks=[])
    for axis in column[1:]:
        if kind == "log":
            axis.axvline(10 ** truth[row], color="0.6", linewidth=0.7)
            axis.set(xscale="log", xlabel="period [d]")
            figures.plain_ticks(axis, "x", [0.3, 1, 3, 10, 30])
axes[0, 0].set_ylabel("standard scores")
axes[1, 0].set_ylabel("autocorrelation")
axes[2, 0].set_ylabel("spectrum (log)")
figures.show(
    fig,
    "fig-views",
    data="simulated stars",
    source="light curves with Kepler's noise",
    caption="""**What the network sees** of three active stars ($S_{\\rm ph}$
    above 800 ppm), in two views each, the second of them filtered. Top: the
    curve, in standard scores (the second view moved down). Middle:
    its autocorrelation. Bottom: its spectrum, both at periods evenly spaced
    in their logarithm; grey lines: the true period.""",
    alt="""Nine panels: for a fast, a typical and a slow rotator the curve,
    the autocorrelation and the spectrum of two views; a vertical line marks
    the true period.""",
)

# %% [markdown]
# Both normalisations of the paper enter: by absolute magnitude, which keeps
# how much a star varies, and standard scores, which keep the shape. Taken as
# the paper has it, a relative flux becomes $2^{k}$, with $k$ the absolute
# magnitude, and a small ripple. What the encoder gets is that ripple; it stays
# much smaller than the scores beside it, and its channel can be left out.

# %%
source.show(light_curve_views.curve)

# %% [markdown]
# Autocorrelation and spectrum are laid out in the logarithm of the period. A
# star that rotates twice as fast is then the same picture, moved, which is
# what convolutions are made for. The paper's way, every lag and every
# frequency, is an ablation (`kind="linear"`).

# %%
source.show(light_curve_views.transforms)

# %% [markdown]
# ## The model

# %%
source.show(LightCurveEncoder)

# %% [markdown]
# The authors' code averages what its CNN found over all lags, and loses where
# it was.
# On the logarithmic axis the CNN can point instead: each place is given a
# share, the shares' mean place is a period, and what the head says is how far
# from it the quantiles lie. A pattern of peaks that was learnt at one period
# is then known at all. Both ways, and a weight for every place, are compared
# below.

# %%
source.show(Peaks)


# %% tags=["hide-input", "nbval-check-output"]
def weights(module):
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters())


counts = {}
for name, options in {
    **SIZES,
    "paper, the authors' blocks": PAPER | {"block": "desa"},
}.items():
    with torch.device("meta"):  # counted without taking memory
        each = LightCurveEncoder(**options)
    counts[name] = {
        "CNN": weights(each.cnn),
        "Conformer": weights(each.stem) + weights(each.conformer),
        "projector, predictor": weights(each.projector)
        + weights(each.predictor),
        "head": weights(each.head),
        "all": weights(each),
    }
print(pd.DataFrame(counts).T.map("{:,}".format).to_string())

# %% tags=["remove-cell"]
theirs = counts["paper, the authors' blocks"]
glue("paper_size", theirs["all"] / 1e6, display=False)
glue("paper_blocks", theirs["Conformer"] / 1e6, display=False)
glue("paper_conformer", counts["paper"]["all"] / 1e6, display=False)

# %% [markdown]
# The paper says of its two encoders
#
# > about 500M and 11M, respectively
#
# With the authors' blocks, which have no dense layers, the full size here has
# {glue:text}`paper_size:.1f` million weights, {glue:text}`paper_blocks:.2f`
# million of them in the branch that reads the curve, as their code has; our
# convolutions are wider. With the published Conformer's blocks it has
# {glue:text}`paper_conformer:.1f` million. The small one keeps every part.
#
# ## Training

# %%
source.show(light_curve_training.simsiam)


# %%
def fresh(number=seed, size=size, **changes):
    """An encoder with new weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(stream(seed, 51, number))
        options = SIZES[size] | {"kind": kind, "scale": scale}
        return LightCurveEncoder(**options | changes)


def learn(name, model, steps, number=seed, data=(train, val), **changes):
    """Train with the hybrid loss, measure the norms, return the history."""
    options = {"lr": lr, "noise": noise, "share": share} | changes
    history = light_curve_training.pretrain(
        model,
        *data,
        steps=steps,
        batch_size=batch_size,
        validate_every=max(1, steps // 8),
        device=device,
        seed=stream(seed, 52, number),
        checkpoint=place / f"{name}.pt",
        progress=name,
        **options,
    )
    light_curve_training.measure_norms(
        model, data[0], most=NORMS, device=device
    )
    return history


encoder = fresh()
history = learn("published", encoder, long_steps)

# %% tags=["remove-cell"]
glue("minutes", history.seconds / 60, display=False)
glue("long_steps", long_steps, display=False)
glue("short_steps", steps, display=False)
glue("days", LENGTH * LONG_CADENCE, display=False)
paper = claims.stated()["desa.prot_rmse_days"]["value"]
glue("paper_rmse", paper, display=False)
glue("weights", weights(encoder), display=False)
glue("times_smaller", theirs["all"] / weights(encoder), display=False)

# %% [markdown]
# The encoder of {glue:text}`weights:,.0f` weights took
# {glue:text}`minutes:.1f` minutes for {glue:text}`long_steps:,.0f` steps (a
# finished training is read from its checkpoint, so the card above may not
# include this). Those that are compared below had
# {glue:text}`short_steps:,.0f`.

# %% tags=["hide-input"]
shown = history.to_frame()
fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.8))
for axis, column, name in zip(
    axes,
    ("agreement", "miss", "spread"),
    ("SimSiam's loss", "pinball loss of the period", "spread of the features"),
    strict=True,
):
    if column in shown:
        axis.plot(
            shown.step,
            shown[column].rolling(5, min_periods=1).mean(),
            linewidth=0.9,
        )
    axis.set(xlabel="step", title=name)
axes[1].set_yscale("log")
figures.plain_ticks(axes[1])
axes[2].axhline(1, color="0.6", linewidth=0.7)
axes[2].set_ylim(0, 1.1)
figures.show(
    fig,
    "fig-training",
    data="simulated stars",
    caption="""**Training.** SimSiam's loss falls towards −1, where the views
    of a star agree; the period's loss falls with it. Right: how far apart the
    features of different stars lie, 1 for random directions (grey line), 0
    when all are the same.""",
    alt="""Three panels against the step of the training: the loss of
    agreement, the loss of the period, the spread of the features.""",
)

# %% [markdown]
# ## Does it work?
#
# ### Baselines first
#
# The highest peak of the autocorrelation {cite}`mcquillan2013`, the higher of
# its first two, and the best sinusoid (Lomb–Scargle) need no training. These
# three search up to half of a view. Gradient-boosted trees read what they
# found, their heights and some thirty more numbers about the curve. A CNN
# after that of {cite:t}`blancato2020` reads the autocorrelation. All learn
# from both views of the same stars. The two networks are tuned by as many
# trials each on the validation stars, the trees by more, for theirs are cheap.
# Besides, the encoder is trained with one of its branches alone, as the paper
# claims that both are better.

# %%
source.show(light_curve_baselines.features)

# %%
few_train = train[: min(ablation_stars, len(train))]
networks = {
    "encoder": lambda number, **options: fresh(number, **options),
    "plain CNN": lambda number, dense: light_curve_baselines.PlainCNN(
        kind=kind, length=LENGTH, dense=dense, scale=scale
    ),
}
dials = {
    "encoder": ("features", [64, 128]),
    "plain CNN": ("dense", [128, 256]),
}


def made(name, settings, label, steps, number=seed, data=(train, val)):
    """A trained network."""
    settings = dict(settings)
    options = {key: settings.pop(key) for key in ("lr", "noise")}
    with torch.random.fork_rng([]):
        torch.manual_seed(stream(seed, 53, number))
        model = networks[name](number, **settings)
    label = f"{name.replace(' ', '-')}-{label}"
    if name == "encoder":
        learn(label, model, steps, number, data, **options)
    else:
        light_curve_training.train_on_periods(
            model,
            *data,
            steps=steps,
            batch_size=2 * batch_size,  # it sees one view a star, not two
            validate_every=max(1, steps // 8),
            device=device,
            seed=stream(seed, 54, number),
            checkpoint=place / f"{label}.pt",
            progress=label,
            **options,
        )
    return model


def attempt(name):
    """What a trial of the search does: ask for settings, train."""

    def train_one(trial):
        dial, choices = dials[name]
        settings = {
            "lr": trial.suggest_float("lr", 5e-4, 8e-3, log=True),
            "noise": trial.suggest_float("noise", 0.01, 0.3, log=True),
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
        attempt(name),
        val,
        trials=trials,
        seed=seed,
        quantiles=light_curve_training.quantiles,
    )
pd.concat(searches, names=["network", "trial"]).sort_values(
    ["network", "mae"]
).groupby("network").head(3)

# %%
seeds = range(seed, seed + n_seeds)
compared = {
    name: [made(name, best[name], f"seed-{n}", steps, n) for n in seeds]
    for name in networks
}
for branch in ("curve", "transforms"):
    settings = best["encoder"] | {"branches": branch}
    compared[f"{branch} alone"] = [
        made("encoder", settings, f"{branch}-{n}", steps, n) for n in seeds
    ]
tables = [
    pd.concat([light_curve_baselines.features(part, v) for v in (0, 1)])
    for part in (train, val)
]
periods = [np.tile(part.labels.numpy(), (2, 1)) for part in (train, val)]
forests = [
    light_curve_baselines.trees(
        tables[0],
        periods[0],
        tables[1],
        periods[1],
        trials=tree_trials,
        seed=n,
        checkpoint=place / f"trees-{n}.pkl",
    )
    for n in seeds
]


def median(found):
    """The middle one of the quantiles, (n,)."""
    return found[:, 0, len(conformal.QUANTILES) // 2]


def predict(model, sample=test, view=0):
    """Medians of log10 of the period, (n,)."""
    return median(light_curve_training.quantiles(model, sample, view))


def everyone(sample, view=0):
    """What each method says of log10 of the period; a list, one a seed.

    Where a method finds no peak it says the median of the training stars.
    """
    table = light_curve_baselines.features(sample, view)
    found = {
        name: [column.fillna(middle).to_numpy()]
        for name, column in light_curve_baselines.classical(table).items()
    }
    found["boosted trees"] = [trees(table)[:, 0] for trees in forests]
    found |= {
        name: [predict(model, sample, view) for model in models]
        for name, models in compared.items()
    }
    return found | {"encoder, published": [predict(encoder, sample, view)]}


middle = float(train.labels.median())
guesses, filtered = (
    {"the median period": [np.full(len(truth), middle)]} | everyone(test, view)
    for view in (0, 1)
)


# %%
def within(guess, share, truth=truth):
    """Whether a period, given as its log10, is met within a share of it."""
    return np.abs(10 ** (guess - truth) - 1) < share


def scores(guess, truth=truth):
    """How well log10 of periods is met."""
    miss = guess - truth
    days_off = 10**guess - 10**truth
    return {
        "RMSE [dex]": np.sqrt(np.mean(miss**2)),
        "median error [dex]": np.median(np.abs(miss)),
        "within 10 % [%]": 100 * np.mean(within(guess, 0.1, truth)),
        "within 20 % [%]": 100 * np.mean(within(guess, 0.2, truth)),
        "RMSE [d]": np.sqrt(np.mean(days_off**2)),
    }


results, of_filtered = (
    {
        name: pd.DataFrame([scores(guess) for guess in each])
        for name, each in some_guesses.items()
    }
    for some_guesses in (guesses, filtered)
)

# %% tags=["hide-input"]
DIGITS = dict(zip(results["encoder"], (3, 3, 0, 0, 2), strict=True))


def written(values, digits):
    """Mean and spread over seeds."""
    text = f"{values.mean():.{digits}f}"
    if len(values) > 1:
        text += f" ± {values.std(ddof=1):.{digits}f}"
    return text


pd.DataFrame(
    {
        (view, column): {
            name: written(found[column], digits)
            for name, found in rows.items()
        }
        for view, rows, columns in (
            ("as observed", results, DIGITS),
            ("filtered", of_filtered, ("RMSE [dex]", "within 10 % [%]")),
        )
        for column, digits in DIGITS.items()
        if column in columns
    }
)

# %% [markdown]
# Of one view, {glue:text}`days:.0f` days, of each test star whose period a
# survey would have found; on the right, of the same stars' filtered views. By
# the spread over seeds (with one seed nothing is decided), the encoder's RMSE
# of the logarithm is lower by more than two standard errors than that of:
# {glue:text}`wins`; it is not lower than that of: {glue:text}`losses`.
#
# The paper's RMSE, {glue:text}`paper_rmse:.2f` days, is of real stars (windows
# of two years, in the authors' code) whose periods catalogues had found in the
# same mission's curves. Ours is of a quarter and of simulated stars: the
# numbers cannot be compared. The order can, and the factor between a CNN on
# the autocorrelation and the encoder.

# %% tags=["remove-cell"]
wins, losses = [], []
ours = results["encoder"]["RMSE [dex]"].to_numpy()
for name in [
    *list(light_curve_baselines.METHODS),
    "boosted trees",
    "plain CNN",
]:
    other = results[name]["RMSE [dex]"].to_numpy()
    error = np.sqrt(
        sum(x.var(ddof=1) / len(x) if len(x) > 1 else 0 for x in (ours, other))
    )
    won = len(ours) > 1 and other.mean() - ours.mean() > 2 * error
    (wins if won else losses).append(name)
glue("wins", ", ".join(wins) or "none", display=False)
glue("losses", ", ".join(losses) or "none", display=False)
for unit in ("d", "dex"):
    claims.record(
        f"desa.prot_rmse_{'days' if unit == 'd' else unit}",
        results["encoder"][f"RMSE [{unit}]"].to_numpy(),
        n=len(truth),
        data="simulated stars",
    )
verdict = claims.record(
    "desa.prot.against_cnn",
    (
        results["plain CNN"]["RMSE [d]"] - results["encoder"]["RMSE [d]"]
    ).to_numpy(),
    n=len(truth),
    data="simulated stars",
)
glue("verdict_cnn", verdict["status"], display=False)
factor = results["plain CNN"]["RMSE [d]"].mean()
factor /= results["encoder"]["RMSE [d]"].mean()
glue("cnn_factor", float(factor), display=False)
for branch in ("curve", "transforms"):
    gain = results[f"{branch} alone"]["RMSE [dex]"]
    verdict = claims.record(
        f"desa.prot.both_against_{branch}",
        (gain - results["encoder"]["RMSE [dex]"]).to_numpy(),
        n=len(truth),
        data="simulated stars",
    )
    glue(f"verdict_both_{branch}", verdict["status"], display=False)

# %% tags=["nbval-check-output"]
for name in ("encoder, published", "boosted trees", "ACF peak"):
    value = results[name]["RMSE [dex]"].iloc[0]
    check(f"03_light_curve_encoder: RMSE of log P, {name}", value)

# %% [markdown]
# ### Intervals

# %%
encoder.margins = conformal.calibrate(
    cal.labels.numpy(), light_curve_training.quantiles(encoder, cal)
)
raw = light_curve_training.quantiles(encoder, test)
predicted = conformal.calibrated(raw, encoder.margins)  # (n, 1, levels)
inside = conformal.covered(test.labels.numpy(), predicted)[0]
as_learned = conformal.covered(test.labels.numpy(), raw)[0]


def calibrated(sample, view=0):
    """The published encoder's quantiles of log10 of the period, widened."""
    found = light_curve_training.quantiles(encoder, sample, view)
    return conformal.calibrated(found, encoder.margins)


inside_filtered = conformal.covered(test.labels.numpy(), calibrated(test, 1))[
    0
]
# Stars that rotate, but whose period no survey would have found.
rows = field.split("test")
rows = rows[~has_period[rows] & stars.prot.notna().to_numpy()[rows]][:n_held]
unfound = light_curve_input.simulated(
    stars.iloc[rows], length=LENGTH, kind=kind, seed=stream(seed, 60), crops=1
)
widths = {
    name: np.ptp(calibrated(sample)[:, 0, [0, -1]], axis=1)
    for name, sample in (("found", test), ("unfound", unfound))
}

# %% tags=["nbval-check-output"]
check("03_light_curve_encoder: coverage of 80 %", inside[0])

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(8.4, 3.1), sharex=True, sharey=True)
for axis, name in zip(
    axes, ("ACF peak", "boosted trees", "encoder, published"), strict=True
):
    axis.axline((1, 1), (10, 10), color="black", linewidth=0.7)
    for factor in (0.5, 2):
        axis.axline((1, factor), (10, 10 * factor), color="0.7", linewidth=0.6)
    if name == "encoder, published":
        order = np.random.default_rng(seed).permutation(len(truth))[:70]
        for level, colour, width in ((0, "#CC79A7", 1.0), (1, "0.45", 2.0)):
            axis.vlines(
                10 ** truth[order],
                10 ** predicted[order, 0, level],
                10 ** predicted[order, 0, -1 - level],
                color=colour,
                linewidth=width,
                alpha=0.8,
            )
    axis.plot(
        10**truth,
        10 ** guesses[name][0],
        ".",
        markersize=1.5,
        color=figures.PALETTE[0],
        rasterized=True,
    )
    axis.set_title(name, fontsize=9)
    axis.set(xscale="log", yscale="log", xlim=(0.4, 80), ylim=(0.4, 80))
    axis.set_xlabel(r"true $P_{\rm rot}$ [d]")
    for which in "xy":
        figures.plain_ticks(axis, which, [0.5, 1, 2, 5, 10, 20, 50])
axes[0].set_ylabel(r"predicted $P_{\rm rot}$ [d]")
figures.show(
    fig,
    "fig-periods",
    data="simulated stars",
    source="test stars, 92 days",
    caption="""**Periods**, after the paper's Fig. 6. Grey lines: half and
    twice the period. Right, for some stars: the calibrated 80 % (pink) and
    50 % (grey) intervals of the encoder.""",
    alt="""Predicted against true period for the highest peak of the
    autocorrelation, boosted trees and the encoder, with lines at the same, at
    half and at twice the period.""",
)

# %% tags=["remove-cell"]
for key, found in (
    ("raw", as_learned),
    ("calibrated", inside),
    ("filtered", inside_filtered),
):
    for level, value in zip((80, 50), found, strict=True):
        glue(f"covered_{key}_{level}", float(value), display=False)
for name, width in widths.items():
    glue(f"width_{name}", float(np.median(width)), display=False)
met_unfound = within(
    predict(encoder, unfound), 0.1, unfound.labels[:, 0].numpy()
)
glue("unfound_within", 100 * float(met_unfound.mean()), display=False)

# %% [markdown]
# Calibrated, the wide intervals hold
# {glue:text}`covered_calibrated_80:.1%` of the test stars (they should hold
# $80\,\%$), the narrow ones {glue:text}`covered_calibrated_50:.1%`; as learned
# they held {glue:text}`covered_raw_80:.1%` and
# {glue:text}`covered_raw_50:.1%`. Calibrated was on views as observed; of
# filtered ones the wide intervals hold {glue:text}`covered_filtered_80:.1%`.
#
# When not to believe a period: the wide interval spans
# {glue:text}`width_found:.2f` dex in the median over stars whose period a
# survey would have found, and {glue:text}`width_unfound:.2f` dex for other
# stars. Of these the encoder has never seen one, and is within ten per cent
# for {glue:text}`unfound_within:.0f` %.

# %% [markdown]
# ### Where it fails

# %% tags=["hide-input"]
SHOWN = ("ACF peak", "Lomb–Scargle", "boosted trees", "plain CNN", "encoder")
fig, axes = plt.subplot_mosaic(
    [
        ["by S_ph", "by period", "errors"],
        ["dex, S_ph", "dex, period", "errors"],
    ],
    figsize=(8.6, 4.8),
)
amplitude = np.geomspace(*np.nanpercentile(tested.sph, (1, 99)), 7)
period = np.array([0.5, 2, 5, 10, 15, 20, 30, 80])
for colour, name in zip(figures.PALETTE, SHOWN, strict=False):
    good = np.mean([within(g, 0.1) for g in guesses[name]], axis=0)
    square = np.mean([(g - truth) ** 2 for g in guesses[name]], axis=0)
    for which, value, edges in (
        ("S_ph", tested.sph.to_numpy(), amplitude),
        ("period", 10**truth, period),
    ):
        bins = np.digitize(value, edges) - 1
        parts_of = [bins == i for i in range(len(edges) - 1)]
        for panel, mean in (
            (f"by {which}", [100 * good[part].mean() for part in parts_of]),
            (f"dex, {which}", [square[p].mean() ** 0.5 for p in parts_of]),
        ):
            enough = [part.sum() > 4 for part in parts_of]
            axes[panel].plot(
                np.sqrt(edges[1:] * edges[:-1]),
                np.where(enough, mean, np.nan),
                "o-",
                markersize=3,
                color=colour,
                label=name,
            )
    misses = np.concatenate([g - truth for g in guesses[name]])
    axes["errors"].hist(
        misses,
        bins=np.linspace(-0.6, 0.6, 61),
        weights=np.full(len(misses), 100 / len(misses)),
        histtype="step",
        color=colour,
    )
for panel in ("by S_ph", "dex, S_ph", "by period", "dex, period"):
    axes[panel].set(xscale="log")
    axes[panel].set(
        **{"yscale": "log"} if panel.startswith("dex") else {"ylim": (0, 102)}
    )
for panel in ("by period", "dex, period"):
    figures.plain_ticks(axes[panel], "x", [1, 3, 10, 30])
for panel in ("dex, S_ph", "dex, period"):
    figures.plain_ticks(axes[panel])
axes["dex, S_ph"].set_xlabel(r"$S_{\rm ph}$ [ppm]")
axes["dex, period"].set_xlabel(r"true $P_{\rm rot}$ [d]")
axes["by S_ph"].set_ylabel("stars within 10 % [%]")
axes["dex, S_ph"].set_ylabel("RMSE of log P [dex]")
axes["errors"].set(yscale="log", xlabel=r"$\log P$, predicted − true")
axes["errors"].set_ylabel("stars per bin [%]")
for x in (-np.log10(2), np.log10(2)):
    axes["errors"].axvline(x, color="0.6", linewidth=0.7, zorder=0)
figures.legend_above(axes["by S_ph"], 5)
figures.show(
    fig,
    "fig-failures",
    data="simulated stars",
    source="test stars, 92 days",
    caption="""**Who is right, and when.** Share of stars whose period is met
    within ten per cent (top), and the RMSE (bottom), by photometric activity
    and by period; right: all errors, with half and twice the period
    marked.""",
    alt="""Four panels, one curve a method: the share of periods met and the
    error, against activity and against period; a histogram of errors, with
    lines at half and at twice the period.""",
)

# %% tags=["remove-cell"]
NEAR = 0.08  # dex
for name, key in (("ACF peak", "acf"), ("encoder", "encoder")):
    miss = np.concatenate([g - truth for g in guesses[name]])
    for sign, word in ((-1, "half"), (1, "double")):
        near = np.abs(miss - sign * np.log10(2)) < NEAR
        glue(f"{word}_{key}", float(near.mean()), display=False)
glue("near", NEAR, display=False)
good = np.mean([within(g, 0.1) for g in guesses["encoder"]], axis=0)
SLOW = 30  # days
glue("slow_days", SLOW, display=False)
slow = 10**truth > SLOW
glue("within_slow", float(good[slow].mean()), display=False)
glue("within_fast", float(good[~slow].mean()), display=False)

# %% [markdown]
# The encoder is within ten per cent of the truth for
# {glue:text}`within_fast:.0%` of the stars that rotate within
# {glue:text}`slow_days` days and for {glue:text}`within_slow:.0%` of the
# slower ones, of which a view holds fewer than three rotations or so. Half the
# period, where two groups of spots on opposite sides look like one, is given
# to within {glue:text}`near:.2f` dex for {glue:text}`half_encoder:.1%` of the
# stars (by the highest peak of the autocorrelation:
# {glue:text}`half_acf:.1%`), twice the period for
# {glue:text}`double_encoder:.1%` ({glue:text}`double_acf:.1%`); some of these
# are errors that fall there by chance.

# %% tags=["hide-input"]
miss = guesses["encoder, published"][0] - truth
size_of = np.abs(miss)
picks = {
    "met": np.flatnonzero(size_of < 0.03)[:3],
    "half": np.flatnonzero(np.abs(miss + np.log10(2)) < NEAR)[:1],
    "double": np.flatnonzero(np.abs(miss - np.log10(2)) < NEAR)[:1],
    "missed": np.argsort(size_of)[-1:],
}
picks = [(name, row) for name, rows in picks.items() for row in rows]
fig, axes = plt.subplots(2, 3, figsize=(8.6, 3.8), sharex=True)
for axis, (name, row) in zip(axes.flat, picks, strict=False):
    axis.plot(
        days[::6],
        test.scores[row, 0, ::6].float(),
        linewidth=0.5,
        color=figures.PALETTE[0],
    )
    low, mid, high = 10 ** predicted[row, 0, [0, 2, 4]]
    axis.set_title(
        f"{name}: true {10 ** truth[row]:.1f} d, {mid:.1f} "
        f"({low:.1f} to {high:.1f})",
        fontsize=8,
    )
    axis.set_yticks([])
for axis in axes.flat[len(picks) :]:
    axis.set_axis_off()
for axis in axes[-1]:
    axis.set_xlabel("day of the view")
figures.show(
    fig,
    "fig-gallery",
    data="simulated stars",
    source="test stars",
    caption="""**Successes and failures.** The curves, the true period, what
    the encoder says and its 80 % interval. The failures are the first of
    their kind and the worst of all.""",
    alt="""Light curves of 92 days, each with its true and its predicted
    period.""",
)

# %% [markdown]
# ### What limits it
#
# A rotation is told from spots that come back. Of the simulated stars we know
# how long their spots live: on the left, against that life in rotations; on
# the right, together with how many rotations a view holds.

# %%
drawn = light_curves.simulate(  # the same stars: their habits, no flux
    tested,
    days=2 * LENGTH * LONG_CADENCE,
    seed=stream(seed, 50, list(parts).index("test")),
    parts=(),
).truth
turns = (drawn.life / tested.prot).to_numpy()  # rotations that spots live
held_turns = LENGTH * LONG_CADENCE / tested.prot.to_numpy()  # in a view

# %% tags=["hide-input"]
fig, (left, right_one) = plt.subplots(1, 2, figsize=(8.6, 3.4))
edges = np.quantile(turns, np.linspace(0, 1, 9))
bins = np.clip(np.digitize(turns, edges) - 1, 0, len(edges) - 2)
for colour, name in zip(figures.PALETTE, SHOWN, strict=False):
    good = np.mean([within(g, 0.1) for g in guesses[name]], axis=0)
    left.plot(
        [np.median(turns[bins == i]) for i in range(len(edges) - 1)],
        [100 * good[bins == i].mean() for i in range(len(edges) - 1)],
        "o-",
        markersize=3,
        color=colour,
        label=name,
    )
left.set(xscale="log", xlabel="rotations that spots live")
left.set(ylabel="stars within 10 % [%]", ylim=(0, 102))
figures.plain_ticks(left, "x", [0.3, 0.5, 1, 2, 5, 10])
miss = np.mean(
    [np.abs(10 ** (g - truth) - 1) for g in guesses["encoder"]], axis=0
)
cells = figures.median_map(
    right_one,
    turns,
    held_turns,
    np.clip(100 * miss, 1, 100),
    [np.geomspace(0.2, 20, 15), np.geomspace(1, 100, 15)],
    norm="log",
    cmap="viridis_r",
)
right_one.set(xscale="log", yscale="log", ylabel="rotations in a view")
right_one.set(xlabel="rotations that spots live")
figures.plain_ticks(right_one, "x", [0.3, 1, 3, 10])
figures.plain_ticks(right_one, "y", [1, 3, 10, 30])
fig.colorbar(cells, ax=right_one, label="median error of the encoder [%]")
figures.legend_above(left, 5)
figures.show(
    fig,
    "fig-limits",
    data="simulated stars",
    source="test stars, 92 days",
    caption="""**What limits a period.** Left: share of stars whose period is
    met within ten per cent, by how many rotations their spots live (the
    middle of a star's distribution; eighths of the stars). Right: the median
    relative error of the encoder, by that and by how many rotations a view
    holds (cut off at 1 and at 100 %).""",
    alt="""Left, the share of periods met against the rotations that spots
    live, one curve a method. Right, a map of the encoder's error over the
    rotations that spots live and those that a view holds.""",
)

# %% tags=["remove-cell"]
brief, lasting = turns < 1, turns > 3
glue("turns_median", float(np.median(turns)), display=False)
for key, which in (("brief", brief), ("lasting", lasting)):
    some_scores = pd.DataFrame(
        [scores(g[which], truth[which]) for g in guesses["encoder"]]
    ).mean()
    glue(f"{key}_share", float(which.mean()), display=False)
    glue(f"{key}_rmse", float(some_scores["RMSE [dex]"]), display=False)
    glue(f"{key}_within", float(some_scores["within 10 % [%]"]), display=False)

# %% [markdown]
# Half of the stars have spots that live for less than
# {glue:text}`turns_median:.1f` rotations. Where they live for more than three
# ({glue:text}`lasting_share:.0%` of the stars) the encoder is within ten per
# cent for {glue:text}`lasting_within:.0f` %, with an RMSE of
# {glue:text}`lasting_rmse:.3f` dex; where for less than one
# ({glue:text}`brief_share:.0%`), for {glue:text}`brief_within:.0f` %, with
# {glue:text}`brief_rmse:.3f` dex. A spot that is gone before it comes back
# leaves little to be timed, for any method. The simulation's lives were chosen
# such that its autocorrelations fall off as real ones do (chapter 01); a
# simulation with more lasting spots would flatter every method here. (In it,
# as in the sky, lives go with activity and period: spots that do not last are
# also those of quiet and of slow stars.)

# %% [markdown]
# ## Ablations
#
# Short trainings, {glue:text}`ablation_steps` steps, that differ in one thing
# from the first. So short, they rank gross effects only, with two seeds at the
# most (on the other axes with one); they are judged on
# {glue:text}`n_judged:,.0f` test stars. With λ = 0 no label is used in the
# training; its features are then judged by ridge regression, as are those of
# the others, on the labels of {glue:text}`n_fitted:,.0f` of the training
# stars; so are those of an encoder that was never trained. Without the stopped
# gradient SimSiam is free to collapse: to one point (the spread of the
# features is then zero), or to few directions (their effective rank falls).


# %%
few_val = val[: min(500, len(val))]
other_kind = "linear" if kind == "log" else "log"
other_views = [
    simulate("train", other_kind, first=len(few_train)),
    simulate("val", other_kind, first=len(few_val)),
    simulate("test", other_kind),
]
ON_OTHER = (
    "… of every lag and frequency" if kind == "log" else "… evenly in log P"
)
rng = np.random.default_rng(stream(seed, 55))
order = rng.permutation(len(few_train))
plain = [few_train, few_val, test]
shuffled = few_train[:]
shuffled.labels = few_train.labels[order]
# These two read a CNN that halves what it reads, as the paper's does.
each_place = {"pooling": "flatten"}
if size == "small":
    each_place["channels"] = HALVING["channels"]
cases = {
    "ours": ({}, {}, plain),
    "curve only": ({"branches": "curve"}, {}, plain),
    "transforms only": ({"branches": "transforms"}, {}, plain),
    "magnitude only": ({"normalisations": "magnitude"}, {}, plain),
    "scores only": ({"normalisations": "scores"}, {}, plain),
    "λ = 1, period only": ({}, {"share": 1.0}, plain),
    "λ = 0, agreement only": ({}, {"share": 0.0}, plain),
    "λ = 0, no stop": ({}, {"share": 0.0, "stop": False}, plain),
    "a weight for each place": (each_place, {}, plain),
    ON_OTHER: (each_place | {"kind": other_kind}, {}, other_views),
    "places averaged": (each_place | {"pooling": "mean"}, {}, plain),
    f"{ON_OTHER}, averaged": (
        each_place | {"kind": other_kind, "pooling": "mean"},
        {},
        other_views,
    ),
    "the other block": ({"block": "desa"}, {}, plain),
    "periods shuffled": ({}, {}, [shuffled, few_val, test]),
    "never trained": ({}, None, plain),
}


def rank(z):
    """Effective rank of features (n, F): exp of their spectrum's entropy."""
    share = np.linalg.svd(z - z.mean(axis=0), compute_uv=False) ** 2
    share = share[share > 0] / share.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


FITTED, JUDGED = slice(0, 2000), slice(0, 1000)  # training and test stars
known_few = few_train.labels.numpy()[FITTED, 0]
truth_few = truth[JUDGED]
rows = []
for name, (of_model, of_training, data) in cases.items():
    # A view of every lag and frequency takes ten times as long: one seed.
    for n in seeds[-2:] if data is not other_views else seeds[-1:]:
        model = fresh(n, **of_model)
        key = "".join(c if c.isalnum() else "-" for c in name)
        if of_training is None:
            light_curve_training.measure_norms(
                model, data[0], most=NORMS, device=device
            )
        else:
            learn(
                f"ablation-{key}-{n}",
                model,
                ablation_steps,
                n,
                data[:2],
                **of_training,
            )
        z, z_test = (
            light_curve_training.embed(model, part)
            for part in (data[0][FITTED], data[2][JUDGED])
        )
        answer = predict(model, data[2][JUDGED])
        ridge = RidgeCV(np.logspace(-3, 3, 7)).fit(z, known_few)
        rows.append(
            {
                "case": name,
                "seed": n,
                "head": scores(answer, truth_few)["RMSE [dex]"],
                "ridge": scores(ridge.predict(z_test), truth_few)[
                    "RMSE [dex]"
                ],
                "spread": light_curve_training.embedding_spread(z_test),
                "rank": rank(z_test),
            }
        )
ablation = pd.DataFrame(rows)

# %% tags=["hide-input"]
MEASURES = {
    "head": "RMSE of log P, its head",
    "ridge": "RMSE of log P, ridge on z",
    "spread": "spread of the features",
    "rank": "their effective rank",
}
CONTROLS = ("periods shuffled", "never trained")
fig, axes = plt.subplots(1, 4, figsize=(8.8, 4.0), sharey=True)
for axis, (column, name) in zip(axes, MEASURES.items(), strict=True):
    for i, (case, group) in enumerate(ablation.groupby("case", sort=False)):
        # A head that never learned is left out.
        if column == "head" and case.startswith(("λ = 0", "never")):
            continue
        colour = "0.5" if case in CONTROLS else figures.PALETTE[0]
        values = group[column].to_numpy()
        axis.plot(values, [i] * len(values), "o", markersize=4, color=colour)
    ours = ablation[ablation.case == "ours"][column].mean()
    axis.axvline(ours, color="0.8", zorder=0)
    axis.set_title(name, fontsize=8)
axes[0].set_yticks(range(len(cases)), cases)
axes[0].invert_yaxis()
axes[2].set_xlim(-0.05, 1.1)
axes[3].set_xlim(left=0)
figures.show(
    fig,
    "fig-ablations",
    data="simulated stars",
    source="test stars, 92 days",
    caption="""**Ablations.** Each point is one short training; the line is
    the mean of the first row. From left to right: the period as the head
    reads it; as ridge regression reads it from the features; how far apart
    the features of different stars lie, 0 being collapse to a point; in how
    many directions they do. Grey: controls.""",
    alt="""Dot plots of two errors, of the spread and of the rank for variants
    of the training; a vertical line marks the mean of the first.""",
)

# %% tags=["remove-cell"]
mean_of = ablation.groupby("case")[list(MEASURES)].mean()
for key, case in (
    ("ours", "ours"),
    ("curve", "curve only"),
    ("transforms", "transforms only"),
    ("supervised", "λ = 1, period only"),
    ("ssl", "λ = 0, agreement only"),
    ("free", "λ = 0, no stop"),
    ("magnitude", "magnitude only"),
    ("scores", "scores only"),
    ("block", "the other block"),
    ("linear", ON_OTHER),
    ("linear_averaged", f"{ON_OTHER}, averaged"),
    ("untrained", "never trained"),
    ("flat", "a weight for each place"),
    ("averaged", "places averaged"),
    ("shuffled", "periods shuffled"),
):
    for column in MEASURES:
        glue(f"ab_{key}_{column}", float(mean_of[column][case]), display=False)
glue("ablation_steps", ablation_steps, display=False)
glue("n_fitted", len(known_few), display=False)
glue("n_judged", len(truth_few), display=False)

# %% [markdown]
# In so few steps the RMSE of the logarithm is {glue:text}`ab_ours_head:.3f`
# dex, with the curve alone {glue:text}`ab_curve_head:.3f`, with the transforms
# alone {glue:text}`ab_transforms_head:.3f`; from the period alone, without
# SimSiam, {glue:text}`ab_supervised_head:.3f` (what the authors' published
# script runs: it sets SimSiam's share to zero). Of the normalisations, the
# magnitude's alone gives {glue:text}`ab_magnitude_head:.3f`, standard scores
# alone {glue:text}`ab_scores_head:.3f`; the authors' block
# {glue:text}`ab_block_head:.3f`. Where the CNN does not point at a period but
# has a weight for each place it is {glue:text}`ab_flat_head:.3f`, the same on
# the other axes, the paper's even lags and frequencies,
# {glue:text}`ab_linear_head:.3f`; with places averaged, so that nobody knows
# at which lag a peak is, {glue:text}`ab_averaged_head:.3f`, and both as the
# authors have it {glue:text}`ab_linear_averaged_head:.3f`. With shuffled
# periods it is {glue:text}`ab_shuffled_head:.3f`.
#
# Agreement alone, which has never seen a period, makes features from which
# ridge regression reads it to {glue:text}`ab_ssl_ridge:.3f` dex; from those of
# an encoder that was never trained it reads it to
# {glue:text}`ab_untrained_ridge:.3f` dex, since the CNN points at a period by
# construction. The spread of the former is {glue:text}`ab_ssl_spread:.2f`,
# their effective rank {glue:text}`ab_ssl_rank:.1f`; without the stopped
# gradient these are {glue:text}`ab_free_spread:.2f` and
# {glue:text}`ab_free_rank:.1f`. (The projector ends in BatchNorm, which keeps
# every feature spread over the stars: a collapse to one point is thus unlikely
# in so few steps, one to few directions is not.)

# %% [markdown]
# ## Real Kepler stars
#
# ### Four stars with known periods
#
# Everything up to here was simulated. KEPSEISMIC's curves of three bright
# stars last four years {cite}`garcia2011`; their periods are known from these
# same four years, by people who looked {cite}`santos2021`. They are cut into
# pieces of {glue:text}`days:.0f` days, and every method must find the period
# from each piece. No network was trained on these stars; the simulation was
# made to resemble their light curves (chapter 01), so they are no blind test
# of it. The fourth, KIC 10002792, has two quarters.

# %%
catalogue = catalogues.rotation().set_index("kic").prot
KNOWN = {
    str(kic): float(catalogue[kic]) for kic in (3733735, 8006161, 10644253)
}


def pieces(name):
    """Views of a real star, one a window."""
    record = read_light_curve(example_light_curves.path(name))
    sample, flags = light_curve_input.prepare_curves(
        [record], length=LENGTH, kind=kind
    )
    assert not flags[0], flags[0]
    return sample


real = {kic: pieces(f"kepseismic_{kic}") for kic in KNOWN}
answers = {kic: everyone(sample) for kic, sample in real.items()}


def met(answers):
    """Share of pieces within 20 per cent, mean over seeds, and over stars."""
    shares = pd.DataFrame(
        {
            f"KIC {kic}": {
                name: 100
                * np.mean([within(g, 0.2, np.log10(KNOWN[kic])) for g in each])
                for name, each in found.items()
            }
            for kic, found in answers.items()
        }
    )
    return shares.assign(mean=shares.mean(axis=1))


right = met(answers)

# %% [markdown]
# How hard are these stars? The same is asked of simulated copies of each, with
# its period, activity, brightness, temperature, gravity and mass, but spots of
# their own. What a method loses from copies to the star itself is what the
# simulation does not know of it, or luck: a star is one draw.

# %%
GIVEN = ["prot", "sph", "kp", "teff", "logg", "mass"]
copies = {}
for kic in KNOWN:
    star = catalogues.rotation().set_index("kic").loc[int(kic), GIVEN]
    copies[kic] = light_curve_input.simulated(
        pd.DataFrame([star.to_dict()] * n_copies),
        length=LENGTH,
        cadences=15 * LENGTH,  # nearly as long as the real curve
        crops=1,
        kind=kind,
        filters=FILTERS[1:],
        seed=stream(seed, 59, int(kic)),
        parts=("spots", "granulation", "flares", "noise"),
    )
on_copies = met({kic: everyone(sample) for kic, sample in copies.items()})

# %% tags=["hide-input"]
pd.concat({"real pieces": right, "pieces of copies": on_copies}, axis=1).round(
    0
).astype(int)

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.4), sharey=True)
for axis, (kic, found) in zip(axes, answers.items(), strict=True):
    axis.axvspan(0.8 * KNOWN[kic], 1.2 * KNOWN[kic], color="0.9", zorder=0)
    for factor in (0.5, 2):
        axis.axvline(factor * KNOWN[kic], color="0.8", linewidth=0.7)
    for i, each in enumerate(found.values()):
        jitter = np.linspace(-0.25, 0.25, len(each[0]))
        axis.plot(
            10 ** each[0],
            i + jitter,
            ".",
            markersize=4,
            color=figures.PALETTE[i % len(figures.PALETTE)],
        )
    axis.set(xscale="log", xlabel="period [d]")
    axis.set_title(f"KIC {kic}: {KNOWN[kic]:g} d", fontsize=9)
    figures.plain_ticks(axis, "x", [1, 3, 10, 30])
axes[0].set_yticks(range(len(answers["3733735"])), list(answers["3733735"]))
axes[0].invert_yaxis()
figures.show(
    fig,
    "fig-real",
    data="real",
    source="KEPSEISMIC, pieces of 92 days",
    caption="""**Real stars.** Each point is what a method (of several
    trainings the first) says of one piece of 92 days, in order of time
    downwards; grey: within twenty per cent of the known period, grey lines
    half and twice the period.""",
    alt="""Three panels, one a star: rows of points, one row a method, and a
    grey band at the known period.""",
)

# %% tags=["remove-cell"]
n_pieces = sum(len(sample) for sample in real.values())
claims.record(
    "desa.prot.real_kepseismic",
    right.loc["encoder, published", "mean"],
    n=n_pieces,
    data="real",
)
glue("n_pieces", n_pieces, display=False)
glue("prot_k_dwarf", float(catalogue[10002792]), display=False)
glue("real_encoder", right.loc["encoder, published", "mean"], display=False)
real_inside = [
    conformal.covered(
        np.full((len(sample), 1), np.log10(KNOWN[kic])), calibrated(sample)
    )[0, 0]
    for kic, sample in real.items()
]
glue("real_inside", 100 * float(np.mean(real_inside)), display=False)
for key, name in (("encoder", "encoder, published"), ("acf", "ACF peak")):
    glue(f"copies_{key}", on_copies.loc[name, "mean"], display=False)
glue("real_trees", right.loc["boosted trees", "mean"], display=False)
best_name = right["mean"].idxmax()
glue("real_best", best_name, display=False)
glue("real_best_value", right["mean"].max(), display=False)

# %% [markdown]
# These are {glue:text}`n_pieces` pieces. In the mean over the three stars (the
# table above) the best method on the real ones is: {glue:text}`real_best`. On
# the simulated copies, where nothing is unknown to the simulation, every
# method meets more of them. The published encoder's wide intervals
# hold the known period of {glue:text}`real_inside:.0f` % of the real pieces.
# Three stars are few, and their pieces are not independent: a difference of
# some per cent says nothing.

# %%
paths = [
    example_light_curves.path(name) for name in ("kepler_q2", "kepler_q5")
] + [example_light_curves.path(f"kepseismic_{kic}") for kic in KNOWN]
encoder.predict([read_light_curve(path) for path in paths])

# %% [markdown]
# The published weights read a light curve as it comes from the archive, a long
# one window by window. (The intervals are those of one window; of the median
# over many they promise nothing.) The first two rows are two quarters of KIC
# 10002792, for which the catalogue has {glue:text}`prot_k_dwarf:.2f` days.

# %% tags=["hide-input"]
if survey_files.available("kepler_lightcurves"):
    others = {
        name: curve
        for name, curve in survey_files.load("kepler_lightcurves").items()
        if not name.startswith("KEPSEISMIC")
    }
    known_prot = [catalogue.get(int(name.split("_")[1])) for name in others]
    table = encoder.predict(list(others.values()))
    table.insert(0, "catalogue [d]", pd.to_numeric(pd.Series(known_prot)))
    table.index = [
        f"{curve.meta['object']}, {np.ptp(curve.time):.0f} days"
        for curve in others.values()
    ]
    display(
        table[["catalogue [d]", "prot", "prot_lo80", "prot_hi80", "flag"]]
        .round(2)
        .fillna("–")
    )
else:
    print(survey_files.obtain("kepler_lightcurves"))

# %% [markdown]
# With files of your own, other curves of Kepler's field. The catalogue used
# here has no period for most of these; a curve that fills less than half of a
# view is not judged, and says so.

# %% [markdown]
# ### Images of real power spectra
#
# Of thousands of stars an image of the power spectrum of one Kepler quarter is
# at hand, made to tell kinds of variables apart {cite}`audenaert2021`.
# Catalogues have $\nu_{\max}$ of the oscillating giants among them, and
# rotation periods of others. A second, small encoder reads $\log\nu_{\max}$
# with intervals, and the kind of variable. Beside it stand linear models on
# principal components, of the pixels or of the outlines, tuned on the same
# validation stars, and a rule: $\nu_{\max}$ is where the spectrum stands
# highest above a smooth background. (Its width and degree were set by eye, on
# all stars.)
#
# The level of the power is not in an image: each star's was taken out. How far
# one gets with six numbers of an image, among them the slope, is in the table.
# And an image knows something of a star's brightness, through its noise, by
# which the classes may have been chosen: a survey's stars would be harder.

# %%
has_images = survey_files.available("kepler_q9")
if not has_images:
    print(survey_files.obtain("kepler_q9"))

# %%
source.show(power_spectrum_encoder.PowerSpectrumEncoder)

# %%
if has_images:
    images = survey_files.load("kepler_q9").labelled(catalogues.measured())
    image_test = images.split("test")
    linears = {
        f"linear, {name}": power_spectrum_baselines.LinearPowerSpectra(
            images, outlines=name == "outlines", seed=seed
        )
        for name in ("pixels", "outlines")
    }
    readers = []
    for n in seeds:
        with torch.random.fork_rng([]):
            torch.manual_seed(stream(seed, 56, n))
            reader = power_spectrum_encoder.PowerSpectrumEncoder(
                scale=power_spectrum_encoder.scale_of(images)
            )
        power_spectrum_encoder.train(
            reader,
            images,
            steps=image_steps,
            validate_every=max(1, image_steps // 8),
            device=device,
            seed=stream(seed, 57, n),
            checkpoint=place / f"images-{n}.pt",
            progress=f"images, seed {n}",
        )
        reader.calibrate(images, images.split("val"))
        readers.append(reader)
    print(
        f"{len(images)} stars; {len(image_test)} to test, "
        f"{images.table.numax.iloc[image_test].notna().sum()} with ν_max"
    )

    def six_numbers(rows):
        """Six numbers of an image: how black, where, and both its ends."""
        some = images.pixels(rows).astype(float)
        height = np.linspace(1, 0, some.shape[1])
        middle = (some * height[:, None]).sum(1) / some.sum(1).clip(1)
        ends = [middle[:, :16].mean(1), middle[:, -16:].mean(1)]
        widths = [some[:, :, :16].mean((1, 2)), some[:, :, -16:].mean((1, 2))]
        whole = [some.mean((1, 2)), middle.mean(1)]
        return np.stack(ends + widths + whole, axis=1)

    simple = make_pipeline(
        StandardScaler(),
        LogisticRegression(max_iter=2000, class_weight="balanced"),
    ).fit(
        six_numbers(images.split("train")),
        images.table.cls.iloc[images.split("train")],
    )

# %% tags=["hide-input"]
KINDS_OF = {
    "SOLARLIKE": "oscillator",
    "CONTACT_ROT": "contact, rotation",
    "DSCT_BCEP": "δ Sct, β Cep",
    "GDOR_SPB": "γ Dor, SPB",
    "ECLIPSE": "eclipse",
    "RRLYR_CEPHEID": "RR Lyr, Cepheid",
}
if has_images:
    fig, axes = plt.subplots(
        2, 3, figsize=(8.4, 4.2), sharex=True, sharey=True
    )
    for axis, (cls, name) in zip(axes.flat, KINDS_OF.items(), strict=True):
        rows = image_test[images.table.cls.iloc[image_test] == cls]
        known = images.table[["numax", "prot"]].iloc[rows].notna().any(axis=1)
        row = rows[int(np.argmax(known.to_numpy()))]
        star = images.table.iloc[row]
        axis.pcolormesh(
            FREQUENCY,
            POWER,
            images.pixels([row])[0],
            cmap="gray_r",
            rasterized=True,
        )
        for value in (star.numax, 1e6 / 86400 / star.prot):
            if FREQUENCY[0] < value < FREQUENCY[-1]:
                axis.axvline(value, color=figures.PALETTE[1])
        axis.set_title(f"{name}, KIC {star.kic}", fontsize=9)
        axis.set_xscale("log")
    fig.supxlabel("frequency [µHz]", fontsize=9)
    fig.supylabel("log power density, standardised", fontsize=9)
    figures.show(
        fig,
        "fig-power-spectra",
        data="real",
        source="Kepler, quarter 9; a test star of each kind",
        caption="""**Images of power spectra.** Each column spans the least
        and the greatest power at its frequencies. Orange: $\\nu_{\\max}$ or
        the rotation frequency, where a catalogue knows one.""",
        alt="""Six black and white power spectra against logarithmic
        frequency; an oscillating giant has a hump at the orange line.""",
    )

# %%
if has_images:
    truth_cls = images.table.cls.iloc[image_test].to_numpy()
    oscillates = image_test[images.table.numax.iloc[image_test].notna()]
    # Beyond the Nyquist frequency of half-hour cadences a hump is not seen.
    oscillates = oscillates[
        images.table.numax.iloc[oscillates] < FREQUENCY[-1]
    ]
    numax = images.table.numax.iloc[oscillates].to_numpy()
    said = {
        "highest hump": [power_spectrum_baselines.hump(images, oscillates)],
        **{
            name: [linear.predict(images, oscillates).numax]
            for name, linear in linears.items()
        },
        "encoder": [r.predict(images, oscillates).numax for r in readers],
    }
    classes = {
        "six numbers": [simple.predict(six_numbers(image_test))],
        **{
            name: [linear.predict(images, image_test).cls]
            for name, linear in linears.items()
        },
        "encoder": [r.predict(images, image_test).cls for r in readers],
    }
    rows = {}
    for name, each in said.items():
        errors = [np.log10(np.asarray(x) / numax) for x in each]
        rows[name] = {
            "log ν_max, scatter [dex]": np.array(
                [metrics.mad_std(e) for e in errors]
            ),
            "MAE [dex]": np.array([np.abs(e).mean() for e in errors]),
            "within 0.05 dex": np.array(
                [(np.abs(e) < 0.05).mean() for e in errors]
            ),
        }
    for name, each in classes.items():
        rows[name] = rows.get(name, {}) | {
            "right class": np.array([(x == truth_cls).mean() for x in each]),
            "mean over classes": np.array(
                [balanced_accuracy_score(truth_cls, x) for x in each]
            ),
        }
    display(
        pd.DataFrame(
            {
                name: {key: written(x, 3) for key, x in found.items()}
                for name, found in rows.items()
            }
        ).T.fillna("–")
    )

# %% tags=["hide-input"]
if has_images:
    table = readers[0].predict(images, oscillates)
    fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.4), layout="constrained")
    axes[0].vlines(
        numax, table.numax_lo80, table.numax_hi80, color="#CC79A7", linewidth=1
    )
    axes[0].loglog(
        numax, table.numax, ".", markersize=2, color=figures.PALETTE[0]
    )
    axes[0].axline((30, 30), (60, 60), color="black", linewidth=0.7)
    axes[0].set(
        xlabel=r"$\nu_{\max}$, catalogue [µHz]",
        ylabel=r"$\nu_{\max}$, image [µHz]",
    )
    for which in "xy":
        figures.plain_ticks(axes[0], which, [30, 50, 100, 200])
    for axis, name in zip(
        axes[1:], ("linear, pixels", "encoder"), strict=True
    ):
        each = classes[name]
        counted = np.mean(
            [confusion_matrix(truth_cls, x, labels=CLASSES) for x in each], 0
        )
        rate = counted / np.maximum(counted.sum(1, keepdims=True), 1)
        axis.imshow(rate, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.argwhere(counted >= 0.5):
            axis.text(
                j,
                i,
                f"{counted[i, j]:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if rate[i, j] > 0.5 else "black",
            )
        axis.set_title(f"{name}: class found", fontsize=9)
        axis.set_xticks(range(6), KINDS_OF.values(), rotation=60, ha="right")
        axis.set_yticks(range(6), KINDS_OF.values() if axis is axes[1] else [])
        axis.tick_params(labelsize=7)
    figures.show(
        fig,
        "fig-images",
        data="real",
        source="Kepler, quarter 9; held-out stars",
        caption="""**What the images tell.** Left: $\\nu_{\\max}$ as the
        encoder reads it, with 80 % intervals (calibrated on the validation
        stars, which chose its weights, too). Middle and right: numbers of
        stars by catalogued class (rows) and found class (columns), the mean
        over seeds.""",
        alt="""Predicted against catalogued frequency, with intervals and a
        diagonal; two matrices of counts.""",
    )

# %% tags=["remove-cell"]
if has_images:
    claims.record(
        "desa.q9.numax_scatter",
        rows["encoder"]["log ν_max, scatter [dex]"],
        n=len(oscillates),
        data="real",
    )
    claims.record(
        "desa.q9.class_accuracy",
        rows["encoder"]["mean over classes"],
        n=len(image_test),
        data="real",
    )

# %% tags=["hide-input"]
if has_images:
    held = table.assign(truth=numax)
    held = held.truth.between(held.numax_lo80, held.numax_hi80).mean()
    spread = "log ν_max, scatter [dex]"
    told = {
        name: f"{rows[name][spread].mean():.3f} dex ({name})"
        for name in said
        if name != "encoder"
    }
    kinds = {
        name: f"{rows[name]['mean over classes'].mean():.1%} ({name})"
        for name in classes
        if name != "encoder"
    }
    display(
        Markdown(
            "The robust scatter of $\\log\\nu_{\\max}$ is "
            f"{rows['encoder'][spread].mean():.3f} dex, against "
            + ", ".join(told.values())
            + f"; the mean error {rows['encoder']['MAE [dex]'].mean():.3f} "
            f"dex, of the rule {rows['highest hump']['MAE [dex]'][0]:.3f}: it "
            "is within 0.05 dex for "
            f"{rows['highest hump']['within 0.05 dex'][0]:.0%} of the stars "
            f"and far off for others. {held:.0%} lie inside the encoder's "
            "80 % intervals. Classes are right in "
            f"{rows['encoder']['mean over classes'].mean():.1%} of the cases, "
            "each class counting alike, against "
            + ", ".join(kinds.values())
            + "."
        )
    )

# %% [markdown]
# ## Goals
#
# Set before the run, the first two and the last from a prototype. In its
# simulation spots lived longer, in rotations, than in ours; what that does to
# periods is in {numref}`fig-limits`.

# %% tags=["hide-input"]
published = results["encoder, published"].iloc[0]
beaten = [
    results[name]["RMSE [dex]"].mean()
    - results["encoder"]["RMSE [dex]"].mean()
    for name in (*light_curve_baselines.METHODS, "boosted trees", "plain CNN")
]
goals = [
    (
        "RMSE of log P [dex], published encoder",
        "≤ 0.070",
        published["RMSE [dex]"],
        0.070,
        -1,
    ),
    (
        "within 10 % [%], published encoder",
        "≥ 66",
        published["within 10 % [%]"],
        66,
        1,
    ),
    (
        "RMSE of log P below that of the best baseline by [dex], all seeds",
        "> 0",
        min(beaten),
        0,
        1,
    ),
    ("inside the 80 % intervals [%]", "≥ 78", 100 * inside[0], 78, 1),
    (
        "real pieces within 20 %, mean of three stars [%]",
        "≥ 60",
        right.loc["encoder, published", "mean"],
        60,
        1,
    ),
]
pd.DataFrame(
    [
        {
            "what": what,
            "goal": aim,
            "found": f"{value:.3g}",
            "reached": "yes" if sign * (value - limit) >= 0 else "no",
        }
        for what, aim, value, limit, sign in goals
    ]
)

# %% tags=["remove-cell"]
about = {
    "kind": kind,
    "steps": long_steps,
    "batch_size": batch_size,
    "minutes": history.seconds / 60,
    "seed": seed,
    "data": "simulated light curves of simulated stars",
    "rebuilt with": "public archives",
    "profile": chapters.running_profile(),
    "test_rmse_dex": float(published["RMSE [dex]"]),
}
encoder.save(chapters.run_folder() / "weights" / "light_curve_encoder", about)

# %% [markdown]
# ## Paper against ours

# %% tags=["hide-input"]
HTML(claims.table("03_light_curve_encoder").to_html(index=False, border=0))

# %% [markdown]
# ## What we could not reproduce
#
# * **The data.** The paper trains on the light curves of some two hundred
#   thousand real stars, with periods of a hundred thousand. Of real curves,
#   seven files of six stars are at hand; so the encoder is trained on
#   simulated stars.
# * **The sizes.** The full encoder has {glue:text}`times_smaller:,.0f` times
#   the weights and sees windows of two years. It is built and counted above;
#   it was not trained.
# * **The RMSE of {glue:text}`paper_rmse:.2f` days**, for both reasons.
# * **A blind test on real stars.** Four have curves and known periods here,
#   and the simulation was made to resemble three of them.
#
# ## Departures
#
# * The loss is the negative cosine.
# * Views are of {glue:text}`days:.0f` days, not two years: a star watched for
#   one quarter can be read, and two processor cores suffice.
# * Autocorrelation and spectrum lie on a logarithmic grid of periods; the
#   paper's grids are an ablation.
# * The CNN points at a period; the authors average (an ablation). Between
#   convolutions stands SiLU where they have sines.
# * The magnitude's normalisation is given without its constant level. (The
#   authors' code asks for a normalisation that does not exist and so passes on
#   the flux as it is.) A quarter of the stars hide their magnitude.
# * The period is learnt as its logarithm, with noise on the transforms.
# * The head reads one view: a star with one curve can be asked about.
# * Agreement is learnt on the stars with periods alone; that it could use all
#   others is left to chapter 04.
# * Half of the training views lost their slow variations to the filter that
#   KEPSEISMIC's curves went through. Theirs ran over four years; on our six
#   months it meets mirrored ends.
# * A warm-up before the cosine, and a learning rate a hundred times the
#   paper's; BatchNorm's statistics measured anew. The weights that stay are
#   those that tell the validation stars' periods best.
# * Conformal margins have the correction for finite samples, which the
#   authors' code leaves out.
#
# ## Exercises
#
# (A training that finds the checkpoint of another one stops: give a run with
# other parameters a folder of its own.)
#
# 1. Set `share = 0.9`. Is agreement worth what it costs the period?
# 2. Train without the filter (`filters=None` in `simulate`) and look at the
#    three real stars again. Which of them changes, and why that one?
# 3. Simulate without granulation, flares and eclipses (`parts=("spots",
#    "noise", "telescope", "gaps")` in `light_curve_input.simulated`). Do the
#    intervals still hold on real curves?
