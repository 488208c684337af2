"""The last step of a build: all shards into the two files that `load` reads, and the report.

Spectra are streamed, shard by shard; only the table, some 200 bytes a star, is ever held whole.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stellarbook.data.survey_files.catalogue import add_labels, check_labels, stars
from stellarbook.data.survey_files.grid import GRIDS
from stellarbook.data.survey_files.layout import (
    SurveyFilesError,
    explained,
    replacing,
    stem,
    write_arrays,
)
from stellarbook.data.survey_files.plan import count, done, read_plan, shard_path
from stellarbook.data.survey_files.shards import part

OBSERVATION = ["lmjd", "planid", "spid", "fiberid"]  # names a LAMOST spectrum without an obsid


def merge(out: str | Path, labels: str | Path | None = None) -> Path:
    """Join the shards of the plan in ``out``, with a catalogue's labels, and report.

    Parameters
    ----------
    out : path
        Gets ``<name>.npz``, ``<name>.csv`` (`layout`) and ``skipped.csv`` (file, reason). The
        table's column ``star`` says which rows are one star (`catalogue.stars`). Of a LAMOST
        spectrum that was found twice the first is kept.
    labels : path, optional
        A catalogue (`catalogue.add_labels`).

    Returns
    -------
    Path
        The ``.npz``.

    Raises
    ------
    SurveyFilesError
        A shard is missing or outdated, no file could be read, or the catalogue is not as needed.
    """
    out = Path(out)
    content = read_plan(out)
    survey, shards = content["survey"], range(count(content))
    if labels is not None:
        check_labels(labels, survey)
    if missing := [i for i in shards if not done(out, content, i)]:
        some = ", ".join(map(str, missing[:20]))
        raise SurveyFilesError(f"{out}: {len(missing)} shards are missing or outdated: {some}")
    parts = [part(out, i, "table") for i in shards]
    rows = [len(p) for p in parts]
    skipped = pd.concat([part(out, i, "skipped") for i in shards], ignore_index=True)
    # An empty part has no say in the columns' types.
    table = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
    table, keep, twice = _once(table)
    skipped = pd.concat([skipped, twice], ignore_index=True)
    with replacing(out / "skipped.csv") as path:
        skipped.to_csv(path, index=False)
    if not keep.any():
        raise SurveyFilesError(
            f"{content['folder']}: no spectrum of {survey} could be read.\n{_report(skipped)}"
        )
    matched = add_labels(table, labels, survey) if labels is not None else None
    table.insert(2, "star", stars(table))
    for label in ("teff", "logg", "feh"):
        if label not in table:
            table[label] = np.nan
    ends = np.cumsum([0, *rows])
    shape = (len(table), len(GRIDS[survey].wave))

    def pieces(name: str) -> Iterator[np.ndarray]:
        for i in shards:
            with explained(shard_path(out, i)), np.load(shard_path(out, i)) as arrays:
                spectra = arrays[name]
            yield spectra[keep[ends[i] : ends[i + 1]]]

    target = out / f"{stem(survey)}.npz"
    with replacing(target.with_suffix(".csv")) as path:
        table.to_csv(path, index=False)
        write_arrays(
            target,
            {
                "wave": (shape[1:], np.dtype(float), [GRIDS[survey].wave]),
                "flux": (shape, np.dtype(np.float16), pieces("flux")),
                "snr": (shape, np.dtype(np.float16), pieces("snr")),
            },
        )
    print(f"{len(table):,} spectra of {table['star'].nunique():,} stars ({survey}): {target}")
    if matched is not None:
        print(f"{matched:,} of {len(table):,} found their labels in {labels}")
    print(_report(skipped))
    if len(skipped):
        print(f"Each is named in {out / 'skipped.csv'}")
    return target


def _once(table: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    """Return a table without repeated LAMOST spectra, which rows stayed, and which did not."""
    again = np.zeros(len(table), bool)
    name = pd.Series("", index=table.index)
    for columns in (["obsid"], OBSERVATION):
        if set(columns) <= set(table):
            known = table[columns].notna().all(axis=1) & (table[columns] != "").all(axis=1)
            repeated = known & table.loc[known].duplicated(columns).reindex(
                table.index, fill_value=False
            )
            again |= repeated.to_numpy()
            name[repeated & (name == "")] = " + ".join(columns)
    twice = pd.DataFrame(
        {"file": table["file"][again], "reason": "the same spectrum twice, by " + name[again]}
    )
    return table[~again].reset_index(drop=True), ~again, twice


def _report(skipped: pd.DataFrame) -> str:
    """Count what was skipped by reason; numbers in the reasons are no difference."""
    if not len(skipped):
        return "Nothing was skipped."
    kinds = skipped["reason"].map(lambda reason: re.sub(r"\d[\d.,]*", "…", reason)[:120])
    lines = [f"{number:>8,}  {kind}" for kind, number in kinds.value_counts().items()]
    return "\n".join([f"{len(skipped):,} files were skipped:", *lines])
