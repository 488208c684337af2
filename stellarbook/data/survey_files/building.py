"""All steps of a build on one machine, in as many processes as it has cores."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm  # never tqdm.auto: its widgets would put JavaScript into the pages

from stellarbook.data.survey_files.catalogue import check_labels
from stellarbook.data.survey_files.layout import SurveyFilesError
from stellarbook.data.survey_files.merge import merge
from stellarbook.data.survey_files.plan import count, done, plan, units
from stellarbook.data.survey_files.shards import shard


def build(
    folder: str | Path,
    out: str | Path,
    survey: str | None = None,
    *,
    labels: str | Path | None = None,
    processes: int | None = None,
    size: int = 1000,
    progress: bool = True,
) -> Path:
    """Read a folder of downloads into the two files that `load` opens.

    What was read stays read: a build that was killed goes on where it was, and files that are
    unchanged are not read again. Afterwards set ``STELLARBOOK_DATA`` to ``out``; its folder
    ``shards`` may then be removed.

    Parameters
    ----------
    folder : path
        Searched with its subfolders. One spectrum a file (GALAH: an arm a file), gzipped or not;
        files that hold several stars, as DESI's, are skipped.
    out : path
        Gets the arrays and table (`layout`), ``skipped.csv`` and the shards, as large again.
    survey : str, optional
        lamost, sdss, desi, apogee, galah, gaia_xp_continuous or gaia_xp_sampled: files of any
        other are skipped and reported. Without it the survey is recognised, and a mixture refused.
    labels : path, optional
        A catalogue, csv or parquet, to take labels from (`catalogue.add_labels`).
    processes : int, optional
        Default: one a core. They are spawned: a script that calls this needs the usual
        ``if __name__ == "__main__":``. 1 reads in this process.
    size : int
        Files a shard: what a process reads at a time, holds in memory, and loses when killed.
    progress : bool
        Show a bar.

    Returns
    -------
    Path
        The ``.npz``; the ``.csv`` is beside it.

    Raises
    ------
    SurveyFilesError
        No file of the survey, a mixture of surveys, a catalogue without the columns it needs, or
        a process that was killed.
    ValueError
        ``survey`` is unknown, ``size`` or ``processes`` below 1.
    """
    if processes is not None and processes < 1:
        raise ValueError(f"processes {processes}: expected at least one")
    content = plan(folder, out, survey, size)
    if labels is not None:
        check_labels(labels, content["survey"])
    todo = [i for i in range(count(content)) if not done(out, content, i)]
    files = len(content["units"])
    ready = files - sum(len(units(content, i)) for i in todo)
    workers = min(processes or _cores(), max(len(todo), 1))
    with tqdm(
        total=files, initial=ready, desc=content["survey"], unit="file", disable=not progress
    ) as bar:
        if workers == 1:
            for i in todo:
                bar.update(shard(out, i, content))
        else:
            _shared(out, todo, workers, bar)
    return merge(out, labels)


def _shared(out, todo: list[int], workers: int, bar: tqdm) -> None:
    # Spawned, as everywhere but on Linux: forks of a process with threads (torch has some) hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent) as pool:
        futures = [pool.submit(shard, str(out), i) for i in todo]
        try:
            for future in as_completed(futures):
                bar.update(future.result())
        except BrokenProcessPool as error:
            raise SurveyFilesError(
                f"{out}: one of the processes was killed, perhaps for want of memory. Run again to "
                "go on; fewer processes or a smaller size need less."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """Let a worker end when its parent is killed: it would wait for work for ever."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cores() -> int:
    """Cores that this process may use: on a cluster fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
