"""A tree with one tiny chapter, for tests that damage it."""

import shutil

import jupytext
import nbformat

from stellarbook.report import chapters

TEXT = """# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tiny chapter

# %% tags=["parameters"]
seed = 0
steps = 10
rate = 0.1
sizes = [1, 2]

# %%
import matplotlib.pyplot as plt
from stellarbook.learn import metrics
from stellarbook.report import figures

# %% tags=["nbval-check-output"]
print("steps", steps)

# %%
fig, axis = plt.subplots()
axis.plot([0, steps])
figures.show(fig, "fig-line", data="simulated stars",
             caption="A **line** of $x$.", alt="A line.")
"""
PROFILES = "quick:\n  01_tiny:\n    steps: 3\nlong:\n  01_tiny:\n    steps: 5\n"


def tree(root):
    """Write the tree: a chapter pair, profiles, no claims, and the module itself."""
    for folder in ("chapters", "book", "tests/regression"):
        (root / folder).mkdir(parents=True)
    (root / "chapters/01_tiny.py").write_text(TEXT)
    nbformat.write(jupytext.reads(TEXT, "py:percent"), root / "chapters/01_tiny.ipynb")
    (root / "chapters/profiles.yaml").write_text(PROFILES)
    (root / "book/claims.yaml").write_text("[]\n")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(chapters.ROOT / "stellarbook", root / "stellarbook", ignore=skip)
    return root


def rewrite(root, old, new):
    """Change the chapter's text, in both halves of the pair."""
    text = (root / "chapters/01_tiny.py").read_text()
    assert old in text
    text = text.replace(old, new)
    (root / "chapters/01_tiny.py").write_text(text)
    nbformat.write(jupytext.reads(text, "py:percent"), root / "chapters/01_tiny.ipynb")
