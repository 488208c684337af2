"""Pairs of spectra and light curves: tokens in their places, a star on one side only."""

import numpy as np
import pytest
import torch

from stellarbook.data import kepler_field
from stellarbook.desa import LightCurveEncoder, SpectraEncoder, light_curve_encoder, pairs
from stellarbook.desa import spectra_encoder as spectra_module


def encoders():
    torch.manual_seed(0)
    spectra = SpectraEncoder(**spectra_module.SMALL | {"input": "normalise", "blocks": 1})
    curves = LightCurveEncoder(**light_curve_encoder.SMALL)
    return spectra.eval(), curves.eval()


def test_a_summary_is_one_more_token_with_features_of_its_own():
    sequence, summary = torch.arange(12.0).reshape(2, 3, 2) + 1, torch.full((2, 4), 9.0)
    found = pairs.tokens(sequence, summary)
    assert found.shape == (2, 4, 6)
    assert torch.equal(found[:, :3, :2], sequence) and torch.equal(found[:, 3, 2:], summary)
    assert not found[:, :3, 2:].any() and not found[:, 3, :2].any()


def test_summaries_are_what_the_heads_last_layer_reads():
    spectra, curves = encoders()
    x = torch.randn(3, 1962)
    found = pairs.spectra_tokens(spectra)(x)
    summary = found[:, -1, spectra.settings["channels"][-1] :]
    answer = spectra.head[-1](summary).unflatten(1, (3, 5))
    torch.testing.assert_close(answer, spectra.read(x))
    length = curves.settings["length"]
    views = torch.randn(2, length), torch.rand(2, 2), torch.randn(2, 2, 384)
    found = pairs.light_curve_tokens(curves)(*views)
    assert found.shape[1] == length // 20 // pairs.AVERAGED + 1
    summary = found[:, -1, curves.settings["d"] :]
    torch.testing.assert_close(summary, curves.features(*views))


@pytest.mark.archives
def test_scalars_are_the_summaries_and_magnitudes_are_told():
    field, (spectra, curves) = kepler_field.load(40, 3), encoders()
    some = field.visits[field.visits.source_id.isin(field.table.source_id[:5])]
    scale = pairs.scale_of(field.table)
    options = {"device": "cpu", "progress": False}
    made = pairs.of_field(field.table, some, spectra, curves, scale, **options)
    scalar = pairs.scalars(made, spectra, curves)
    assert scalar.spectra.shape == (len(made), spectra.settings["head"], 1)
    assert scalar.light_curve.shape == (len(made), curves.settings["features"], 1)
    flat = scalar.spectra[..., 0].float()
    answer = spectra.head[-1](flat).unflatten(1, (3, 5))
    assert answer.isfinite().all() and flat.std() > 0
    brighter = field.table.assign(sdss_g_abs=field.table.sdss_g_abs - 3)
    other = pairs.of_field(brighter, some, spectra, curves, scale, **options)
    assert torch.equal(other.spectra, made.spectra)
    assert not torch.equal(other.light_curve, made.light_curve)


@pytest.mark.archives
def test_pairs_of_the_field():
    field = kepler_field.load(60, 3)
    some = field.visits[field.visits.source_id.isin(field.table.source_id[:12])]
    scale = pairs.scale_of(field.table)
    made = pairs.of_field(
        field.table, some, *encoders(), scale, device="cpu", progress=False, batch_size=5
    )
    assert len(made) == len(some) > 12
    np.testing.assert_array_equal(made.ids, some.source_id)
    np.testing.assert_array_equal(made.visit, some.visit)
    assert made.spectra.isfinite().all() and made.light_curve.isfinite().all()
    # Rows of a star share the light curve and the labels, not the spectrum.
    for star in made.ids.unique():
        rows = made[made.ids == star]
        assert (rows.light_curve == rows.light_curve[0]).all()
        assert len(rows.spectra.flatten(1).unique(dim=0)) == len(rows)
    # Labels are the survey's, with the holes that they have there.
    table = field.table.set_index("source_id").loc[made.ids.numpy(), list(pairs.OBSERVED)]
    np.testing.assert_allclose(scale.restore(made.labels.numpy()), table, rtol=1e-5)
    assert made.labels.isnan().any()
    one = made.first()
    assert len(one) == 12 and not one.visit.any()


@pytest.mark.archives
def test_splits_are_by_star():
    field = kepler_field.load(300, 0)
    n = len(field.visits)
    ids = torch.from_numpy(field.visits.source_id.to_numpy())
    empty = torch.zeros(n, 1, 1)
    made = pairs.Pairs(empty, empty, torch.zeros(n, 6), ids, torch.zeros(n, dtype=torch.long))
    parts = {part: made.split(part) for part in ("train", "val", "test")}
    stars = {part: set(rows.ids.tolist()) for part, rows in parts.items()}
    assert sum(map(len, parts.values())) == n
    for part, found in stars.items():
        others = set().union(*(stars[other] for other in stars if other != part))
        assert not found & others
        assert found == set(field.table.source_id.iloc[field.split(part)])
    with pytest.raises(ValueError, match="no split 'all'"):
        made.split("all")
