"""The CNN of the light-curve encoder: what moves when a picture moves, and what does not."""

import numpy as np
import pytest
import torch
from test_light_curve_encoder import SCALE, tiny
from test_light_curve_input import L
from test_light_curve_training import QUIET, toy

from stellarbook.data.cadences import LONG_CADENCE
from stellarbook.desa.light_curve_cnn import HALVED, Added, Peaks, Pooled, convolution
from stellarbook.desa.light_curve_training import measure_norms, pretrain, quantiles
from stellarbook.desa.light_curve_views import PERIODS, periods

STEP = 0.01  # of the axis
PLACES = 1024
PEAKS = {"pooling": "peaks", "channels": (6, 8, 8, 8)}


def peaks(channels=(4, 6, 6, 8), seed=0):
    torch.manual_seed(seed)
    return Peaks(channels, STEP * np.arange(PLACES), readers=2).double().eval()


def bump(place, width=9.0):
    """Transforms (1, 2, PLACES) with a peak at a place."""
    x = torch.exp(-0.5 * ((torch.arange(PLACES) - place) / width).square())
    return torch.stack([x, 2 * x])[None].double()


@pytest.mark.parametrize("steps", [1, 13, -20])
def test_features_move_with_the_picture(steps):
    net = peaks()
    at, moved = (net.convolutions(bump(500 + s * HALVED)) for s in (0, steps))
    inner = slice(40, -40)  # what is read beyond the ends does not move
    expected = at.roll(steps, dims=2)
    torch.testing.assert_close(moved[..., inner], expected[..., inner], rtol=0, atol=1e-12)
    assert (moved - at)[..., inner].abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 13, -20])
def test_the_answer_moves_as_far(steps):
    """Of readers that look at the peak alone; what is no place stays."""
    net = peaks()
    with torch.no_grad():
        channel = int(net.convolutions(bump(500))[0].amax(dim=1).argmax())
        net.shares.weight.zero_()
        net.shares.weight[:, channel] = 4e3
    at, moved = (net(bump(500 + s * HALVED)) for s in (0, steps))
    assert at.shape == (1, net.size)
    distance = HALVED * STEP * steps
    torch.testing.assert_close(moved[:, :2], at[:, :2] + distance, rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, 2:], at[:, 2:], rtol=0, atol=1e-5)


def test_a_reader_by_hand():
    """Shares e^{w x}, normalised; what is there is moved by m x + c."""
    net = peaks()
    x = bump(300)
    found = net.convolutions(x)[0]  # (C, T / 4)
    logits = net.shares.weight[0, :, 0] @ found + net.shares.bias[0]
    share = logits.exp() / logits.exp().sum()
    middles = STEP * (4 * torch.arange(PLACES // 4) + 1.5).double()
    move = net.moves.weight[0, :, 0] @ found + net.moves.bias[0]
    place = share @ (middles + move)
    features = net(x)[0]
    torch.testing.assert_close(features[0], place, rtol=1e-6, atol=1e-6)
    width = (share @ (middles - place).square()).sqrt()
    torch.testing.assert_close(features[2], width, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(features[4:12], found @ share)
    torch.testing.assert_close(features[-8:], found.amax(dim=1))


def test_where_layers_add():
    net = peaks((4, 6, 6, 8, 8))
    assert [isinstance(x, Added) for x in net.convolutions[4:]] == [True, False, True]
    dilations = [x.dilation for x in net.convolutions.modules() if isinstance(x, torch.nn.Conv1d)]
    assert dilations == [(1,), (1,), (1,), (2,), (4,)]
    x = torch.randn(2, 6, 30, dtype=torch.float64)
    layer = net.convolutions[4]
    torch.testing.assert_close(layer(x), x + layer.layer(x))


@pytest.mark.parametrize("flatten", [False, True])
def test_pooled(flatten):
    torch.manual_seed(0)
    net = Pooled((4, 6, 8), 64, flatten=flatten).eval()
    x = torch.randn(3, 2, 64)
    found = net.convolutions(x)
    assert net(x).shape == (3, net.size) and found.shape == (3, 8, 16)
    expected = found.reshape(3, -1) if flatten else found.sum(dim=2) / 16
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("dilation", [1, 2, 8])
def test_a_convolution_keeps_the_places(dilation):
    assert convolution(2, 3, 5, dilation)(torch.randn(2, 2, 40)).shape == (2, 3, 40)


# --- in the encoder -------------------------------------------------------------------------


@pytest.mark.parametrize("branches", ["transforms", "both"])
def test_the_head_says_how_far_from_the_place(branches):
    encoder = tiny(branches=branches, **PEAKS).eval()
    generator = torch.Generator().manual_seed(1)
    curve = torch.randn(3, 2, L, generator=generator)
    transforms = torch.randn(3, 2, PERIODS, generator=generator)
    z = encoder(curve, transforms)
    assert z.shape == (3, 16)
    torch.testing.assert_close(z[:, 0], encoder.cnn(transforms)[:, 0])
    expected = encoder.head(z).unflatten(1, (1, -1)) + z[:, 0][:, None, None]
    torch.testing.assert_close(encoder.quantiles(z), expected)


def test_the_axis_is_the_periods():
    encoder = tiny(branches="transforms", **PEAKS)
    days = LONG_CADENCE * periods(L)
    middles = SCALE.standardise(np.log10(days)[:, None]).reshape(-1, HALVED).mean(axis=1)
    np.testing.assert_allclose(encoder.cnn.middles, middles, rtol=1e-5)


def test_the_curve_alone_has_no_peaks():
    """Nothing of the pooling is left without the branch that it belongs to."""
    states = [
        tiny(branches="curve", **{**PEAKS, "pooling": pooling}).state_dict()
        for pooling in ("peaks", "flatten")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_linear_axes_have_no_peaks():
    with pytest.raises(ValueError, match=r"pooling 'peaks' of kind 'linear': expected 'log'"):
        tiny(kind="linear", **PEAKS)


def test_periods_that_were_never_seen():
    """Trained on sinusoids of middling periods, asked about shorter and longer ones."""
    every = toy(600, crops=2)
    y = every.labels[:, 0]
    middle = (y > y.quantile(0.25)) & (y < y.quantile(0.75))
    outside = (~middle) & (y > y.quantile(0.1)) & (y < y.quantile(0.9))
    train, val, test = every[middle][:220], every[middle][220:], every[outside]
    off = {}
    for pooling, channels in (("peaks", (6, 8, 8, 8)), ("flatten", (6, 8, 8, 8))):
        encoder = tiny(branches="transforms", pooling=pooling, channels=channels)
        pretrain(encoder, train, val, share=1.0, steps=200, batch_size=64, **QUIET)
        measure_norms(encoder, train, device="cpu")
        found = quantiles(encoder, test, device="cpu")[:, 0, 2]
        off[pooling] = np.abs(found - test.labels[:, 0].numpy()).mean()
    assert off["peaks"] < 0.5 * off["flatten"]
