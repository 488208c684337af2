"""The spectra encoder as its user meets it: sizes, shapes, files, labels, intervals, flags."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_spectra_input import between, record

from stellarbook.data.instruments import DESI, LAMOST, SDSS
from stellarbook.data.records import Spectrum
from stellarbook.desa.answers import restore, run
from stellarbook.desa.spectra_encoder import LABELS, SMALL, SOLAR, SpectraEncoder
from stellarbook.desa.spectra_input import GRIDS, SpectraSample, prepare_spectra
from stellarbook.desa.spectra_training import quantiles
from stellarbook.learn.conformal import calibrated
from stellarbook.learn.scales import Labels

TINY = {"stem": 4, "stride": 4, "channels": (8, 8), "blocks": 1, "heads": 2, "head": 8}
SCALE = Labels([3.75, 4.0, -0.4], [0.05, 0.5, 0.4], [0])
COLUMNS = [
    *LABELS,
    *(f"{label}_{end}" for label in LABELS for end in ("lo50", "hi50", "lo80", "hi80")),
    "flag",
]
both = pytest.mark.parametrize("input", GRIDS)
blocks = pytest.mark.parametrize("block", ["desa", "conformer"])
poolings = pytest.mark.parametrize("pooling", ["mean", "flatten"])


def tiny(seed=0, **others):
    """An encoder whose every parameter and running statistic has a value of its own."""
    torch.manual_seed(seed)
    encoder = SpectraEncoder(**{**TINY, "input": "normalise", "scale": SCALE, **others})
    for name, value in encoder.state_dict().items():
        if value.is_floating_point():
            value += 0.1 * torch.randn(value.shape).abs()
        if name.endswith("running_var"):
            value.mul_(2)
    encoder.margins = np.array([[50.0, 20.0], [-0.03, 0.05], [0.2, 0.01]])
    return encoder.eval()


def records():
    """Spectra of several surveys, four of which cannot be judged (`BAD`)."""
    return [
        record(seed=1),
        record(redshift=np.nan),
        record(SDSS.wave, seed=2),
        record(DESI.wave, seed=3, arms=DESI.arms),
        record(LAMOST.wave[:2000]),
        record(mask=between(0, 5800)),
        record(10 ** np.arange(3.56, 3.96, 5e-4)),
        record(seed=4, redshift=-2e-4),
    ]


BAD = np.array([False, True, False, False, True, True, True, False])


@pytest.fixture
def encoder():
    return tiny()


def count(module):
    return sum(p.numel() for p in module.parameters())


# --- sizes and shapes -----------------------------------------------------------------------


def test_the_authors_size():
    """Their code: 551.9 M parameters = CNN 19.8 M + Conformer 503.6 M + decoder 26.4 M + head."""
    with torch.device("meta"):
        encoder = SpectraEncoder()
    millions = {name: count(part) / 1e6 for name, part in encoder.named_children()}
    assert millions == {
        "cnn": pytest.approx(19.8, abs=0.05),
        "conformer": pytest.approx(503.6, abs=0.05),
        "decoder": pytest.approx(26.4, abs=0.05),
        # 2048 → 1024 with BatchNorm → 3 labels × 5 quantiles
        "head": pytest.approx((2048 * 1024 + 3 * 1024 + 1024 * 15 + 15) / 1e6),
    }
    assert count(encoder) / 1e6 == pytest.approx(551.9, abs=0.05)
    layers = [m for m in encoder.modules() if isinstance(m, torch.nn.Conv1d)][:6]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in layers] == [
        (a, b, (3,), (1,))
        for a, b in ((1, 64), (64, 128), (128, 256), (256, 1024), (1024, 2048), (2048, 2048))
    ]
    with torch.device("meta"):
        tokens = encoder.tokens(torch.empty(2, 3600))
    assert tokens.shape == (2, 2048, 113)  # theirs, padded to 4096 pixels: 128


@both
@blocks
@poolings
@pytest.mark.parametrize("stride", [1, 4])
def test_shapes(input, block, pooling, stride):
    encoder = tiny(input=input, block=block, pooling=pooling, stride=stride)
    n = len(GRIDS[input])
    tokens = encoder.tokens(torch.randn(3, n))
    length = -(-n // (4 * stride))  # each pooling halves
    assert tokens.shape == (3, 8, length)
    assert encoder.fill(tokens).shape == (3, n)
    assert encoder.features(tokens).shape == (3, length, 8)
    filled, read = encoder(torch.randn(3, n))
    assert filled.shape == (3, n) and read.shape == (3, 3, 5)


@both
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("channels", [(8,), (8, 8, 8), (4, 4, 4, 4, 4, 8)])
def test_fill_gives_the_pixels_back_where_they_were(input, stride, channels):
    encoder = tiny(input=input, stride=stride, channels=channels)
    n = len(GRIDS[input])
    padded = n + encoder.pad
    assert 0 <= encoder.pad < stride * 2 ** len(channels) and not padded % stride
    # What is filled begins where the spectrum does: the padding is behind it.
    x = torch.randn(2, n)
    with torch.no_grad():
        tokens = encoder.tokens(x)
        assert torch.equal(encoder.fill(tokens), encoder.decoder(tokens)[:, 0, :n])
        behind = torch.cat([x, torch.zeros(2, encoder.pad)], dim=1)
        assert torch.equal(encoder.cnn(behind[:, None]), tokens)
    # A pixel's change is seen in the filled spectrum around it, at both ends too.
    x = torch.zeros(1, n)
    reach = 4 * stride * 2 ** len(channels)
    for pixel in (0, n // 2, n - 1):
        moved = x.clone()
        moved[0, pixel] = 100.0
        with torch.no_grad():
            change = (encoder.fill(encoder.tokens(moved)) - encoder.fill(encoder.tokens(x)))[0]
        seen = change.abs().nonzero()[:, 0]
        assert len(change) == n and (seen - pixel).abs().max() <= reach
        assert (seen - pixel).abs().min() <= stride * 2 ** len(channels)


@poolings
def test_parts_make_the_whole(pooling):
    encoder = tiny(pooling=pooling)
    x = torch.randn(4, 1962)
    with torch.no_grad():
        filled, read = encoder(x)
        tokens = encoder.tokens(x)
        features = encoder.features(tokens)
        assert torch.equal(encoder.fill(tokens), filled)
        assert torch.equal(encoder.read(x), read)
        assert torch.equal(encoder.quantiles(features), read)


def test_averaged_tokens_have_no_place(encoder):
    features = torch.randn(4, 123, 8)
    with torch.no_grad():
        read = encoder.quantiles(features)
        # Their order and number do not count any more.
        twice = torch.cat([features.flip(1), features], dim=1)
        torch.testing.assert_close(encoder.quantiles(twice), read)


def test_flattened_tokens_keep_their_place():
    """Token by token, each with its own columns of the first layer, by hand."""
    encoder = tiny(pooling="flatten")
    features = torch.randn(4, 123, 8)
    first, rest = encoder.head[0], encoder.head[1:]
    assert first.in_features == 123 * 8
    with torch.no_grad():
        own = first.weight.reshape(8, 123, 8)  # (hidden, token, feature)
        hidden = torch.einsum("btf,htf->bh", features, own) + first.bias
        read = encoder.quantiles(features)
        torch.testing.assert_close(read, rest(hidden).reshape(4, 3, 5), rtol=1e-4, atol=1e-5)
        assert (encoder.quantiles(features.flip(1)) - read).abs().max() > 1e-3


def test_heads_answer_in_32_bits(encoder):
    x = torch.randn(4, 1962)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert encoder.tokens(x).dtype == torch.bfloat16
        assert encoder.read(x).dtype == torch.float32
        features = torch.randn(4, 9, 8)
        rounded = encoder.quantiles(features)
    torch.testing.assert_close(rounded, encoder.quantiles(features), rtol=1e-6, atol=1e-6)


def test_both_sizes_can_be_built():
    encoder = SpectraEncoder(input="normalise", **SMALL)
    assert count(encoder) < 1e6
    assert encoder.read(torch.randn(2, 1962)).shape == (2, 3, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "raw"}, "no input 'raw': there are desa, normalise"),
        ({"block": "gru"}, "no block 'gru': there are desa, conformer"),
        ({"pooling": "max"}, "no pooling 'max': there are mean, flatten"),
        ({"heads": 3}, "3 heads do not divide"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(**settings)


def test_restore_by_hand():
    z = np.random.default_rng(0).normal(size=(4, 3, 5))
    y = restore(SCALE, z)
    np.testing.assert_allclose(y[:, 0], 10 ** (3.75 + 0.05 * z[:, 0]))
    np.testing.assert_allclose(y[:, 2], -0.4 + 0.4 * z[:, 2])
    np.testing.assert_allclose(restore(SOLAR, z)[:, 0], 5778 * z[:, 0])


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_run(encoder, batch_size):
    x = torch.randn(7, 1962).half()
    with torch.no_grad():
        expected = encoder.read(x.float())
    encoder.train()
    encoder.head.eval()
    result = run(encoder, encoder.read, x, batch_size, "cpu")
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    assert encoder.training  # its mode is given back


# --- predict --------------------------------------------------------------------------------


def test_what_comes_back(encoder):
    predicted = encoder.predict(records())
    assert list(predicted.columns) == COLUMNS and len(predicted) == 8
    numbers = predicted.drop(columns="flag")
    assert set(numbers.dtypes) == {np.dtype(float)}
    assert (numbers.isna().all(axis=1) == BAD).all() and numbers[~BAD].notna().all(axis=None)
    assert ((predicted["flag"] != "") == BAD).all()
    for row, reason in ((1, "redshift"), (4, "covers"), (5, "masked"), (6, "pixels of 5")):
        assert reason in predicted["flag"][row]
    for label in LABELS:
        order = [f"{label}_lo80", f"{label}_lo50", label, f"{label}_hi50", f"{label}_hi80"]
        assert (numbers[order][~BAD].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)


def test_predict_is_calibrated_quantiles(encoder):
    """As of a sample, whose pixels are kept in 16 bits."""
    spectra = [s for s, bad in zip(records(), BAD, strict=True) if not bad]
    x, _ = prepare_spectra(spectra, "normalise")
    unknown = torch.full((4, 3), torch.nan).double()
    raw = quantiles(encoder, SpectraSample(x.half(), unknown, torch.ones(4)))
    values = calibrated(raw, encoder.margins)
    predicted = encoder.predict(spectra)
    for i, label in enumerate(LABELS):
        names = [f"{label}_lo80", f"{label}_lo50", label, f"{label}_hi50", f"{label}_hi80"]
        spread = np.abs(values[:, i]).max()
        np.testing.assert_allclose(predicted[names], values[:, i], atol=2e-3 * spread)
    assert predicted["teff"].nunique() == 4


def test_margins_widen(encoder):
    spectra = records()[:1]
    wide = encoder.predict(spectra)
    encoder.margins = np.zeros((3, 2))
    plain = encoder.predict(spectra)
    encoder.margins = np.array([[7.0, 3.0]] * 3)
    moved = encoder.predict(spectra)
    for label in LABELS:
        assert wide[label][0] == plain[label][0] == moved[label][0]
        for name, change in (("lo80", -7), ("lo50", -3), ("hi50", 3), ("hi80", 7)):
            column = f"{label}_{name}"
            assert moved[column][0] - plain[column][0] == pytest.approx(change, rel=1e-4)
    encoder.margins = np.full((3, 2), np.inf)  # calibrated on too few stars
    nothing = encoder.predict(spectra)
    assert np.isfinite(nothing["teff"][0]) and nothing["teff_hi80"][0] == np.inf


def test_order_company_and_batches_do_not_matter(encoder):
    spectra = records()
    together = encoder.predict(spectra)
    for other in (
        encoder.predict(spectra, batch_size=1),
        encoder.predict(spectra[::-1]).iloc[::-1].reset_index(drop=True),
        pd.concat([encoder.predict([s]) for s in spectra], ignore_index=True),
        encoder.train().predict(spectra),
    ):
        pd.testing.assert_frame_equal(other, together, rtol=1e-4)
    assert encoder.training and not any(p.grad is not None for p in encoder.parameters())


def test_the_unit_of_flux_does_not_matter(encoder):
    one = record(seed=1)
    other = Spectrum(one.wave, one.flux * 1e-17, one.ivar * 1e34, one.mask, one.meta)
    pd.testing.assert_frame_equal(encoder.predict([other]), encoder.predict([one]), rtol=1e-4)


def test_nothing_in_nothing_out(encoder):
    assert list(encoder.predict([]).columns) == COLUMNS and len(encoder.predict([])) == 0
    assert encoder.embed([]).shape == (0, 8)
    only_bad = encoder.predict([record(redshift=np.nan)])
    assert only_bad["flag"][0] == "redshift unknown" and np.isnan(only_bad["teff"][0])


@both
@blocks
def test_embed(input, block):
    encoder = tiny(input=input, block=block)
    features = encoder.embed(records())
    assert features.shape == (8, 8) and features.dtype == np.float32
    assert (np.isnan(features).all(axis=1) == BAD).all()
    assert np.isfinite(features[~BAD]).all()
    x, _ = prepare_spectra(records(), input)
    with torch.no_grad():
        expected = encoder.features(encoder.tokens(x[torch.from_numpy(~BAD)])).mean(dim=1)
        head = encoder.head(torch.from_numpy(features[~BAD])).unflatten(1, (3, 5))
    np.testing.assert_allclose(features[~BAD], expected, atol=1e-4)
    median = np.sort(restore(SCALE, head.numpy()), axis=-1)[..., 2]
    np.testing.assert_allclose(encoder.predict(records())[~BAD][list(LABELS)], median, rtol=1e-3)
