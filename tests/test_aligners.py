"""Aligners by name: which settings go where, and that a seed makes the same model twice."""

import pytest
import torch
from test_alignment import TRAINING, pairs

from stellarbook.desa import aligners
from stellarbook.desa.aligners import ALIGNERS, DIALS

SMALLEST = {"d": 16, "blocks": 1, "heads": 2, "labels": 2}


@pytest.mark.parametrize("name", ALIGNERS)
def test_every_aligner_learns_with_each_choice_of_its_dial(name):
    train, val = pairs(20), pairs(10, 100, 1)
    dial, choices = DIALS[name]
    for choice in choices:
        settings = SMALLEST | {"lr": 1e-3, "weight_decay": 0.1, dial: choice}
        model, history = aligners.learn(name, settings, train, val, **TRAINING)
        assert history.best < torch.inf
        assert model.embed(train.spectra, train.light_curve, train.labels).shape == (20, 18)


def test_a_seed_makes_the_same_weights_and_nobody_elses_numbers_change():
    train = pairs(4)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (aligners.build("MoCo-clean", SMALLEST, train, n) for n in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert one.clean and not aligners.build("MoCo", SMALLEST, train).clean
    weights = [m.trunk.embed[0].weight for m in (one, same, other)]
    assert torch.equal(*weights[:2]) and not torch.equal(*weights[1:])


def test_settings_of_the_loss_are_not_the_models():
    train, val = pairs(20), pairs(10, 100, 1)
    settings = SMALLEST | {"spread": 25.0, "dropout": 0.0}
    model, history = aligners.learn("DualFormer", settings, train, val, **TRAINING)
    shown = history.to_frame().iloc[0]
    parts = 0.5 * (shown.dual + shown.covariance) + 25 * shown.variance
    assert shown.loss == pytest.approx(parts, rel=1e-5)
    assert "spread" not in model.settings
    with pytest.raises(KeyError, match="BYOL"):
        aligners.build("BYOL", SMALLEST, train)
