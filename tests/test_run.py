"""Running, stamping, publishing: a tiny chapter through the whole chain."""

import json
import subprocess
import sys

import nbformat
import pytest
import tiny

from stellarbook.report import chapters, provenance, publish, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A tree whose tiny chapter was run under `long`."""
    root = tiny.tree(tmp_path_factory.mktemp("tree"))
    run.execute("01_tiny", "long", root=root)
    return root


@pytest.fixture
def root(finished, tmp_path):
    """A copy of the finished tree, to damage."""
    subprocess.run(["cp", "-r", f"{finished}/.", tmp_path], check=True)
    return tmp_path


def test_run_writes_a_clean_stamped_notebook(finished):
    page = nbformat.read(finished / "runs/long/01_tiny.ipynb", 4)
    mark = page.metadata["stellarbook"]
    assert mark["parameters"] == {"seed": 0, "steps": 5, "rate": 0.1, "sizes": [1, 2]}
    assert mark["profile"] == "long" and mark["wall_seconds"] > 0
    assert {"stellarbook.report.figures", "stellarbook.learn.metrics"} <= set(mark["modules_sha"])
    assert "papermill" not in page.metadata
    assert str(finished) not in json.dumps(page)
    assert provenance.differences(finished / "runs/long/01_tiny.ipynb", finished) == {}


def test_figure_metadata_reaches_the_cell(finished):
    page = nbformat.read(finished / "runs/long/01_tiny.ipynb", 4)
    (cell,) = [c for c in page.cells if c.metadata.get("mystnb")]
    assert cell.metadata["mystnb"] == {
        "image": {"alt": "A line."},
        "figure": {"caption": "A **line** of $x$.", "name": "fig-line"},
    }


def test_a_chapter_that_raises_keeps_the_good_notebook(root):
    good = (root / "runs/long/01_tiny.ipynb").read_bytes()
    tiny.rewrite(root, 'print("steps", steps)', 'raise RuntimeError("half-way")')
    with pytest.raises(run.RunError, match="half-way"):
        run.execute("01_tiny", "long", root=root)
    assert (root / "runs/long/01_tiny.ipynb").read_bytes() == good
    failed = nbformat.read(root / "runs/long/01_tiny.failed.ipynb", 4)
    assert any(o.get("ename") == "RuntimeError" for c in failed.cells for o in c.get("outputs", []))


@pytest.mark.parametrize(
    "name, profile, extra, message",
    [
        ("01_tiny", "fast", {}, "no profile 'fast': there are standard, quick, long"),
        ("02_none", "quick", {}, "no chapter '02_none': there are 01_tiny"),
        ("01_tiny", "quick", {"step": 3}, "no parameter 'step': it has seed, steps, rate, sizes"),
        ("01_tiny", "quick", {"steps": "3"}, "steps is a str .'3'., expected int"),
        ("01_tiny", "quick", {"steps": True}, "steps is a bool"),
        ("01_tiny", "quick", {"sizes": 3}, "sizes is a int"),
    ],
)
def test_bad_parameters_are_named(finished, name, profile, extra, message):
    with pytest.raises(chapters.ChapterError, match=message):
        run.execute(name, profile, extra=extra, root=finished)


def test_parameters(finished):
    assert chapters.parameters("01_tiny", "quick", root=finished)["steps"] == 3
    assert chapters.parameters("01_tiny", "standard", root=finished)["steps"] == 10
    # An integer is a good float; the stamp says what the chapter saw.
    assert chapters.parameters("01_tiny", "quick", {"rate": 1}, finished)["rate"] == 1.0


def test_profile_with_a_wrong_type_is_refused(root):
    (root / "chapters/profiles.yaml").write_text("quick:\n  01_tiny:\n    steps: many\n")
    with pytest.raises(chapters.ChapterError, match="steps is a str"):
        chapters.parameters("01_tiny", "quick", root=root)


@pytest.mark.parametrize(
    "text, value",
    [("3", 3), ("1e-3", 1e-3), ("[1, 2]", [1, 2]), ("true", True), ("cuda", "cuda")],
)
def test_command_line_values(text, value):
    assert run.literal(text) == value


def test_help_helps():
    for module in ("run", "publish", "provenance"):
        done = subprocess.run(
            [sys.executable, "-m", f"stellarbook.report.{module}", "--help"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "usage" in done.stdout


def test_publish(root):
    publish.pages("long", root=root)
    assert provenance.state(root / "book/01_tiny.ipynb", root) == "current"


def test_publish_takes_new_text_without_a_new_run(root):
    tiny.rewrite(root, "# # A tiny chapter", "# # A retold chapter")
    publish.pages("long", root=root)
    page = nbformat.read(root / "book/01_tiny.ipynb", 4)
    assert page.cells[0].source == "# A retold chapter"
    assert provenance.state(root / "book/01_tiny.ipynb", root) == "current"


def test_publish_refuses_a_run_that_is_not_the_chapter(root):
    tiny.rewrite(root, "axis.plot([0, steps])", "axis.plot([1, steps])")
    with pytest.raises(chapters.ChapterError, match="code of chapters/01_tiny has changed"):
        publish.pages("long", root=root)
    with pytest.raises(chapters.ChapterError, match="quick shows that every part runs"):
        publish.pages("quick", root=root)
    with pytest.raises(chapters.ChapterError, match="holds no notebook"):
        publish.pages("full", root=root)


def test_publish_takes_new_tags_and_refuses_a_split_cell(root):
    tiny.rewrite(root, "# %%\nfig, axis", '# %% tags=["hide-input"]\nfig, axis')
    publish.pages("long", root=root)
    page = nbformat.read(root / "book/01_tiny.ipynb", 4)
    assert page.cells[-1].metadata["tags"] == ["hide-input"]
    tiny.rewrite(root, "axis.plot([0, steps])", "# %%\naxis.plot([0, steps])")
    with pytest.raises(chapters.ChapterError, match="code of chapters/01_tiny has changed"):
        publish.pages("long", root=root)


def test_a_failed_run_leaves_the_ledger_of_the_good_one(root, monkeypatch):
    (root / "book/claims.yaml").write_text(CLAIM)
    record = "from stellarbook.report import claims\nclaims.record('t', 3.0, n=1, data='real')\n"
    # The kernel's `claims` must find the copied tree, not the installed one.
    monkeypatch.setenv("PYTHONPATH", str(root))
    tiny.rewrite(root, 'print("steps", steps)', record + 'print("steps", steps)')
    run.execute("01_tiny", "long", root=root)
    publish.pages("long", root=root)
    tiny.rewrite(root, "claims.record('t', 3.0", "claims.record('t', 4.0")
    tiny.rewrite(root, 'print("steps", steps)', "raise RuntimeError")
    with pytest.raises(run.RunError):
        run.execute("01_tiny", "long", root=root)
    tiny.rewrite(root, "claims.record('t', 4.0", "claims.record('t', 3.0")
    tiny.rewrite(root, "raise RuntimeError", 'print("steps", steps)')
    publish.pages("long", root=root)
    (row,) = json.loads((root / "book/ledger.json").read_text())
    assert row["value"] == 3.0 and row["chapter"] == "01_tiny"


CLAIM = "- {id: t, chapter: 01_tiny, kind: ours, metric: m, unit: K}\n"


def test_output_goes_where_it_is_wanted(root, tmp_path):
    wanted = tmp_path / "a new folder" / "out.ipynb"
    assert run.execute("01_tiny", "quick", output=wanted, root=root) == wanted
    assert wanted.exists()


def test_scrub_leaves_pictures_and_finds_paths(root):
    code = nbformat.v4.new_code_cell("x")
    code.outputs = [
        nbformat.v4.new_output("stream", text=f"read {root}/a and {root}bc"),
        nbformat.v4.new_output("display_data", data={"image/png": f"iVBO{root}/"}),
    ]
    (cell,) = run.scrub(nbformat.v4.new_notebook(cells=[code]), root).cells
    assert cell.outputs[0].text == f"read ./a and {root}bc"
    assert cell.outputs[1].data["image/png"] == f"iVBO{root}/"


def test_overridden_parameters_are_not_the_profile(root):
    run.execute("01_tiny", "long", extra={"steps": 7}, root=root)
    with pytest.raises(chapters.ChapterError, match="was run as 'long, changed'"):
        publish.pages("long", root=root)


def test_a_changed_profile_makes_its_run_stale(root):
    profiles = root / "chapters/profiles.yaml"
    profiles.write_text(profiles.read_text().replace("steps: 5", "steps: 6"))
    with pytest.raises(chapters.ChapterError, match="now gives other values for steps"):
        publish.pages("long", root=root)


def test_site_of_a_run_lays_its_pages_over_the_book(root):
    for file in ("_config.yml", "_toc.yml"):
        (root / file).write_text("")
    (root / "book/index.md").write_text("# Book")
    folder = publish.lay_out("long", root)
    assert (folder / "book/index.md").exists() and (folder / "book/01_tiny.ipynb").exists()
    assert not (root / "book/01_tiny.ipynb").exists()


def test_weights(root):
    made = root / "runs/long/weights/net"
    made.mkdir(parents=True)
    (made / "net.safetensors").write_bytes(b"0" * 100)
    publish.weights("net", "long", "01_tiny", root)
    assert (root / "book/weights/net/net.safetensors").exists()
    card = json.loads((root / "book/weights/net/card.json").read_text())
    assert card["profile"] == "long" and card["parameters"]["steps"] == 5
    with pytest.raises(chapters.ChapterError, match="no weights of 'other': it has net"):
        publish.weights("other", "long", "01_tiny", root)
    with pytest.raises(chapters.ChapterError, match="quick shows"):
        publish.weights("net", "quick", "01_tiny", root)
    (made / "net.safetensors").write_bytes(b"0" * 11 * 2**20)
    with pytest.raises(chapters.ChapterError, match="would hold"):
        publish.weights("net", "long", "01_tiny", root)


def test_card(finished):
    page = finished / "runs/long/01_tiny.ipynb"
    card = provenance.card(nbformat.read(page, 4).metadata, page, finished)
    assert "**long** profile" in card and "`steps = 5`" in card
    assert "No stamp" in provenance.card({}, page, finished)
