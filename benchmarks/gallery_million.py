"""What a gallery of a million items costs, from the first item to the seal, and how that grows.

    python benchmarks/gallery_million.py --rows 1000000 --dim 256 --memory 4 --out FOLDER

Vectors of two models are made up, added, upgraded, backfilled in steps, searched at each share, rolled back, looked at
and sealed. Every stage runs in a process of its own, which may take `--memory` GiB of private memory; its results are
kept in FOLDER, so that the same command carries on where it was cut off. Several numbers of `--rows` give the exponent
of growth; `--against CHECKOUT` runs every stage on another checkout of samespace too, in turn with this one, and prints
the ratio. Results: FOLDER/results.json and FOLDER/results.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from million_data import make_data

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).resolve().parent
COSTS = ("s", "ms", "s of processor time", "MiB")

Results = dict[str, dict[str, float]]
"""By column, then by what was measured."""


def stages(shares: list[float]) -> list[str]:
    """Names of the stages in their order."""
    steps: list[str] = ["add", "readers:after add", "visible", "search:before", "upgrade", "search:at 0%"]
    for share in shares:
        steps += [f"backfill:{share}", f"search:at {share:.0%}"]
        if share == shares[0]:
            # while most of the work list is open
            steps += ["rollback", "status"]
    return [*steps, "readers:before the seal", "doctor", "seal", "search:sealed"]


def run_stage(
    name: str, checkout: Path, gallery: Path, data: Path, rows: int, given: argparse.Namespace
) -> dict[str, float]:
    """Run a stage on a checkout in a fresh process; what it measured."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "OMP_NUM_THREADS": str(given.threads),
        "OMP_WAIT_POLICY": "passive",
    }
    command = [sys.executable, str(HERE / "million_stages.py"), name, str(gallery), str(data), str(rows)]
    command += ["--memory", str(given.memory)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"stage '{name}' of {checkout} failed, see above; the same command carries on from here")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(
    rows: int, sides: dict[str, Path], given: argparse.Namespace, results: Results, write: Callable[[], object]
) -> None:
    """Run what has not been run yet, stage by stage, the sides in turn; results are written after each stage."""
    data = given.out / f"data-{rows}x{given.dim}"
    if not (data / "made").exists():
        make_data(data, rows, given.dim)
        (data / "made").touch()
    for name in stages(given.shares):
        for side, checkout in sides.items():
            place = given.out / f"{side}-{rows}x{given.dim}"
            kept = place / f"{name.replace(':', '-').replace(' ', '-')}.json"
            if not kept.exists():
                place.mkdir(exist_ok=True)
                began = time.monotonic()
                found = run_stage(name, checkout, place / "gallery", data, rows, given)
                kept.write_text(json.dumps(found, indent=1))
                print(f"{side}, {rows:,} rows, {name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            results.setdefault(f"{side}, {rows:,}", {}).update(json.loads(kept.read_text()))
            write()
    if not given.keep:
        for folder in (data, *(given.out / f"{side}-{rows}x{given.dim}" / "gallery" for side in sides)):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "made").touch()


def table(results: Results, sides: list[str], sizes: list[int]) -> str:
    """A Markdown table: a line for each thing measured, a column for each side and size, ratios and growth."""
    heads = [f"{side}, {rows:,}" for rows in sizes for side in sides]
    ratios = [f"ratio, {rows:,}" for rows in sizes] if len(sides) > 1 else []
    growth = [f"growth, {side}" for side in sides] if len(sizes) > 1 else []
    lines = [f"| | {' | '.join([*heads, *ratios, *growth])} |", "|---|" + "---:|" * len([*heads, *ratios, *growth])]
    for key in dict.fromkeys(key for one in results.values() for key in one if not key.startswith("(stage")):
        values = [results.get(head, {}).get(key) for head in heads]
        cells = [_shown(value) for value in values]
        for place in range(len(sizes) if ratios else 0):
            cells.append(_ratio(*values[2 * place : 2 * place + 2]))
        for place, _ in enumerate(sides if growth else []):
            ends = values[place], values[place + len(sides) * (len(sizes) - 1)]
            cells.append(_exponent(*ends, sizes[-1] / sizes[0]) if key.split(", ")[-1] in COSTS else "")
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return (
        f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 0.995 else f"{value:.3f}".rstrip("0").rstrip(".")
    )


def _ratio(first: float | None, second: float | None) -> str:
    return f"{first / second:.2f}" if first is not None and second else ""


def _exponent(small: float | None, large: float | None, times: float) -> str:
    """The b in cost ~ rows^b: 1 is linear."""
    return f"{math.log(large / small) / math.log(times):.2f}" if small and large else ""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000], help="ascending, where there are several")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--memory", type=float, default=4.0, help="GiB of private memory for each process")
    parser.add_argument("--out", type=Path, required=True, help="on a disk: bytes written are counted there")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.5, 0.9, 1.0], help="1 at the end, to seal")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout to compare with")
    parser.add_argument("--only-against", action="store_true", help="measure the other checkout alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--keep", action="store_true", help="keep the galleries and the data")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    sides = {"now": ROOT, **({"before": given.against} if given.against else {})}
    if given.only_against:
        del sides["now"]
    results: Results = {}
    began = time.monotonic()

    def write() -> str:
        (given.out / "results.json").write_text(json.dumps(results, indent=1))
        about = (
            f"`python benchmarks/gallery_million.py --rows {' '.join(map(str, given.rows))} --dim {given.dim} "
            f"--memory {given.memory:g}`, Python {platform.python_version()}, {given.threads} threads, "
            f"{(time.monotonic() - began) / 60:.0f} minutes\n"
        )
        page = f"{about}\n{table(results, list(sides), [rows for rows in given.rows if _begun(results, rows)])}\n"
        (given.out / "results.md").write_text(page)
        return page

    for rows in given.rows:
        measure(rows, sides, given, results, write)
    print(write())


def _begun(results: Results, rows: int) -> bool:
    return any(column.endswith(f", {rows:,}") for column in results)


if __name__ == "__main__":
    main()
