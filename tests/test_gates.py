"""The gates of tests/gates.py on the tree as it stands."""

import socket
import subprocess
import sys
from pathlib import Path

import gates
import pytest

from stellarbook.report import chapters

LINT = Path(sys.executable).with_name("lint-imports")
GUARD = Path(__file__).parent / "regression/offline.py"


@pytest.mark.parametrize("gate", gates.GATES)
def test_gate(gate):
    faults = list(gates.GATES[gate](chapters.ROOT))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text, found",
    [
        ("a scatter of 61.2 and 12 % of the 300 stars", ["61.2", "12 %", "300 stars"]),
        ("Teff of 5777 K at version 2", ["5777 K"]),
        ("three seeds, Table 2 and chapter 10", []),
        ("> we reach 47 K and 0.11 dex", []),
        ("from $336$ to $1020\\,$nm, {glue:text}`teff:.1f` K, `0.5`", []),
        ("```{note}\n0.5 K\n```\n$$\nx = 0.5\n$$", []),
    ],
)
def test_typed_numbers(text, found):
    assert gates.typed_numbers(text) == found


def test_floors():
    done = subprocess.run([LINT], cwd=chapters.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_chapters_have_no_network():
    """The guard that every regression kernel starts with stops a connection, but not loopback."""
    script = (
        f"exec(open({str(GUARD)!r}).read())\n"
        "import socket\n"
        "socket.create_connection(('127.0.0.1', {port})).close()\n"
        "socket.create_connection(('192.0.2.1', 80), timeout=1)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = script.replace("{port}", str(server.getsockname()[1]))
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "a chapter must not touch the network" in done.stderr
