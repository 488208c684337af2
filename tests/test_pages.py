"""What `report.pages` writes into the pages."""

import json
from pathlib import Path
from types import SimpleNamespace

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from stellarbook.report import pages


def test_a_page_without_stamp_says_so_below_its_title():
    page = new_notebook(
        cells=[new_code_cell("n = 1"), new_markdown_cell("# 01 Data\n\nFirst words.")]
    )
    made = nbformat.reads(pages.with_card(nbformat.writes(page), "01_data.ipynb"), 4)
    sources = [cell.source for cell in made.cells]
    assert sources[:2] == ["n = 1", "# 01 Data\n"]
    assert "No stamp" in sources[2]
    assert sources[3] == "First words."


def test_a_page_without_title_still_has_its_card():
    page = new_notebook(cells=[new_markdown_cell("No title.")])
    made = nbformat.reads(pages.with_card(nbformat.writes(page), "01_data.ipynb"), 4)
    assert "No stamp" in made.cells[0].source
    assert made.cells[1].source == "No title."


def test_a_figure_is_its_own_pages():
    def mystnb():  # as `report.run` leaves it
        return {"figure": {"name": "fig-line", "caption": "See {numref}`fig-curve`."}}

    page = new_notebook(
        cells=[
            new_markdown_cell("# 10 Lines\n\n{numref}`fig-line`, as {numref}`fig-01-line` does."),
            new_code_cell("show('fig-line')", metadata={"mystnb": mystnb()}),
        ]
    )
    made = nbformat.reads(pages.with_card(nbformat.writes(page), "book/10_lines.ipynb"), 4).cells
    assert made[2].source == "{numref}`fig-10-line`, as {numref}`fig-01-line` does."
    figure = made[3].metadata.mystnb.figure
    assert figure == {"name": "fig-10-line", "caption": "See {numref}`fig-10-curve`."}
    assert made[3].source == "show('fig-line')"


def test_a_second_page_goes_on_with_the_figures_of_its_chapter():
    keys = {"book/01_spectra": "cd", "book/10_x": "e", "book/01_data": "ab", "book/index": "f"}
    given = {page: {"figure": {key: (9, 9) for key in some}} for page, some in keys.items()}
    pages._number_figures(None, SimpleNamespace(toc_fignumbers=given))
    numbers = {key: n for one in given.values() for key, n in one["figure"].items()}
    assert [numbers[key] for key in "abcd"] == [(1, n) for n in (1, 2, 3, 4)]
    assert numbers["e"] == (10, 1) and numbers["f"] == (9, 9)


def test_the_parts_of_a_chapter_have_names_of_their_own():
    found = {name: Path(f"{name}.ipynb") for name in ("01_data", "01_spectra", "10_x")}
    assert [pages._link(name, found) for name in found] == [
        "[01 data](01_data.ipynb)",
        "[01 spectra](01_spectra.ipynb)",
        "[10 star transformer](10_x.ipynb)",
    ]


def test_without_chapters_all_are_planned():
    text = pages.chapters({})
    assert all(f"{number} {subject}" in text for number, subject in pages.PLAN.items())


def test_ledger_and_benchmarks(tmp_path):
    assert pages.ledger(tmp_path) == "No claim has been tested yet."
    assert pages.benchmarks(tmp_path) == "No benchmark has been recorded yet."
    claim = {"id": "a.b", "value": 1.23456, "spread": 0.012, "paper_value": None, "unit": "K"}
    (tmp_path / "ledger.json").write_text(json.dumps([claim | {"status": "undecided"}]))
    assert "| `a.b` | 1.235 ± 0.012 | – | K | – | undecided | – |" in pages.ledger(tmp_path)
    stats = {"median": 0.0123, "iqr": 0.0004, "rounds": 5}
    found = {"datetime": "2026-11-21T10:00:00", "benchmarks": [{"name": "fit", "stats": stats}]}
    (tmp_path / "benchmarks.json").write_text(json.dumps(found))
    assert "| `fit` | 12.3 ms | 0.4 ms | 5 |" in pages.benchmarks(tmp_path)


def test_every_mark_of_the_book_is_known():
    """A mark that nothing replaces would vanish without a word, being a comment."""
    marks = {
        mark
        for page in (Path(__file__).parents[1] / "book").glob("*.md")
        for mark in pages.MARK.findall(page.read_text())
    }
    assert marks == {"chapters", "status", "ledger", "benchmarks", "api"}


def test_the_api_lists_every_module():
    package = Path(pages.stellarbook.__file__).parent
    text = pages.api()
    for file in package.rglob("*.py"):
        if file.name != "__init__.py":
            name = ".".join(file.relative_to(package.parent).with_suffix("").parts)
            assert f"automodule:: {name}\n" in text


def test_bars_survive_in_docstrings():
    lines = ["Median |x − y|, a `Spectrum | LightCurve`.", "", ">>> a | b"]
    pages._bars(None, "function", "f", None, None, lines)
    assert lines == [r"Median \|x − y\|, a `Spectrum | LightCurve`.", "", ">>> a | b"]
