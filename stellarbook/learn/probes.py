"""What a space of features knows without being trained for it: clusters, and linear readers.

Zero-shot: a mixture of Gaussians finds clusters; which class each stands for is settled
afterwards. Few-shot: a linear regression on few labelled stars. Shown in chapter 05.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.linear_model import LinearRegression
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler


def clusters(x, number, seed=0):
    """Cluster of each star: a mixture of ``number`` Gaussians on standardised features.

    Parameters
    ----------
    x : (n, d) array
    number : int
    seed : int

    Returns
    -------
    (n,) int array
        0 to number − 1, in no order that means anything.
    """
    x = StandardScaler().fit_transform(np.asarray(x, dtype=float))
    return GaussianMixture(number, random_state=seed).fit_predict(x)


def matched(found, truth):
    """Cluster → class, one to one, such that most stars are right (the Hungarian method).

    Parameters
    ----------
    found, truth : (n,) array
        Clusters and classes, values of any kind.

    Returns
    -------
    dict
        Clusters in excess of the classes are left out.
    """
    (names, i), (classes, j) = (np.unique(x, return_inverse=True) for x in (found, truth))
    counts = np.zeros((len(names), len(classes)), int)
    np.add.at(counts, (i, j), 1)
    rows, columns = linear_sum_assignment(-counts)
    return {names[r]: classes[c] for r, c in zip(rows, columns, strict=True)}


def agreement(found, truth):
    """How well clusters agree with classes.

    Parameters
    ----------
    found : (n,) int array
        Clusters, from 0.
    truth : (n,) array
        Classes.

    Returns
    -------
    dict of str to float
        "accuracy", after `matched`; "unmatched", the share of stars whose cluster's number happens
        to be the number of its class in alphabetical order, as DESA's code has it: it changes when
        clusters are numbered otherwise; "ari" and "nmi", the adjusted Rand index and the
        normalised mutual information, which need no matching.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    found, truth = np.asarray(found), np.asarray(truth)
    if found.shape != truth.shape:
        raise ValueError(f"{len(found)} clusters and {len(truth)} classes: expected as many")
    match = matched(found, truth)
    named = np.array([match.get(cluster) for cluster in found], dtype=object)
    codes = np.unique(truth, return_inverse=True)[1]
    return {
        "accuracy": float((named == truth).mean()),
        "unmatched": float((found == codes).mean()),
        "ari": float(adjusted_rand_score(truth, found)),
        "nmi": float(normalized_mutual_info_score(truth, found)),
    }


def few_shot(x, y, *, share=0.2, seed=0):
    """Linear regression on a share of the stars, judged on the others (DESA's section 6.2).

    Parameters
    ----------
    x : (n, d) array
        Features, one row a star: of several spectra of a star give one.
    y : (n, labels) array
        NaN rows are left out.
    share : float
        Of the stars to fit.
    seed : int
        Which.

    Returns
    -------
    truth, prediction : (m, labels) array
        Of the stars that were not fitted, in their order.
    rows : (m,) int array
        Which these are.

    Notes
    -----
    Scales are those of the fitted stars alone. In the authors' code they are of all, and the
    accuracy counts the fitted stars, too.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    known = np.flatnonzero(np.isfinite(y).all(axis=1))
    order = np.random.default_rng(seed).permutation(known)
    n = round(share * len(order))
    fitted, rest = order[:n], np.sort(order[n:])
    scale_x, scale_y = StandardScaler().fit(x[fitted]), StandardScaler().fit(y[fitted])
    linear = LinearRegression().fit(scale_x.transform(x[fitted]), scale_y.transform(y[fitted]))
    guess = scale_y.inverse_transform(linear.predict(scale_x.transform(x[rest])))
    return y[rest], guess, rest


def r2(truth, prediction):
    """1 − mean square error over variance, a label: (n, labels) twice -> (labels,)."""
    return 1 - np.mean((prediction - truth) ** 2, axis=0) / np.var(truth, axis=0)


def within(truth, prediction, share=0.1):
    """Share of stars that are off by no more than ``share`` of the truth: -> (labels,)."""
    return np.mean(np.abs(prediction - truth) <= share * np.abs(truth), axis=0)
