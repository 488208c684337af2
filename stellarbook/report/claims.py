"""The ledger: every number that the book stands for, beside its paper's, with a verdict by rule.

`book/claims.yaml`, written by hand *before* a run, states each claim; a chapter calls `record`;
`make publish` merges what a run recorded into `book/ledger.json`, which chapter 16 displays.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from stellarbook.report import chapters
from stellarbook.report.figures import DATA

PAPERS = ("desa", "specclip", "transfer", "star_transformer", "spectral_tokenizer")
KINDS = ("value", "ordering", "ours")
STATUS = (
    "reproduced",
    "differs",
    "direction holds",
    "contradicted",
    "undecided",
    "not comparable",
    "not attempted",
    "our measurement",
)
FIELDS = {
    "id": str,
    "chapter": str,
    "kind": str,
    "metric": str,
    "unit": str,
    "paper": str,
    "where": str,
    "quote": str,
    "value": float,
    "comparable": bool,
    "attempted": bool,
    "why": str,
}


class ClaimError(ValueError):
    """A claim that is not stated in `claims.yaml`, or stated or recorded wrongly."""


def stated(root=chapters.ROOT):
    """The claims of `book/claims.yaml`: id → claim.

    A claim has `id`, `chapter`, `metric`, `unit` and a `kind`:

    * `value`: a paper's number (`paper`, `where`, `quote`, `value`). `comparable: false` with a
      `why` says, before any run, that our data cannot be held against theirs;
    * `ordering`: a paper's claim that one thing beats another (`paper`, `where`, `quote`). Recorded
      as the difference in the claimed direction, seed by seed: positive where the claim holds;
    * `ours`: a number of our own that later chapters or readers lean on.

    `attempted: false` with a `why` states a claim that nobody can test here.

    Raises
    ------
    ClaimError
        A field is missing, unknown, or of the wrong type; an id stands twice.
    """
    found = {}
    for claim in yaml.safe_load((root / "book" / "claims.yaml").read_text()) or []:
        name = claim.get("id", "without an id")
        for field, value in claim.items():
            if field not in FIELDS:
                raise ClaimError(f"claim {name}: unknown field {field!r}")
            if FIELDS[field] is float and type(value) is int:
                value = claim[field] = float(value)
            if type(value) is not FIELDS[field]:
                raise ClaimError(
                    f"claim {name}: {field} is {value!r}, not {FIELDS[field].__name__}"
                )
        needed = {"id", "chapter", "kind", "metric", "unit"}
        if claim.get("kind") in ("value", "ordering"):
            needed |= {"paper", "where", "quote"}
        if claim.get("kind") == "value":
            needed |= {"value"}
        if claim.get("comparable") is False or claim.get("attempted") is False:
            needed |= {"why"}
        if missing := sorted(needed - set(claim)):
            raise ClaimError(f"claim {name}: missing {', '.join(missing)}")
        if claim["kind"] not in KINDS:
            raise ClaimError(f"claim {name}: kind is {claim['kind']!r}, not {', '.join(KINDS)}")
        if claim.get("paper") not in (None, *PAPERS):
            raise ClaimError(f"claim {name}: paper is {claim['paper']!r}, not {', '.join(PAPERS)}")
        if name in found:
            raise ClaimError(f"claim {name} stands twice")
        found[name] = claim
    return found


def status(claim, value, spread, seeds):
    """The verdict on a claim, by rule and never by hand.

    Parameters
    ----------
    claim : dict
        From `stated`.
    value, spread : float
        Mean and standard deviation over seeds; the spread of one seed is NaN.
    seeds : int

    Returns
    -------
    str
        One of `STATUS`. *reproduced*: the same kind of data, and within two standard deviations
        over seeds or 10 % of the paper's value, whichever is larger; else *differs*. For an
        ordering, *direction holds* or *contradicted* where the mean difference is beyond two
        standard errors over seeds; else (one seed always) *undecided*.
    """
    if claim["kind"] == "ours":
        return "our measurement"
    if not claim.get("attempted", True):
        return "not attempted"
    if claim["kind"] == "value":
        if not claim.get("comparable", True):
            return "not comparable"
        allowed = max(2 * np.nan_to_num(spread), 0.1 * abs(claim["value"]))
        return "reproduced" if abs(value - claim["value"]) <= allowed else "differs"
    if seeds < 2 or abs(value) <= 2 * spread / np.sqrt(seeds):
        return "undecided"
    return "direction holds" if value > 0 else "contradicted"


def record(id, values, *, n, data):
    """Write a number into the running chapter's ledger.

    Parameters
    ----------
    id : str
        A claim of `book/claims.yaml`.
    values : float or sequence of float
        One value a seed. For an ordering: the differences in the claimed direction.
    n : int
        Stars (or whatever was counted) behind each value.
    data : str
        One of `figures.DATA`, but `no data`.

    Returns
    -------
    dict
        The ledger's row: `id, value, spread, seeds, n, unit, data, profile, paper_value, status,
        chapter`; `data` in the ledger's words, *real*, *simulated spectra*, *simulated stars*.

    Raises
    ------
    ClaimError
        No such claim; a value that is not finite; unknown data.
    """
    claims = stated()
    if id not in claims:
        raise ClaimError(f"{id} is not stated in book/claims.yaml")
    values = np.atleast_1d(np.asarray(values, dtype=float))
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ClaimError(f"{id}: values are {values}, expected one finite number a seed")
    if data not in DATA[:3]:
        raise ClaimError(f"{id}: data is {data!r}, expected one of {', '.join(DATA[:3])}")
    claim, seeds = claims[id], len(values)
    value, spread = values.mean(), values.std(ddof=1) if seeds > 1 else np.nan
    row = {
        "id": id,
        "value": float(value),
        "spread": float(spread) if seeds > 1 else None,
        "seeds": seeds,
        "n": int(n),
        "unit": claim["unit"],
        "data": data.removesuffix(" of real stars"),
        "profile": chapters.running_profile(),
        "paper_value": claim.get("value"),
        "status": status(claim, value, spread, seeds),
        "chapter": claim["chapter"],
    }
    path = chapters.run_folder() / "ledger" / f"{claim['chapter']}.json"
    rows = {r["id"]: r for r in json.loads(path.read_text())} if path.exists() else {}
    write(path, list((rows | {id: row}).values()))
    return row


def merge(old, new, chapter):
    """A ledger in which a chapter's rows are the new ones: a claim that it dropped goes too."""
    kept = [row for row in old if row["chapter"] != chapter]
    return sorted(kept + new, key=lambda row: (row["chapter"], row["id"]))


def write(path, rows):
    """Write a ledger atomically, as JSON that a diff can show."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(rows, indent=1) + "\n")
    os.replace(part, path)


def table(chapter):
    """What a chapter has recorded in this run, beside the paper's words.

    Parameters
    ----------
    chapter : str

    Returns
    -------
    pandas.DataFrame
        One row a claim, in the order of `claims.yaml`.
    """
    path = chapters.run_folder() / "ledger" / f"{chapter}.json"
    rows = {row["id"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    listed = []
    for id, claim in stated().items():
        if claim["chapter"] != chapter:
            continue
        row = rows.get(id, {})
        fixed = not (claim.get("attempted", True) and claim.get("comparable", True))
        spread = f" ± {row['spread']:.2g}" if row.get("spread") else ""
        listed.append(
            {
                "claim": claim["metric"],
                "paper": f"{claim['value']:g}" if "value" in claim else "–",
                "ours": f"{row['value']:.3g}{spread}" if row else "–",
                "unit": claim["unit"],
                "seeds": row.get("seeds", 0),
                "n": row.get("n", 0),
                "verdict": row.get("status")
                or (fixed and status(claim, 0, 0, 0))
                or "not recorded",
                "why": claim.get("why", ""),
            }
        )
    return pd.DataFrame(listed)
