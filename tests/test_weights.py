"""Published weights do what the ledger says that they do."""

import json

import numpy as np
import pytest

from stellarbook.data import xp_apogee
from stellarbook.learn import metrics
from stellarbook.learn.checkpoint import load_weights
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
    rows = {
        row["id"]: row["value"]
        for row in json.loads((chapters.ROOT / "book/ledger.json").read_text())
    }
    said = [rows[f"xp_baselines.specialist.{label}_scatter"] for label in about["labels"]]
    # Weights are stored in half precision: that costs less than a hundredth of the scatter.
    np.testing.assert_allclose(found, said, rtol=0.01)


def test_every_weight_has_a_card():
    for folder in WEIGHTS.iterdir():
        card = json.loads((folder / "card.json").read_text())
        assert card["profile"] in ("standard", "long", "full") and card["data"], folder
