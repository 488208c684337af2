"""Measure the references of a chapter's checks: quick runs over five seeds and one and two threads.

    python tests/regression/measure.py 01_data

R is the reference run's value (the profile's own seed, one thread); T is twice the largest distance
from it over all runs: wide enough for another processor, narrow enough to see a changed result.
A T beyond 15 % of R needs a `why`, which is kept from the file if it stands there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stellarbook.report import chapters, check

FILE = chapters.ROOT / "tests" / "regression" / "tolerances.json"


def measure(name, seed, thread):
    """One quick run's checks: `{check: value}`."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "stellarbook.report.run", name, "--folder", folder]
        environment = os.environ | {"OMP_NUM_THREADS": str(thread)}
        subprocess.run(
            [*words, "-p", "seed", str(seed)],
            check=True,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        found = json.loads((Path(folder) / "checks" / f"{name}.json").read_text())
    print(f"seed {seed}, {thread} thread(s): {found}", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    words = parser.parse_args()
    first = chapters.parameters(words.chapter, check.PROFILE)["seed"]
    runs = []
    for thread in words.threads:
        with ThreadPoolExecutor(max(1, os.cpu_count() // thread)) as pool:
            seeds = range(first, first + words.seeds)
            runs += pool.map(lambda seed, n=thread: measure(words.chapter, seed, n), seeds)
    kept = check.tolerances()
    for name, reference in runs[0].items():
        away = max(abs(run[name] - reference) for run in runs)
        tolerance = max(2 * away, 1e-4 * abs(reference))
        kept[name] = {
            "reference": float(f"{reference:.5g}"),
            "tolerance": float(f"{tolerance:.3g}"),
            "runs": len(runs),
            "why": kept.get(name, {}).get("why", ""),
        }
        if tolerance > 0.15 * abs(reference) and not kept[name]["why"]:
            print(f"{name}: ±{tolerance:.3g} is beyond 15 % of {reference:.4g}: give its `why`")
    FILE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
