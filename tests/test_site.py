"""The built site: complete, without a request to anywhere, and readable in a browser."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"], *(one["file"] for part in TOC["parts"] for one in part["chapters"])]
NOTEBOOKS = [page for page in PAGES if (ROOT / f"{page}.ipynb").exists()]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Folder of the HTML, built once from the tree as it is, outside of it."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(
        ROOT / "book", folder / "book", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    tool = Path(sys.executable).with_name("jupyter-book")
    words = [tool, "build", ".", "--path-output", ".", "-W", "-n", "--keep-going"]
    done = subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    complaints = [line for line in done.stdout.splitlines() if re.search("WARNING|ERROR", line)]
    assert done.returncode == 0, "\n".join(complaints) or done.stdout[-3000:]
    return folder / "_build" / "html"


@pytest.fixture(scope="session")
def pages(site):
    """Path below the site → parsed page, of every page that it has."""
    files = (file for file in site.rglob("*.html") if "_static" not in file.parts)
    return {
        file.relative_to(site).as_posix(): BeautifulSoup(file.read_text(), "html.parser")
        for file in files
    }


# --- the files ------------------------------------------------------------------------------------


def test_the_pages_of_the_contents_exist(pages):
    assert {f"{page}.html" for page in PAGES} <= set(pages)


def test_chapters_have_their_card(pages):
    for page in NOTEBOOKS:
        article = pages[f"{page}.html"].article
        heading = article.find("h1")
        assert "stamp" in heading.find_next("div").get("class", []), page


def test_pictures_have_alternative_texts(pages):
    for name, page in pages.items():
        for image in page.find_all("img"):
            assert image.get("alt", "").strip(), f"{name}: {image['src']}"


def test_figures_have_captions(pages):
    for page in NOTEBOOKS:
        for cell in nbformat.read(ROOT / f"{page}.ipynb", 4).cells:
            if name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
                key = name.replace("fig-", f"fig-{Path(page).name[:2]}-", 1)
                figure = pages[f"{page}.html"].find(id=key)
                assert figure and figure.figcaption and figure.img, f"{page}: {key}"
                number = figure.figcaption.find(class_="caption-number").text
                assert number.startswith(f"Figure {int(Path(page).name[:2])}."), f"{page}: {key}"


def test_notebooks_can_be_downloaded(site, pages):
    for page in NOTEBOOKS:
        links = [a["href"] for a in pages[f"{page}.html"].find_all("a", href=True)]
        (link,) = {link for link in links if link.endswith(".ipynb")}
        file = (site / page).parent / link
        assert file.read_bytes() == (ROOT / f"{page}.ipynb").read_bytes()


def test_internal_links_resolve(site, pages):
    for name, page in pages.items():
        for anchor in page.find_all("a", href=True):
            link = urlsplit(anchor["href"])
            if link.scheme or link.netloc:
                continue
            path = (site / name).parent / unquote(link.path) if link.path else site / name
            file = path.resolve()
            assert file.is_file(), f"{name}: {anchor['href']}"
            target = pages.get(file.relative_to(site).as_posix())
            if target and link.fragment:
                found = target.find(id=unquote(link.fragment))
                assert found, f"{name}: {anchor['href']}"


def test_nothing_is_loaded_from_elsewhere(site, pages):
    elsewhere = re.compile(r"\s*(https?:)?//")
    for name, page in pages.items():
        for tag in page.find_all(["script", "link", "img", "iframe", "source", "video", "object"]):
            for key in ("src", "href", "srcset", "data"):
                assert not elsewhere.match(tag.get(key, "")), f"{name}: {tag}"
    for file in site.rglob("*.css"):
        used = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", file.read_text())
        assert not [one for one in used if elsewhere.match(one)], file


def test_no_button_leads_nowhere(pages):
    for name, page in pages.items():
        text = str(page)
        for word in ("mybinder", "colab.research", "unpkg.com", "executablebooks"):
            assert word not in text, f"{name}: {word}"


def test_no_path_of_the_building_machine(site, pages):
    for file in [*site.rglob("*.html"), site / "searchindex.js"]:
        assert str(ROOT) + "/" not in file.read_text(), file


# --- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def address(site):
    """The site, served on the loopback interface."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=site)
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium without a window; CI must have it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        reason = "no chromium on the PATH (Debian: apt-get install chromium)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    words = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    words += " disable-component-update disable-sync"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=program, args=[f"--{word}" for word in words.split()]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, address):
    """A fresh tab that notes whatever goes wrong; nothing may have, when the test ends."""
    complaints = []
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: m.type == "error" and complaints.append(f"console: {m.text}"))
    page.on(
        "request",
        lambda r: (
            r.url.startswith((address, "data:", "blob:"))
            or complaints.append(f"request to {r.url}")
        ),
    )
    page.on("response", lambda r: r.status < 400 or complaints.append(f"{r.status}: {r.url}"))
    yield page
    page.close()
    assert not complaints


@pytest.mark.parametrize("name", PAGES)
def test_a_page_in_the_browser(tab, address, name):
    tab.goto(f"{address}{name}.html", wait_until="networkidle")
    if tab.locator(".math").count():
        tab.evaluate("() => MathJax.startup.promise")
        raw = tab.evaluate(
            "() => [...document.querySelectorAll('.math')]"
            ".filter(e => !e.querySelector('mjx-container')).map(e => e.textContent)"
        )
        assert not raw, "formulas that MathJax left alone"
        assert not tab.locator("mjx-merror").count(), "formulas that MathJax could not read"
    prose = tab.evaluate(
        "() => { const a = document.querySelector('article').cloneNode(true);"
        " a.querySelectorAll('pre, code').forEach(e => e.remove()); return a.textContent }"
    )
    tables = " ".join(tab.locator("div.text_html").all_text_contents())
    assert "$" not in tables, "formulas in a table that MathJax left alone"
    assert "$$" not in prose and "{cite" not in prose and "{numref" not in prose
    empty = tab.evaluate(
        "async () => { const all = [...document.querySelectorAll('article img')];"
        " for (const i of all) i.loading = 'eager';"
        " await Promise.allSettled(all.map(i => i.decode()));"
        " return all.filter(i => !i.naturalWidth).map(i => i.src) }"
    )
    assert not empty, "pictures that did not load"
    for width in (1400, 420):
        tab.set_viewport_size({"width": width, "height": 900})
        wider = tab.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wider <= 0, f"{width} px: the page is {wider} px too wide"


def test_the_first_page_opens(tab, address):
    tab.goto(address, wait_until="networkidle")
    tab.wait_for_url(f"{address}{PAGES[0]}.html")


def test_search_finds_a_word(tab, address):
    tab.goto(f"{address}search.html?q=tokenizer", wait_until="networkidle")
    tab.wait_for_selector("#search-results li a")
    links = tab.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any(f"{PAGES[0]}.html" in link for link in links)
