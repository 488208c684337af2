"""Claims, checks, figures, live source, fingerprints: known answers."""

import hashlib
import json

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarbook.report import chapters, check, claims, figures, provenance, source

VALUE = {"id": "a", "chapter": "c", "kind": "value", "metric": "m", "unit": "K", "value": 50.0}
VALUE |= {"paper": "desa", "where": "Table 1", "quote": "q"}
ORDER = VALUE | {"kind": "ordering"}


# --- claims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "claim, value, spread, seeds, verdict",
    [
        (VALUE, 54.9, 0.1, 3, "reproduced"),  # within 10 %
        (VALUE, 55.1, 0.1, 3, "differs"),
        (VALUE, 60.0, 5.1, 3, "reproduced"),  # within two standard deviations
        (VALUE, 60.0, np.nan, 1, "differs"),  # one seed has no spread
        (VALUE | {"comparable": False, "why": "w"}, 50, 1, 3, "not comparable"),
        (VALUE | {"attempted": False, "why": "w"}, 50, 1, 3, "not attempted"),
        # standard error 1/√4: beyond two of them, or not
        (ORDER, 1.1, 1.0, 4, "direction holds"),
        (ORDER, 0.9, 1.0, 4, "undecided"),
        (ORDER, -1.1, 1.0, 4, "contradicted"),
        (ORDER, 9.0, np.nan, 1, "undecided"),
        ({"kind": "ours"}, 1, 1, 1, "our measurement"),
    ],
)
def test_status(claim, value, spread, seeds, verdict):
    assert claims.status(claim, value, spread, seeds) == verdict
    assert verdict in claims.STATUS


@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.integers(2, 9))
def test_an_ordering_and_its_opposite_never_both_hold(value, spread, seeds):
    verdicts = {claims.status(ORDER, sign * value, spread, seeds) for sign in (-1, 1)}
    assert verdicts in ({"undecided"}, {"direction holds", "contradicted"})


def test_record(tmp_path, monkeypatch):
    monkeypatch.setenv("STELLARBOOK_RUN", str(tmp_path))
    monkeypatch.setattr(claims, "stated", lambda: {"a": VALUE, "b": VALUE | {"id": "b"}})
    claims.record("a", [49.0, 51.0, 50.0], n=7, data="real")
    claims.record("b", 50.0, n=7, data="simulated spectra of real stars")
    claims.record("a", [48.0, 52.0], n=7, data="real")  # the last word counts
    rows = {row["id"]: row for row in json.loads((tmp_path / "ledger/c.json").read_text())}
    assert set(rows["a"]) == set(
        "id value spread seeds n unit data profile paper_value status chapter".split()
    )
    assert rows["a"]["value"] == 50 and rows["a"]["spread"] == pytest.approx(2 * 2**0.5)
    assert rows["a"]["seeds"] == 2 and rows["b"]["spread"] is None
    assert rows["b"]["data"] == "simulated spectra"
    assert list(claims.table("c")["verdict"]) == ["reproduced", "reproduced"]
    monkeypatch.setattr(claims, "stated", lambda: {"z": VALUE | {"id": "z"}})
    assert list(claims.table("c")["verdict"]) == ["not recorded"]
    for bad, message in (
        (("y", 1.0), "not stated"),
        (("z", float("nan")), "finite"),
        (("z", []), "finite"),
    ):
        with pytest.raises(claims.ClaimError, match=message):
            claims.record(*bad, n=1, data="real")
    with pytest.raises(claims.ClaimError, match="expected one of real"):
        claims.record("z", 1.0, n=1, data="made up")


@pytest.mark.parametrize(
    "text, message",
    [
        ("- {id: a, kind: ours, chapter: c, metric: m}", "missing unit"),
        ("- {id: a, kind: value, chapter: c, metric: m, unit: K}", "missing paper, quote"),
        ("- {id: a, kind: guess, chapter: c, metric: m, unit: K}", "kind is 'guess'"),
        ("- {id: a, colour: red}", "unknown field 'colour'"),
        ("- {id: a, value: high}", "value is 'high', not float"),
        ("- {id: a, kind: ours, chapter: c, metric: m, unit: K}\n" * 2, "stands twice"),
    ],
)
def test_claims_file(tmp_path, text, message):
    (tmp_path / "book").mkdir()
    (tmp_path / "book/claims.yaml").write_text(text)
    with pytest.raises(claims.ClaimError, match=message):
        claims.stated(tmp_path)


def test_merge_replaces_whole_chapters():
    old = [{"id": "a", "chapter": "1"}, {"id": "b", "chapter": "1"}, {"id": "c", "chapter": "2"}]
    assert claims.merge(old, [], "1") == old[2:]
    merged = claims.merge(old, [{"id": "b", "chapter": "1"}], "1")
    assert [row["id"] for row in merged] == ["b", "c"]


# --- checks ---------------------------------------------------------------------------------------


@pytest.fixture
def reference(tmp_path, monkeypatch):
    monkeypatch.setenv("STELLARBOOK_RUN", str(tmp_path))
    monkeypatch.setenv("STELLARBOOK_PROFILE", "quick")
    known = {"x": {"reference": 10.0, "tolerance": 0.5}}
    monkeypatch.setattr(check, "tolerances", lambda: known)


def test_check_prints_the_same_line_for_every_value_within(reference, capsys):
    for value in (9.51, 10.0, np.float32(10.49)):
        check.check("x", value)
    assert set(capsys.readouterr().out.splitlines()) == {"x within ±0.5 of 10"}


def test_check_prints_the_distance_of_a_value_outside(reference, capsys):
    check.check("x", 11.0)
    assert capsys.readouterr().out == "x is 11: 2.0 times the tolerance ±0.5 away from 10\n"


def test_check_without_reference_or_number(reference, capsys, monkeypatch):
    check.check("y", 1.0)
    assert "no reference" in capsys.readouterr().out
    with pytest.raises(ValueError, match="x is nan"):
        check.check("x", float("nan"))
    monkeypatch.setenv("STELLARBOOK_PROFILE", "long")
    check.check("x", 99.0)
    assert capsys.readouterr().out == "x: 99\n"


def test_every_wide_tolerance_has_a_reason():
    for name, known in check.tolerances().items():
        assert known["runs"] >= 10, name
        assert known["tolerance"] <= 0.15 * abs(known["reference"]) or known["why"], name


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": "synthetic"}, "data is 'synthetic'"),
        ({"caption": " "}, "needs a caption"),
        ({"alt": ""}, "needs a caption and an alternative text"),
        ({"name": "Kiel"}, "expected fig-"),
    ],
)
def test_a_figure_says_what_it_is(change, message):
    words = {"name": "fig-x", "caption": "c", "alt": "a", "data": "real"} | change
    with pytest.raises(ValueError, match=message):
        figures.show(plt.figure(), words.pop("name"), **words)
    plt.close("all")


def test_badge_is_in_the_picture(monkeypatch):
    shown = {}
    monkeypatch.setattr(figures, "display", lambda data, **rest: shown.update(data | rest))
    fig, _ = plt.subplots()
    figures.show(fig, "fig-x", caption="a\n  b", alt="a", data="simulated stars", source="s")
    assert "● simulated stars: s" in [text.get_text() for text in fig.texts]
    assert shown["image/png"].startswith(b"\x89PNG")
    assert shown["metadata"][figures.METADATA]["caption"] == "a b"
    assert not plt.fignum_exists(fig.number)


# --- source and fingerprints ----------------------------------------------------------------------


def documented(x):
    """Leave me out."""

    return x + 1  # keep me


def test_source_is_live():
    assert source.text(documented) == "def documented(x):\n    return x + 1  # keep me"
    assert "Leave me out" in source.text(documented, docstring=True)
    assert source.where(documented).startswith("tests/test_report.py:")


@pytest.mark.parametrize(
    "other, same",
    [
        ("def f(x):\n    # why\n    return (x\n      + 1)", True),
        ('def f(x):\n    "doc"\n    return x + 1', True),
        ("def f(x):\n    return x + 2", False),
        ("def f(y):\n    return y + 1", False),
        ("def f(x):\n    return x - 1", False),
    ],
)
def test_module_fingerprint(other, same):
    original = "def f(x):\n    return x + 1"
    assert (provenance.module_sha(other) == provenance.module_sha(original)) is same


def test_module_fingerprint_is_the_same_for_every_python():
    # Held here because ast.dump, which this replaces, changed between versions.
    assert provenance.module_sha("def f(x: int = 1) -> str:\n    return f'{x!r} y'") == FINGERPRINT


FINGERPRINT = "e4ef7fd816f4fcab"


def test_imports_are_followed(tmp_path):
    package = tmp_path / "stellarbook"
    (package / "data").mkdir(parents=True)
    for name, text in {
        "__init__": "",
        "data/__init__": "",
        "data/a": "from stellarbook.data import b",
        "data/b": "import numpy\nfrom . import c",
        "data/c": "",
        "data/d": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    cell = nbformat.v4.new_code_cell("%matplotlib inline\nimport stellarbook.data.a")
    found = chapters.modules(nbformat.v4.new_notebook(cells=[cell]), tmp_path)
    assert list(found) == [
        "stellarbook",
        "stellarbook.data",
        "stellarbook.data.a",
        "stellarbook.data.b",
        "stellarbook.data.c",
    ]


def test_the_stamp_names_the_survey_files_that_a_chapter_reads(tmp_path, monkeypatch):
    chapter = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(
                'from stellarbook.data import survey_files\nsurvey_files.load("lamost")'
            )
        ]
    )
    written = {"lamost_lrs.npz": b"spectra", "lamost_lrs.csv": b"labels"}
    for name, content in written.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("STELLARBOOK_DATA", str(tmp_path))
    assert provenance.data(chapter) == {
        f"STELLARBOOK_DATA/{name}": hashlib.sha256(content).hexdigest()
        for name, content in written.items()
    }
    monkeypatch.delenv("STELLARBOOK_DATA")
    assert provenance.data(chapter) == {}
