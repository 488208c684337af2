"""The chapters: where they lie, what they import, and which parameters a profile gives them.

A chapter is `chapters/NN_name.ipynb`, paired with `NN_name.py`. Its first code cell, tagged
`parameters`, holds flat literals: the *standard* profile. `chapters/profiles.yaml` overrides them.
"""

import ast
import os
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).parents[2]
"""The checkout: the folder that holds `chapters/`, `book/` and `stellarbook/`."""

STANDARD = "standard"


class ChapterError(ValueError):
    """A chapter, a profile or a parameter that does not exist or does not fit."""


def names(root=ROOT):
    """Names of the written chapters, in order: `["01_data", …]`."""
    return sorted(path.stem for path in (root / "chapters").glob("[0-9][0-9]_*.ipynb"))


def path(name, root=ROOT):
    """Path of a chapter's notebook.

    Raises
    ------
    ChapterError
        There is no such chapter; the message lists those that exist.
    """
    found = root / "chapters" / f"{Path(name).stem}.ipynb"
    if not found.exists():
        raise ChapterError(f"no chapter {name!r}: there are {', '.join(names(root)) or 'none'}")
    return found


def code(notebook):
    """The code cells that its author wrote (not papermill's injected parameters), as one text."""
    return "\n".join(
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    )


def defaults(notebook):
    """Parameters of the standard profile: name → literal, from the cell tagged `parameters`.

    Raises
    ------
    ChapterError
        The cell is missing, or holds anything but `name = literal`.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            break
    else:
        raise ChapterError("no cell is tagged `parameters`")
    values = {}
    for statement in ast.parse(cell.source).body:
        try:
            (target,) = statement.targets
            values[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError) as error:
            line = ast.unparse(statement)
            raise ChapterError(f"`parameters` holds `{line}`, not `name = literal`") from error
    return values


def profiles(root=ROOT):
    """All profiles: `{profile: {chapter: {name: value}}}`, `standard` among them (it is empty)."""
    text = (root / "chapters" / "profiles.yaml").read_text()
    return {STANDARD: {}} | (yaml.safe_load(text) or {})


def parameters(name, profile, extra=None, root=ROOT):
    """What a chapter runs with under a profile.

    Parameters
    ----------
    name : str
        Chapter, such as `"01_data"`.
    profile : str
        `standard`, or a key of `profiles.yaml`.
    extra : dict, optional
        Further overrides, such as those given on the command line.

    Returns
    -------
    dict
        Every parameter of the chapter.

    Raises
    ------
    ChapterError
        Unknown profile or parameter, or a value of another type than the default's: papermill
        would ignore the first two in silence, and the third fails deep inside the chapter.
    """
    every = profiles(root)
    if profile not in every:
        raise ChapterError(f"no profile {profile!r}: there are {', '.join(every)}")
    values = defaults(nbformat.read(path(name, root), 4))
    overrides = ((every[profile] or {}).get(name) or {}) | (extra or {})
    for key, value in overrides.items():
        if key not in values:
            raise ChapterError(f"{name} has no parameter {key!r}: it has {', '.join(values)}")
        expected = type(values[key])
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise ChapterError(
                f"{name}: parameter {key} is a {type(value).__name__} ({value!r}),"
                f" expected {expected.__name__} (default {values[key]!r})"
            )
        values[key] = value
    return values


def modules(notebook, root=ROOT):
    """Files of `stellarbook` that a chapter's code imports, directly or through another.

    Returns
    -------
    dict
        Module name → path; the data files of their packages too, by their own path.
    """
    found, queue = {}, [("", code(notebook))]
    while queue:
        package, source = queue.pop()
        for module in _imported(source, package):
            file = _file(module, root)
            if file and module not in found:
                found[module] = file
                queue.append((module, file.read_text()))
                parent = module.rpartition(".")[0]
                if parent and parent not in found:
                    queue.append(("", f"import {parent}"))
    # What a package reads beside its code is part of it: splits, scales, styles.
    for folder in {file.parent for file in found.values()}:
        for file in sorted(folder.iterdir()):
            if file.suffix in (".csv", ".npz", ".mplstyle"):
                found[str(file.relative_to(root))] = file
    return dict(sorted(found.items()))


def _imported(source, module):
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _file(module, root):
    if module.split(".")[0] != "stellarbook":
        return None
    stem = root.joinpath(*module.split("."))
    for file in (stem.with_suffix(".py"), stem / "__init__.py"):
        if file.exists():
            return file
    return None


def run_folder():
    """Where a running chapter leaves ledger, checks and checkpoints: `STELLARBOOK_RUN`.

    Set by `report.run`; `runs/lab` for a notebook that somebody runs by hand.
    """
    return Path(os.environ.get("STELLARBOOK_RUN", ROOT / "runs" / "lab"))


def running_profile():
    """The profile that a running chapter was started with: `lab` when run by hand."""
    return os.environ.get("STELLARBOOK_PROFILE", "lab")
