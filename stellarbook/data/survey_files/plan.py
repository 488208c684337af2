"""The first step of a build: which files there are, of which survey, in shards of a thousand.

The list is made once and kept, so that the jobs of a cluster need not walk through a folder of a
million files each. Names, sizes and times are in it: by them a shard knows what it was made from.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np

from stellarbook.data.readers import ReadError, read_spectrum
from stellarbook.data.survey_files.grid import GRIDS
from stellarbook.data.survey_files.layout import SurveyFilesError, explained, replacing

VERSION = 1  # of what a shard holds; raise it with every change
LARGEST = 2**25  # bytes of a file with one spectrum: catalogues and archives are left alone
LOOKED_AT = 200  # folders whose first file is tried, to recognise the survey


def plan(folder: str | Path, out: str | Path, survey: str | None = None, size: int = 1000) -> dict:
    """List a folder's files, recursively, and write the list to ``out/shards/plan.json``.

    Parameters
    ----------
    folder, out : path
        Hidden files, and ``out`` itself, are left out.
    survey : str, optional
        One of `GRIDS`: files of other surveys are skipped and reported. Without it the survey is
        recognised from the files, and a mixture is refused.
    size : int
        Files a shard.

    Returns
    -------
    dict
        ``folder, survey, named, example, size, units``; a unit is the files of one spectrum, each
        as name, bytes and time.

    Raises
    ------
    SurveyFilesError
        There is no such folder, no file in it or none of a known survey, or a mixture.
    ValueError
        The survey is unknown or has no grid; ``size`` is below 1.
    """
    folder, out = Path(folder).resolve(), Path(out).resolve()
    if survey is not None and survey not in GRIDS:
        raise ValueError(f"no grid for survey {survey!r}: there are {', '.join(GRIDS)}")
    if size < 1:
        raise ValueError(f"size {size}: expected at least one file a shard")
    if not folder.is_dir():
        raise SurveyFilesError(f"{folder}: no such folder of downloads")
    files = sorted(_files(folder, out))
    if not files:
        raise SurveyFilesError(f"{folder}: no files in it")
    named, example = survey is not None, ""
    if not named:
        survey, example = _recognised(folder, files)
    units = _by_star(files) if survey == "galah" else [[file] for file in files]
    content = {
        "folder": str(folder),
        "survey": survey,
        "named": named,
        "example": example,
        "size": size,
        "units": units,
    }
    place = out / "shards"
    place.mkdir(parents=True, exist_ok=True)
    with replacing(place / "plan.json") as part:
        part.write_text(json.dumps(content))
    right = {shard_name(i) for i in range(count(content)) if done(out, content, i)}
    for path in place.glob("[0-9]*.npz"):
        if path.name not in right:
            path.unlink()  # of an earlier list: nobody shall take it for one of this
    return content


def read_plan(out: str | Path) -> dict:
    """Return what `plan` wrote.

    Raises
    ------
    SurveyFilesError
        There is none in this folder, or it is damaged.
    """
    path = Path(out) / "shards" / "plan.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SurveyFilesError(f"{path}: no plan there; make one first ({error})") from error


def count(content: dict) -> int:
    """Return the number of shards of a plan."""
    return -(-len(content["units"]) // content["size"])


def units(content: dict, i: int) -> list:
    """Return what shard i reads."""
    return content["units"][i * content["size"] : (i + 1) * content["size"]]


def shard_name(i: int) -> str:
    """Return the file name of shard i."""
    return f"{i:05d}.npz"


def shard_path(out: str | Path, i: int) -> Path:
    """Return where shard i lies."""
    return Path(out) / "shards" / shard_name(i)


def done(out: str | Path, content: dict, i: int) -> bool:
    """Say whether shard i is there and made from the files that the plan lists."""
    try:
        with explained(shard_path(out, i)), np.load(shard_path(out, i)) as arrays:
            return str(arrays["key"]) == key(content, i)
    except SurveyFilesError:
        return False


def key(content: dict, i: int) -> str:
    """Return the hash of what shard i is made from."""
    made_from = [VERSION, content["survey"], units(content, i)]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


def mixture(folder: str, seen: dict[str, str]) -> SurveyFilesError:
    """Return the error for a folder of several surveys, by survey the name of a file."""
    files = ", ".join(f"{name} is of {survey}" for survey, name in seen.items())
    return SurveyFilesError(
        f"{folder} mixes surveys: {files}. Name one, survey=… or --survey; files of the others are "
        "then skipped and reported."
    )


def _files(folder: Path, out: Path):
    """Yield [name below the folder, bytes, time in ns] of every file that is not hidden."""
    for place, folders, names in os.walk(folder):
        place = Path(place)
        folders[:] = [f for f in folders if not f.startswith(".") and place / f != out]
        for name in names:
            path = place / name
            if not name.startswith(".") and path.is_file():
                status = path.stat()
                yield [path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns]


def _recognised(folder: Path, files: list) -> tuple[str, str]:
    """Return the survey and the name of the first file that says so.

    The first files of each folder and ending are asked first: most mixtures show at once, not
    after hours.
    """
    kinds = {
        (str(Path(name).parent), Path(name).suffix): (name, size)
        for name, size, _ in reversed(files)
    }
    first = list(reversed(kinds.values()))[:LOOKED_AT]
    found = {}
    for name, size in first:
        _ask(folder, name, size, found)
    for name, size, _ in files if not found else ():
        if _ask(folder, name, size, found):
            break
    if not found:
        raise SurveyFilesError(
            f"{folder}: none of its {len(files)} files is a spectrum of {', '.join(GRIDS)}"
        )
    if len(found) > 1:
        raise mixture(str(folder), found)
    return next(iter(found.items()))


def _ask(folder: Path, name: str, size: int, found: dict) -> bool:
    if size > LARGEST:
        return False
    try:
        survey = read_spectrum(folder / name).meta["survey"]
    except ReadError:
        return False
    if survey in GRIDS:
        found.setdefault(survey, name)
    return survey in GRIDS


def _by_star(files: list) -> list:
    """Group GALAH's files, ``<star><arm>.fits``, into one list a star."""
    stars = {}
    for file in files:
        path = Path(file[0])
        name = path.name.split(".")[0]
        arm = len(name) == 16 and name.isdigit() and name[-1] in "1234"
        stars.setdefault((path.parent, name[:-1] if arm else path.name), []).append(file)
    return list(stars.values())
