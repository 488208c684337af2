"""Pairs of a spectrum and a light curve of one star, as tokens of DESA's frozen encoders.

A row is one spectrum (a visit) with its star's light curve: a star with several spectra has several
rows, which share the curve. *Simulated stars.* Shown in chapter 04.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from stellarbook.data import splits
from stellarbook.data.instruments import LAMOST
from stellarbook.data.kepler_field import spectra
from stellarbook.data.kepler_field.population import kepler_magnitude
from stellarbook.desa import light_curve_input, light_curve_views, spectra_input
from stellarbook.desa.answers import run
from stellarbook.learn.scales import Labels

# What a survey reports of each of `dualformer.LABELS`.
OBSERVED = ("teff_obs", "logg_obs", "feh_obs", "prot_obs", "radius_obs", "ruwe")
LOGARITHMIC = (3, 4, 5)  # of these, learnt as log10
UNKNOWN_DISTANCE = 0.25
AVERAGED = 9  # of the Conformer's tokens of a light curve, 10 hours each, to one


@dataclass
class Pairs:
    """Tokens of both encoders with what is known of the stars; `pairs[index]` is a part of it.

    L tokens; the widths W are the encoder's and its summary's, side by side (`tokens`).

    Attributes
    ----------
    spectra : (n, L1, W1) float16 tensor
    light_curve : (n, L2, W2) float16 tensor
    labels : (n, 6) float32 tensor
        `OBSERVED`, standardised; NaN: unknown.
    ids : (n,) int64 tensor
        Whose each row is: ``source_id``.
    visit : (n,) int64 tensor
        Which of the star's spectra.
    """

    spectra: torch.Tensor
    light_curve: torch.Tensor
    labels: torch.Tensor
    ids: torch.Tensor
    visit: torch.Tensor

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return Pairs(*(getattr(self, field.name)[index] for field in fields(self)))

    def split(self, part):
        """Return the rows of "train", "val" or "test", by star (`splits.hashed`)."""
        splits.check(part)
        return self[torch.from_numpy(splits.hashed(self.ids.numpy()) == part)]

    def first(self):
        """Return one row a star, its first."""
        _, index = np.unique(self.ids.numpy(), return_index=True)
        return self[torch.from_numpy(np.sort(index))]


def scale_of(table):
    """Measure the labels' scale on training stars, a table of a `KeplerField`."""
    return Labels.of(table[list(OBSERVED)].to_numpy(float), LOGARITHMIC)


def of_field(
    table,
    visits,
    spectra_encoder,
    light_curve_encoder,
    scale,
    *,
    seed=0,
    batch_size=256,
    device="auto",
    progress=True,
):
    """Observe stars of the simulated field and read what was seen with both encoders.

    Parameters
    ----------
    table, visits : DataFrame
        Of a `KeplerField`, or parts of them; stars without a visit make no pair.
    spectra_encoder, light_curve_encoder
        `SpectraEncoder` and `LightCurveEncoder`. They stay as they are.
    scale : Labels
        Of `scale_of`.
    seed : int
        Of the noise of the spectra and of the light curves.
    batch_size, device
        Rows at a time; see `pick_device`.
    progress : bool
        Show bars.

    Returns
    -------
    Pairs
        A row for each visit, in their order.

    Raises
    ------
    ValueError
        As `kepler_field.spectra.batches` and `light_curves.simulate`.

    Notes
    -----
    LAMOST's spectra of pairs hold the light of both stars. Light curves last as long as a view,
    about a quarter of Kepler's, and are not filtered. Shown in chapter 04.
    """
    options = {"batch_size": batch_size, "device": device}
    kind = spectra_encoder.settings["input"]
    parts = []
    for seen in spectra.batches(table, visits, seed=seed, progress=progress):
        x = spectra_input.prepare(LAMOST.wave, seen.flux, seen.ivar, seen.redshift, kind)
        parts.append(run_half(spectra_encoder, spectra_tokens(spectra_encoder), x, **options))
    stars = table.set_index("source_id")
    stars = stars.loc[visits["source_id"].unique()].copy()
    # As when the encoder learnt: of one star in four the distance is unknown.
    hidden = np.random.default_rng(seed).random(len(stars)) < UNKNOWN_DISTANCE
    stars["kp_abs"] = kepler_magnitude(stars["sdss_g_abs"], stars["sdss_r_abs"])
    stars.loc[hidden, "kp_abs"] = np.nan
    settings = {key: light_curve_encoder.settings[key] for key in ("length", "kind")}
    curves = light_curve_input.simulated(
        stars, cadences=settings["length"], crops=1, seed=seed, progress=progress, **settings
    )
    inputs = tuple(x[:, 0] for x in (curves.scores, curves.level, curves.transforms))
    reader = light_curve_tokens(light_curve_encoder)
    light_curve = run_half(light_curve_encoder, reader, inputs, **options)
    ids = visits["source_id"].to_numpy(np.int64)
    row = stars.index.get_indexer(ids)
    labels = scale.standardise(stars[list(OBSERVED)].to_numpy(float)[row])
    return Pairs(
        torch.cat(parts),
        light_curve[torch.from_numpy(row)],
        torch.from_numpy(labels).float(),
        torch.from_numpy(ids),
        torch.from_numpy(visits["visit"].to_numpy(np.int64)),
    )


def run_half(encoder, reader, inputs, **options):
    """Apply a reader to many rows, as a float16 tensor."""
    return torch.from_numpy(run(encoder, reader, inputs, **options)).half()


def spectra_tokens(encoder):
    """Return what reads (B, N) prepared spectra as tokens (B, L + 1, D + H).

    The Conformer's L tokens, and the H activations before the head's last layer as one more.
    """

    def read(x):
        features = encoder.features(encoder.tokens(x))  # (B, L, D)
        flat = encoder.settings["pooling"] == "flatten"
        summary = encoder.head[:-1](features.flatten(1) if flat else features.mean(dim=1))
        return tokens(features, summary)

    return read


def light_curve_tokens(encoder):
    """Return what reads a view, as `LightCurveEncoder.features`, as tokens (B, L + 1, D + F).

    The Conformer's tokens, `AVERAGED` of them to one, and the features z as one more.
    """

    def read(scores, level, transforms):
        curve = light_curve_views.curve(scores, level)
        features = encoder.tokens(curve).transpose(1, 2)  # (B, D, L)
        features = torch.nn.functional.avg_pool1d(features, AVERAGED).transpose(1, 2)
        return tokens(features, encoder(curve, transforms))

    return read


def scalars(pairs, spectra_encoder, light_curve_encoder):
    """Pairs with the encoders' summaries alone, as sequences of scalars (the authors' code).

    Parameters
    ----------
    pairs : Pairs
        Of `of_field`.
    spectra_encoder, light_curve_encoder
        That made them: they know how wide the Conformers' tokens are.

    Returns
    -------
    Pairs
        ``spectra`` (n, H, 1) and ``light_curve`` (n, F, 1). Shown in chapter 04.
    """
    d1 = spectra_encoder.settings["channels"][-1]
    d2 = light_curve_encoder.settings["d"]
    return replace(
        pairs,
        spectra=pairs.spectra[:, -1, d1:, None],
        light_curve=pairs.light_curve[:, -1, d2:, None],
    )


def tokens(sequence, summary):
    """Lay (B, L, D) and (B, F) side by side, (B, L + 1, D + F), zeros elsewhere.

    One linear layer then has weights of its own for both: a summary is no token like the others.
    """
    d, f = sequence.shape[2], summary.shape[1]
    sequence = torch.nn.functional.pad(sequence, (0, f))
    summary = torch.nn.functional.pad(summary, (d, 0))[:, None]
    return torch.cat([sequence, summary], dim=1)
