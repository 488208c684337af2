"""DualFormer against its formulas in plain numpy; its losses by hand; its eigenspace; its files."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.desa import DualFormer, dual_loss, dualformer, eigenspace
from stellarbook.desa.dualformer import SMALL, Dual, DualAttention, attend
from stellarbook.layers.conformer import rotary
from stellarbook.learn.checkpoint import CheckpointError


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def small(**changes):
    torch.manual_seed(0)
    options = {"spectra": 3, "light_curve": 5, "d": 16, "blocks": 2, "heads": 2, "labels": 4}
    return DualFormer(**options | changes).double().eval()


def inputs(batch=6):
    return random(batch, 7, 3), random(batch, 4, 5, seed=1), random(batch, 4, seed=2)


def test_without_arguments_it_has_the_papers_size():
    with torch.device("meta"):  # counted without taking memory
        model = DualFormer()
    count = sum(p.numel() for p in model.parameters())
    assert count == pytest.approx(10.69e6, rel=0.01)  # the authors' code
    assert model.a.weight.shape == (262, 262) and model.a.bias is None
    assert [model.settings[k] for k in ("d", "blocks", "heads", "labels")] == [256, 4, 8, 6]


def test_scalars_may_come_as_vectors():
    torch.manual_seed(0)
    model = DualFormer(**SMALL).eval()
    x, y = torch.randn(2, 9), torch.randn(2, 5)
    for one, other in zip(model(x, y), model(x[..., None], y[..., None]), strict=True):
        torch.testing.assert_close(one, other)


def by_hand(module, x, other):
    """One sequence's attention, by softmax of whole score matrices, head by head."""
    (own_qkv, own_out), (other_qkv, _) = x[1:], other[1:]

    def split(x, qkv):
        q, k, v = qkv(x).chunk(3, dim=-1)
        heads = [y.unflatten(-1, (module.heads, -1)) for y in (q, k, v)]  # (B, L, H, w)
        t = module.turned
        for y in heads[:2]:
            y[..., :t] = rotary(y[..., :t].transpose(1, 2)).transpose(1, 2)
        return heads

    q, k, v = split(x[0], own_qkv)
    _, k2, v2 = split(other[0], other_qkv)
    found = torch.zeros_like(q)
    both = (k, v, module.attention != "cross"), (k2, v2, module.attention != "self")
    for keys, values, asked in both:
        if asked:
            for h in range(module.heads):
                scores = q[:, :, h] @ keys[:, :, h].transpose(1, 2) / q.shape[-1] ** 0.5
                found[:, :, h] += scores.softmax(dim=-1) @ values[:, :, h]
    return own_out(found.flatten(2))


@pytest.mark.parametrize("attention", ["both", "self", "cross"])
def test_attention_is_the_sum_of_both_softmaxes_with_one_query(attention):
    torch.manual_seed(1)
    module = DualAttention(16, 2, attention).double()
    x1, x2 = random(3, 7, 16), random(3, 5, 16, seed=1)
    one, two = (x1, module.qkv[0], module.out[0]), (x2, module.qkv[1], module.out[1])
    with torch.no_grad():
        expected = by_hand(module, one, two), by_hand(module, two, one)
        for found, known in zip(module(x1, x2), expected, strict=True):
            torch.testing.assert_close(found, known)


def test_self_attention_keeps_the_modalities_apart_and_cross_attention_does_not():
    x1, x2, y = inputs()
    for attention, meets in (("self", False), ("cross", True), ("both", True)):
        model = small(attention=attention)
        z1, _ = model.trunk(x1, x2, y)
        other, _ = model.trunk(x1, x2.flip(0) + 1, y)
        assert torch.equal(z1, other) is not meets


def test_long_sequences_are_computed_in_pieces_with_the_same_result(monkeypatch):
    torch.manual_seed(0)
    dense = dualformer.Dense(8, dropout=0.0)
    x = torch.randn(3, 11, 8, requires_grad=True)
    found = {}
    for name, long in (("whole", 11), ("pieces", 4)):
        monkeypatch.setattr(dualformer, "LONG", long)
        out = dense(x)
        out.square().sum().backward()
        found[name] = [out.detach(), x.grad, *(w.grad for w in dense.parameters())]
        x.grad = None
        dense.zero_grad()
    for a, b in zip(*found.values(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_star_does_not_see_the_others_of_its_batch():
    model, (x1, x2, y) = small(), inputs()
    order = torch.tensor([3, 1, 0, 5, 2, 4])
    for whole, moved in zip(model(x1, x2, y), model(x1[order], x2[order], y[order]), strict=True):
        torch.testing.assert_close(whole[order], moved)


def test_projections_are_of_one_matrix_and_its_transpose():
    x1, x2, y = inputs()
    for transpose in (True, False):
        model = small(transpose=transpose)
        z1, z2, p1, p2 = model(x1, x2, y)
        a = model.a.weight
        torch.testing.assert_close(p1, (a @ z1.T).T)
        torch.testing.assert_close(p2, ((a.T if transpose else a) @ z2.T).T)


def test_labels_stand_behind_the_pooled_features_and_unknown_ones_are_zero():
    model, (x1, x2, y) = small(), inputs()
    y[0, 2] = torch.nan
    z1, z2, *_ = model(x1, x2, y)
    for z in (z1, z2):
        assert torch.equal(z[1:, 16:], y[1:]) and z[0, 18] == 0
    without = model(x1, x2)
    torch.testing.assert_close(without.z1[:, :16], z1[:, :16])
    assert not without.z1[:, 16:].any()


@pytest.mark.parametrize(
    ("which", "shape", "message"),
    [
        (0, (6, 7, 4), r"spectra tokens \(6, 7, 4\): expected \(B, L, 3\)"),
        (1, (6, 5), r"light_curve tokens \(6, 5\): expected \(B, L, 5\)"),
        (2, (6, 3), r"labels \(6, 3\): expected \(6, 4\)"),
    ],
)
def test_wrong_shapes_are_named(which, shape, message):
    x = list(inputs())
    x[which] = random(*shape)
    with pytest.raises(ValueError, match=message):
        small()(*x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": "none"}, "no attention 'none'"),
        ({"heads": 3}, "3 heads do not divide"),
        ({"d": 12}, "3 turned features"),
    ],
)
def test_arguments_that_cannot_work(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


# Losses ------------------------------------------------------------------------------------------


def test_dual_by_hand():
    z1, z2 = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    p1, p2 = torch.tensor([[3.0, 1.0], [5.0, 2.0]]), torch.tensor([[1.0, 1.0], [1.0, 9.0]])
    # <z1, p1> = 5, 2; <z2, p2> = 2, 2.
    assert dual_loss.dual(z1, z2, p1, p2) == pytest.approx((9 + 0) / 2)


def test_covariance_by_hand_and_against_numpy():
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]])  # Cov = [[2, 4], [4, 8]]
    assert dual_loss.covariance(x, x) == pytest.approx((16 + 16) / 2)
    x, y = random(50, 4), random(50, 4, seed=1)
    found = np.cov(x.T, y.T)[:4, 4:]
    expected = (found**2)[~np.eye(4, dtype=bool)].sum() / 4
    assert dual_loss.covariance(x, y) == pytest.approx(expected)
    with pytest.raises(ValueError, match="batch of 1 has no covariance"):
        dual_loss.covariance(x[:1], y[:1])


def test_variance_is_a_hinge_at_one():
    x = random(4000, 3)
    assert dual_loss.variance(2 * x) == 0
    assert dual_loss.variance(0.5 * x) == pytest.approx(0.5, abs=0.02)
    assert dual_loss.variance(0 * x) == pytest.approx(0.99)


@given(st.integers(0, 2**31), st.floats(0, 1), st.booleans(), st.sampled_from([0.0, 3.0]))
@settings(max_examples=15, deadline=None)
def test_gradients_equal_finite_differences(seed, share, cross, spread):
    z1, z2, a = random(5, 3, seed=seed), random(5, 3, seed=seed + 1), random(3, 3, seed=seed + 2)

    def loss(z1, z2, a):
        return dual_loss.total(z1, z2, z1 @ a.T, z2 @ a, share=share, cross=cross, spread=spread)[
            "loss"
        ]

    asked = [x.requires_grad_() for x in (z1, z2, a)]
    assert torch.autograd.gradcheck(loss, asked, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_the_total_is_made_of_its_parts():
    z1, z2, p1, p2 = (random(9, 4, seed=i) for i in range(4))
    cov = dual_loss.covariance
    terms = dual_loss.total(z1, z2, p1, p2, share=0.3, spread=2.0)
    agree, apart = dual_loss.dual(z1, z2, p1, p2), dual_loss.variance(p1) + dual_loss.variance(p2)
    within = cov(p1, p1) + cov(p2, p2)
    whole = 0.7 * agree + 0.3 * (within + cov(p1, p2)) + 2 * apart
    assert terms["loss"] == pytest.approx(float(whole))
    without = dual_loss.total(z1, z2, p1, p2, share=0.3, cross=False)
    assert without["loss"] == pytest.approx(float(0.7 * agree + 0.3 * within))


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_dual_sees_only_the_symmetric_part_of_a(seed):
    z1, z2, a = random(8, 5, seed=seed), random(8, 5, seed=seed + 1), random(5, 5, seed=seed + 2)

    def dual(a, second):
        return float(dual_loss.dual(z1, z2, z1 @ a.T, z2 @ second.T))

    symmetric = (a + a.T) / 2
    value = dual(a, a.T)
    assert value == pytest.approx(dual(symmetric, symmetric))
    assert value == pytest.approx(dual(a, a))  # A and A or A and its transpose: the same


def test_without_a_variance_term_nothing_forbids_a_matrix_of_zeros():
    model, (x1, x2, y) = small(), inputs()
    torch.nn.init.zeros_(model.a.weight)
    assert model.loss(x1, x2, y)["loss"] == 0
    assert float(model.loss(x1, x2, y, spread=1.0)["loss"]) == pytest.approx(2 * 0.99)


def test_losses_are_computed_in_32_bits():
    model, (x1, x2, y) = small().float(), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.loss(x1.float(), x2.float(), y.float())["loss"].dtype == torch.float32


# Eigenspace --------------------------------------------------------------------------------------


@given(st.integers(2, 12), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_pairs_and_schur_span_everything_and_real_parts_do_not(size, seed):
    a = random(size, size, seed=seed)
    values = eigenspace.spectrum(a)
    assert np.all(np.diff(np.abs(values)) < 1e-8)
    np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(np.linalg.eigvals(a)))
    complex_pairs = int((np.abs(values.imag) > 0).sum()) // 2
    for kind, lost in (("pairs", 0), ("schur", 0), ("real", complex_pairs)):
        v = eigenspace.basis(a, kind)
        torch.testing.assert_close(v.norm(dim=0), torch.ones(size, dtype=v.dtype))
        assert eigenspace.rank(v) == size - lost
    q = eigenspace.basis(a, "schur")
    torch.testing.assert_close(q.T @ q, torch.eye(size, dtype=q.dtype))


def test_columns_of_pairs_span_invariant_planes():
    a = torch.tensor([[0.0, -2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    np.testing.assert_allclose(eigenspace.spectrum(a), [2j, -2j, 1], atol=1e-12)
    v = eigenspace.basis(a)
    plane = v[:, :2]
    moved = a @ plane
    back = plane @ torch.linalg.lstsq(plane, moved).solution
    torch.testing.assert_close(back, moved)
    torch.testing.assert_close(v[:, 2].abs(), torch.tensor([0.0, 0, 1], dtype=torch.float64))


def test_of_a_symmetric_matrix_it_is_what_eigh_says():
    a = random(6, 6)
    a = a + a.T
    values, vectors = np.linalg.eigh(a.numpy())
    order = np.argsort(-np.abs(values))
    found = eigenspace.basis(a).numpy()
    np.testing.assert_allclose(eigenspace.spectrum(a).real, values[order])
    np.testing.assert_allclose(np.abs((found * vectors[:, order]).sum(axis=0)), 1)


def test_matrices_without_an_eigenspace():
    with pytest.raises(ValueError, match="no basis 'left'"):
        eigenspace.basis(torch.eye(2), "left")
    with pytest.raises(ValueError, match="expected a square matrix"):
        eigenspace.spectrum(torch.ones(2, 3))
    with pytest.raises(ValueError, match="not finite"):
        eigenspace.basis(torch.full((2, 2), torch.nan))


def test_features_are_the_sum_in_the_eigenspace():
    model, (x1, x2, y) = small().float(), inputs()
    x1, x2, y = x1.float(), x2.float(), y.float()
    model.train()
    f = model.features(x1, x2, y, batch_size=4, device="cpu")
    assert f.shape == (6, 20) and model.training  # its mode is given back
    model.eval()
    z1, z2, *_ = model(x1, x2, y)
    expected = (z1 + z2).detach() @ eigenspace.basis(model.a.weight.detach())
    np.testing.assert_allclose(f, expected.numpy(), atol=1e-5)


# Files -------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_answers_alike(tmp_path):
    model, (x1, x2, y) = small(transpose=False).float(), inputs()
    model.save(tmp_path, {"data": "simulated"}, half=False)
    again = DualFormer.load(tmp_path)
    assert again.settings == model.settings and again.metadata == {"data": "simulated"}
    x = x1.float(), x2.float(), y.float()
    for one, other in zip(model(*x), again(*x), strict=True):
        assert torch.equal(one, other)


def test_files_that_hold_something_else(tmp_path):
    with pytest.raises(FileNotFoundError):
        DualFormer.load(tmp_path)
    model = small().float()
    model.settings["d"] = 32
    model.save(tmp_path)
    with pytest.raises(CheckpointError, match="does not hold a DualFormer"):
        DualFormer.load(tmp_path)


def test_a_dual_names_what_it_holds():
    assert Dual._fields == ("z1", "z2", "p1", "p2")
    q = random(1, 1, 3, 4)
    torch.testing.assert_close(attend(q, q[:, :, :1], q[:, :, :1]), q[:, :, :1].expand(q.shape))
