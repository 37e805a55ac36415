"""How many inputs of every kind are read rightly or refused in one line: the tests of tests/inputs at full length.

    python benchmarks/inputs.py [--examples N]

Prints a table for docs/results/inputs.md: of each kind the inputs tried, and the faults: a traceback, a silent loss or
a wrong value. Exit status: 0 there is none, 1 there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "output": "output and verdict: consoles, pipes, full disks, errors of any kind",
    "names": "names of files, classes and items",
    "pictures": "pictures",
    "text": "text: lists, tables, JSON lines, ids",
    "nothing_silent": "nothing silent: what is dropped, merged or rescaled",
    "readers": "readers of data sets and benchmarks",
    "vector_forms": "vectors in tables, CSV, .npy with ids, FAISS",
    "messages": "damaged and foreign files: messages",
    "texts": "texts: rows to embed",
    "qrels": "relevance judgements, and checks by them",
    "metrics_and_copies": "metrics by their definitions, copies, doubtful labels",
}


def main() -> int:
    """Run the tests, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200, help="Times the short form in the suite, which is 1.")
    parser.add_argument("--kind", help="Only tests/inputs/test_KIND.py.")
    given = parser.parse_args()
    where = ROOT / "tests" / "inputs"
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        count = Path(folder) / "count.jsonl"
        environment = {**os.environ, "SAMESPACE_EXAMPLES": str(given.examples), "SAMESPACE_INPUTS_COUNT": str(count)}
        chosen = where if given.kind is None else where / f"test_{given.kind}.py"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", str(chosen), "-q", "--timeout", "7200"], cwd=ROOT, env=environment
        )
        lines = [json.loads(line) for line in count.read_text().splitlines()] if count.exists() else []
    held, failed = Counter[str](), Counter[str]()
    for line in lines:
        held[line["kind"]] += line["held"] + line["failed"]
        failed[line["kind"]] += line["failed"]
    print("\n| kind | inputs | faults |\n|---|---|---|")
    for kind in sorted(held, key=lambda name: list(KINDS).index(name) if name in KINDS else len(KINDS)):
        print(f"| {KINDS.get(kind, kind)} | {held[kind]:,} | {failed[kind]} |")
    print(f"| **in all** | **{held.total():,}** | **{failed.total()}** |")
    print(
        f"\n`python benchmarks/inputs.py --examples {given.examples}`, {(time.monotonic() - began) / 60:.0f} minutes."
    )
    return int(done.returncode != 0 or failed.total() > 0)


if __name__ == "__main__":
    sys.exit(main())
