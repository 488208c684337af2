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
from pathlib import Path

from stellarbook.report import chapters, check

FILE = chapters.ROOT / "tests" / "regression" / "tolerances.json"


def measure(name, seeds, threads):
    """All runs' checks: a list of `{check: value}`, the reference run's first."""
    found = []
    first = chapters.parameters(name, check.PROFILE)["seed"]
    for thread in threads:
        for seed in range(first, first + seeds):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, "-m", "stellarbook.report.run", name, "--folder", folder]
                environment = os.environ | {"OMP_NUM_THREADS": str(thread)}
                subprocess.run(
                    [*command, "-p", "seed", str(seed)],
                    check=True,
                    env=environment,
                    stderr=subprocess.DEVNULL,
                )
                found.append(json.loads((Path(folder) / "checks" / f"{name}.json").read_text()))
            print(f"seed {seed}, {thread} thread(s): {found[-1]}", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapter")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    words = parser.parse_args()
    runs = measure(words.chapter, words.seeds, words.threads)
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
