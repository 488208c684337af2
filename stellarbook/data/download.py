"""Download one pinned file from wherever pip would look for it, continuing what was interrupted."""

import ast
import logging
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx2  # the client that unearth is built on: one session both finds and downloads
from tqdm import tqdm
from unearth import Link, PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.fetchers import PyPIClient

from stellarbook.data.archives import ArchiveError, explained_if_full

ATTEMPTS = 5  # connections tried before giving up


def download(name: str, file: str, size: int, sha256: str, part: Path) -> None:
    """Bring a package's file to the path ``part``, continuing what it already holds.

    Parameters
    ----------
    name, file : str
        Package and file name; a wheel or sdist for any platform.
    size : int
        Expected bytes.
    sha256 : str
        Sources that declare another hash are passed over. The caller checks the bytes.
    part : Path
        Where to write; kept when the connection breaks, so that a later call continues.

    Raises
    ------
    ArchiveError
        No source in reach offers the file, the connection broke too often, or the disk is full.
    """
    if part.exists() and part.stat().st_size > size:
        part.unlink()  # never ours: nothing to continue
    if part.exists() and part.stat().st_size == size:
        return
    finder = _finder()
    with finder.session as session:
        url = _find(finder, name, file, sha256, part.parent)
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(attempt, 3))
            try:
                problem = "the server ended early"
                with explained_if_full(part.parent, size):
                    _stream(session, url, part, size)
            except httpx2.HTTPError as error:
                problem = str(error) or type(error).__name__
            held = part.stat().st_size if part.exists() else 0
            if held >= size:
                return
    raise ArchiveError(
        f"{file}: the connection broke {ATTEMPTS} times, at last because: {problem}.\n"
        f"{held / 1e6:.1f} of {size / 1e6:.1f} MB are kept in {part}; run again to continue."
    )


def _stream(session: PyPIClient, url: str, part: Path, size: int) -> None:
    held = part.stat().st_size if part.exists() else 0
    # Identity: a byte range of a compressed reply would be of no use.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={held}-"} if held else {})
    with session.get_stream(url, headers=headers) as reply:
        reply.raise_for_status()
        if not reply.headers.get("content-range", "").startswith(f"bytes {held}-"):
            held = 0  # the server sends everything again
        with (
            part.open("ab" if held else "wb") as out,
            tqdm(
                desc=part.name.removesuffix(".part"),
                total=size,
                initial=held,
                unit="B",
                unit_scale=True,
            ) as bar,
        ):
            for chunk in reply.iter_bytes():
                out.write(chunk)
                bar.update(len(chunk))


def _pip_settings() -> dict[str, str]:
    run = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True
    )
    if run.returncode:
        raise ArchiveError(f"pip cannot read its own settings:\n{run.stderr}")
    lines = [line.partition("=") for line in run.stdout.splitlines()]
    settings = {}
    for section in ("global.", "download.", ":env:."):  # pip's order: the later wins
        for key, _, value in lines:
            if key.startswith(section):
                settings[key.removeprefix(section)] = ast.literal_eval(value)
    return settings


def _finder() -> PackageFinder:
    """Return a finder that looks where pip would, through pip's proxy and certificates."""
    pip = _pip_settings()
    hosts = pip.get("trusted-host", "").split()
    session = PyPIClient(
        trusted_hosts=hosts,
        verify=ssl.create_default_context(cafile=pip["cert"]) if "cert" in pip else True,
        proxy=pip.get("proxy"),
        timeout=float(pip.get("timeout") or pip.get("default-timeout") or 15),
        follow_redirects=True,
    )
    # Without an index-url unearth adds its default, as pip does.
    finder = PackageFinder(
        session=session,
        index_urls=pip.get("index-url", "").split(),
        trusted_hosts=hosts,
        ignore_compatibility=True,
    )
    if pip.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        finder.sources.clear()
    for url in pip.get("extra-index-url", "").split():
        finder.add_index_url(url)
    session.auth = MultiDomainBasicAuth(
        prompting=False, index_urls=[source["url"] for source in finder.sources]
    )
    for place in pip.get("find-links", "").split():
        if "://" in place or Path(place).exists():
            # Asked first: a copy on this machine needs no network.
            finder.sources.insert(0, {"url": place, "type": "find_links"})
    return finder


def _find(finder: PackageFinder, name: str, file: str, sha256: str, folder: Path) -> str:
    """Return the address of the file; the first source that has it with the right hash wins."""
    complaints = []
    handler = logging.Handler()
    handler.emit = lambda record: complaints.append(record.getMessage())
    logger = logging.getLogger("unearth")
    logger.addHandler(handler)
    try:
        for source in list(finder.sources):
            finder.sources = [source]  # one by one: a dead source must not hide the next
            try:
                packages = list(finder.find_all_packages(name, allow_yanked=True))
            except (httpx2.HTTPError, OSError) as error:
                complaints.append(f"{Link(source['url']).redacted}: {error}")
                continue
            for link in (package.link for package in packages):
                if link.filename == file:
                    declared = (link.hash_option or {}).get("sha256", [sha256])
                    if sha256 in declared:
                        return link.url_without_fragment
                    complaints.append(
                        f"{link.redacted} is another file: expected SHA-256 {sha256}, "
                        f"found {', '.join(declared)}"
                    )
    finally:
        logger.removeHandler(handler)
    reasons = "".join(f"\n  {complaint}" for complaint in complaints)
    raise ArchiveError(
        f"{file} was not found anywhere that pip looks.{reasons}\n"
        "Connect to the network, or set pip's index-url, proxy or find-links, and run\n"
        "  python -m stellarbook.data.archives\n"
        f"or copy the file from another machine into {folder}"
    )
