"""Bring a finished run into the book: its notebooks, its ledger, its weights.

    python -m stellarbook.report.publish pages --profile long
    python -m stellarbook.report.publish weights xp_mlp --chapter 01_data --profile long
    python -m stellarbook.report.publish site --profile quick

Weights: a chapter that trains something worth keeping writes `<run>/weights/<system>/` (see
`learn.fit.save_weights`); here they come to `book/weights/` with a card.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import nbformat

from stellarbook.report import chapters, claims, provenance

ROOM_MIB = {"page": 0.6, "weights": 10.0}


def pages(profile, only=None, root=chapters.ROOT):
    """Copy the run's notebooks into `book/` and merge its ledger.

    A page whose code is the chapter's takes the chapter's present text: prose can be mended without
    training again, for every number in it is glued.

    Parameters
    ----------
    profile : str
    only : str, optional
        One chapter; all that the run holds by default.

    Raises
    ------
    chapters.ChapterError
        The profile is quick, which never becomes the book; nothing was run; a run is older than its
        chapter, was made with parameters of the command line, or is too large.
    """
    _not_quick(profile)
    run = root / "runs" / profile
    names = [chapters.path(only, root).stem] if only else chapters.names(root)
    done = [name for name in names if (run / f"{name}.ipynb").exists()]
    if not done:
        raise chapters.ChapterError(
            f"runs/{profile} holds no notebook: `make run PROFILE={profile}`"
        )
    for name in done:
        mark = _sound(run / f"{name}.ipynb", profile, root)
        page = retold(nbformat.read(run / f"{name}.ipynb", 4), name, root)
        text = nbformat.writes(page)
        if (size := len(text.encode()) / 2**20) > ROOM_MIB["page"]:
            raise chapters.ChapterError(
                f"{name} is {size:.2f} MiB, over {ROOM_MIB['page']}:"
                " draw with fewer points, or at a lower resolution"
            )
        (root / "book" / f"{name}.ipynb").write_text(text + "\n")
        ledger = root / "book" / "ledger.json"
        old = json.loads(ledger.read_text()) if ledger.exists() else []
        claims.write(ledger, claims.merge(old, mark["claims"], name))
        print(f"book/{name}.ipynb published from runs/{profile}")


def _sound(page, profile, root):
    """The stamp of a run that still is its chapter's, under this very profile."""
    wrong = {k: v for k, v in provenance.differences(page, root).items() if k != "modules"}
    if wrong:
        raise chapters.ChapterError(f"{page.relative_to(root)}: {'; '.join(wrong.values())}")
    mark = nbformat.read(page, 4).metadata[provenance.KEY]
    if mark["profile"] != profile:
        raise chapters.ChapterError(f"{page.relative_to(root)} was run as {mark['profile']!r}")
    return mark


def _not_quick(profile):
    if profile == "quick":
        raise chapters.ChapterError(
            "quick shows that every part runs: publish standard, long or full"
        )


def retold(page, name, root=chapters.ROOT):
    """An executed page with the chapter's present text around its unchanged code.

    Raises
    ------
    chapters.ChapterError
        The code differs.
    """
    chapter = nbformat.read(chapters.path(name, root), 4)
    injected = [c for c in page.cells if "injected-parameters" in c.metadata.get("tags", [])]
    ran = [c for c in page.cells if c.cell_type == "code" and c not in injected]
    told = [c for c in chapter.cells if c.cell_type == "code"]
    if [c.source for c in ran] != [c.source for c in told]:
        raise chapters.ChapterError(f"the code of chapters/{name} has changed since it ran")
    for done, now in zip(ran, told, strict=True):
        done.metadata["tags"] = now.metadata.get("tags", [])
    ran = iter(ran)
    cells = []
    for cell in chapter.cells:
        cells.append(next(ran) if cell.cell_type == "code" else cell)
        if "parameters" in cell.metadata.get("tags", []):
            cells += injected
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:03d}"
    page.cells = cells
    return page


def weights(system, profile, chapter, root=chapters.ROOT):
    """Copy `runs/<profile>/weights/<system>/` to `book/weights/<system>/`, with a card.

    The card, `card.json`, is the stamp of the run that trained them.

    Raises
    ------
    chapters.ChapterError
        The profile is quick; the run holds no such weights or no such chapter; `book/weights/`
        would outgrow its room.
    """
    _not_quick(profile)
    made, kept = root / "runs" / profile / "weights", root / "book" / "weights"
    if not (made / system).is_dir():
        there = ", ".join(sorted(p.name for p in made.glob("*"))) or "none"
        raise chapters.ChapterError(f"runs/{profile} has no weights of {system!r}: it has {there}")
    page = root / "runs" / profile / f"{chapters.path(chapter, root).stem}.ipynb"
    if not page.exists():
        raise chapters.ChapterError(f"runs/{profile} holds no run of {chapter}")
    card = _sound(page, profile, root)
    others = [p for p in kept.rglob("*") if p.is_file() and system not in p.relative_to(kept).parts]
    size = sum(p.stat().st_size for p in [*others, *(made / system).rglob("*")]) / 2**20
    if size > ROOM_MIB["weights"]:
        raise chapters.ChapterError(
            f"book/weights/ would hold {size:.1f} MiB, over {ROOM_MIB['weights']}"
        )
    shutil.copytree(made / system, kept / system, dirs_exist_ok=True)
    (kept / system / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"book/weights/{system} published from runs/{profile}")


def benchmarks(root=chapters.ROOT):
    """Bring `_build/benchmarks.json` to `book/benchmarks.json`, without the machine's name."""
    made = json.loads((root / "_build/benchmarks.json").read_text())
    kept = {
        "datetime": made["datetime"],
        "processor": made["machine_info"]["cpu"].get("brand_raw", made["machine_info"]["machine"]),
        "benchmarks": [
            {"name": bench["name"]}
            | {"stats": {key: bench["stats"][key] for key in ("median", "iqr", "rounds")}}
            | ({"extra": extra} if (extra := bench.get("extra_info")) else {})
            for bench in made["benchmarks"]
        ],
    }
    (root / "book/benchmarks.json").write_text(json.dumps(kept, indent=1) + "\n")
    print("book/benchmarks.json written")


def lay_out(profile, root=chapters.ROOT):
    """Lay a run's notebooks over a copy of the book's pages, to be built as a site of that run.

    Returns
    -------
    Path
        `_build/src-<profile>`.
    """
    folder = root / "_build" / f"src-{profile}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in ("_config.yml", "_toc.yml"):
        shutil.copy(root / file, folder)
    shutil.copytree(root / "book", folder / "book")
    for page in (root / "runs" / profile).glob("[0-9][0-9]_*.ipynb"):
        if not page.name.endswith(".failed.ipynb"):
            shutil.copy(page, folder / "book")
    return folder


def main(argv=None):
    """Command line of `make publish`, `make weights` and the site of a run."""
    parser = argparse.ArgumentParser(
        prog="python -m stellarbook.report.publish",
        description="Bring a finished run into the book.",
    )
    parser.add_argument("what", choices=("pages", "weights", "benchmarks", "site"))
    parser.add_argument("system", nargs="?", help="with weights: whose")
    parser.add_argument("--profile", default="long")
    parser.add_argument(
        "--chapter", help="pages: only this one; weights: the one that trained them"
    )
    words = parser.parse_args(argv)
    try:
        if words.what == "pages":
            pages(words.profile, words.chapter)
        elif words.what == "weights":
            if not (words.system and words.chapter):
                parser.error("weights of which system, trained by which --chapter?")
            weights(words.system, words.profile, words.chapter)
        elif words.what == "benchmarks":
            benchmarks()
        else:
            print(lay_out(words.profile).relative_to(Path.cwd()))
    except chapters.ChapterError as error:
        sys.exit(f"stellarbook: {error}")


if __name__ == "__main__":
    main()
