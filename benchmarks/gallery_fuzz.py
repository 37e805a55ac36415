"""Made-up and damaged ledger files, index files, settings, ids, metadata and filters, hundreds of thousands of them.

    python benchmarks/gallery_fuzz.py [--tries 1000000] [--kind KIND] [--out FILE]

Each try must end rightly or by an error of one line: no other exception, no process that dies, none that hangs (10 s),
no memory above twice the usual, no connection, as nobody named any. Tries are numbered, and the same number makes the
same input: `--kind ledger --first 1234 --tries 1` runs one again. With `--out` a run that was cut off carries on, and
the numbers of several runs add up. Exit status: 0 no fault, 1 there is one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz_bytes import Draw
from fuzz_kinds import KINDS, holds, make
from samespace.progress import bar

SECONDS, TOGETHER = 10.0, 1000
SHARES = {"ledger": 0.15, "index": 0.15, "settings": 0.1, "ids": 0.2, "metadata": 0.2, "filters": 0.2}
_NUMBERS = {name: number for number, name in enumerate(KINDS)}


class _TooLong(BaseException):
    """A try hangs."""


def _over(signal_number: int, frame: Any) -> None:
    raise _TooLong


def _refuse_connections(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise RuntimeError(f"{event} {arguments[1:]}")


def _child(name: str, place: Path, first: int, count: int, told: int) -> None:
    """Try some in this process; a line for each to the pipe `told`: the number, and what was wrong."""
    warnings.simplefilter("ignore")
    kind = KINDS[name](place)
    kind.prepare()
    sys.addaudithook(_refuse_connections)
    signal.signal(signal.SIGALRM, _over)
    before, usual = set(sys.modules), 0
    with os.fdopen(told, "w", buffering=1) as pipe:
        for number in range(first, first + count):
            pipe.write(f"{number}\n")
            wrong = ""
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                holds(kind, Draw(_NUMBERS[name], number))
            except _TooLong:
                wrong = f"no answer in {SECONDS:.0f} s"
            except BaseException as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                wrong = f"{type(error).__name__} in {Path(where.filename).name}:{where.lineno}: {str(error)[:200]!r}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            usual = usual or (peak if number - first == 20 else 0)
            if usual and peak > 2 * usual:
                wrong = wrong or f"{peak >> 10} MiB of memory, where {usual >> 10} are usual"
            if clients := {"psycopg", "qdrant_client"} & (set(sys.modules) - before):
                wrong = wrong or f"{clients} were loaded"
            if wrong:
                pipe.write(f"{number} {json.dumps(wrong)}\n")
                if "memory" in wrong:
                    # the peak stays; a new process carries on
                    return


def run_some(name: str, place: Path, first: int, count: int) -> tuple[int, dict[int, str]]:
    """Try up to `count` inputs of a kind in a child; how many were tried, and the faults by number."""
    read, write = os.pipe()
    gc.collect()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            _child(name, place, first, count, write)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(write)
    last, faults = first - 1, dict[int, str]()
    with os.fdopen(read) as pipe:
        for line in _lines(pipe, child):
            number, _, wrong = line.rstrip("\n").partition(" ")
            last = int(number)
            if wrong:
                faults[last] = json.loads(wrong)
    _, status = os.waitpid(child, 0)
    if status and last not in faults:
        faults[last] = f"the process ended by {status}" if last >= first else "a process cannot begin, see above"
    return max(1, last + 1 - first), faults


def _lines(pipe: Any, child: int) -> Any:
    """Lines of a child; one that is silent for long is killed."""
    import select

    while True:
        ready, _, _ = select.select([pipe], [], [], 6 * SECONDS)
        if not ready:
            os.kill(child, signal.SIGKILL)
        line = pipe.readline()
        if not line:
            return
        yield line


def main() -> None:
    """Run, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first try of each kind")
    parser.add_argument("--kind", choices=sorted(KINDS))
    parser.add_argument("--out", type=Path, help="keep how far each kind has come, and what was wrong")
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where galleries are made; in memory")
    given = parser.parse_args()
    kept: dict[str, Any] = json.loads(given.out.read_text()) if given.out and given.out.exists() else {}
    tried, faults, seconds = Counter(kept.get("tried", {})), dict(kept.get("faults", {})), kept.get("seconds", 0.0)
    goals = {given.kind: given.tries} if given.kind else {k: round(s * given.tries) for k, s in SHARES.items()}
    with (
        tempfile.TemporaryDirectory(dir=given.folder if given.folder.is_dir() else None) as folder,
        bar("fuzz", sum(goals.values()), "inputs", start=sum(tried[name] for name in goals)) as advance,
    ):
        make(Path(folder) / "gallery")
        places = {name: Path(folder) / name for name in goals}
        while todo := [name for name, goal in goals.items() if tried[name] < goal]:
            # the one that is farthest behind
            name = min(todo, key=lambda one: tried[one] / goals[one])
            began = time.monotonic()
            shutil.rmtree(places[name], ignore_errors=True)
            shutil.copytree(Path(folder) / "gallery", places[name])
            count = min(TOGETHER, goals[name] - tried[name])
            done, wrong = run_some(name, places[name], given.first + tried[name], count)
            tried[name] += done
            seconds += time.monotonic() - began
            for number, what in wrong.items():
                faults[f"{name} {number}"] = what
                print(f"{name} {number}: {what}", file=sys.stderr, flush=True)
            advance(done, f"{len(faults)} faults")
            if given.out:
                given.out.write_text(json.dumps({"tried": tried, "faults": faults, "seconds": seconds}, indent=1))
    print("| inputs | tried | faults |\n|---|---:|---:|")
    for name in goals:
        print(f"| {KINDS[name].__doc__.splitlines()[0].split(':')[0].rstrip('.')} | {tried[name]:,} | "
              f"{sum(key.startswith(name + ' ') for key in faults)} |")  # fmt: skip
    print(f"| **in all** | **{tried.total():,}** | **{len(faults)}** |\n\n{seconds / 60:.0f} minutes")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
