r"""The eigenspace of DualFormer's matrix A, in which its final features are written.

A is not symmetric: most of its eigenvalues come in conjugate pairs, which the paper does not
mention. Of each pair `basis` keeps the real and the imaginary part, or a basis of the same plane;
the authors keep the real part twice. Kamai, Bronstein & Perets (2025), Eq. 8. Shown in chapter 04.
"""

import numpy as np
import scipy.linalg
import torch

KINDS = ("pairs", "schur", "real")


def spectrum(a):
    """Eigenvalues of A, (D,) complex array, by falling modulus, conjugates side by side."""
    return _sorted(_array(a))[0]


def basis(a, kind="pairs"):
    r"""Directions V of :math:`f = (z_1 + z_2)^T V`, (D, D) tensor with unit columns.

    Parameters
    ----------
    a : (D, D) tensor
        Without gradients.
    kind : str
        "pairs": the eigenvectors by falling modulus of the eigenvalue; of a conjugate pair first
        the real, then the imaginary part. V has full rank where A has D eigenvectors. "schur": the
        orthogonal basis of the real Schur form, whose first k columns span an invariant subspace
        wherever they do not split a pair; not sorted. "real": the real parts alone, as the
        authors' code has it: the two columns of each pair are the same.

    Raises
    ------
    ValueError
        For another kind, or a matrix that is not square or not finite.

    Notes
    -----
    "pairs" and "schur" only change the coordinates of z: whatever is linear in z is linear in f.
    """
    if kind not in KINDS:
        raise ValueError(f"no basis {kind!r}: there are {', '.join(KINDS)}")
    matrix = _array(a)
    if kind == "schur":
        v = scipy.linalg.schur(matrix, output="real")[1]
    else:
        values, vectors = _sorted(matrix)
        v = vectors.real.copy()
        if kind == "pairs":
            second = values.imag < 0  # sorted: the conjugate of the column before
            v[:, second] = vectors.imag[:, second]
    return torch.from_numpy(v / np.linalg.norm(v, axis=0)).to(a.dtype)


def rank(v):
    """Rank of directions (D, k)."""
    return int(np.linalg.matrix_rank(_array(v, square=False)))


def _array(a, square=True):
    matrix = torch.as_tensor(a).detach().cpu().double().numpy()
    if square and (matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]):
        raise ValueError(f"A {matrix.shape}: expected a square matrix")
    if not np.isfinite(matrix).all():
        raise ValueError("A is not finite")
    return matrix


def _sorted(matrix):
    """Eigenvalues and -vectors by falling modulus; of a pair the one with Im λ > 0 first."""
    values, vectors = np.linalg.eig(matrix)
    values, vectors = values.astype(complex), vectors.astype(complex)
    # Conjugates have the same modulus up to rounding: sort by it rounded, then keep them together.
    size = np.abs(values)
    order = np.lexsort((-values.imag, np.abs(values.imag), -values.real, -size.round(9)))
    return values[order], vectors[:, order]
