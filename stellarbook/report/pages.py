"""The site's own Sphinx extension: whatever a page says about runs is read from the runs.

While Sphinx reads a page, every chapter gets its stamp as a card below its title, and a line such
as `% stellarbook: status` (a comment in MyST, so that the page reads well without us) becomes the
table made from the notebooks, the ledger and the benchmarks in `book/`, or from the package.
"""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import nbformat

import stellarbook
from stellarbook.report import provenance

PLAN = {
    "01": "data",
    "02": "spectra encoder",
    "03": "light-curve encoder",
    "04": "DualFormer",
    "05": "DESA's tasks",
    "06": "SpecCLIP's pre-trained models",
    "07": "SpecCLIP's variants",
    "08": "SpecCLIP's tasks",
    "09": "LAMOST to DESI",
    "10": "star transformer",
    "11": "star transformer's tasks",
    "12": "spectral tokenizer",
    "13": "tokenizer's tasks",
    "14": "five systems on the same stars",
    "15": "your own star",
    "16": "claims",
}
"""Chapters, written or not: number → subject."""
PARTS = {"01_spectra": "spectra", "01_kepler_field": "Kepler field"}
"""Further pages of a chapter: page → subject."""

CHAPTER = re.compile(r"book/(\d\d)_\w+")
MARK = re.compile(r"^% stellarbook: (\w+)$", re.MULTILINE)
STATE = {
    "current": "current",
    "library changed": "run with an earlier library",
    "stale": "**stale**",
    "no stamp": "**no stamp**",
}


def setup(app):
    """Entry point of the extension, called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("env-get-outdated", _outdated)
    app.connect("env-get-updated", _number_figures, priority=900)  # after Sphinx has numbered them
    app.connect("autodoc-process-docstring", _bars)
    return {"parallel_read_safe": True}


def with_card(text, page):
    """An executed notebook with its card below its title, and figures that are its own.

    Keys of figures are unique on a page only: on the site, chapter 10's `fig-line` is
    `fig-10-line`.

    Parameters
    ----------
    text : str
        The notebook, as JSON.
    page : path-like
        Where it lies; the card compares it with the tree.

    Returns
    -------
    str
        The notebook, as JSON; the file itself, which readers download, stays as it is.
    """
    notebook = nbformat.reads(text, 4)
    _own_figures(notebook, Path(page).stem.partition("_")[0])
    new = nbformat.v4.new_markdown_cell
    card = new(provenance.card(notebook.metadata, page))
    for number, cell in enumerate(notebook.cells):
        title = re.match(r"# .*\n?", cell.source) if cell.cell_type == "markdown" else None
        if title:
            rest = cell.source[title.end() :].strip()
            cell.source = title[0]
            notebook.cells[number + 1 : number + 1] = [card, new(rest)] if rest else [card]
            break
    else:
        notebook.cells.insert(0, card)
    # MyST-NB would show it as a field list.
    notebook.metadata.pop(provenance.KEY, None)
    return nbformat.writes(notebook)


def _own_figures(notebook, number):
    def own(words):
        return re.sub(r"(\{numref\}`)fig-(?!\d)", rf"\1fig-{number}-", words)

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = own(cell.source)
        if figure := cell.metadata.get("mystnb", {}).get("figure"):
            figure["name"] = figure["name"].replace("fig-", f"fig-{number}-", 1)
            figure["caption"] = own(figure["caption"])


# --- what the marks stand for ---------------------------------------------------------------------


def chapters(pages):
    """Table of the chapters that can be read, and one sentence on those that cannot yet."""
    rows = [["Chapter", "Made", "State"]]
    for name, mark, state in _stamps(pages):
        rows.append([_link(name, pages), mark.get("date", "–"), STATE[state]])
    written = {name[:2] for name in pages}
    planned = [f"{number} {subject}" for number, subject in PLAN.items() if number not in written]
    sentence = f"Planned, not yet written: {', '.join(planned)}." if planned else ""
    return f"{_table(rows)}\n\n{sentence}"


def status(pages):
    """Table of the stamps: what each published page was run with, and whether it still holds."""
    rows = [["Chapter", "Profile", "Device", "Date", "Time", "Memory", "State"]]
    for name, mark, state in _stamps(pages):
        measured = ["–"] * 5
        if mark:
            measured = [
                mark["profile"],
                mark["device"],
                mark["date"],
                provenance.minutes(mark["wall_seconds"]),
                f"{mark['peak_memory_mb'] / 1024:.1f} GB",
            ]
        rows.append([_link(name, pages), *measured, STATE[state]])
    return _table(rows)


def ledger(folder):
    """Table of the claims that were tested, from `ledger.json`."""
    rows = [["Claim", "Ours", "Paper", "Unit", "Data", "Verdict", "Chapter"]]
    for one in _json(folder / "ledger.json", []):
        spread = f" ± {one['spread']:.2g}" if one.get("spread") is not None else ""
        rows.append(
            [
                f"`{one['id']}`",
                f"{_number(one.get('value'))}{spread}",
                _number(one.get("paper_value")),
                one.get("unit") or "–",
                one.get("data") or "–",
                one.get("status") or "–",
                one.get("chapter") or "–",
            ]
        )
    return _table(rows) if len(rows) > 1 else "No claim has been tested yet."


def benchmarks(folder):
    """Table of the benchmarks, from pytest-benchmark's `benchmarks.json`."""
    found = _json(folder / "benchmarks.json", {})
    rows = [["Benchmark", "Median", "Spread (IQR)", "Rounds"]]
    for one in found.get("benchmarks", []):
        stats = one["stats"]
        rows.append(
            [
                f"`{one['name']}`",
                f"{stats['median'] * 1e3:.3g} ms",
                f"{stats['iqr'] * 1e3:.2g} ms",
                str(stats["rounds"]),
            ]
        )
    if len(rows) == 1:
        return "No benchmark has been recorded yet."
    return f"{_table(rows)}\n\nMeasured on {found.get('datetime', 'an unknown date')[:10]}."


def api():
    """Reference of every module of the package, from its docstrings, floor by floor."""
    parts, floors = [], set()
    for info in pkgutil.walk_packages(stellarbook.__path__, "stellarbook."):
        name = info.name
        floor = ".".join(name.split(".")[:2])
        if floor not in floors:
            floors.add(floor)
            about = importlib.import_module(floor).__doc__ or ""
            parts.append(f"## {floor}\n\n{about.strip()}")
        if not info.ispkg:
            parts.append(
                f"### {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```"
            )
    return "\n\n".join(parts)


def _stamps(pages):
    for name, page in pages.items():
        mark = nbformat.read(page, 4).metadata.get(provenance.KEY)
        yield name, mark or {}, provenance.state(page) if mark else "no stamp"


def _link(name, pages):
    return f"[{name[:2]} {PARTS.get(name, PLAN[name[:2]])}]({pages[name].name})"


def _number(value):
    return "–" if value is None else f"{value:.4g}" if isinstance(value, int | float) else value


def _table(rows):
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def _json(file, empty):
    return json.loads(file.read_text()) if file.exists() else empty


# --- Sphinx's events ------------------------------------------------------------------------------


def _pages(app):
    """Chapter → executed notebook, of the chapters in `_toc.yml`."""
    found = sorted(name for name in app.env.found_docs if CHAPTER.fullmatch(name))
    return {name.removeprefix("book/"): Path(app.env.doc2path(name)) for name in found}


def _read(app, docname, source):
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".ipynb":
        source[0] = with_card(source[0], page)
        return
    made = {
        "chapters": lambda: chapters(_pages(app)),
        "status": lambda: status(_pages(app)),
        "ledger": lambda: ledger(page.parent),
        "benchmarks": lambda: benchmarks(page.parent),
        "api": api,
    }
    source[0] = MARK.sub(lambda mark: made[mark[1]](), source[0])


def _outdated(app, env, added, changed, removed):
    """What these pages say can change while their files do not."""
    made = {"book/index", "book/status", "book/api"}
    return [name for name in env.found_docs if name in made or CHAPTER.fullmatch(name)]


def _bars(app, what, name, thing, options, lines):
    """Keep the bars of `|x|` in docstrings, which Sphinx would take for a substitution."""
    outside = re.compile(r"(`[^`]*`|^ *(?:>>>|\.\.\.).*$)|\|", re.MULTILINE)
    text = outside.sub(lambda found: found[1] or r"\|", "\n".join(lines))
    lines[:] = text.split("\n")


def _number_figures(app, env):
    """Number figures within their chapter, `10.3`: the next chapter must not renumber them.

    A chapter's second page goes on where its first one ends.
    """
    last = {}
    for name, numbers in sorted(env.toc_fignumbers.items()):
        if chapter := CHAPTER.fullmatch(name):
            figures, number = numbers.get("figure", {}), int(chapter[1])
            first = last.get(number, 0) + 1
            numbers["figure"] = {key: (number, n) for n, key in enumerate(figures, first)}
            last[number] = first - 1 + len(figures)
    return []
