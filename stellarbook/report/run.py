"""Execute a chapter: papermill, then scrub, stamp, and only then move into place.

    python -m stellarbook.report.run 01_data --profile quick -p seed 3

A run that fails leaves the good notebook of an earlier run where it is, and what it got to beside
it as `NN_name.failed.ipynb`.
"""

import argparse
import ast
import json
import os
import resource
import sys
import time
from pathlib import Path

import nbformat

from stellarbook.data import archives
from stellarbook.report import chapters, figures, provenance


class RunError(RuntimeError):
    """A chapter raised; the message holds its cell and its traceback."""


def execute(name, profile, *, extra=None, folder=None, output=None, root=chapters.ROOT):
    """Run a chapter under a profile.

    Parameters
    ----------
    name : str
        Chapter, such as `"01_data"`.
    profile : str
    extra : dict, optional
        Parameters that override the profile's.
    folder : path-like, optional
        Run folder, for ledger, checks and checkpoints; `runs/<profile>` by default.
    output : path-like, optional
        Where the executed notebook goes; into the run folder by default.

    Returns
    -------
    Path
        The executed, stamped notebook.

    Raises
    ------
    chapters.ChapterError
        Unknown chapter, profile or parameter, or a parameter of the wrong type.
    RunError
        A cell raised.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    source = chapters.path(name, root)
    values = chapters.parameters(name, profile, extra, root)
    # Only what differs is injected, so that the page shows what the profile changed.
    default = chapters.parameters(name, chapters.STANDARD, root=root)
    changed = {key: value for key, value in values.items() if value != default[key]}
    name = source.stem
    folder = Path(folder or root / "runs" / profile).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    output = Path(output or folder / f"{name}.ipynb")
    # A profile that somebody overrode on the command line is not that profile any more.
    label = profile if not extra else f"{profile}, changed"
    work, failed = folder / f".{name}.running.ipynb", folder / f"{name}.failed.ipynb"
    os.environ |= {"STELLARBOOK_RUN": str(folder), "STELLARBOOK_PROFILE": label}
    before = provenance.origin(nbformat.read(source, 4), root)
    joules, start = _joules(), time.monotonic()
    try:
        papermill.execute_notebook(
            str(source),
            str(work),
            changed,
            cwd=str(root),
            kernel_name="python3",
            stderr_file=sys.stderr,
        )
    except PapermillExecutionError as error:
        work.replace(failed)
        raise RunError(
            f"{name} raised in cell {error.cell_index}; the notebook so far: {failed}\n{error}"
        ) from error
    measured = {
        "wall_seconds": round(time.monotonic() - start, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "energy_wh": round((_joules() - joules) / 3600, 2) if joules is not None else None,
    }
    notebook = scrub(nbformat.read(work, 4), root)
    notebook.metadata[provenance.KEY] = provenance.stamp(
        notebook, name, label, values, before=before, measured=measured
    )
    nbformat.validate(notebook)
    nbformat.write(notebook, work)
    work.replace(output)
    failed.unlink(missing_ok=True)
    return output


def scrub(notebook, root=chapters.ROOT):
    """Leave what a reader needs: no papermill metadata, times, stderr, or paths of this machine.

    A figure's caption and alternative text move from its output's metadata, which MyST-NB drops,
    to its cell's.

    Raises
    ------
    ValueError
        A cell shows two figures: MyST-NB gives a cell one caption.
    """
    notebook.metadata = nbformat.from_dict(
        {
            key: notebook.metadata[key]
            for key in ("kernelspec", "language_info", "jupytext")
            if key in notebook.metadata
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in ("tags", "mystnb") if cell.metadata.get(key)}
        )
        cell.id = f"cell-{number:03d}"  # stable, so that two runs can be compared
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        drawn = [o.metadata.pop(figures.METADATA, None) for o in cell.outputs if "metadata" in o]
        drawn = [record for record in drawn if record]
        if len(drawn) > 1:
            shown = ", ".join(record["name"] for record in drawn)
            raise ValueError(f"one cell shows {shown}: give each figure its own cell")
        for record in drawn:
            cell.metadata["mystnb"] = {
                "image": {"alt": record["alt"]},
                "figure": {"caption": record["caption"], "name": record["name"]},
            }
    text = json.dumps(notebook.cells)
    for path, word in ((root, "."), (archives.cache(), "<cache>"), (Path.home(), "~")):
        text = text.replace(str(path), word)
    notebook.cells = [nbformat.from_dict(cell) for cell in json.loads(text)]
    return notebook


def literal(text):
    """A value typed on the command line: Python's literals, `true` and `false`, else text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False}.get(text.lower(), text)


def _joules():
    """Energy counter in joules: the GPU's, else the processor package's, else None."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return (
            pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByIndex(0)) / 1e3
        )
    except Exception:  # no NVIDIA library, no card, or a card that does not count
        pass
    try:
        return int(Path("/sys/class/powercap/intel-rapl:0/energy_uj").read_text()) / 1e6
    except (OSError, ValueError):
        return None


def main(argv=None):
    """Command line of `make run`."""
    parser = argparse.ArgumentParser(
        prog="python -m stellarbook.report.run",
        description="Execute a chapter under a profile, stamp it, and put it into runs/<profile>/.",
        epilog="Example: python -m stellarbook.report.run 01_data --profile quick -p seed 3",
    )
    parser.add_argument("chapter", help=f"one of: {', '.join(chapters.names())}")
    parser.add_argument(
        "--profile", default="quick", help="a profile of chapters/profiles.yaml, or standard"
    )
    parser.add_argument(
        "-p",
        dest="extra",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="override a parameter; may be given again",
    )
    parser.add_argument("--folder", help="run folder (default: runs/<profile>)")
    parser.add_argument(
        "--output", help="where the executed notebook goes (default: into the run folder)"
    )
    words = parser.parse_args(argv)
    extra = {key: literal(value) for key, value in words.extra}
    try:
        done = execute(
            Path(words.chapter).stem,
            words.profile,
            extra=extra,
            folder=words.folder,
            output=words.output,
        )
    except (chapters.ChapterError, RunError) as error:
        sys.exit(f"stellarbook: {error}")
    print(f"{done} is ready")


if __name__ == "__main__":
    main()
