"""The order of work: what has changed is run again, what has not is left alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from stellarbook.report import chapters

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
DONE = "runs/quick/01_tiny.done"


def snakemake(root, *words):
    # On PYTHONPATH the copied module comes before the installed one, and ROOT is the copy.
    done = subprocess.run(
        [SNAKEMAKE, "--cores", "1", "--config", "profile=quick", *words, "--", DONE],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tiny.tree(tmp_path_factory.mktemp("a tree"))
    shutil.copy(chapters.ROOT / "Snakefile", root)
    assert "chapter_01_tiny" in snakemake(root)
    assert (root / "runs/quick/01_tiny.ipynb").exists()
    return root


def test_an_unchanged_tree_does_nothing(root):
    assert "Nothing to be done" in snakemake(root)


@pytest.mark.parametrize(
    "file, old, new, runs",
    [
        ("chapters/profiles.yaml", "steps: 3", "steps: 4", True),
        ("chapters/profiles.yaml", "steps: 5", "steps: 6", False),  # another profile's
        ("chapters/01_tiny.ipynb", "steps = 10", "steps = 11", True),
        ("stellarbook/learn/metrics.py", "MAD_TO_STD = ", "MAD_TO_STD = 2 * ", True),
        ("stellarbook/learn/fit.py", "import", "import", False),  # not imported by the chapter
    ],
)
def test_what_has_changed_is_run(root, file, old, new, runs):
    before = (root / file).read_text()
    assert old in before
    (root / file).write_text(before.replace(old, new, 1))
    planned = snakemake(root, "--dry-run")
    (root / file).write_text(before)
    assert ("chapter_01_tiny" in planned) is runs
