"""Published weights do what the ledger says that they do."""

import json

import numpy as np
import pytest

from stellarbook.data import example_light_curves, kepler_field, splits, survey_files, xp_apogee
from stellarbook.data.kepler_field import catalogues
from stellarbook.data.readers import read_light_curve
from stellarbook.desa import (
    DualFormer,
    LightCurveEncoder,
    SpectraEncoder,
    alignment_training,
    dualformer,
    pairs,
)
from stellarbook.desa.light_curve_input import prepare_curves
from stellarbook.desa.light_curve_training import quantiles
from stellarbook.learn import metrics
from stellarbook.learn.checkpoint import load_weights
from stellarbook.learn.scales import Labels
from stellarbook.learn.specialist import MLPEnsemble
from stellarbook.report import chapters

WEIGHTS = chapters.ROOT / "book" / "weights"


@pytest.mark.archives
def test_the_specialist_scores_what_the_ledger_says():
    path = WEIGHTS / "xp_mlp" / "xp_mlp.safetensors"
    about = load_weights(path)[1]["metadata"]
    xp = xp_apogee.load()
    test = xp.split("test")
    stars = xp.table.iloc[test]
    predicted = MLPEnsemble.load(path).predict(stars[about["inputs"]].to_numpy(dtype=float))
    found = metrics.scatter(predicted - stars[about["labels"]].to_numpy(), axis=0)
    said = [ledger()[f"xp_baselines.specialist.{label}_scatter"] for label in about["labels"]]
    # Weights are stored in half precision: that costs less than a hundredth of the scatter.
    np.testing.assert_allclose(found, said, rtol=0.01)


def test_the_spectra_encoder_scores_what_the_ledger_says():
    if not survey_files.available("lamost"):
        pytest.skip("real survey files: set STELLARBOOK_DATA")
    lamost = survey_files.load("lamost", where="snrg > 20 and teff.notna() and z.notna()")
    everyone = survey_files.load("lamost", where="teff.notna() and z.notna()").table
    parts = splits.ranked(everyone["star"].unique())
    rows = np.flatnonzero(lamost.table["star"].isin([*parts["val"], *parts["test"]]))
    encoder = SpectraEncoder.load(WEIGHTS / "spectra_encoder")
    predicted = encoder.predict([lamost.spectrum(row) for row in rows])
    judged = (predicted.flag == "").to_numpy()  # some have lost their red arm
    assert judged.mean() > 0.99
    truth = lamost.table.iloc[rows].reset_index()
    for label in ("teff", "logg", "feh"):
        found = (predicted[label] - truth[label]).abs().mean()
        said = ledger()[f"desa.spectra.real_lamost.{label}_mae"]
        assert found == pytest.approx(said, rel=0.02), label
        inside = truth[label].between(predicted[f"{label}_lo80"], predicted[f"{label}_hi80"])
        assert 0.7 < inside[judged].mean() < 0.9, label


@pytest.mark.archives
def test_the_light_curve_encoder_meets_real_periods_as_often_as_the_ledger_says():
    encoder = LightCurveEncoder.load(WEIGHTS / "light_curve_encoder")
    settings = {key: encoder.settings[key] for key in ("length", "kind")}
    known = catalogues.rotation().set_index("kic").prot
    shares, pieces = [], 0
    for kic in (3733735, 8006161, 10644253):
        record = read_light_curve(example_light_curves.path(f"kepseismic_{kic}"))
        sample, flags = prepare_curves([record], **settings)
        assert flags == [""]
        found = 10 ** quantiles(encoder, sample, device="cpu")[:, 0, 2] / known[kic]
        shares.append(100 * np.mean(np.abs(found - 1) < 0.2))
        pieces += len(sample)
        inside = encoder.predict([record], device="cpu").iloc[0]
        assert inside.prot_lo80 < inside.prot < inside.prot_hi80
    # Half precision may carry one piece over the edge.
    said = ledger()["desa.prot.real_kepseismic"]
    assert np.mean(shares) == pytest.approx(said, abs=100 / pieces + 1)


@pytest.mark.archives
def test_dualformers_features_lean_on_the_light_curve_as_the_ledger_says():
    model = DualFormer.load(WEIGHTS / "dualformer")
    assert model.metadata["labels"] == list(dualformer.LABELS)
    field = kepler_field.load(5000)
    table = field.table.iloc[field.split("test")]
    rows = pairs.of_field(
        table,
        field.visits[field.visits.source_id.isin(table.source_id)],
        SpectraEncoder.load(WEIGHTS / "spectra_encoder"),
        LightCurveEncoder.load(WEIGHTS / "light_curve_encoder"),
        Labels(**model.metadata["scale"]),
        seed=1,
        device="cpu",
        progress=False,
    )
    spectrum, curve = alignment_training.sensitivity(model, rows, device="cpu")
    # The ledger's is a mean over seeds; these weights are one of them.
    said = ledger()["desa.light_curve_dominated_features"]
    assert 100 * (curve < spectrum).mean() == pytest.approx(said, abs=15)


def ledger():
    rows = json.loads((chapters.ROOT / "book/ledger.json").read_text())
    return {row["id"]: row["value"] for row in rows}


def test_every_weight_has_a_card():
    for folder in WEIGHTS.iterdir():
        card = json.loads((folder / "card.json").read_text())
        assert card["profile"] in ("standard", "long", "full") and card["data"], folder
