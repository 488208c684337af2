"""Archives: fetched once, checked, continued, distilled once; never a half file posing as whole."""

import dataclasses
import errno
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import threading
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from stellarbook.data import archive_pins, archives, download
from stellarbook.data.archives import ArchiveError


class Index(http.server.ThreadingHTTPServer):
    """A package index on loopback that serves one file, and can break on purpose."""

    daemon_threads = True

    def __init__(self, name, file, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.file, self.content = name, file, content
        self.declared = ""  # "#sha256=…" on the index page
        self.drop_after = []  # bytes after which each next connection breaks
        self.ranges = True
        self.requests = []  # (path, Range header)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/simple"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        index = self.server
        index.requests.append((self.path, self.headers["Range"]))
        if self.path == f"/simple/{index.name}/":
            page = f'<a href="/files/{index.file}{index.declared}">{index.file}</a>'.encode()
            self.reply(200, page, {"Content-Type": "text/html"})
        elif self.path == f"/files/{index.file}":
            content, start = index.content, 0
            if self.headers["Range"] and index.ranges:
                start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
                extent = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
                self.reply(206, content[start:], extent, index.drop_after)
            else:
                self.reply(200, content, {}, index.drop_after)
        else:
            self.send_error(404)

    def reply(self, status, body, headers, drop_after=()):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body[: drop_after.pop(0)] if drop_after else body)
        self.close_connection = True


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A tiny pinned archive, an index that serves it, an empty cache, and no other source."""
    file = "fake_stars-1.0-py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / file, "w") as wheel:
        wheel.writestr("fake_stars/data.bin", np.random.default_rng(0).bytes(700_000))
    content = (tmp_path / file).read_bytes()
    archive = archives.Archive(
        "fake-stars", "1.0", file, len(content), hashlib.sha256(content).hexdigest(), "", "", ""
    )
    monkeypatch.setitem(archives.ARCHIVES, "fake", archive)
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    server = Index("fake-stars", file, content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    monkeypatch.setenv("STELLARBOOK_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def part(index):
    return archives.cache() / "archives" / f"{index.file}.part"


def test_fetch_downloads_once_and_reads(index):
    path = archives.fetch("fake")
    assert path.read_bytes() == index.content
    asked = len(index.requests)
    assert archives.fetch("fake") == path
    assert len(index.requests) == asked, "a sound copy is not fetched again"
    assert len(archives.read("fake", "fake_stars/data.bin")) == 700_000
    assert not part(index).exists()


def test_an_sdist_is_read_too(index, tmp_path, monkeypatch):
    path = archives.cache() / "archives" / "fake_stars-1.0.tar.gz"
    path.parent.mkdir(parents=True)
    (tmp_path / "data.csv").write_text("teff\n5772\n")
    with tarfile.open(path, "w:gz") as sdist:
        sdist.add(tmp_path / "data.csv", "fake_stars-1.0/α data.csv")
    pinned = dataclasses.replace(
        archives.ARCHIVES["fake"], file=path.name, sha256=archives.sha256(path)
    )
    monkeypatch.setitem(archives.ARCHIVES, "fake", pinned)
    assert archives.read("fake", "fake_stars-1.0/α data.csv") == b"teff\n5772\n"
    with pytest.raises(KeyError, match="missing"):
        archives.read("fake", "fake_stars-1.0/missing.csv")


def test_broken_connection_is_continued_within_one_fetch(index):
    index.drop_after = [300_000, 200_000]
    assert archives.fetch("fake").read_bytes() == index.content
    ranges = [header for path, header in index.requests if path.startswith("/files")]
    assert ranges[0] is None
    starts = [int(header[6:-1]) for header in ranges[1:]]
    assert len(starts) == 2 and 0 < starts[0] <= 300_000 < starts[1] <= 500_000


def test_a_later_fetch_continues_what_an_earlier_one_left(index):
    index.drop_after = [200_000] + [0] * (download.ATTEMPTS - 1)
    with pytest.raises(ArchiveError, match=r"broke 5 times.*\n.*run again to continue"):
        archives.fetch("fake")
    held = part(index).stat().st_size
    assert 0 < held <= 200_000
    assert not part(index).with_suffix("").exists(), "a half file must not pose as whole"
    assert archives.fetch("fake").read_bytes() == index.content
    assert index.requests[-1][1] == f"bytes={held}-"


def test_server_without_ranges_starts_again(index):
    index.ranges = False
    index.drop_after = [300_000]
    assert archives.fetch("fake").read_bytes() == index.content


def test_wrong_hash_is_refused_and_removed(index):
    right, wrong = index.content, bytes(len(index.content))
    index.content = wrong
    with pytest.raises(ArchiveError) as refusal:
        archives.fetch("fake")
    for word in (index.file, hashlib.sha256(right).hexdigest(), hashlib.sha256(wrong).hexdigest()):
        assert word in str(refusal.value)
    assert not list((archives.cache() / "archives").glob("*.whl*[!k]"))
    index.content = right
    assert archives.fetch("fake").read_bytes() == right, "the next attempt starts afresh"


def test_index_that_declares_another_hash_is_passed_over(index):
    index.declared = "#sha256=" + "0" * 64
    with pytest.raises(ArchiveError, match="another file: expected SHA-256"):
        archives.fetch("fake")
    assert all(path.startswith("/simple") for path, _ in index.requests), "nothing downloaded"


def test_damaged_cache_is_fetched_again(index):
    path = archives.fetch("fake")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="damaged"):
        assert archives.fetch("fake").read_bytes() == index.content


def test_overlong_part_is_discarded(index):
    part(index).parent.mkdir(parents=True)
    part(index).write_bytes(b"x" * (len(index.content) + 1))
    assert archives.fetch("fake").read_bytes() == index.content


def test_no_network_says_what_to_do(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    with pytest.raises(ArchiveError) as error:
        archives.fetch("fake")
    for word in (index.file, "127.0.0.1:9", "Connect to the network", str(archives.cache())):
        assert word in str(error.value)


def test_find_links_comes_before_a_dead_index(index, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert archives.fetch("fake").read_bytes() == index.content
    assert not index.requests


def test_passwords_stay_out_of_messages(index, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://someone:secret@127.0.0.1:9/simple")
    with pytest.raises(ArchiveError) as error:
        archives.fetch("fake")
    assert "secret" not in str(error.value)


def test_pip_settings_are_ranked_as_pip_ranks_them(monkeypatch, tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_text(
        "[global]\nindex-url = https://a.invalid/simple\nproxy = http://p.invalid:1\ntimeout = 7\n"
        "[download]\nindex-url = https://b.invalid/simple\n[install]\nindex-url = https://c.invalid\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_TIMEOUT", "9")
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    found = download._pip_settings()
    assert found["index-url"] == "https://b.invalid/simple"
    assert found["proxy"] == "http://p.invalid:1"
    assert found["timeout"] == "9"


def test_unreadable_pip_settings_are_reported(index, monkeypatch, tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_text("no section\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    with pytest.raises(ArchiveError, match="pip cannot read its own settings"):
        archives.fetch("fake")


def test_no_space_while_downloading(index, monkeypatch):
    def fill(session, url, part, size):
        part.write_bytes(index.content[:1000])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "_stream", fill)
    with pytest.raises(ArchiveError) as error:
        archives.fetch("fake")
    for word in (str(archives.cache()), f"{len(index.content):,} bytes", "STELLARBOOK_CACHE"):
        assert word in str(error.value)
    assert not part(index).with_suffix("").exists()


@pytest.mark.parametrize("numbered", [True, False], ids=["ENOSPC", "as numpy says it"])
def test_no_space_while_distilling(index, monkeypatch, numbered):
    def build(folder):
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, "full") if numbered else OSError("99 requested and 0 written")

    usage = namedtuple("usage", "total used free")(10, 10, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ArchiveError, match=r"12,345 bytes.*STELLARBOOK_CACHE"):
        archives.distil("thing", (), build, version=1, size=12_345)
    assert [p.name for p in (archives.cache() / "distilled").iterdir()] == ["thing.lock"]


def recipe(log, text="stars"):
    def build(folder):
        log.append(text)
        (folder / "table.txt").write_text(text)

    return build


def test_distil_builds_once(index):
    log = []
    for _ in range(2):
        folder = archives.distil("thing", ("fake",), recipe(log), version=1, size=5)
    assert log == ["stars"]
    assert (folder / "table.txt").read_text() == "stars"
    stamp = json.loads((folder / "stamp.json").read_text())
    assert stamp["archives"] == {"fake": archives.ARCHIVES["fake"].sha256}


def test_distil_again_when_damaged_outdated_or_incomplete(index):
    log = []

    def again(version, warning):
        with pytest.warns(UserWarning, match=warning):
            folder = archives.distil("thing", (), recipe(log), version=version, size=5)
        assert (folder / "table.txt").read_text() == "stars"

    folder = archives.distil("thing", (), recipe(log), version=1, size=5)
    (folder / "table.txt").write_text("stats")
    again(1, r"damaged \(table.txt\)")
    again(2, "outdated")
    (folder / "table.txt").unlink()
    again(2, "incomplete")
    (folder / "stamp.json").write_text('{"files": ')
    again(2, "incomplete")
    assert len(log) == 5


def test_failed_recipe_keeps_nothing(index):
    def build(folder):
        (folder / "half").write_text("half")
        raise ValueError("no column 'teff'")

    with pytest.raises(ValueError, match="teff"):
        archives.distil("thing", (), build, version=1, size=5)
    assert not list((archives.cache() / "distilled").glob("thing*[!k]"))


def test_two_processes_at_once(index, tmp_path):
    """Both end with the files; one downloads and builds, the other waits."""
    archive = archives.ARCHIVES["fake"]
    script = tmp_path / "both.py"
    script.write_text(
        textwrap.dedent(f"""
        import time
        from pathlib import Path
        from stellarbook.data import archives
        archives.ARCHIVES["fake"] = archives.{archive!r}

        def build(folder):
            with open({str(tmp_path / "log")!r}, "a") as log:
                log.write("built\\n")
            time.sleep(1.5)
            (folder / "size").write_text(str(len(archives.read("fake", "fake_stars/data.bin"))))

        folder = archives.distil("thing", ("fake",), build, version=1, size=5)
        print((folder / "size").read_text())
        """)
    )
    runs = [
        subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.communicate(timeout=120)[0].strip() for run in runs] == ["700000", "700000"]
    assert (tmp_path / "log").read_text() == "built\n"
    assert sum(path.startswith("/files") for path, _ in index.requests) == 1


def test_command_lists_and_refuses_unknown_samples(index, capsys):
    archives.main(["--list"])
    listing = capsys.readouterr().out
    assert str(archives.cache()) in listing and "not fetched" in listing
    with pytest.raises(SystemExit):
        archives.main(["xp_apogy"])
    assert "known: xp_apogee" in capsys.readouterr().err


def test_command_reports_without_a_traceback(index, monkeypatch):
    def prepare():
        raise ArchiveError("no network")

    monkeypatch.setattr("stellarbook.data.xp_apogee.prepare", prepare)
    with pytest.raises(SystemExit, match="error: no network"):
        archives.main([])


def test_no_registry_host_is_named():
    for module in (archives, archive_pins, download):
        assert not re.search(r"https?://|pypi\.org|pythonhosted", Path(module.__file__).read_text())


@pytest.mark.archives
@pytest.mark.parametrize("name", sorted(archives.ARCHIVES))
def test_pinned_archives_can_be_had(name):
    archive = archives.ARCHIVES[name]
    path = archives.fetch(name)
    assert path.stat().st_size == archive.bytes
