"""Heads on aligners: what they read, what learns, and that they can learn."""

import numpy as np
import pytest
import torch
from test_alignment import SIZES, TRAINING, inputs, make, pairs

from stellarbook.desa import DualFormer, finetuning
from stellarbook.desa.alignment_baselines import VICReg
from stellarbook.desa.finetuning import Alone, Finetuned, finetune
from stellarbook.learn.conformal import QUANTILES, pinball

HEAD = {"width": 8, "layers": 1, "heads": 2}


def head(kind=DualFormer, out=1, **options):
    backbone = make(kind, **options)
    torch.manual_seed(0)
    return Finetuned(backbone, out, **HEAD)


@pytest.mark.parametrize("kind", [DualFormer, VICReg])
def test_a_head_reads_both_projections_and_knows_which_feature_is_which(kind):
    model = head(kind).eval()
    assert model.place.shape[0] == (36 if kind is DualFormer else 18)
    x1, x2, y = inputs()
    answer = model(x1, x2, y)
    assert answer.shape == (6, 1)
    for other in ((x1 + 1, x2, y), (x1, x2 + 1, y), (x1, x2, y + 1)):
        assert not torch.allclose(model(*other), answer)
    # Swapped features are another star.
    order = torch.randperm(len(model.place), generator=torch.Generator().manual_seed(0))
    project = model.backbone.project
    model.backbone.project = lambda *x: (torch.cat(project(*x), dim=1)[:, order],)
    assert not torch.allclose(model(x1, x2, y), answer)


@pytest.mark.parametrize("kind", [DualFormer, VICReg])
def test_what_a_standardised_head_reads_has_mean_0_and_spread_1(kind):
    model, some = head(kind), pairs(50)
    read = []
    model.layers.register_forward_pre_hook(lambda _, given: read.append(given[0]))

    def features():
        model.eval()(some.spectra, some.light_curve, some.labels)
        # x = feature · scale + place, for each of the embedding's numbers: least squares.
        x = read.pop() - model.place
        return (x * model.scale).sum(dim=2) / model.scale.square().sum(dim=1)

    before = features()
    model.standardise(some, batch_size=16, device="cpu")
    after = features()
    expected = (before - before.mean(dim=0)) / before.std(dim=0)
    torch.testing.assert_close(after, expected, atol=1e-3, rtol=1e-3)
    assert "centre" in model.state_dict()  # a checkpoint holds it


@pytest.mark.parametrize("which", [0, 1])
def test_a_model_of_one_modality_does_not_see_the_other_and_is_as_large(which):
    torch.manual_seed(0)
    model = Alone(which, **SIZES).eval()
    x = list(inputs())
    before = torch.cat(model.project(*x), dim=1)
    x[1 - which] = x[1 - which] + 1
    assert torch.equal(torch.cat(model.project(*x), dim=1), before)
    x[which] = x[which] + 1
    assert not torch.allclose(torch.cat(model.project(*x), dim=1), before)
    model.project(*x)[0].sum().backward()
    model.project(*x)[1].sum().backward()
    assert all(w.grad is not None for w in model.parameters())
    size, other = (sum(w.numel() for w in m.parameters()) for m in (model, VICReg(**SIZES)))
    assert abs(size - other) < 0.05 * other
    with pytest.raises(ValueError, match="which is 2"):
        Alone(2, **SIZES)


def test_losses_by_hand():
    answer, truth = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [0.0]])
    expected = (np.log(2) + np.log(1 + np.exp(2))) / 2
    assert float(finetuning.cross_entropy(answer, truth)) == pytest.approx(expected)
    found, age = torch.randn(4, 2 * len(QUANTILES)), torch.randn(4, 2)
    by_hand = pinball(age, found.reshape(4, 2, len(QUANTILES))).sum(dim=-1).mean()
    assert float(finetuning.quantile_loss(found, age)) == pytest.approx(float(by_hand))


@pytest.mark.parametrize("kind", [DualFormer, VICReg])
def test_what_a_token_says_is_learnt(kind):
    train, val = pairs(200), pairs(60, 1000, 1)
    truth, held = ((p.spectra.mean(dim=(1, 2))[:, None] > 0).float() for p in (train, val))
    model = head(kind, dropout=0.0)
    options = TRAINING | {"steps": 150, "batch_size": 32, "validate_every": 30}
    finetune(model, train, truth, val, held, finetuning.cross_entropy, lr=3e-3, **options)
    found = finetuning.answers(model, val, device="cpu")
    assert ((found > 0) == held.numpy()).mean() > 0.8


def test_rows_without_a_truth_and_stars_on_both_sides_are_refused():
    train, val, y = pairs(20), pairs(10, 100, 1), torch.zeros(20, 1)
    loss = finetuning.cross_entropy
    with pytest.raises(ValueError, match="20 rows and 19 truths"):
        finetune(head(), train, y[:19], val, y[:10], loss, **TRAINING)
    with pytest.raises(ValueError, match="10 stars are in both samples, 5 for one"):
        finetune(head(), train, y, pairs(10, 5, 1), y[:10], loss, **TRAINING)
