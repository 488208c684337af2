"""The stamp of an executed notebook: what ran, where, on which data, and whether it still holds.

`report.run` writes the stamp into the notebook's metadata; every page shows it as a card; the gates
and `make stale` compare it with the tree.

A page is *stale* where its chapter's code or its profile's parameters have changed since it ran, or
somebody edited its outputs: that fails a gate. Where only a module changed that the chapter
imports, the page says "run with an earlier library": chapters are then judged by their nbval runs,
so that a shared fix does not force sixteen reruns.
"""

import argparse
import ast
import hashlib
import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import nbformat

from stellarbook.data import archives
from stellarbook.data.survey_files import loading
from stellarbook.report import chapters

KEY = "stellarbook"
PACKAGES = ("numpy", "torch", "astropy", "scikit-learn", "xgboost", "xgboost-cpu", "gaiaxpy")


# --- fingerprints ---------------------------------------------------------------------------------


def sha(text):
    """First 16 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def module_sha(source):
    """Fingerprint of a module that comments, docstrings and line breaks leave alone.

    The syntax tree is written out here, not by `ast.dump`, whose text changes between versions of
    Python.
    """

    def dump(node):
        if isinstance(node, ast.AST):
            fields = ((name, value) for name, value in ast.iter_fields(node) if name != "kind")
            inside = (f"{name}={dump(v)}" for name, v in fields if v is not None and v != [])
            return f"{type(node).__name__}({','.join(inside)})"
        if isinstance(node, list):
            return f"[{','.join(map(dump, node))}]"
        return repr(node)

    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
    return sha(dump(tree))


def modules_sha(notebook, root=chapters.ROOT):
    """Fingerprints of the modules and data files that a chapter needs: name → digest."""
    return {
        name: module_sha(file.read_text())
        if file.suffix == ".py"
        else hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        for name, file in chapters.modules(notebook, root).items()
    }


def outputs_sha(notebook):
    """Fingerprint of everything that the run itself wrote: outputs, captions, alternative texts."""
    written = [
        [cell.get("outputs", []), cell.metadata.get("mystnb", {})]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return sha(json.dumps(written, sort_keys=True))


# --- the stamp ------------------------------------------------------------------------------------


def origin(chapter, root=chapters.ROOT):
    """What a run starts from, to be asked before it: the tree may change while it runs.

    Parameters
    ----------
    chapter : NotebookNode
        The chapter, not yet executed.

    Returns
    -------
    dict
        `source_sha`, `modules_sha`, `data`, `commit`.
    """
    return {
        "source_sha": sha(chapters.code(chapter)),
        "modules_sha": modules_sha(chapter, root),
        "data": data(chapter, root),
        "commit": commit(root),
    }


def stamp(notebook, name, profile, parameters, *, before, measured):
    """What a run leaves in the metadata of its executed notebook.

    Parameters
    ----------
    notebook : NotebookNode
        Executed and scrubbed.
    name, profile : str
    parameters : dict
        Every parameter that the run had.
    before : dict
        From `origin`.
    measured : dict
        `wall_seconds`, `peak_memory_mb`, `energy_wh` (None where nothing measures it).

    Returns
    -------
    dict
    """
    return (
        {"chapter": name, "profile": profile, "parameters": parameters}
        | {"seed": parameters.get("seed"), "device": device(parameters.get("device", "auto"))}
        | {"versions": {"python": platform.python_version()} | _versions()}
        | {"date": datetime.now(UTC).date().isoformat()}
        | {"outputs_sha": outputs_sha(notebook)}
        | before
        | measured
    )


def data(notebook, root=chapters.ROOT):
    """What a chapter reads: archives behind its samples, and survey files → SHA-256."""
    imported = chapters.modules(notebook, root)
    needed = [
        archives.ARCHIVES[name]
        for sample in archives.SAMPLES
        if f"stellarbook.data.{sample}" in imported
        for name in import_module(f"stellarbook.data.{sample}").NEEDS
    ]
    found = {f"{archive.name} {archive.version}": archive.sha256 for archive in needed}
    # Survey files are the reader's own: whoever rebuilds the page needs them too.
    for survey in re.findall(r'survey_files\.load\(\s*"(\w+)"', chapters.code(notebook)):
        if folder := os.environ.get(loading.VARIABLE):
            for name in loading.SAMPLES[survey].files:
                if (file := Path(folder) / name).exists():
                    found[f"{loading.VARIABLE}/{name}"] = archives.sha256(file)
    return found


def device(wanted="auto"):
    """The device in words: the GPU's name, or the processor's cores."""
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU, {cores} core{'s' * (cores > 1)}"


def commit(root=chapters.ROOT):
    """Short name of the commit, with `+` where the code or the text differs from it."""

    def git(*words):
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    head = git("rev-parse", "--short=10", "HEAD")
    changed = git("status", "--porcelain", "--", "chapters", "stellarbook")
    return f"{head}{'+' * bool(changed)}" if head else "unknown"


def _versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ImportError:  # a GPU machine may lack some
            continue
    return found


# --- does it still hold? --------------------------------------------------------------------------


def differences(page, root=chapters.ROOT):
    """What has changed since a page ran.

    Parameters
    ----------
    page : path-like
        Executed notebook.

    Returns
    -------
    dict
        Keys among `stamp`, `code`, `outputs`, `parameters`, `modules`, each with a sentence. Empty
        for a current page.
    """
    notebook = nbformat.read(page, 4)
    mark = notebook.metadata.get(KEY)
    if not mark:
        return {"stamp": "it has no stamp: it was not made by `make run`"}
    name, found = mark["chapter"], {}
    chapter = nbformat.read(chapters.path(name, root), 4)
    if sha(chapters.code(chapter)) != mark["source_sha"] or sha(chapters.code(notebook)) != sha(
        chapters.code(chapter)
    ):
        found["code"] = f"the code of chapters/{name} has changed since the page ran"
    if outputs_sha(notebook) != mark["outputs_sha"]:
        found["outputs"] = "outputs, captions or alternative texts were edited after the run"
    if mark["profile"] in chapters.profiles(root):
        try:
            today = chapters.parameters(name, mark["profile"], root=root)
        except chapters.ChapterError as error:
            today, found["parameters"] = mark["parameters"], str(error)
        keys = sorted(set(today) | set(mark["parameters"]))
        if changed := [key for key in keys if today.get(key) != mark["parameters"].get(key)]:
            found["parameters"] = (
                f"profile {mark['profile']} now gives other values for {', '.join(changed)}"
            )
    now = modules_sha(chapter, root)
    if changed := sorted(
        module
        for module in set(now) | set(mark["modules_sha"])
        if now.get(module) != mark["modules_sha"].get(module)
    ):
        found["modules"] = f"changed since: {', '.join(changed)}"
    return found


def state(page, root=chapters.ROOT):
    """`current`, `library changed` or `stale`: see the module's docstring."""
    return _state(differences(page, root))


def _state(found):
    if set(found) - {"modules"}:
        return "stale"
    return "library changed" if found else "current"


# --- the card -------------------------------------------------------------------------------------


def minutes(seconds):
    """A duration in words: `45 s`, `12 min`."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def card(metadata, page, root=chapters.ROOT):
    """The card at the head of a page, as MyST Markdown.

    Parameters
    ----------
    metadata : dict
        The notebook's metadata.
    page : path-like
        The executed notebook, which is compared with the tree.

    Returns
    -------
    str
    """
    mark = metadata.get(KEY)
    if not mark:
        return (
            "````{admonition} No stamp\n:class: stamp warning\n"
            "This page was not made by `make run`: nothing says what it was run with.\n````"
        )
    found = differences(page, root)
    verdict = {
        "current": "as the chapter and its modules are now",
        "library changed": "run with an earlier library (its regression test judges today's)",
        "stale": "**stale**: " + "; ".join(v for k, v in found.items() if k != "modules"),
    }[_state(found)]
    energy = f" · {mark['energy_wh']:.1f} Wh" if mark.get("energy_wh") else ""
    rows = {
        "Parameters": ", ".join(f"`{k} = {v!r}`" for k, v in mark["parameters"].items()),
        "Versions": ", ".join(f"{k} {v}" for k, v in mark["versions"].items()),
        "Data": ", ".join(f"{k} `{v[:12]}`" for k, v in mark["data"].items()) or "none",
        "Modules": ", ".join(f"`{m}` {d[:8]}" for m, d in mark["modules_sha"].items()),
    }
    details = "\n".join(f"**{key}** {value}\n" for key, value in rows.items())
    return (
        "`````{admonition} How this page was made\n:class: stamp\n"
        f"**{mark['profile']}** profile · {mark['device']} · {minutes(mark['wall_seconds'])}"
        f" · {mark['peak_memory_mb'] / 1024:.1f} GB{energy} · {mark['date']}"
        f" · commit `{mark['commit']}` · {verdict}\n\n"
        f"````{{dropdown}} Parameters, versions, data\n{details}````\n`````"
    )


def listing(root=chapters.ROOT):
    """Every chapter, the state of its page, and what has changed since it ran: lines of text."""
    for name in chapters.names(root):
        page = root / "book" / f"{name}.ipynb"
        if not page.exists():
            yield f"{name:<28} not published"
            continue
        found = differences(page, root)
        yield f"{name:<28} {_state(found)}"
        yield from (f"{'':<28} {reason}" for reason in found.values())


def main(argv=None):
    """Command line of `make stale`."""
    parser = argparse.ArgumentParser(
        prog="python -m stellarbook.report.provenance",
        description="List the published pages and what has changed since each was run.",
    )
    parser.parse_args(argv)
    print(*listing(), sep="\n")


if __name__ == "__main__":
    main()
