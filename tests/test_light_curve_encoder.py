"""Shapes, branches, attention by hand, files, what is said of curves that cannot be read."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from test_light_curve_input import BAD, L, record, sinusoid

from stellarbook.desa import LightCurveEncoder
from stellarbook.desa.light_curve_encoder import (
    BRANCHES,
    FILE,
    HALVING,
    NORMALISATIONS,
    PAPER,
    SMALL,
)
from stellarbook.desa.light_curve_views import KINDS, PERIODS
from stellarbook.learn.checkpoint import CheckpointError, load_weights, save_weights
from stellarbook.learn.conformal import QUANTILES
from stellarbook.learn.scales import Labels

SCALE = Labels([0.0], [0.4], [])
TINY = {
    **{"kind": "log", "length": L, "channels": (4, 6, 8), "d": 8, "blocks": 1, "heads": 2},
    **{"features": 16, "pooling": "flatten", "scale": SCALE, "normalisations": "scores"},
}


def tiny(seed=0, **others):
    torch.manual_seed(seed)
    return LightCurveEncoder(**{**TINY, **others})


def materialised(attention, x):
    """What `RotaryAttention` computes, its weights (B, H, L, L) written out."""
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    q, k = attention._turn(q), attention._turn(k)
    weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return attention.out((weights @ v).transpose(1, 2).flatten(2))


def views(b=3, kind="log", length=L):
    generator = torch.Generator().manual_seed(1)
    curve = torch.randn(b, 2, length, generator=generator)
    return curve, torch.randn(b, 2, PERIODS if kind == "log" else length, generator=generator)


def curves():
    return [record(sinusoid(period, 2 * L, noise=1e-3)) for period in (60.0, 150.0)]


# --- the network ----------------------------------------------------------------------------


@pytest.mark.parametrize("branches", BRANCHES)
@pytest.mark.parametrize("normalisations", NORMALISATIONS)
@pytest.mark.parametrize(
    ("kind", "pooling"), [*itertools.product(KINDS, ["mean", "flatten"]), ("log", "peaks")]
)
def test_shapes(branches, normalisations, kind, pooling):
    encoder = tiny(branches=branches, normalisations=normalisations, kind=kind, pooling=pooling)
    curve, transforms = views(kind=kind)
    z = encoder(curve, transforms)
    assert z.shape == (3, 16) and encoder.predictor(z).shape == (3, 16)
    assert encoder.quantiles(z).shape == (3, 1, len(QUANTILES))
    encoder.quantiles(z).sum().backward()
    unused = [n for n, p in encoder.named_parameters() if p.grad is None]
    assert all(n.startswith("predictor") for n in unused)
    if branches != "transforms":
        assert encoder.tokens(curve).shape == (3, L // 20, 8)


@pytest.mark.parametrize("branches", BRANCHES)
@pytest.mark.parametrize("normalisations", NORMALISATIONS)
def test_a_branch_reads_what_is_its_own(branches, normalisations):
    encoder = tiny(branches=branches, normalisations=normalisations).eval()
    inputs = [x.requires_grad_() for x in views()]
    encoder(*inputs).square().sum().backward()
    curve, transforms = (x.grad for x in inputs)
    assert (transforms is not None) == (branches != "curve")
    if branches == "transforms":
        assert curve is None
        return
    used = [bool(part.abs().sum() > 0) for part in curve.unbind(1)]
    assert used == [normalisations != "scores", normalisations != "magnitude"]


@pytest.mark.parametrize("settings", [SMALL, HALVING, PAPER], ids=["small", "halving", "paper"])
def test_sizes(settings):
    with torch.device("meta"):
        encoder = LightCurveEncoder(**settings)
        length = settings["length"]
        z = encoder(*(x.to("meta") for x in views(2, settings["kind"], length)))
    assert z.shape == (2, settings["features"])
    assert LightCurveEncoder.__init__.__kwdefaults__.items() >= PAPER.items()


def test_the_papers_curve_is_1728_tokens():
    with torch.device("meta"):
        encoder = LightCurveEncoder(**PAPER, branches="curve")
        assert encoder.tokens(torch.zeros(1, 2, 34_560)).shape == (1, 1728, 512)


def test_attention_is_that_of_materialised_weights(monkeypatch):
    encoder = tiny(branches="curve").double().eval()
    x = views()[0].double()
    expected = encoder.tokens(x)
    attention = encoder.conformer[0].attention
    monkeypatch.setattr(attention, "forward", lambda x, known=None: materialised(attention, x))
    torch.testing.assert_close(encoder.tokens(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: "none"} for name in ("kind", "block", "pooling", "branches", "normalisations")),
        {"heads": 3},
    ],
    ids=str,
)
def test_settings_that_do_not_exist(wrong):
    with pytest.raises(ValueError, match=r"there are|do not divide"):
        tiny(**wrong)


# --- predict and embed ----------------------------------------------------------------------


def test_predict():
    encoder = tiny()
    encoder.margins = np.array([[0.2, 0.1]])
    table = encoder.predict(curves(), device="cpu")
    names = ["prot_lo80", "prot_lo50", "prot", "prot_hi50", "prot_hi80"]
    assert isinstance(table, pd.DataFrame) and (table["flag"] == "").all()
    assert sorted(table) == sorted([*names, "windows", "flag"])
    assert (np.diff(table[names], axis=1) >= 0).all() and table["windows"].tolist() == [2, 2]
    assert (table["prot_hi80"] / table["prot_lo80"] >= 10**0.4 * (1 - 1e-6)).all()
    assert encoder.training  # its mode is given back


def test_predict_is_the_median_over_windows():
    encoder = tiny().eval()
    whole = record(sinusoid(60.0, 3 * L, noise=2e-3)[0])
    parts = [
        record(whole.flux[i * L : (i + 1) * L], start=whole.time[i * L], quarter=None)
        for i in range(3)
    ]
    # In parts each is divided by its own median: that moves nothing that is read.
    one, each = (encoder.predict(x, device="cpu") for x in ([whole], parts))
    assert one["windows"][0] == 3
    assert one["prot"][0] == pytest.approx(each["prot"].median(), rel=1e-3)
    features = encoder.embed(parts, device="cpu")
    expected = np.median(features, axis=0)
    np.testing.assert_allclose(encoder.embed([whole], device="cpu")[0], expected, atol=2e-2)


@pytest.mark.parametrize("reason", BAD)
def test_flags(reason):
    encoder = tiny().eval()
    fine = curves()
    table = encoder.predict([fine[0], BAD[reason](), fine[1]], device="cpu")
    numbers = table.drop(columns=["flag", "windows"])
    assert numbers.loc[[0, 2]].notna().all(axis=None) and numbers.loc[1].isna().all()
    assert table["flag"].astype(bool).tolist() == [False, True, False]
    assert table["windows"].tolist() == [2, 0, 2]
    features = encoder.embed([fine[0], BAD[reason](), fine[1]], device="cpu")
    assert np.isnan(features).any(axis=1).tolist() == [False, True, False]
    pd.testing.assert_frame_equal(
        table.loc[[0, 2]].reset_index(drop=True), encoder.predict(fine, device="cpu"), rtol=1e-5
    )


@pytest.mark.parametrize("normalisations", NORMALISATIONS)
def test_magnitudes(normalisations):
    encoder = tiny(normalisations=normalisations).eval()
    without = encoder.predict(curves(), device="cpu")
    some = encoder.predict(curves(), magnitudes=[15.0, np.nan], device="cpu")
    if normalisations == "scores":
        pd.testing.assert_frame_equal(without, some)
        return
    if normalisations == "both":
        assert (without["flag"] == "").all() and (some["flag"] == "").all()
        assert some["prot"][1] == pytest.approx(without["prot"][1], rel=1e-5)
        assert some["prot"][0] != pytest.approx(without["prot"][0], rel=1e-5)
        return
    assert (without["flag"] == "absolute magnitude unknown").all() and without["prot"].isna().all()
    assert some["flag"].tolist() == ["", "absolute magnitude unknown"]
    assert np.isfinite(some["prot"][0]) and np.isnan(some["prot"][1])


def test_no_curves():
    encoder = tiny()
    assert len(encoder.predict([], device="cpu")) == 0
    assert encoder.embed([], device="cpu").shape == (0, 16)


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-6), (True, 2e-2)])
@pytest.mark.parametrize("branches", BRANCHES)
def test_save_and_load(tmp_path, half, tolerance, branches):
    encoder = tiny(branches=branches)
    encoder.margins = np.array([[0.2, np.inf]])
    encoder.save(tmp_path / "deep", {"steps": 10}, half=half)
    loaded = LightCurveEncoder.load(tmp_path / "deep")
    assert loaded.settings == encoder.settings and loaded.scale == encoder.scale
    assert loaded.metadata == {"steps": 10} and not loaded.training
    np.testing.assert_array_equal(loaded.margins, encoder.margins)
    one, other = (np.log(x.predict(curves())["prot"]) for x in (encoder, loaded))
    np.testing.assert_allclose(other, one, atol=tolerance)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == [FILE]


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        LightCurveEncoder.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, about: about["settings"].update(kind="cepstrum"),
        lambda tensors, about: about["settings"].update(branches="curve"),
        lambda tensors, about: about["settings"].update(unknown=1),
        lambda tensors, about: about["scale"].update(centre=[0.0, 1.0]),
        lambda tensors, about: about.update(margins=[1.0]),
        lambda tensors, about: tensors.pop("stem.0.weight"),
        lambda tensors, about: about.clear(),
    ],
    ids="kind branches unknown scale margins tensor empty".split(),
)
def test_a_file_of_another_model_is_refused(change, tmp_path):
    tiny().save(tmp_path)
    tensors, about = load_weights(tmp_path / FILE)
    change(tensors, about)
    save_weights(tmp_path / FILE, tensors, about)
    with pytest.raises(CheckpointError, match="does not hold a LightCurveEncoder"):
        LightCurveEncoder.load(tmp_path)
