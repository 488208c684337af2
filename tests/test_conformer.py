"""Rotary positions against complex numbers, the Conformer against its formula in plain numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarbook.layers.conformer import ConformerBlock, DesaBlock, RotaryAttention, rotary

BLOCKS = [
    pytest.param(lambda: ConformerBlock(16, 4, kernel=5), id="conformer"),
    pytest.param(lambda: DesaBlock(16, 4), id="desa"),
]
blocks = pytest.mark.parametrize("make", BLOCKS)


def settled(module, seed=0):
    """Give every parameter and running statistic a value that a mistake would show in."""
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
            value -= 0.5 if value.ndim > 1 else 0
    return module.double().eval()


def random(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def turned_by_hand(x):
    """Su et al. (2021), Eq. 12: a pair of features is one complex number, times e^{imθ}."""
    length, width = x.shape[-2:]
    result = np.empty(x.shape)
    for m in range(length):
        for j in range(width // 2):
            z = x[..., m, 2 * j] + 1j * x[..., m, 2 * j + 1]
            z = z * np.exp(1j * m * 10000.0 ** (-2 * j / width))
            result[..., m, 2 * j], result[..., m, 2 * j + 1] = z.real, z.imag
    return result


@pytest.mark.parametrize("width", [2, 8, 14])
def test_rotary_is_a_complex_product(width):
    x = random(2, 3, 11, width)
    np.testing.assert_allclose(rotary(x), turned_by_hand(x.numpy()), atol=1e-12)
    half = rotary(x.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16  # and only the result is rounded
    torch.testing.assert_close(half, rotary(x.to(torch.bfloat16).float()).to(torch.bfloat16))


@given(st.integers(0, 200), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_rotary_knows_distances_only(shift, length, seed):
    q, k = random(length, 8, seed=seed), random(length, 8, seed=seed + 1)
    ahead = torch.zeros(shift, 8, dtype=torch.float64)
    moved_q, moved_k = (rotary(torch.cat([ahead, x]))[shift:] for x in (q, k))
    torch.testing.assert_close(moved_q @ moved_k.T, rotary(q) @ rotary(k).T, atol=1e-10, rtol=0)
    torch.testing.assert_close(moved_q.norm(dim=-1), q.norm(dim=-1))


def test_rotary_knows_the_order():
    x = random(1, 6, 8)
    attention = settled(RotaryAttention(8, 2))
    swapped = attention(x.flip(1)).flip(1)
    assert (swapped - attention(x)).abs().max() > 1e-3
    blind = settled(RotaryAttention(8, 2, turned=0.0))
    torch.testing.assert_close(blind(x.flip(1)).flip(1), blind(x))


class Numpy:
    """The parts of both blocks, from a module's weights."""

    def __init__(self, module):
        self.weights = {k: v.numpy() for k, v in module.state_dict().items()}

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def layer_norm(self, name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def batch_norm(self, name, x):
        mean, variance, weight, bias = (
            self.weights[f"{name}.{key}"]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    def feed_forward(self, name, x):
        return self.linear(f"{name}.3", swish(self.linear(f"{name}.0", x)))

    def attention(self, name, x, heads, turned):
        width = x.shape[-1] // heads
        q, k, v = np.split(self.linear(f"{name}.qkv", x), 3, axis=-1)
        seen = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            a, b = (
                np.concatenate([turned_by_hand(y[:, part][:, :turned]), y[:, part][:, turned:]], 1)
                for y in (q, k)
            )
            score = np.exp(a @ b.T / np.sqrt(width))
            seen.append(score / score.sum(1, keepdims=True) @ v[:, part])
        return self.linear(f"{name}.out", np.concatenate(seen, axis=1))

    def convolution(self, name, x):
        """(L, in) -> (L, out); a depthwise one has one input for each output."""
        weight = self.weights[f"{name}.weight"]  # (out, in or 1, taps)
        taps = weight.shape[2]
        padded = np.pad(x, ((taps // 2, taps // 2), (0, 0)))
        result = np.zeros(x.shape)
        for i in range(len(x)):
            for tap in range(taps):
                w, near = weight[:, :, tap], padded[i + tap]
                result[i] += w[:, 0] * near if w.shape[1] == 1 else w @ near
        return result


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def swish(x):
    return x * sigmoid(x)


def test_conformer_is_its_formula():
    """Gulati et al. (2020): Eq. 1 and Figs. 2–4."""
    block = settled(ConformerBlock(12, 3, kernel=5))
    by_hand, x = Numpy(block), random(9, 12)
    y = x.numpy()
    y = y + 0.5 * by_hand.feed_forward("first", by_hand.layer_norm("norms.0", y))
    y = y + by_hand.attention("attention", by_hand.layer_norm("norms.1", y), 3, turned=4)
    gated = by_hand.linear("convolution.gate", by_hand.layer_norm("norms.2", y))
    gated = gated[:, :12] * sigmoid(gated[:, 12:])
    near = by_hand.convolution("convolution.depthwise", gated)
    near = swish(by_hand.batch_norm("convolution.norm", near))
    y = y + by_hand.linear("convolution.out", near)
    y = y + 0.5 * by_hand.feed_forward("second", by_hand.layer_norm("norms.3", y))
    y = by_hand.layer_norm("norms.4", y)
    np.testing.assert_allclose(block(x[None])[0].detach(), y, atol=1e-9)


def test_desa_block_is_its_formula():
    block = settled(DesaBlock(12, 3))
    by_hand, x = Numpy(block), random(9, 12)
    y = x.numpy()
    y = by_hand.layer_norm("norms.0", y + by_hand.attention("attention", y, 3, turned=2))
    near = swish(by_hand.batch_norm("norm", by_hand.convolution("convolution", y)))
    y = by_hand.layer_norm("norms.1", y + near)
    y = by_hand.layer_norm("norms.2", y + by_hand.feed_forward("dense", y))
    np.testing.assert_allclose(block(x[None])[0].detach(), y, atol=1e-9)


@blocks
def test_padding_and_company_change_nothing(make):
    block, x = settled(make()), random(3, 20, 16)
    known = torch.arange(20) < torch.tensor([[20], [13], [1]])
    padded = torch.where(known[..., None], x, 1e3)
    together = block(padded, known)
    for row, length in enumerate((20, 13, 1)):
        alone = block(x[row : row + 1, :length])[0]
        torch.testing.assert_close(together[row, :length], alone, atol=1e-10, rtol=1e-10)


@blocks
def test_gradients_reach_everything_and_are_finite(make):
    torch.manual_seed(0)
    block = make().train()
    x = torch.randn(4, 10, 16, requires_grad=True)
    (block(x) * torch.randn(4, 10, 16)).mean().backward()
    gradients = {"x": x.grad} | {name: p.grad for name, p in block.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient.isfinite().all() and gradient.any(), name


@blocks
def test_autocast_gives_nearly_the_same(make):
    torch.manual_seed(0)
    block, x = make().eval(), torch.randn(2, 10, 16)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = block(x)
    torch.testing.assert_close(rounded.float(), block(x), atol=0.1, rtol=0)


def test_size_of_the_authors_encoder():
    # Eight blocks of width 2048: 503.6 M parameters by the authors' own count.
    with torch.device("meta"):
        size = sum(p.numel() for p in DesaBlock(2048, 8).parameters())
    assert 8 * size / 1e6 == pytest.approx(503.6, abs=0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConformerBlock(16, 3), "do not divide"),
        (lambda: ConformerBlock(12, 4), "not in pairs"),
        (lambda: DesaBlock(12, 2, kernel=4), "odd"),
        (lambda: ConformerBlock(16, 4, kernel=4), "odd"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
