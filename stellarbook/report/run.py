"""Execute a chapter: papermill, then scrub, stamp, and only then move into place.

    python -m stellarbook.report.run 01_data --profile quick -p seed 3

A run that fails leaves the good notebook of an earlier run where it is, and what it got to beside
it as `NN_name.failed.ipynb`.
"""

import argparse
import ast
import json
import os
import re
import resource
import sys
import time
from pathlib import Path
from unittest import mock

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
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    source = chapters.path(name, root)
    values = chapters.parameters(name, profile, extra, root)
    # Only what differs is injected, so that the page shows what the profile changed.
    default = chapters.parameters(name, chapters.STANDARD, root=root)
    changed = {key: value for key, value in values.items() if value != default[key]}
    name = source.stem
    folder = Path(folder or root / "runs" / profile).resolve()
    output = Path(output or folder / f"{name}.ipynb")
    for needed in (folder, output.parent):
        needed.mkdir(parents=True, exist_ok=True)
    ledger = folder / "ledger" / f"{name}.json"
    ledger.unlink(missing_ok=True)
    work, failed = folder / f".{name}.{os.getpid()}.ipynb", folder / f"{name}.failed.ipynb"
    # A profile that somebody overrode on the command line is not that profile any more.
    label = profile if not extra else f"{profile}, changed"
    kernels = str(Path(sys.prefix) / "share" / "jupyter")  # this environment's before others
    environment = {
        "STELLARBOOK_RUN": str(folder),
        "STELLARBOOK_PROFILE": label,
        "JUPYTER_PATH": os.pathsep.join(filter(None, [kernels, os.environ.get("JUPYTER_PATH")])),
    }
    before = provenance.origin(nbformat.read(source, 4), root)
    joules, start = _joules(), time.monotonic()
    try:
        with mock.patch.dict(os.environ, environment):
            executed = papermill.execute_notebook(
                str(source),
                str(work),
                changed,
                cwd=str(root),
                kernel_name="python3",
                stderr_file=sys.stderr,
            )
    except (PapermillExecutionError, DeadKernelError) as error:
        work.replace(failed)
        where = getattr(error, "cell_index", None)
        cause = f"raised in cell {where}" if where is not None else "lost its kernel (no memory?)"
        raise RunError(f"{name} {cause}; the notebook so far: {failed}\n{error}") from error
    seconds, after = time.monotonic() - start, _joules()
    counted = None not in (joules, after) and after >= joules  # the processor's counter wraps
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    measured = {
        "wall_seconds": round(seconds, 1),
        "peak_memory_mb": round(memory / (2**20 if sys.platform == "darwin" else 2**10)),
        "energy_wh": round((after - joules) / 3600, 2) if counted else None,
        # With the page, so that a run that fails later cannot change them.
        "claims": json.loads(ledger.read_text()) if ledger.exists() else [],
    }
    notebook = scrub(executed, root)
    notebook.metadata[provenance.KEY] = provenance.stamp(
        notebook, name, label, values, before=before, measured=measured
    )
    nbformat.validate(notebook)
    part = output.with_name(f".{output.name}.part")
    nbformat.write(notebook, part)
    part.replace(output)
    for old in (work, failed):
        old.unlink(missing_ok=True)
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
    folders = ((root, "."), (archives.cache(), "<cache>"), (Path.home(), "~"))
    places = [(str(path), word) for path, word in folders if len(Path(path).parts) > 1]
    notebook.cells = [_without(cell, places) for cell in notebook.cells]
    return notebook


def _without(value, places):
    """A cell without these folders. Pictures stay as they are: base64 may spell a short one."""
    if isinstance(value, str):
        for place, word in places:
            value = re.sub(rf"(?<![\w.-]){re.escape(place)}(?![\w.-])", lambda _, w=word: w, value)
        return value
    if isinstance(value, list):
        return [_without(one, places) for one in value]
    if isinstance(value, dict):
        return nbformat.from_dict(
            {k: v if k.startswith("image/") else _without(v, places) for k, v in value.items()}
        )
    return value


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
