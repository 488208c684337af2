"""Damage a copy of a sound tree, and the gate that guards it must say so.

A gate that nothing can make fail guards nothing. The tree is the tiny chapter's, run, published and
with a regression notebook; the last test damages the real regression notebook and runs nbval.
"""

import json
import os
import re
import subprocess
import sys

import gates
import nbformat
import pytest
import tiny

from stellarbook.report import chapters, provenance, publish, run


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A tree that passes every gate."""
    root = tiny.tree(tmp_path_factory.mktemp("sound"))
    (root / "book/claims.yaml").write_text(CLAIM)
    run.execute("01_tiny", "long", root=root)
    publish.pages("long", root=root)
    (root / "book/ledger.json").write_text(json.dumps([ROW]))
    page = root / "tests/regression/01_tiny.ipynb"
    run.execute("01_tiny", "quick", folder=root / "_build", output=page, root=root)
    return root


CLAIM = "- {id: tiny.steps, chapter: 01_tiny, kind: ours, metric: steps, unit: '1'}\n"
ROW = dict.fromkeys("value spread seeds n unit data profile paper_value".split())
ROW |= {"id": "tiny.steps", "status": "our measurement", "chapter": "01_tiny"}


@pytest.fixture
def root(sound, tmp_path):
    subprocess.run(["cp", "-r", f"{sound}/.", tmp_path], check=True)
    return tmp_path


def failing(root):
    return {name for name, gate in gates.GATES.items() if list(gate(root))}


def edit(path, old, new):
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path.name}"
    path.write_text(text.replace(old, new, 1))


def test_the_sound_tree_passes(sound):
    faults = {name: list(gate(sound)) for name, gate in gates.GATES.items()}
    assert not any(faults.values()), faults


@pytest.mark.parametrize(
    "file, old, new, gate",
    [
        # an output digit of a regression notebook, and of a page
        ("tests/regression/01_tiny.ipynb", "steps 3", "steps 4", "regression"),
        ("book/01_tiny.ipynb", "steps 5", "steps 6", "pages"),
        # a figure's key, caption, alternative text
        ("book/01_tiny.ipynb", '"name": "fig-line"', '"name": "fig-curve"', "figures"),
        ("book/01_tiny.ipynb", '"caption": "A **line**', '"caption": "A **curve**', "pages"),
        ("book/01_tiny.ipynb", '"alt": "A line."', '"alt": ""', "figures"),
        # a hyper-parameter: of a profile, of one half of the pair
        ("chapters/profiles.yaml", "steps: 3", "steps: 4", "regression"),
        ("chapters/profiles.yaml", "steps: 5", "steps: 6", "pages"),
        ("chapters/profiles.yaml", "steps: 5", "step: 5", "profiles"),
        ("chapters/profiles.yaml", "steps: 5", "steps: many", "profiles"),
        ("chapters/01_tiny.py", "rate = 0.1", "rate = 0.2", "pairs"),
        # text
        ("chapters/01_tiny.py", "A tiny chapter", "A chapter of 3.5 K", "pairs"),
        ("book/01_tiny.ipynb", "A tiny chapter", "Another chapter", "pages"),
        # the ledger
        ("book/ledger.json", "our measurement", "reproduced", "ledger"),
        ("book/ledger.json", "tiny.steps", "tiny.stops", "ledger"),
        ("book/claims.yaml", "unit: '1'", "colour: red", "ledger"),
        # a path of this machine
        ("book/claims.yaml", "metric: steps", f"metric: {chapters.ROOT}/x", "machine"),
    ],
)
def test_damage_is_named(root, file, old, new, gate):
    edit(root / file, old, new)
    assert gate in failing(root)


def test_two_claims_of_the_same_words(root):
    edit(root / "book/claims.yaml", CLAIM, CLAIM + CLAIM.replace("tiny.steps", "tiny.others"))
    assert any("2 claims of 01_tiny" in fault for fault in gates.ledger(root))


def test_changed_code_makes_page_and_regression_notebook_stale(root):
    tiny.rewrite(root, "axis.plot([0, steps])", "axis.plot([1, steps])")
    assert {"pages", "regression"} <= failing(root)


def test_typed_result(root):
    tiny.rewrite(root, "# # A tiny chapter", "# # A tiny chapter\n#\n# We reach 47 K.")
    assert "prose" in failing(root)


def test_outputs_in_a_chapter(root):
    notebook = nbformat.read(root / "chapters/01_tiny.ipynb", 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[-1].outputs = [nbformat.v4.new_output("stream", text="x")]
    nbformat.write(notebook, root / "chapters/01_tiny.ipynb")
    assert "pairs" in failing(root)


def test_regression_notebook_without_checks(root):
    tiny.rewrite(root, ' tags=["nbval-check-output"]', "")
    page = root / "tests/regression/01_tiny.ipynb"
    run.execute("01_tiny", "quick", folder=root / "_build", output=page, root=root)
    assert any("checks nothing" in fault for fault in gates.regression(root))


def test_too_much(root):
    (root / "book/weights").mkdir()
    (root / "book/weights/w").write_bytes(b"0" * 11 * 2**20)
    assert "room" in failing(root)


def test_a_changed_function_lists_the_chapter_as_stale_and_fails_no_gate(root):
    module = root / "stellarbook/learn/metrics.py"
    before = module.read_text()
    edit(module, "MAD_TO_STD = ", "MAD_TO_STD = 2 * ")
    assert not failing(root)
    printed = "\n".join(provenance.listing(root))
    assert re.search(
        r"01_tiny +library changed\n +changed since: stellarbook.learn.metrics", printed
    )
    module.write_text(before + "\n# a comment is no change\n")
    assert re.search(r"01_tiny +current", "\n".join(provenance.listing(root)))


@pytest.mark.archives
def test_nbval_sees_one_digit(tmp_path):
    """One digit of the first check cell of the real notebook: nbval fails and names the cell."""
    notebook = nbformat.read(chapters.ROOT / "tests/regression/01_data.ipynb", 4)
    for cell in notebook.cells:
        if "nbval-check-output" in cell.metadata.get("tags", []):
            cell.outputs[0]["text"] = cell.outputs[0]["text"].replace("39851", "39852")
            break
    # Up to that cell: what comes after it takes a minute and is nbval's own run.
    notebook.cells = notebook.cells[: notebook.cells.index(cell) + 1]
    nbformat.write(notebook, tmp_path / "01_data.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(tmp_path / "01_data.ipynb")],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "39852" in done.stdout and "Cell outputs differ" in done.stdout
