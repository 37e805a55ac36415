"""One million vectors from Parquet: a bare read by pyarrow against `samespace vectors import`, and after a kill.

    python benchmarks/vectors_import.py [--rows 1000000] [--dim 256]

Each side runs in a process of its own, turn by turn; the ratio is of their best times. A bare read takes the file row
group by row group and keeps nothing, or takes it whole, in threads; the import also looks for NaN, writes
the vectors and their items to disk, flushes them, and checks that no id comes twice.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet

BARE = """
import pyarrow, pyarrow.parquet
with pyarrow.parquet.ParquetFile(path) as file:
    for batch in file.iter_batches(65_536):
        pass
"""
WHOLE = """
import pyarrow, pyarrow.parquet
pyarrow.parquet.read_table(path)
"""
IMPORT = """
from pathlib import Path
import pyarrow.parquet
from samespace.vectors.importing import import_vectors
from samespace.vectors.opening import source_of
done = import_vectors(source_of(path, metadata=True), Path(path).with_name("imported"))
told["resumed"] = done.resumed
"""
AROUND = """
import json, resource, sys, threading, time
import numpy, pyarrow.parquet
path, told = sys.argv[1], {{}}
before, began, spent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter(), time.process_time()
{code}
told |= {{"seconds": time.perf_counter() - began, "cpu": time.process_time() - spent}}
told["mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(json.dumps(told))
"""


def write(path: Path, rows: int, dim: int) -> None:
    """A file of random float32 vectors with ids, labels and one further column."""
    random = np.random.default_rng(0)
    kind = pyarrow.list_(pyarrow.float32(), dim)
    schema = pyarrow.schema(
        [("id", pyarrow.string()), ("vector", kind), ("label", pyarrow.int64()), ("price", pyarrow.float64())]
    )
    with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=["id"], compression="snappy") as out:
        for start in range(0, rows, 65_536):
            count = min(65_536, rows - start)
            values = pyarrow.array(random.standard_normal(count * dim, dtype=np.float32))
            columns = [
                pyarrow.array([f"item-{row:08d}" for row in range(start, start + count)]),
                pyarrow.FixedSizeListArray.from_arrays(values, dim),
                pyarrow.array(random.integers(0, 1000, count)),
                pyarrow.array(random.random(count)),
            ]
            out.write_table(pyarrow.table(columns, schema=schema))


def start(code: str, path: Path) -> subprocess.Popen[str]:
    """Run one side in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", AROUND.format(code=code), str(path)], stdout=subprocess.PIPE, text=True
    )


def measured(code: str, path: Path) -> dict[str, float]:
    """Seconds, processor time and memory above the start of one side."""
    out, _ = start(code, path).communicate()
    return json.loads(out)


def killed(path: Path) -> tuple[int, dict[str, float]]:
    """Kill an import once it has marked some rows, run it again: the rows marked, and the second run."""
    running = start(IMPORT, path)
    mark = path.with_name("imported.partial") / "progress.json"
    while not mark.exists():
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    return json.loads(mark.read_text())["rows"], measured(IMPORT, path)


def main() -> None:
    """Print every run and the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.parquet"
        write(path, options.rows, options.dim)
        found: dict[str, list[dict[str, float]]] = {"bare, in batches": [], "bare, whole": [], "import": []}
        print(f"{options.rows:,} x {options.dim} float32, {path.stat().st_size / 2**20:,.0f} MiB of Parquet")
        for _ in range(options.turns):
            for name, code in zip(found, (BARE, WHOLE, IMPORT), strict=True):
                found[name].append(measured(code, path))
                shown = found[name][-1]
                print(f"{name}: {shown['seconds']:.2f} s, {shown['cpu']:.2f} s of processor, {shown['mib']:.0f} MiB")
        rows, after = killed(path)
        print(f"killed after {rows:,} rows, resumed from {after['resumed']:,.0f}: {after['seconds']:.2f} s")
        stored = np.load(path.with_name("imported") / "vectors.npy", mmap_mode="r")
        row = 0
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(65_536, columns=["vector"]):
                values = batch.column(0).flatten().to_numpy().reshape(-1, options.dim)
                assert (stored[row : row + len(values)] == values).all()
                row += len(values)
        assert row == len(stored) == options.rows
        print("after the kill: equal to the bit")
        for key in ("seconds", "cpu"):
            best = {name: min(run[key] for run in runs) for name, runs in found.items()}
            print(
                f"speed of the import by {key}: {best['bare, in batches'] / best['import']:.0%} of a read in batches, "
                f"{best['bare, whole'] / best['import']:.0%} of a whole read"
            )


if __name__ == "__main__":
    main()
