"""What DESA's fine-tuned models are held against: trees on labels, and rotation's own clock.

Shown in chapter 05.
"""

import numpy as np

from stellarbook.data.kepler_field import gyrochronology

AGES = np.geomspace(0.05, 14, 400)  # Gyr
PERIOD_ERROR = 0.04  # relative, as in the simulated catalogue


def rotation_age(teff, prot):
    """Age of a single dwarf on the slow sequence: `gyrochronology.slow_sequence` inverted.

    Parameters
    ----------
    teff : (n,) array
        K.
    prot : (n,) array
        Days.

    Returns
    -------
    (n,) float64 array
        Gyr. NaN where a value is missing or the temperature is outside of the relation's range;
        the youngest or oldest of `AGES` where the star rotates faster or slower than these.

    Notes
    -----
    Bouma et al. (2023), by which the simulated stars slow down: no method that knows temperature
    and period alone should do better for them. Shown in chapter 05.
    """
    teff, prot = np.asarray(teff, float), np.asarray(prot, float)
    low, high = gyrochronology.TEFF
    age = np.full(teff.shape, np.nan)
    known = np.flatnonzero((teff >= low) & (teff <= high) & np.isfinite(prot))
    for rows in np.array_split(known, max(1, len(known) // 2000)):
        table = _periods(teff[rows])  # (ages, m)
        after = np.clip((table < prot[rows]).sum(axis=0), 1, len(AGES) - 1)
        column = np.arange(len(rows))
        p0, p1 = table[after - 1, column], table[after, column]
        share = np.clip((prot[rows] - p0) / np.maximum(p1 - p0, 1e-9), 0, 1)
        age[rows] = AGES[after - 1] + share * (AGES[after] - AGES[after - 1])
    return age


def rotation_age_error(teff, age):
    """Standard deviation of `rotation_age` at an age, Gyr: what a catalogue would state.

    The scatter about the sequence and `PERIOD_ERROR`, over the slope of the period with age.

    Parameters
    ----------
    teff, age : (n,) array
        K, Gyr.

    Returns
    -------
    (n,) float64 array
        NaN outside of the relation's temperatures. At most the age itself.
    """
    teff, age = np.asarray(teff, float), np.asarray(age, float)
    low, high = gyrochronology.TEFF
    period = gyrochronology.slow_sequence(teff, age)
    slope = (gyrochronology.slow_sequence(teff, 1.05 * age) - period) / (0.05 * age)
    scatter = np.hypot(gyrochronology.width(age), PERIOD_ERROR * period)
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
    """Periods of the slow sequence at all `AGES`, never falling, (ages, n)."""
    table = np.stack([gyrochronology.slow_sequence(teff, np.full(len(teff), t)) for t in AGES])
    return np.maximum.accumulate(table, axis=0)
