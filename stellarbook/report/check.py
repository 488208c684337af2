"""Numbers that nbval holds: a trained number is never the same twice, so its line must be.

nbval compares text exactly. `check` prints `name within ±T of R` as long as the measured value is,
and the value with its distance when it is not, so that the cell fails with a line that says by how
much. R and T are measured over at least five seeds and one and two threads (`make tolerances`).
"""

import json

import numpy as np

from stellarbook.report import chapters

PROFILE = "quick"
"""The profile that the references are measured under: another one only prints the value."""


def check(name, value):
    """Print whether a measured number is where it was when its reference was measured.

    Parameters
    ----------
    name : str
        `chapter: what`, such as `"01_data: teff scatter of ridge, K"`.
    value : float

    Raises
    ------
    ValueError
        The value is not finite: no tolerance lets that pass.
    """
    value = float(value)
    if not np.isfinite(value):
        raise ValueError(f"{name} is {value}")
    _keep(name, value)
    known = tolerances().get(name)
    if chapters.running_profile() != PROFILE:
        print(f"{name}: {value:.4g}")
    elif known is None:
        print(f"{name}: {value:.4g}, and no reference in tests/regression/tolerances.json")
    elif abs(value - known["reference"]) <= known["tolerance"]:
        print(f"{name} within ±{known['tolerance']:.3g} of {known['reference']:.4g}")
    else:
        away = abs(value - known["reference"]) / known["tolerance"]
        print(
            f"{name} is {value:.4g}: {away:.1f} times the tolerance ±{known['tolerance']:.3g}"
            f" away from {known['reference']:.4g}"
        )


def tolerances(root=chapters.ROOT):
    """References and tolerances: name → `{reference, tolerance, runs, why}`."""
    path = root / "tests" / "regression" / "tolerances.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _keep(name, value):
    path = chapters.run_folder() / "checks" / f"{name.partition(':')[0]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(kept | {name: value}, indent=1))
