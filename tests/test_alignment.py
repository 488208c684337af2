"""What DualFormer is compared with, by hand: queue, momentum, stopped gradients, three terms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stellarbook.desa import DualFormer, dualformer
from stellarbook.desa.alignment_baselines import CLIP, MoCo, SimSiam, VICReg
from stellarbook.desa.alignment_training import _Stars, align, features, sensitivity
from stellarbook.desa.pairs import Pairs
from stellarbook.learn.checkpoint import CheckpointError

SIZES = {"spectra": 3, "light_curve": 5, "d": 16, "blocks": 1, "heads": 2, "labels": 2}
KINDS = (VICReg, SimSiam, CLIP, MoCo)


def make(kind, seed=0, **options):
    torch.manual_seed(seed)
    return kind(**SIZES | options)


def inputs(batch=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (batch, 7, 3), (batch, 4, 5), (batch, 2)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "sizes", [{}, dualformer.SMALL | {"spectra": 192, "light_curve": 160}], ids=["paper", "small"]
)
def test_all_are_as_large_as_dualformer_within_five_per_cent(kind, sizes):
    with torch.device("meta"):
        ours, theirs = DualFormer(**sizes), kind(**sizes)
    assert trainable(theirs) == pytest.approx(trainable(ours), rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_final_features_are_of_dualformers_width_and_the_towers_do_not_meet(kind):
    model, (x1, x2, y) = make(kind).eval(), inputs()
    assert model.embed(x1, x2, y).shape == (6, 18)
    y1, y2 = model.project(x1, x2, y)
    assert torch.equal(model.project(x1, x2 + 1, y)[0], y1)
    assert torch.equal(model.project(x1 + 1, x2, y)[1], y2)


@pytest.mark.parametrize("kind", [*KINDS, DualFormer])
def test_every_weight_that_learns_gets_a_gradient(kind):
    model = make(kind).train()
    model.loss(*inputs(), torch.arange(6))["loss"].backward()
    without = [
        name
        for name, p in model.named_parameters()
        # A bias before BatchNorm's mean, or a logit's, may be without effect: not a weight.
        if p.requires_grad and p.ndim > 1 and (p.grad is None or not p.grad.any())
    ]
    # With a queue that is still empty MoCo's loss is zero.
    assert not without or kind is MoCo


def test_vicreg_by_hand():
    model, (x1, x2, y) = make(VICReg, invariance=2.0, variance=3.0, covariance=5.0), inputs(9)
    model.eval()
    y1, y2 = (p.detach().double().numpy() for p in model.project(x1, x2, y))
    invariance = np.mean((y1 - y2) ** 2)
    spread = sum(np.maximum(0, 1 - np.sqrt(p.var(axis=0, ddof=1) + 1e-4)).mean() for p in (y1, y2))
    mixed = 0.0
    for p in (y1, y2):
        c = np.cov(p.T)
        mixed += ((c**2).sum() - (np.diag(c) ** 2).sum()) / len(c)
    terms = {k: v.item() for k, v in model.loss(x1, x2, y).items()}
    assert terms["invariance"] == pytest.approx(invariance, rel=1e-4)
    assert terms["variance"] == pytest.approx(spread, rel=1e-4)
    assert terms["covariance"] == pytest.approx(mixed, rel=1e-4)
    assert terms["loss"] == pytest.approx(2 * invariance + 3 * spread + 5 * mixed, rel=1e-4)


def test_simsiam_stops_the_gradient_of_what_is_predicted():
    model, (x1, x2, y) = make(SimSiam).eval(), inputs()
    loss = model.loss(x1, x2, y)["loss"]
    loss.backward()
    found = model.projectors[1][-1].weight.grad.clone()
    # By hand: with y1 a constant, the light curve's projector learns from its own guess alone.
    model.zero_grad()
    y1, y2 = model.project(x1, x2, y)
    guess = -0.5 * F.cosine_similarity(model.predictors[1](y2), y1.detach()).mean()
    other = -0.5 * F.cosine_similarity(model.predictors[0](y1), y2.detach()).mean()
    assert float(guess + other) == pytest.approx(float(loss))
    guess.backward()
    torch.testing.assert_close(model.projectors[1][-1].weight.grad, found)


def test_clip_by_hand():
    model, (x1, x2, y) = make(CLIP, temperature=0.5).eval(), inputs()
    y1, y2 = (F.normalize(p).detach().double().numpy() for p in model.project(x1, x2, y))
    logits = y1 @ y2.T / 0.5
    each = [np.log(np.exp(z).sum(axis=1)) - np.diag(z) for z in (logits, logits.T)]
    assert float(model.loss(x1, x2, y)["loss"]) == pytest.approx(np.mean(each), rel=1e-5)


def test_mocos_copy_follows_its_towers():
    model = make(MoCo, momentum=0.75, queue=8).train()
    before = [p.clone() for p in model.slow.parameters()]
    for p in [*model.trunk.parameters(), *model.projectors.parameters()]:
        p.data += 1.0
    model.loss(*inputs())["loss"].backward()
    for old, new in zip(before, model.slow.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)  # 0.75 old + 0.25 (old + 1)
        assert new.grad is None
    model.eval()
    still = [p.clone() for p in model.slow.parameters()]
    model.loss(*inputs())
    assert all(torch.equal(a, b) for a, b in zip(still, model.slow.parameters(), strict=True))


def test_mocos_queue_holds_the_latest_keys_of_length_one():
    model = make(MoCo, queue=8, dropout=0.0).train()
    for n in range(3):
        x1, x2, y = inputs(seed=n)
        model.loss(x1, x2, y, torch.arange(6) + 10 * n)
    assert model.owners.tolist() == [24, 25, 14, 15, 20, 21, 22, 23]
    torch.testing.assert_close(model.keys.norm(dim=2), torch.ones(2, 8))
    trunk, projectors = model.slow
    with torch.no_grad():
        z = trunk(x1, x2, y)
        last = [F.normalize(p(x)) for p, x in zip(projectors, z, strict=True)]
    for queue, keys in zip(model.keys, last, strict=True):  # spectra, then light curves
        torch.testing.assert_close(queue[[4, 5, 6, 7, 0, 1]], keys)
    model.eval()
    model.loss(*inputs(seed=5), torch.arange(6))
    assert model.owners.tolist() == [24, 25, 14, 15, 20, 21, 22, 23]  # nothing enters


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("clean", [False, True])
def test_mocos_loss_by_hand(clean, training):
    # A momentum of 1: the copy stays, so that the keys are known before the step.
    model = make(MoCo, queue=8, temperature=0.5, clean=clean, dropout=0.0, momentum=1.0).train()
    model.loss(*inputs(4, seed=1), torch.tensor([7, 8, 9, 7]))  # half of the queue stays empty
    model.train(training)
    x1, x2, y = inputs(3)
    ids = torch.tensor([7, 3, 3])
    queries = [F.normalize(p).detach().numpy() for p in model.project(x1, x2, y)]
    trunk, projectors = model.slow
    z = trunk(x1, x2, y)
    keys = [F.normalize(p(x)).detach().numpy() for p, x in zip(projectors, z, strict=True)]
    losses = []
    for q, k, queue in ((queries[0], keys[1], 1), (queries[1], keys[0], 0)):
        for i in range(3):
            if training:
                others, owners = model.keys[queue, :4].numpy(), np.array([7, 8, 9, 7])
            else:  # the other rows of the batch
                others, owners = np.delete(k, i, axis=0), np.delete(ids.numpy(), i)
            if clean:
                others = others[owners != ids[i].item()]
            logits = np.concatenate([[q[i] @ k[i]], others @ q[i]]) / 0.5
            losses.append(np.log(np.exp(logits).sum()) - logits[0])
    found = float(model.loss(x1, x2, y, ids)["loss"])
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


# Training ----------------------------------------------------------------------------------------


def pairs(n=40, first=0, seed=0, repeats=1):
    x1, x2, y = inputs(n, seed)
    ids = first + torch.arange(n) // repeats
    return Pairs(x1, x2, y, ids, visit=torch.arange(n) % repeats)


TRAINING = {"steps": 4, "batch_size": 8, "validate_every": 2, "device": "cpu", "progress": False}


@pytest.mark.parametrize("kind", [*KINDS, DualFormer])
def test_training_changes_the_weights_and_records_its_terms(kind):
    model = make(kind)
    before = model.trunk.embed[0].weight.clone()
    history = align(model, pairs(), pairs(16, 100, 1), **TRAINING)
    assert not torch.equal(before, model.trunk.embed[0].weight)
    assert np.isfinite(history.best)
    if kind is DualFormer:
        assert {"dual", "covariance", "variance"} <= set(history.to_frame())


def test_a_star_on_both_sides_is_refused():
    with pytest.raises(ValueError, match="10 stars are in both samples, 30 for one"):
        align(make(VICReg), pairs(40), pairs(16, 30, 1), **TRAINING)


def test_tokens_that_are_not_finite_are_named():
    bad = pairs()
    bad.light_curve[3, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="1 of 40 pairs have light_curve tokens not finite"):
        align(make(VICReg), bad, pairs(16, 100, 1), **TRAINING)


def test_a_checkpoint_of_other_weights_of_the_loss_is_refused(tmp_path):
    options = TRAINING | {"checkpoint": tmp_path / "x.pt"}
    align(make(DualFormer), pairs(), pairs(16, 100, 1), weights={"spread": 1.0}, **options)
    with pytest.raises(CheckpointError):
        align(make(DualFormer), pairs(), pairs(16, 100, 1), **options)


def test_without_labels_they_do_not_matter():
    trained = []
    for seed in (0, 1):
        some = pairs()
        some.labels = inputs(40, seed)[2]
        model = make(DualFormer)
        align(model, some, pairs(16, 100, 1), labels=False, **TRAINING)
        trained.append(model.a.weight)
    assert torch.equal(*trained)


def test_clean_batches_hold_a_star_once_and_all_of_its_spectra_come_up():
    ids = torch.tensor([5, 3, 5, 9, 3, 3])
    stars = _Stars(ids, "cpu")
    assert len(stars) == 3
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([stars.draw(torch.arange(3), generator) for _ in range(200)])
    assert (ids[drawn] == torch.tensor([3, 5, 9])).all()
    counts = torch.bincount(drawn.flatten(), minlength=6)
    assert counts[3] == 200 and counts.min() > 40  # each about 67, 100 or 200 times


@pytest.mark.parametrize("labels", [True, False])
def test_features_are_those_of_one_batch(labels):
    model, some = make(VICReg), pairs(10)
    found = features(model, some, labels=labels, batch_size=3, device="cpu")
    known = some.labels if labels else None
    whole = model.eval().embed(some.spectra.float(), some.light_curve.float(), known)
    np.testing.assert_allclose(found, whole.detach().numpy(), atol=1e-5)


def test_sensitivity_of_features_that_read_one_modality():
    class Reader(torch.nn.Module):
        def embed(self, x1, x2, y):
            return torch.stack([x1.mean((1, 2)), x2.mean((1, 2)), y[:, 0]], dim=1)

    some = pairs(10)
    spectra, light_curve = sensitivity(Reader(), some, device="cpu")
    # The first reads the spectrum: without the light curve it stays as it is.
    assert spectra[0] == 0 and light_curve[0] > 0
    assert light_curve[1] == 0 and spectra[1] > 0
    assert spectra[2] == light_curve[2] == 0
