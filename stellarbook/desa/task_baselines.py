"""What DESA's fine-tuned models are held against: trees on labels, and rotation's own clock.

Shown in chapter 05.
"""

import numpy as np

from stellarbook.data.kepler_field import gyrochronology, rotation

AGES = np.geomspace(0.05, 14, 400)  # Gyr


def rotation_age(teff, prot):
    """Age of a single dwarf that rotates as the simulated ones do: `rotation.braked` inverted.

    Parameters
    ----------
    teff : (n,) array
        K.
    prot : (n,) array
        Days.

    Returns
    -------
    (n,) float64 array
        Gyr. NaN where a value is missing, the temperature is outside of the clusters' range, or no
        star of that temperature rotates so fast, or so slowly, at any of `AGES`: braking stops.

    Notes
    -----
    The law of the clusters (Bouma et al. 2023) until braking weakens. It knows neither the scatter
    about it nor how common an age is. Shown in chapter 05.
    """
    teff, prot = np.asarray(teff, float), np.asarray(prot, float)
    low, high = gyrochronology.TEFF
    age = np.full(teff.shape, np.nan)
    known = np.flatnonzero((teff >= low) & (teff <= high) & np.isfinite(prot))
    for rows in np.array_split(known, max(1, len(known) // 2000)):
        table = _periods(teff[rows])  # (ages, m)
        after = (table < prot[rows]).sum(axis=0)
        inside = (after > 0) & (after < len(AGES))
        after, column = after[inside], np.flatnonzero(inside)
        p0, p1 = table[after - 1, column], table[after, column]
        share = (prot[rows][inside] - p0) / (p1 - p0)
        age[rows[inside]] = AGES[after - 1] + share * (AGES[after] - AGES[after - 1])
    return age


def rotation_age_error(teff, age):
    """Standard deviation of `rotation_age` at an age, Gyr: what a catalogue would state.

    The scatter of simulated periods about their law, over the slope of the period with age.

    Parameters
    ----------
    teff, age : (n,) array
        K, Gyr.

    Returns
    -------
    (n,) float64 array
        NaN outside of the clusters' temperatures. At most the age itself, as where braking has
        stopped. Shown in chapter 05.
    """
    teff, age = np.asarray(teff, float), np.asarray(age, float)
    low, high = gyrochronology.TEFF
    period = rotation.braked(teff, age)
    slope = (rotation.braked(teff, 1.05 * age) - period) / (0.05 * age)
    scatter = np.hypot(gyrochronology.width(age), rotation.SCATTER * period)
    error = np.minimum(scatter / np.maximum(slope, 1e-9), age)
    return np.where((teff >= low) & (teff <= high), error, np.nan)


def classifier(x, y, x_val, y_val, *, trials=10, rounds=300, seed=0, threads=1):
    """Gradient-boosted trees for two classes, tuned by Optuna on the validation stars.

    Parameters
    ----------
    x, x_val : (n, features) arrays
        NaN where unknown: trees know what to do.
    y, y_val : (n,) arrays
        0 and 1.
    trials : int
        Settings tried.
    rounds : int
        Most trees; fewer where the validation stars say so.
    seed, threads : int
        The result depends on the seed only.

    Returns
    -------
    xgboost.XGBClassifier

    Notes
    -----
    Chen & Guestrin (2016), arXiv:1603.02754. Shown in chapter 05.
    """
    import optuna
    from xgboost import XGBClassifier

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"n_estimators": rounds, "early_stopping_rounds": 30, "eval_metric": "logloss"}
    options |= {"tree_method": "hist", "random_state": seed, "n_jobs": threads}
    fitted = {}

    def error(trial):
        tried = {
            "max_depth": trial.suggest_int("max_depth", 2, 8),
            "learning_rate": trial.suggest_float("learning_rate", 0.03, 0.3, log=True),
            "min_child_weight": trial.suggest_float("min_child_weight", 1, 30, log=True),
            "subsample": trial.suggest_float("subsample", 0.5, 1.0),
            "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30, log=True),
        }
        model = XGBClassifier(**options, **tried)
        fitted[trial.number] = model.fit(x, y, eval_set=[(x_val, y_val)], verbose=False)
        return model.best_score

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(error, n_trials=trials)
    return fitted[study.best_trial.number]


def _periods(teff):
    """Periods of the law at all `AGES`, never falling, (ages, n)."""
    table = np.stack([rotation.braked(teff, np.full(len(teff), age)) for age in AGES])
    return np.maximum.accumulate(table, axis=0)
