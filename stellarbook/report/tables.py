"""Numbers of several seeds as text: mean ± spread."""

import numpy as np
import pandas as pd


def written(values, digits=2):
    """Write values, one a seed, as their mean and, of several, their standard deviation.

    Parameters
    ----------
    values : (seeds,) array
        NaN where a seed has no value: it is left out.
    digits : int
        After the point.

    Returns
    -------
    str
        `"0.95 ± 0.01"`; empty where there is no value. Shown in chapters 04 and 05.
    """
    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    spread = f" ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def over_seeds(found, digits=2):
    """Tabulate scores of models, each `written`.

    Parameters
    ----------
    found : dict of DataFrame
        Name → scores, one column each and one row a seed.
    digits : int

    Returns
    -------
    DataFrame
        Of text, a row a name. Shown in chapters 04 and 05.
    """
    rows = {name: {c: written(each[c], digits) for c in each} for name, each in found.items()}
    return pd.DataFrame(rows).T
