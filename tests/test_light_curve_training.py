"""SimSiam by hand, what its gradient reaches, collapse, and what each dial of the training does."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_light_curve_encoder import SCALE, tiny
from test_light_curve_input import L, sinusoid

from stellarbook.desa.light_curve_baselines import PlainCNN
from stellarbook.desa.light_curve_input import LightCurveSample
from stellarbook.desa.light_curve_training import (
    embed,
    embedding_spread,
    measure_norms,
    pretrain,
    quantiles,
    simsiam,
    train_on_periods,
)
from stellarbook.desa.light_curve_views import views
from stellarbook.learn.conformal import known_pinball, pinball

QUIET = {"progress": False, "device": "cpu"}
STILL = QUIET | {"lr": 0.0, "weight_decay": 0.0, "steps": 1, "batch_size": 16}


def toy(n, seed=0, crops=2):
    """Sinusoids of 10 to 200 cadences among noise, each seen at two phases."""
    rng = np.random.default_rng(seed)
    period = 10 ** rng.uniform(1, 2.3, n)
    flux = torch.cat(
        [sinusoid(p, 2 * L, phase=6 * rng.random(), noise=2e-3, seed=seed + i)
         for i, p in enumerate(period)]
    )  # fmt: skip
    starts = rng.integers(0, L, (n, crops))
    scores, level, made = views(flux, np.full(n, 4.0), starts, L, "log")
    labels = torch.from_numpy(np.log10(period / 48))[:, None]
    return LightCurveSample(scores.half(), level, made, labels, torch.arange(n))


@pytest.fixture(scope="module")
def sample():
    return toy(64)


def vectors(seed=0, n=5, width=7):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n, width, generator=generator, dtype=torch.float64).requires_grad_()
        for _ in range(4)
    ]


# --- SimSiam --------------------------------------------------------------------------------


def test_simsiam_by_hand():
    p1, p2 = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    z1, z2 = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0]])
    # cos(p1, z2) = 1/√2 and cos(p2, z1) = 4/5
    assert simsiam(p1, p2, z1, z2).item() == pytest.approx(-(2**-0.5 + 0.8) / 2)
    both = simsiam(*(torch.cat([x, x * 3]) for x in (p1, p2, z1, z2)))  # lengths do not matter
    assert both.item() == pytest.approx(-(2**-0.5 + 0.8) / 2)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_simsiam_is_the_negative_cosine_and_symmetric(seed):
    p1, p2, z1, z2 = vectors(seed)

    def cosine(a, b):
        return np.mean(
            [
                sum(x * y for x, y in zip(u, v, strict=True)) / math.hypot(*u) / math.hypot(*v)
                for u, v in zip(a.tolist(), b.tolist(), strict=True)
            ]
        )

    loss = simsiam(p1, p2, z1, z2)
    assert loss.item() == pytest.approx(-0.5 * (cosine(p1, z2) + cosine(p2, z1)))
    assert simsiam(p2, p1, z2, z1).item() == pytest.approx(loss.item())
    assert simsiam(z2, z1, z1, z2).item() == pytest.approx(-1)
    assert simsiam(-z2, -z1, z1, z2).item() == pytest.approx(1)


def test_the_gradient_flows_through_one_side_only():
    p1, p2, z1, z2 = vectors()
    simsiam(p1, p2, z1, z2).backward()
    assert z1.grad is None and z2.grad is None
    assert p1.grad.abs().sum() > 0 and p2.grad.abs().sum() > 0
    # Through the predictor the features do get one: of their own side, the other held fixed.
    z1, z2 = vectors()[:2]
    turn = torch.linalg.qr(vectors(3, 7)[0].detach())[0]
    simsiam(z1 @ turn, z2 @ turn, z1, z2).backward()
    grads = z1.grad.clone(), z2.grad.clone()
    for i in range(2):
        a, b = (z.detach().clone() for z in (z1, z2))
        moving = (a, b)[i].requires_grad_()
        fixed = (b, a)[i]
        cosine = torch.nn.functional.cosine_similarity(moving @ turn, fixed, dim=-1)
        (-0.5 * cosine.mean()).backward()
        torch.testing.assert_close(moving.grad, grads[i])


def test_minimising_brings_views_together():
    z1, z2 = (x.detach() for x in vectors()[:2])
    z1.requires_grad_()
    optimiser = torch.optim.SGD([z1], lr=5.0)
    for _ in range(200):
        optimiser.zero_grad()
        simsiam(z1, z2, z1, z2).backward()
        optimiser.step()
    assert torch.nn.functional.cosine_similarity(z1, z2).min() > 0.99


@given(st.integers(2, 200), st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_spread(width, seed):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(2000, width, generator=generator)
    assert embedding_spread(z) == pytest.approx(1, abs=0.08)
    assert embedding_spread(z * torch.rand(2000, 1, generator=generator)) == pytest.approx(
        embedding_spread(z)
    )
    assert embedding_spread(z[:1].repeat(50, 1)) < 1e-6
    assert embedding_spread(z + 300 * torch.ones(width)) < 0.05  # all in one direction


def test_a_collapsed_encoder_is_detected(sample):
    """With a last layer that ignores its input, all views agree and the spread says why."""
    found = {}
    for collapsed in (False, True):
        encoder = tiny()
        if collapsed:
            encoder.projector[-1] = torch.nn.Identity()
            encoder.projector[-2] = torch.nn.Linear(16, 16)
            torch.nn.init.zeros_(encoder.projector[-2].weight)
            encoder.predictor = torch.nn.Identity()
        row = pretrain(encoder, sample, sample, share=0.0, **STILL).rows[-1]
        measure_norms(encoder, sample, device="cpu")
        spread = embedding_spread(embed(encoder, sample, device="cpu"))
        found[collapsed] = row["agreement"], row["spread"], spread
    assert found[True][0] == pytest.approx(-1, abs=1e-5)
    assert max(found[True][1:]) < 1e-3 and min(found[False][1:]) > 0.3


# --- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_hybrid_loss_is_what_it_is_made_of(sample, share):
    encoder = tiny()
    history = pretrain(encoder, sample, sample, share=share, **STILL)
    row = history.rows[-1]
    parts = [(1 - share) * row.get("agreement", 0.0), share * row.get("miss", 0.0)]
    assert row["loss"] == pytest.approx(sum(parts), rel=1e-5)
    assert ("miss" in row) == (share > 0) and ("agreement" in row) == (share < 1)
    # The validation, by hand, of the first two views: of the period, where it is learnt.
    parts = sample.scores, sample.level, sample.transforms
    inputs = [tuple(x[:, v].float() for x in parts) for v in (0, 1)]
    with torch.no_grad():
        z = [encoder.features(*some) for some in inputs]
        loss = simsiam(*map(encoder.predictor, z), *z)
        y = torch.from_numpy(SCALE.standardise(sample.labels.numpy())).float()
        miss = [pinball(y, encoder.quantiles(some)).sum(dim=-1).mean() for some in z]
    expected = sum(miss) / 2 if share else loss
    assert row["validation"] == pytest.approx(expected.item(), rel=1e-4)


def test_unknown_periods_do_not_count(sample):
    y, q = torch.tensor([[0.5], [torch.nan], [-1.0]]), torch.randn(3, 1, 5, requires_grad=True)
    loss = known_pinball(y, q)
    assert loss[1] == 0 and torch.equal(loss[[0, 2]], pinball(y, q).sum(dim=-1)[[0, 2]])
    loss.sum().backward()
    assert q.grad.isfinite().all() and (q.grad[1] == 0).all()
    some = toy(64)
    some.labels[::2] = torch.nan
    encoder = tiny()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    pretrain(encoder, some, some, share=1.0, steps=2, batch_size=16, **QUIET)
    after = encoder.state_dict()
    assert all(v.isfinite().all() for v in after.values())
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])
    blank = toy(64)
    blank.labels[:] = torch.nan
    assert pretrain(tiny(), blank, blank, share=1.0, **STILL).rows[-1]["miss"] == 0


@pytest.mark.parametrize(
    ("share", "moved", "still"), [(0.0, "predictor", "head"), (1.0, "head", "predictor")]
)
def test_each_end_trains_its_own_heads(sample, share, moved, still):
    encoder = tiny()
    before = {k: v.clone() for k, v in encoder.named_parameters()}
    options = {"steps": 3, "batch_size": 16, "weight_decay": 0.0} | QUIET
    pretrain(encoder, sample, sample, share=share, **options)
    changed = {k for k, v in encoder.named_parameters() if not torch.equal(v, before[k])}
    assert any(k.startswith(moved) for k in changed)
    assert not any(k.startswith(still) for k in changed)
    assert any(k.startswith("projector") for k in changed)


def test_it_learns_periods_of_sinusoids():
    train, val = toy(256), toy(64, seed=1000)
    encoder = tiny(branches="transforms")
    history = pretrain(encoder, train, val, share=0.5, steps=150, batch_size=64, **QUIET)
    measure_norms(encoder, train, device="cpu")
    median = quantiles(encoder, val, device="cpu")[:, 0, 2]
    error = np.abs(median - val.labels[:, 0].numpy())
    constant = np.abs(val.labels - train.labels.median()).median().item()
    assert np.median(error) < 0.25 * constant
    assert history.rows[-1]["agreement"] < -0.5 and history.rows[-1]["spread"] > 0.2


def test_a_training_goes_on_where_it_stopped(sample, tmp_path):
    options = {"steps": 6, "batch_size": 16, "checkpoint_every": 3} | QUIET
    whole = tiny()
    pretrain(whole, sample, sample, **options)
    torn = tiny()
    fail = torn.features
    calls = []

    def stop(*inputs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return fail(*inputs)

    torn.features = stop
    with pytest.raises(KeyboardInterrupt):
        pretrain(torn, sample, sample, checkpoint=tmp_path / "c.pt", validate_every=6, **options)
    again = tiny()
    pretrain(again, sample, sample, checkpoint=tmp_path / "c.pt", validate_every=6, **options)
    pretrain(whole := tiny(), sample, sample, validate_every=6, **options)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_bad_samples(sample):
    with pytest.raises(ValueError, match="one view"):
        pretrain(tiny(), toy(16, crops=1), sample, steps=1, **QUIET)
    holed = toy(16)
    holed.transforms[3] = torch.nan
    with pytest.raises(ValueError, match="1 of 16 stars have transforms that are not finite"):
        pretrain(tiny(), holed, sample, steps=1, **QUIET)


def test_baselines_train_on_one_view():
    train, val = toy(256), toy(64, seed=1000)
    torch.manual_seed(0)
    model = PlainCNN(length=L, scale=SCALE)
    train_on_periods(model, train, val, steps=150, batch_size=64, **QUIET)
    median = quantiles(model, val, device="cpu")[:, 0, 2]
    constant = np.abs(val.labels - train.labels.median()).median().item()
    assert np.median(np.abs(median - val.labels[:, 0].numpy())) < 0.3 * constant


def test_norms_of_all_views(sample):
    encoder = tiny(branches="curve", normalisations="scores")
    measure_norms(encoder, sample, device="cpu")
    with torch.no_grad():
        seen = encoder.stem[0](sample.scores.flatten(0, 1).float()[:, None])
    torch.testing.assert_close(encoder.stem[1].running_mean, seen.mean(dim=(0, 2)))
