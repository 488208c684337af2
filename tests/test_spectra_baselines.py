"""The encoder's rivals: shapes and sizes, ridge against scikit-learn, the search for settings."""

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_spectra_training import QUIET, holed, make, toy

from stellarbook.desa.spectra_baselines import PlainCNN, RidgePCA, SpectraGRU, search
from stellarbook.desa.spectra_encoder import SOLAR
from stellarbook.desa.spectra_input import GRIDS
from stellarbook.desa.spectra_training import quantiles, train_on_labels
from stellarbook.learn.baselines import ALPHAS

networks = pytest.mark.parametrize("network", [PlainCNN, SpectraGRU])


@networks
@pytest.mark.parametrize("input", GRIDS)
def test_shapes(network, input):
    model = network(input=input)
    assert model.scale is SOLAR
    assert model.read(torch.randn(3, len(GRIDS[input]))).shape == (3, 3, 5)


def test_starnet_has_its_layers():
    """Fabbro et al. (2018): filters of 8 pixels, 4 and 16; pooling by 4; 256 and 128 units."""
    n = len(GRIDS["desa"])
    after = (n - 7 - 7) // 4
    expected = (8 * 4 + 4) + (8 * 4 * 16 + 16)
    expected += (16 * after * 256 + 256) + (256 * 128 + 128) + (128 * 15 + 15)
    assert sum(p.numel() for p in PlainCNN(input="desa").parameters()) == expected


@pytest.mark.parametrize("piece", [1962, 32, 50, 9])
def test_the_gru_reads_every_piece(piece):
    torch.manual_seed(0)
    model, x = SpectraGRU(piece=piece, d=8).eval(), torch.randn(2, 1962)
    with torch.no_grad():
        read = model.read(x)
        for pixel in (0, 1000, 1961):
            changed = x.clone()
            changed[:, pixel] += 50
            assert (model.read(changed) - read).abs().max() > 1e-6


@networks
def test_heads_answer_in_32_bits(network):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network().read(torch.randn(2, 1962)).dtype == torch.float32


# --- ridge ----------------------------------------------------------------------------------


def straight(train, val, components):
    """The same, as scikit-learn has it: one label, one setting after another."""
    x, xv = (s.x.float().numpy() for s in (train, val))
    y, yv = (s.labels.numpy().copy() for s in (train, val))
    y[:, 0], yv[:, 0] = np.log10(y[:, 0]), np.log10(yv[:, 0])
    pca = PCA(max(components), random_state=0, svd_solver="randomized").fit(x)
    best = []
    for i in range(3):
        known, held = np.isfinite(y[:, i]), np.isfinite(yv[:, i])
        tried = []
        for c in components:
            for alpha in ALPHAS:
                pixels = pca.transform(x)[:, :c], pca.transform(xv)[:, :c]
                ridge = TransformedTargetRegressor(
                    make_pipeline(Ridge(alpha=alpha)), transformer=StandardScaler()
                )
                ridge.fit(pixels[0][known], y[known, i])
                error = mean_absolute_error(yv[held, i], ridge.predict(pixels[1][held]))
                tried.append((error, c, ridge))
        best.append(min(tried, key=lambda t: t[0]))

    def predict(sample):
        z = pca.transform(sample.x.float().numpy())
        y = np.stack([ridge.predict(z[:, :c]) for _, c, ridge in best], axis=1)
        y[:, 0] = 10 ** y[:, 0]
        return y

    return predict, [c for _, c, _ in best]


def test_ridge_is_scikit_learns():
    train, val, test = holed(120), holed(60, 1), toy(50, 2)
    model = RidgePCA(train, val, components=(3, 10, 40, 500))
    expected, components = straight(train, val, (3, 10, 40))
    np.testing.assert_allclose(model.predict(test), expected(test), rtol=1e-4)
    assert [c for c, _ in model.parts] == components
    assert len(model.trials) == 3 * 3 * len(ALPHAS)
    best = model.trials.loc[model.trials.groupby("label").mae.idxmin()]
    assert best.components.tolist() == components
    truth, found = test.labels.numpy(), model.predict(test)
    assert (np.abs(found - truth).mean(0) < 0.3 * np.abs(truth - truth.mean(0)).mean(0)).all()


def test_ridge_of_few_stars_and_of_none():
    few = toy(10)
    assert RidgePCA(few, toy(20, 1)).predict(toy(4, 2)).shape == (4, 3)
    few.labels[:, 1] = torch.nan
    with pytest.raises(ValueError, match="no value in any training star"):
        RidgePCA(few, toy(20, 1))
    few = toy(10)
    few.x[3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        RidgePCA(few, toy(20, 1))


# --- search ---------------------------------------------------------------------------------


def test_search():
    train, val = toy(60), holed(40, 1)
    models = []

    def tried(trial):
        model = make("gru")
        lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
        train_on_labels(model, train, steps=5, lr=lr, batch_size=16, **QUIET)
        models.append(model)
        return model

    table, best = search(tried, val, trials=4)
    assert list(table.columns) == ["lr", "mae"] and len(table) == len(models) == 4
    for model, mae in zip(models, table["mae"], strict=True):
        median = model.scale.standardise(quantiles(model, val)[..., 2])
        error = np.abs(median - model.scale.standardise(val.labels.numpy()))
        assert mae == pytest.approx(error[np.isfinite(error)].mean())
    assert best == {"lr": table["lr"][table["mae"].idxmin()]}
    again, _ = search(tried, val, trials=2)
    assert again["lr"].tolist() == table["lr"][:2].tolist()
    assert search(tried, val, trials=1, seed=1)[0]["lr"][0] != table["lr"][0]


def test_a_training_that_fails_is_a_trial():
    def tried(trial):
        if trial.suggest_categorical("lr", [1.0, 0.1]) == 1.0:
            raise FloatingPointError("the loss is nan at step 1")
        return make("gru")

    table, best = search(tried, toy(10), trials=6)
    assert len(table) == 6 and best == {"lr": 0.1}
    assert (table["mae"].isna() == (table["lr"] == 1.0)).all() and table["mae"].notna().any()
