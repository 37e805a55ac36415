"""Every figure of a GPU in docs/results/speed.md, in one run of at most ten minutes; prints the rows of its table.

    python benchmarks/gpu_speed.py --out speed.json [--rows head step] [--again] [--minutes 10]
    python benchmarks/gpu_speed.py --out small.json --device cpu --small

Each row is measured in a process of its own, so that one that fails costs the others nothing, and is written to the
file at once; rows that are there are not measured again without --again. --small is the same code on tiny sizes, in
one process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import gpu_rows
from gpu_rows import CASES, Setting, measured


def device_name(device: str) -> str:
    """What computes."""
    return torch.cuda.get_device_name(device) if device != "cpu" else platform.processor() or platform.machine()


def in_child(name: str, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """A row measured in a process of its own."""
    command = [sys.executable, gpu_rows.__file__, name, args.device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1))
    except subprocess.TimeoutExpired:
        return {"failed": f"did not end in {seconds:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no reason given"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as docs/results/speed.md has them."""
    lines = ["| case | aim | measured |", "|---|---|---|"]
    for name, (case, aim, _) in CASES.items():
        if name in rows:
            told = rows[name].get("failed") or rows[name]["measured"]
            lines.append(f"| {case} | {aim} | {told} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Measure what is missing and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0, help="no row begins or goes on after this")
    args = parser.parse_args(arguments)
    end = time.monotonic() + 60 * args.minutes
    rows: dict[str, dict[str, Any]] = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.rows:
        if (name in rows and "failed" not in rows[name] and not args.again) or time.monotonic() > end:
            continue
        began = time.monotonic()
        row = measured(name, Setting(args.device, small=True)) if args.small else in_child(name, args, end - began)
        rows[name] = {**row, "seconds": round(time.monotonic() - began, 1)}
        args.out.write_text(json.dumps(rows, indent=2))
        print(f"{name}: {row.get('failed') or row['measured']} ({rows[name]['seconds']} s)", flush=True)
    print(table(rows))
    load = f"load {os.getloadavg()[0]:.1f}"
    print(f"\n{device_name(args.device)}, torch {torch.__version__}, Python {platform.python_version()}, {load}")
    return rows


if __name__ == "__main__":
    main()
