"""What a user of the star transformer meets: predict, save, load, and the published weights."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_star_transformer import FEW, TINY, shaken, stars, tiny

from stellarbook.data import xp_apogee
from stellarbook.learn.checkpoint import CheckpointError, load_weights, save_weights
from stellarbook.learn.metrics import scatter
from stellarbook.report import chapters
from stellarbook.star_transformer.model import FILE, StarTransformer
from stellarbook.star_transformer.sampling import SETTINGS, context
from stellarbook.star_transformer.tokens import LABELS, NAMES, Scales

ASKED = ["logg", "bp0", "teff"]


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture
def table():
    """Stars within the training range, labels among holes: every star has another context."""
    table = stars(200, names=FEW)[["g", "bp3", "teff", "rp0", "jh"]]  # the ones `tiny` has seen
    table = table.mask(np.random.default_rng(0).random(table.shape) < 0.3)
    table.loc[0] = stars(200, names=FEW).loc[0, table.columns]
    return table.iloc[:40].set_index(pd.Index([f"star {i}" for i in range(40)], name="id"))


def close(one, other, atol=1e-5):
    """Equal to 1e-5 of the predicted errors; flags and NaN are the same."""
    assert list(one.columns) == list(other.columns) and one.index.equals(other.index)
    for name in one.columns.drop("flag"):
        unit = other[name.removesuffix("_error") + "_error"].median()
        np.testing.assert_allclose(one[name] / unit, other[name] / unit, rtol=atol, atol=atol)
    assert (one["flag"] == other["flag"]).all()


# Predict


def test_where_others_look_for_it():
    import stellarbook.star_transformer

    assert stellarbook.star_transformer.StarTransformer is StarTransformer


def test_what_comes_back(model, table):
    predicted = model.predict(table, ASKED)
    assert list(predicted.columns) == [
        *("logg", "logg_error", "bp0", "bp0_error", "teff", "teff_error", "flag")
    ]
    assert predicted.index.equals(table.index)
    known = predicted["flag"] == ""
    numbers = predicted.drop(columns="flag")
    assert known.sum() > 30 and np.isfinite(numbers[known]).all(axis=None)
    assert set(numbers.dtypes) == {np.dtype(float)}
    errors = numbers.filter(like="_error")[known]
    assert (errors > 0).all(axis=None) and (numbers["teff"][known] > 0).all()


def test_by_hand(model):
    """One star, from its numbers to the network's and back."""
    row = stars(200, names=FEW).loc[[5], ["teff", "g"]]
    i, j = FEW.index("teff"), FEW.index("g")
    scales = model.scales
    z = [(np.log10(row["teff"].item()) - scales.centre[i]) / scales.scale[i]]
    z.append((row["g"].item() - scales.centre[j]) / scales.scale[j])
    token = torch.tensor([[i + 1, j + 1]])
    k = FEW.index("logg")
    with torch.no_grad():
        mean, log_variance = model(
            token, torch.from_numpy(np.arcsinh([z])).float(), torch.tensor([[k + 1]])
        )
    predicted = model.predict(row, ["logg"])
    expected = scales.centre[k] + scales.scale[k] * np.sinh(mean.item())
    assert predicted["logg"].item() == pytest.approx(expected, rel=1e-5)
    expected = scales.scale[k] * np.cosh(mean.item()) * np.exp(log_variance.item() / 2)
    assert predicted["logg_error"].item() == pytest.approx(expected, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.permutations(["g", "bp3", "teff", "rp0", "jh"]), st.permutations(FEW), st.data())
def test_any_columns_in_any_order_ask_anything_in_any_order(model, columns, request_, data):
    table = stars(20, names=FEW)
    columns = columns[: data.draw(st.integers(1, 5))]
    asked = request_[: data.draw(st.integers(1, len(FEW)))]
    predicted = model.predict(table[columns], asked, extrapolate=True)
    expected = model.predict(table[sorted(columns)], sorted(asked), extrapolate=True)
    close(predicted, expected[predicted.columns])


def test_columns_that_are_empty_are_as_good_as_absent(model, table):
    more = table.assign(logg=np.nan, bp1=np.nan)
    close(model.predict(more, ASKED), model.predict(table, ASKED))


def test_predict_remembers_nothing(model, table):
    first = model.predict(table, ASKED)
    model.predict(table[["g"]], ["jh"])
    pd.testing.assert_frame_equal(model.predict(table, ASKED), first)


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_a_star_alone_and_in_a_crowd(model, table, batch_size):
    close(model.predict(table, ASKED, batch_size=batch_size), model.predict(table, ASKED))
    shuffled = model.predict(table.iloc[::-1], ASKED).iloc[::-1]
    close(shuffled, model.predict(table, ASKED))
    alone = pd.concat([model.predict(table.iloc[i : i + 1], ASKED) for i in range(5)])
    close(alone, model.predict(table, ASKED).iloc[:5])


def test_the_table_is_left_as_it_was(model, table):
    before = table.copy(deep=True)
    model.predict(table, ASKED)
    pd.testing.assert_frame_equal(table, before)


def test_an_index_that_repeats_is_kept(model, table):
    table.index = ["a"] * 40
    assert (model.predict(table, ASKED).index == "a").all()


@pytest.mark.parametrize("dtype", [np.float32, object, "Float64"])
def test_any_kind_of_number_will_do(model, table, dtype):
    close(model.predict(table.astype(dtype), ASKED), model.predict(table, ASKED), atol=1e-4)


def test_nothing_known(model, table):
    table.iloc[[1, 3]] = np.nan
    predicted = model.predict(table, ASKED)
    assert (predicted["flag"].iloc[[1, 3]] == "nothing known").all()
    assert predicted.iloc[[1, 3]].drop(columns="flag").isna().all(axis=None)
    close(predicted.iloc[[0, 2]], model.predict(table.iloc[[0, 2]], ASKED))
    predicted = model.predict(table * np.nan, ASKED, extrapolate=True)
    assert (predicted["flag"] == "nothing known").all() and predicted["teff"].isna().all()


def test_far_outside(model, table):
    """As from a table in other units: no number, unless it is asked for."""
    table.loc["star 2", "g"] = 1e4
    table.loc["star 4", ["g", "teff"]] = -1e4, 3.7  # log10 K
    predicted = model.predict(table, ASKED)
    assert predicted.loc[["star 2", "star 4"]].drop(columns="flag").isna().all(axis=None)
    flags = predicted["flag"]
    assert flags["star 2"] == "outside: g"
    assert flags["star 4"].startswith("outside: ")
    assert set(flags["star 4"].removeprefix("outside: ").split(", ")) == {"g", "teff"}
    others = table.index.drop(["star 2", "star 4"])
    close(predicted.loc[others], model.predict(table.loc[others], ASKED))
    predicted = model.predict(table, ASKED, extrapolate=True)
    assert np.isfinite(predicted.loc[["star 2", "star 4"]].drop(columns="flag")).all(axis=None)
    assert (predicted["flag"] == flags).all()


def test_the_training_stars_are_not_outside(model):
    predicted = model.predict(stars(200, names=FEW)[list(FEW)], ["teff"])
    assert (predicted["flag"] == "").all() and predicted["teff"].notna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(parallax=1.0), "unknown: parallax; the vocabulary is "),
        (lambda t: t.assign(m_h=0.0, ra=1.0), "unknown: m_h, ra"),
        (lambda t: t.rename(columns={"g": 3}), "unknown: 3"),
        (lambda t: pd.concat([t, t[["g"]]], axis=1), "two columns 'g'"),
        (lambda t: t["g"], "must be a DataFrame, not Series"),
        (lambda t: t.to_numpy(), "must be a DataFrame, not ndarray"),
        (lambda t: t.to_dict(), "must be a DataFrame, not dict"),
        (lambda t: t.iloc[:0], r"empty: its shape is \(0, 5\)"),
        (lambda t: t[[]], r"empty: its shape is \(40, 0\)"),
        (lambda t: t.assign(g=np.inf), "'g' holds an infinite"),
        (lambda t: t.assign(jh=-np.inf), "'jh' holds an infinite"),
        (lambda t: t.assign(teff=0.0), "'teff' holds a value that is not positive"),
        (lambda t: t.assign(teff=-4000.0), "'teff' holds a value that is not positive"),
        (lambda t: t.assign(jh="red"), "'jh'.* number"),
    ],
    ids="unknown two number twice series array dict rows columns inf -inf zero minus text".split(),
)
def test_contexts_that_cannot_be(model, table, change, message):
    for ask in (model.predict, model.attention):
        with pytest.raises(ValueError, match=message):
            ask(change(table), ASKED)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (["logg", "parallax"], "unknown: parallax; the vocabulary is .*bp0.*teff"),
        (["logg", "logg_error"], "unknown: logg_error"),
        (["logg", "teff", "logg"], "requested twice"),
        ("logg", "must be a list of names, not 'logg'"),
        ([], "must be a list of names"),
        ((), "must be a list of names"),
        (None, "must be a list of names, not None"),
        ([1], "unknown: 1"),
    ],
    ids="unknown error twice string empty tuple none number".split(),
)
def test_requests_that_cannot_be(model, table, request_, message):
    for ask in (model.predict, model.attention):
        with pytest.raises(ValueError, match=message):
            ask(table, request_)


def test_the_window_is_64():
    model = tiny(NAMES, encoder=(8,), decoder=(8,))
    table = stars(200)[list(NAMES)].iloc[:3]
    with pytest.raises(ValueError, match="a star has 65 values, the context window is 64"):
        model.predict(table[list(NAMES[:65])], ["teff"])
    # It is a star's values that count, not the table's columns.
    ragged = table.copy()
    for i, row in enumerate(ragged.index):
        ragged.loc[row, list(NAMES[:55] if i else NAMES[64:])] = np.nan
    predicted = model.predict(ragged, ["teff"], extrapolate=True)
    assert np.isfinite(predicted["teff"]).all()
    own = model.predict(table.iloc[:1][list(NAMES[:64])], ["teff"], extrapolate=True)
    np.testing.assert_allclose(predicted["teff"].iloc[0], own["teff"].iloc[0], rtol=1e-5)


def test_a_vocabulary_of_others_is_listed_briefly():
    scales = Scales.of(stars(50), NAMES)
    with pytest.raises(ValueError) as caught:
        scales.tokens(["parallax"])
    said = str(caught.value)
    assert len(said) < 200 and "bp54" in said and "rp54" in said and "bp17" not in said
    assert all(name in said for name in (*LABELS, "bprp", "jh", "jk"))


def test_training_mode_is_given_back(table):
    model = tiny(dropout=0.5)
    expected = model.eval().predict(table, ASKED)
    model.train()
    close(model.predict(table, ASKED), expected)
    assert model.training and model.head.training
    model.eval().predict(table, ASKED)
    assert not model.training


def test_predict_takes_no_gradients_and_no_random_numbers(model, table):
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    model.predict(table, ASKED)
    assert torch.equal(torch.rand(1), expected)
    assert all(p.grad is None for p in model.parameters())


# Files


@pytest.mark.parametrize(("half", "tolerance"), [(False, 0), (True, 1e-2)])
@pytest.mark.parametrize("value_in_keys", [True, False])
def test_save_and_load(table, tmp_path, half, tolerance, value_in_keys):
    model = tiny(value_in_keys=value_in_keys, dropout=0.1)
    model.save(tmp_path / "deep", {"steps": 10}, half=half)
    loaded = StarTransformer.load(tmp_path / "deep")
    assert loaded.metadata == {"steps": 10} and not loaded.training
    assert loaded.scales == model.scales and loaded.size == model.size
    close(loaded.predict(table, ASKED), model.predict(table, ASKED), atol=tolerance)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == [FILE]


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        StarTransformer.load(tmp_path)


def rewritten(folder, change):
    """Write the file again after `change(tensors, about)`."""
    tensors, about = load_weights(folder / FILE)
    change(tensors, about)
    save_weights(folder / FILE, tensors, about)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, about: about["scales"].update(names=list(FEW[:-1])),
        lambda tensors, about: about["scales"].update(names=[*FEW, "parallax"]),
        lambda tensors, about: about["scales"].update(centre=[0.0]),
        lambda tensors, about: about["scales"].pop("low"),
        lambda tensors, about: about.pop("scales"),
        lambda tensors, about: about["size"].update(d=32),
        lambda tensors, about: about["size"].update(encoder=[32, 32], encoder_heads=[4, 4]),
        lambda tensors, about: about["size"].update(encoder_heads=[3]),
        lambda tensors, about: about["size"].update(width=3),
        lambda tensors, about: tensors.pop("mean.weight"),
        lambda tensors, about: tensors.update(another=torch.zeros(2)),
        lambda tensors, about: about.clear(),
    ],
    ids="fewer more scales range none width blocks heads unknown tensor another empty".split(),
)
def test_a_file_of_another_model_is_refused(change, tmp_path):
    tiny().save(tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(CheckpointError, match=r"star_transformer\.safetensors does not hold a "):
        StarTransformer.load(tmp_path)


def test_weights_of_another_system_are_refused(tmp_path):
    save_weights(tmp_path / FILE, {"a": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="does not hold a StarTransformer"):
        StarTransformer.load(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_named(damage, tmp_path):
    tiny().save(tmp_path)
    content = (tmp_path / FILE).read_bytes()
    bad = {"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello" * 99}
    (tmp_path / FILE).write_bytes(bad[damage])
    with pytest.raises(CheckpointError, match=r"star_transformer\.safetensors is damaged"):
        StarTransformer.load(tmp_path)


def test_a_model_of_other_names_refuses_the_question(tmp_path):
    names = FEW[:8]
    torch.manual_seed(0)
    model = shaken(StarTransformer(Scales.of(stars(50, names=names), names), **TINY))
    model.save(tmp_path)
    loaded = StarTransformer.load(tmp_path)
    table = stars(50, names=FEW)
    assert loaded.predict(table[["bp0"]], ["rp1"])["rp1"].notna().all()
    for columns, asked in ((["bp0"], ["teff"]), (["teff"], ["bp0"])):
        with pytest.raises(ValueError, match="unknown: teff; the vocabulary is"):
            loaded.predict(table[columns], asked)


# The published weights

WEIGHTS = chapters.ROOT / "book/weights/star_transformer"


@pytest.fixture(scope="module")
def published():
    if not (WEIGHTS / FILE).exists():
        pytest.skip("book/weights/star_transformer is not published yet")
    return StarTransformer.load(WEIGHTS)


@pytest.fixture(scope="module")
def held_out():
    sample = xp_apogee.load()
    return sample.table.iloc[sample.split("test")]


def judged(model, table, setting):
    """Residuals and their errors, model's and labels' together, (stars, labels) each."""
    predicted = model.predict(context(table, setting), list(LABELS), extrapolate=True)
    residual = predicted[list(LABELS)] - table[list(LABELS)]
    # A label that is in the context is asked for with the error that it has.
    known = table[[f"{n}_error" for n in LABELS]].fillna(0) * ~np.isin(LABELS, SETTINGS[setting])
    return residual, np.hypot(predicted[known.columns], known).set_axis(list(LABELS), axis=1)


@pytest.mark.archives
def test_published_weights_do_what_the_ledger_says_and_the_book_must(published, held_out):
    residual, _ = judged(published, held_out, "30 + 30 coefficients, colours")
    found = dict(zip(LABELS, scatter(residual, axis=0), strict=True))
    must = {"teff": 95, "logg": 0.24, "feh": 0.15, "a_k": 0.035}
    assert all(found[name] <= most for name, most in must.items()), found
    ledger = json.loads((chapters.ROOT / "book/ledger.json").read_text())
    said = {row["id"]: row["value"] for row in ledger}
    said = {name: said[f"star_transformer.{name}_scatter"] for name in LABELS}
    assert found == pytest.approx(said, rel=0.01)  # weights are stored in half precision


@pytest.mark.archives
@pytest.mark.parametrize("setting", SETTINGS)
def test_published_errors_are_honest_and_given_labels_come_through(published, held_out, setting):
    residual, error = judged(published, held_out.iloc[::6], setting)
    within = (residual.abs() < error).where(residual.notna())
    assert 0.62 < np.nanmean(within.to_numpy(dtype=float)) < 0.76, within.mean().to_dict()
    if "labels" in setting:
        assert scatter(residual["teff"]) < 15
