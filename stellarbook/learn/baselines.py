"""What a system has to beat: ridge regression and tuned boosted trees.

The networks are in `stellarbook.learn.specialist`. All baselines have one call shape: made from
training and validation stars (never test stars), then `.predict(x)`, (stars, features) ->
(stars, labels) in the labels' own units. NaN means missing, in features and in labels.
Shown in chapter 01.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stellarbook.learn.checkpoint import fingerprint, load_checkpoint, save_checkpoint
from stellarbook.learn.scales import Features, Labels, blank_unknown, finite

ALPHAS = tuple(np.logspace(-2, 5, 15))
# Squared errors, or absolute ones as the specialist's: the trees may choose.
OBJECTIVES = ("reg:squarederror", "reg:absoluteerror")


@dataclass
class Regressors:
    """One fitted regressor a label (ridge or boosted trees).

    Attributes
    ----------
    labels : Labels
    models : list
        Objects with `.predict(x)`, one a label.
    trials : pandas.DataFrame
        Every setting tried: label, settings, mae on the validation stars (standardised label).
    settings : list of dict
        The setting that validated best, one a label.
    features : Features or None
        None where the models take raw features (trees do not care for scales and know NaN).
    """

    labels: Labels
    models: list
    trials: pd.DataFrame
    settings: list
    features: Features | None = None

    def predict(self, x):
        """(stars, features) -> (stars, labels), in physical units; an empty star gives NaN."""
        z = self.features(x) if self.features else finite(x)
        return blank_unknown(
            x, self.labels.restore(np.stack([m.predict(z) for m in self.models], 1))
        )


def ridge(x_train, y_train, x_val, y_val, *, log=(), alphas=ALPHAS):
    """Ridge regression, one a label, with the penalty that validates best.

    Parameters
    ----------
    x_train, x_val : array (stars, features)
    y_train, y_val : array (stars, labels)
    log : sequence of int
        Labels modelled as log10.
    alphas : sequence of float
        Penalties to try.

    Returns
    -------
    Regressors

    Notes
    -----
    Hoerl & Kennard (1970), Technometrics 12, 55. Shown in chapter 01.
    """
    from sklearn.linear_model import Ridge

    features, labels = Features.of(x_train), Labels.of(finite(y_train), log)
    x_train, x_val = features(x_train), features(x_val)
    models, trials, settings = [], [], []
    for name, (x, z), (xv, zv) in _each_label(labels, x_train, y_train, x_val, y_val):
        tried = [Ridge(alpha=alpha).fit(x.astype(float), z) for alpha in alphas]
        errors = [float(np.abs(m.predict(xv) - zv).mean()) for m in tried]
        models.append(tried[int(np.argmin(errors))])
        settings.append({"alpha": alphas[int(np.argmin(errors))]})
        trials += [
            {"label": name, "alpha": a, "mae": e} for a, e in zip(alphas, errors, strict=True)
        ]
    return Regressors(labels, models, pd.DataFrame(trials), settings, features)


def xgboost_tuned(
    x_train,
    y_train,
    x_val,
    y_val,
    *,
    log=(),
    trials=25,
    tune_stars=8000,
    tune_rounds=400,
    rounds=2000,
    settings=None,
    seed=0,
    threads=1,
    checkpoint=None,
    progress=True,
):
    """Gradient-boosted trees, one ensemble a label, tuned by Optuna on the validation stars.

    Settings are searched on a random part of the training stars; the best of them is then fitted
    to all. Early stopping on the validation stars throughout.

    Parameters
    ----------
    x_train, x_val : array (stars, features)
    y_train, y_val : array (stars, labels)
    log : sequence of int
        Labels modelled as log10.
    trials : int
        Settings tried a label (tree-structured Parzen estimator, seeded).
    tune_stars, tune_rounds : int
        Training stars and most trees in the search.
    rounds : int
        Most trees in the final fit.
    settings : list of dict, optional
        Settings that an earlier search found, one a label: then none is searched.
    seed, threads : int
        The result depends on the seed only.
    checkpoint : path, optional
        Written after each label; if it exists, the labels in it are not fitted again.
    progress : bool
        Show a bar.

    Returns
    -------
    Regressors

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged or of another search.

    Notes
    -----
    Chen & Guestrin (2016), arXiv:1603.02754; Akiba et al. (2019), arXiv:1907.10902.
    Shown in chapter 01.
    """
    import optuna
    from xgboost import XGBRegressor

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    labels = Labels.of(finite(y_train), log)
    x_train, x_val = finite(x_train), finite(x_val)
    fixed = {"random_state": seed, "n_jobs": threads}
    wanted = 0 if settings else trials * len(labels.centre)
    bar = tqdm(total=wanted, desc="xgboost", disable=not (progress and wanted))
    asked = {
        "data": fingerprint(x_train, finite(y_train), x_val, finite(y_val)),
        "log": list(log),
        "seed": seed,
        "settings": settings,
        "trials": trials,
        "tune_stars": tune_stars,
        "tune_rounds": tune_rounds,
        "rounds": rounds,
    }
    saved = checkpoint and Path(checkpoint).exists()
    fitted = load_checkpoint(checkpoint, asked)["fitted"] if saved else []
    for name, (x, z), val in _each_label(labels, x_train, y_train, x_val, y_val):
        if name < len(fitted):
            bar.update(0 if settings else trials)
            continue
        part = np.random.default_rng(seed).permutation(len(x))[:tune_stars]
        few = x[part], z[part]

        def error(trial, few=few, val=val):
            bar.update()
            tried = {
                "objective": trial.suggest_categorical("objective", OBJECTIVES),
                "max_depth": trial.suggest_int("max_depth", 3, 9),
                "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
                "min_child_weight": trial.suggest_float("min_child_weight", 1, 30, log=True),
                "subsample": trial.suggest_float("subsample", 0.5, 1.0),
                "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
                "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30, log=True),
            }
            return _trees(few, val, n_estimators=tune_rounds, **fixed, **tried).best_score

        tried = []
        if not settings:
            study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
            study.optimize(error, n_trials=trials)
            tried = [{"label": name, **t.params, "mae": t.value} for t in study.trials]
        best = settings[name] if settings else study.best_params
        trees = _trees((x, z), val, n_estimators=rounds, **fixed, **best)
        raw = torch.frombuffer(trees.get_booster().save_raw(), dtype=torch.uint8)
        fitted.append({"settings": best, "tried": tried, "trees": raw})
        if checkpoint:
            save_checkpoint(checkpoint, {"fitted": fitted}, asked)
    bar.close()
    models = [XGBRegressor(n_jobs=threads) for _ in fitted]
    for model, each in zip(models, fitted, strict=True):
        model.load_model(bytearray(each["trees"].numpy().tobytes()))
    table = pd.DataFrame([row for each in fitted for row in each["tried"]])
    return Regressors(labels, models, table, [each["settings"] for each in fitted])


def _trees(train, val, **settings):
    from xgboost import XGBRegressor

    settings |= {"early_stopping_rounds": 50, "eval_metric": "mae", "tree_method": "hist"}
    return XGBRegressor(**settings).fit(*train, eval_set=[val], verbose=False)


def _each_label(labels, x_train, y_train, x_val, y_val):
    """Per label: its position, and the training and validation stars that have it."""
    z_train, z_val = labels.standardise(y_train), labels.standardise(y_val)
    for j in range(z_train.shape[1]):
        train, val = np.isfinite(z_train[:, j]), np.isfinite(z_val[:, j])
        yield j, (x_train[train], z_train[train, j]), (x_val[val], z_val[val, j])
