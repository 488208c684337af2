"""The gates: what must hold between chapters, pages, regression notebooks, ledger and tree.

Each takes the root of a tree and returns what is wrong with it, one sentence a fault: the real tree
must return nothing (test_gates), a damaged copy of it must not (test_mutations).
"""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import jupytext
import nbformat

from stellarbook.report import chapters, claims, provenance, publish

COLUMNS = 79
ROOM_MIB = {"tree": 20, "book/weights": 10}


def pairs(root):
    """Text and notebook of a chapter hold the same cells; the notebook has no outputs."""
    for name in chapters.names(root):
        notebook = nbformat.read(root / f"chapters/{name}.ipynb", 4)
        text = jupytext.read(root / f"chapters/{name}.py")
        if [_cell(c) for c in notebook.cells] != [_cell(c) for c in text.cells]:
            yield f"chapters/{name}.py and .ipynb differ: `make pairs`"
        if any(cell.get("outputs") for cell in notebook.cells):
            yield f"chapters/{name}.ipynb has outputs: `make pairs`"
        folded = False  # what a page folds away need not fit beside its contents
        for number, line in enumerate((root / f"chapters/{name}.py").read_text().splitlines(), 1):
            if line.startswith("# %%"):
                folded = "hide-input" in line
            if len(line) > COLUMNS and not folded and "http" not in line:
                yield f"chapters/{name}.py:{number} has {len(line)} columns, over {COLUMNS}"
    texts = {path.stem for path in (root / "chapters").glob("*.py")}
    for name in texts ^ set(chapters.names(root)):
        yield f"chapters/{name} is not a pair"


def profiles(root):
    """Every overridden parameter exists, with the default's type."""
    known = chapters.names(root)
    for profile, overrides in chapters.profiles(root).items():
        for name in overrides or {}:
            if name not in known:
                yield f"profiles.yaml: {profile} names no chapter: {name}"
        for name in known:
            try:
                chapters.parameters(name, profile, root=root)
            except chapters.ChapterError as error:
                yield f"profiles.yaml: {profile}: {error}"


def pages(root):
    """Every chapter has a published page that is not stale and tells the chapter's text."""
    for name in chapters.names(root):
        page = root / f"book/{name}.ipynb"
        if not page.exists():
            yield f"book/{name}.ipynb is missing: `make publish`"
            continue
        for kind, fault in provenance.differences(page, root).items():
            if kind != "modules":
                yield f"book/{name}.ipynb: {fault}"
        notebook = nbformat.read(page, 4)
        if notebook.metadata.get(provenance.KEY, {}).get("profile") not in (
            "standard",
            "long",
            "full",
        ):
            yield f"book/{name}.ipynb was not run under standard, long or full"
        if _text(notebook) != _text(nbformat.read(chapters.path(name, root), 4)):
            yield f"book/{name}.ipynb tells another text than its chapter: `make publish`"
        if (size := page.stat().st_size / 2**20) > publish.ROOM_MIB["page"]:
            yield f"book/{name}.ipynb is {size:.2f} MiB"


def figures(root):
    """Every picture on a page has a name, a caption and an alternative text, all its chapter's."""
    for name in chapters.names(root):
        if not (root / f"book/{name}.ipynb").exists():
            continue
        notebook = nbformat.read(root / f"book/{name}.ipynb", 4)
        for cell in notebook.cells:
            if not any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])):
                continue
            given = cell.metadata.get("mystnb", {})
            key = given.get("figure", {}).get("name")
            if not key or f'"{key}"' not in cell.source:
                yield f"book/{name}.ipynb: a figure is named {key!r}, which its cell does not say"
            if not given.get("figure", {}).get("caption"):
                yield f"book/{name}.ipynb: figure {key} has no caption"
            if not given.get("image", {}).get("alt"):
                yield f"book/{name}.ipynb: figure {key} has no alternative text"


def regression(root):
    """Each chapter has a regression notebook: today's code, quick's parameters, checks in it."""
    for name in chapters.names(root):
        path = root / f"tests/regression/{name}.ipynb"
        if not path.exists():
            yield f"tests/regression/{name}.ipynb is missing: `make regression`"
            continue
        for kind, fault in provenance.differences(path, root).items():
            if kind != "modules":
                yield f"tests/regression/{name}.ipynb: {fault}"
        notebook = nbformat.read(path, 4)
        if notebook.metadata.get(provenance.KEY, {}).get("profile") != "quick":
            yield f"tests/regression/{name}.ipynb was not run under quick"
        checked = [
            cell
            for cell in notebook.cells
            if "nbval-check-output" in cell.metadata.get("tags", []) and cell.get("outputs")
        ]
        if not checked:
            yield f"tests/regression/{name}.ipynb checks nothing: nbval would pass it in silence"
        for cell in checked:
            for output in cell.outputs:
                for line in output.get("text", "").splitlines():
                    if "away from" in line or "no reference" in line:
                        yield f"tests/regression/{name}.ipynb holds a failed check: {line}"


def prose(root):
    """No result is typed into prose: numbers there are glued, cited, or mathematics."""
    for name in chapters.names(root):
        notebook = nbformat.read(root / f"chapters/{name}.ipynb", 4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                for typed in typed_numbers(cell.source):
                    yield f"chapters/{name}: {typed!r} is typed into the text"


UNITS = r"(?:K|dex|mag|nm|Å|km/s|kpc|pc|d|days|s|min|h|GB|MB|GiB|MiB|stars|steps|pixels|epochs)"


def typed_numbers(markdown):
    """Decimals, percentages and numbers with units in a text, outside quotes, code, equations,
    roles and directives."""
    text = re.sub(r"^ *>.*$", "", markdown, flags=re.M)
    text = re.sub(r"(`{3,}).*?\1", "", text, flags=re.S)
    text = re.sub(r"\$\$.*?\$\$", "", text, flags=re.S)
    text = re.sub(r"\{[a-z:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$|\]\([^)]*\)", "", text)
    return re.findall(rf"\d[\d,]*\.\d+|\d[\d,.]*\s?%|\d[\d,.]*\s?{UNITS}\b", text)


def ledger(root):
    """Claims are told apart by their words; each of a written chapter is recorded or explained,
    and nothing else is recorded."""
    try:
        stated = claims.stated(root)
    except claims.ClaimError as error:
        yield f"claims.yaml: {error}"
        return
    path = root / "book/ledger.json"
    rows = {row["id"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    written = chapters.names(root)
    words = Counter((claim["chapter"], claim["metric"]) for claim in stated.values())
    for (chapter, metric), number in words.items():
        if number > 1:
            yield f"claims.yaml: {number} claims of {chapter} have the metric {metric!r}"
    for name, claim in stated.items():
        if claim["chapter"] in written and claim.get("attempted", True) and name not in rows:
            yield f"claim {name} is not in book/ledger.json"
    fields = "id value spread seeds n unit data profile paper_value status chapter".split()
    for name, row in rows.items():
        if name not in stated:
            yield f"book/ledger.json: {name} is not stated in claims.yaml"
            continue
        if sorted(row) != sorted(fields):
            yield f"book/ledger.json: {name} has fields {sorted(row)}"
        spread = float("nan") if row["spread"] is None else row["spread"]
        if row["status"] != claims.status(stated[name], row["value"], spread, row["seeds"]):
            yield f"book/ledger.json: the verdict on {name} is not the rule's"
        if row["paper_value"] != stated[name].get("value"):
            yield f"book/ledger.json: {name} has another paper value than claims.yaml"


def room(root):
    """The tracked tree and the weights stay within their room."""
    files = [f for f in _tracked(root) if f.is_file()]
    size = sum(f.stat().st_size for f in files) / 2**20
    if size > ROOM_MIB["tree"]:
        yield f"the tracked tree is {size:.1f} MiB, over {ROOM_MIB['tree']}"
    weights = sum(f.stat().st_size for f in files if root / "book/weights" in f.parents) / 2**20
    if weights > ROOM_MIB["book/weights"]:
        yield f"book/weights is {weights:.1f} MiB, over {ROOM_MIB['book/weights']}"


def machine(root):
    """No tracked file names a folder of the machine that it was made on."""
    here = [p for p in (chapters.ROOT.parent, chapters.ROOT, Path.home()) if len(p.parts) > 1]
    here = "|".join(rf"(?<![\w.~/-]){re.escape(str(p))}(?![\w.-])" for p in here) or r"(?!)"
    texts = {".py", ".ipynb", ".md", ".json", ".yaml", ".yml", ".toml", ".txt", ""}
    for file in _tracked(root):
        if file.is_file() and file.suffix in texts and (found := re.search(here, file.read_text())):
            yield f"{file.relative_to(root)} names {found[0]}"


GATES = {
    gate.__name__: gate
    for gate in (pairs, profiles, pages, figures, regression, prose, ledger, room, machine)
}


def _tracked(root):
    git = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True)
    if git.returncode == 0 and git.stdout:
        return [root / name for name in git.stdout.split("\0") if name]
    return list(root.rglob("*"))


def _cell(cell):
    metadata = {key: cell.metadata.get(key) for key in ("tags", "mystnb") if cell.metadata.get(key)}
    return cell.cell_type, cell.source, metadata


def _text(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
