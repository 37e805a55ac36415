"""`samespace check` of many queries against a large gallery, with intervals: time, processor time and peak memory.

Old vectors are random clusters, new ones the same with less noise. The check runs as a command, in a process of its
own. The way before, whole rows summed in float64, is run on a slice of the queries in this process, as is the way of
tiles, and its seconds are multiplied by the share of the slice: reading and intervals are left out of both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from samespace.evaluate.inputs import align
from samespace.scoring import scores as scores_module
from samespace.scoring.scores import collect_scores
from samespace.scoring.strict_criterion import StrictCounter
from samespace.threads import threads
from samespace.vectors import VectorSet

BLOCK = 65_536
NOISE = {"old": 1.3, "new": 1.2}


def write(
    folder: Path, name: str, side: str, labels: np.ndarray, dim: int, strangers: float, centres: np.ndarray
) -> Path:
    """One set of vectors, written block by block."""
    path = folder / f"{name}-{side}.npy"
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(labels), dim))
    lost = np.random.default_rng(7).random(len(labels)) < strangers
    generator = np.random.default_rng([len(labels), name == "new"])
    for start in range(0, len(labels), BLOCK):
        part = slice(start, start + BLOCK)
        noise = generator.standard_normal((len(labels[part]), dim), dtype=np.float32)
        out[part] = np.where(lost[part, None], 0, centres[labels[part]]) + NOISE[name] * noise
    out.flush()
    np.save(folder / f"{side}-labels.npy", labels)
    return path


def make(folder: Path, queries: int, gallery: int, dim: int, strangers: float) -> dict[str, Path]:
    """Old and new queries and the old gallery, 80 gallery items a class, as folders that `samespace check` reads."""
    classes = max(20, gallery // 80)
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((classes, dim), dtype=np.float32)
    made = {}
    for name, side, count in (("old", "gallery", gallery), ("old", "queries", queries), ("new", "queries", queries)):
        labels = np.random.default_rng(len(side)).integers(0, classes, count)
        raw = write(folder, name, side, labels, dim, strangers, centres)
        made[f"{name}-{side}"] = folder / f"{name}-{side}"
        ids = np.array([f"{side}-{row}" for row in range(count)])
        vectors = np.load(raw, mmap_mode="r")
        VectorSet.from_arrays(vectors, labels=labels, ids=ids).save(made[f"{name}-{side}"])
        raw.unlink()
    return made


def run_command(made: dict[str, Path], options: list[str]) -> dict[str, float]:
    """Wall and processor seconds and peak memory, MiB, of the command as a user starts it."""
    command = [sys.executable, "-m", "samespace", "check", "--queries", str(made["new-queries"])]
    command += ["--gallery", str(made["old-gallery"]), "--baseline", str(made["old-queries"]), *options]
    began = time.monotonic()
    done = subprocess.run([*command, "--json", "-"], stdout=subprocess.PIPE, check=False)
    wall, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise SystemExit(f"samespace check ended with {done.returncode}")
    metrics = json.loads(done.stdout)["metrics"]
    for name, one in metrics.items():
        print(f"  {name}: old {one['old']:.4f}, cross {one['cross']:.4f}, difference {one['difference']}")
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss / 1024}


def scoring_seconds(made: dict[str, Path], rows: int, *, by_tiles: bool) -> float:
    """Processor seconds to gather the scores of the first `rows` queries, by tiles or in whole rows."""
    old, new, gallery = (VectorSet.load(made[name]) for name in ("old-queries", "new-queries", "old-gallery"))
    some = np.arange(rows)
    aligned = align(queries=new.subset(some), gallery=gallery, baseline=old.subset(some))
    scores_module._LARGE = 0 if by_tiles else 1 << 62
    began = time.process_time()
    collect_scores(aligned.pairs, aligned.mates, 3 * aligned.mates.impostors // 10_000, strict=StrictCounter())
    return time.process_time() - began


def main() -> None:
    """Make the vectors, run the command, and the slice both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--gallery", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--strangers", type=float, default=0.0, help="share of items that resemble nothing")
    parser.add_argument("--slice", type=int, default=512, help="queries of the slice; 0 to leave it out")
    parser.add_argument("--far", action="append", default=[], help="FAR of a TAR to measure, repeat for several")
    options = parser.parse_args()
    print(f"python {platform.python_version()}, numpy {np.__version__}, {platform.machine()}, {threads()} threads")
    print(f"load {os.getloadavg()[0]:.1f}; {options.queries} x {options.gallery} x {options.dim}")
    with tempfile.TemporaryDirectory() as folder:
        made = make(Path(folder), options.queries, options.gallery, options.dim, options.strangers)
        asked = ["rank@1", "mAP", *(f"TAR@FAR={far}" for far in options.far)] if options.far else []
        found = run_command(made, [part for name in asked for part in ("--metric", name)])
        print("  {wall:.1f} s, {cpu:.1f} s of processor time, {peak:.0f} MiB at the peak".format(**found))
        if options.slice:
            rows = min(options.slice, options.queries)
            tiled, whole = (scoring_seconds(made, rows, by_tiles=tiles) for tiles in (True, False))
            times = options.queries / rows
            print(f"  scores of {rows} queries, processor time: {tiled:.1f} s, in whole rows {whole:.1f} s")
            print(f"  of all, in whole rows, extrapolated: {whole * times:.0f} s")


if __name__ == "__main__":
    main()
