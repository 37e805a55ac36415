"""`reproduce`: carry out a study on a user's images and write its page; what is there is kept."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from samespace.data import ImageSource
from samespace.errors import InputError
from samespace.files import locked, read_json, write_json
from samespace.progress import bar
from samespace.studies.page import write_study
from samespace.studies.plan import Plan, identity, is_done, jobs, open_training, require_legal
from samespace.studies.results import load_certificates, pictures, results
from samespace.studies.work import carry_out, require_benchmark

_MOST_WORKERS = 4


@dataclass(frozen=True)
class Reproduced:
    """What a call of `reproduce` did.

    Attributes:
        found: the tables, JSON-ready.
        page: the page with all of them.
        done: how many trainings and checks this call did; 0 where everything was there.
        total: how many the study has.
        written: whether the page changed.
    """

    found: dict[str, Any]
    page: Path
    done: int
    total: int
    written: bool


def reproduce(plan: Plan, *, workers: int = 1, say: Callable[[str], None] = print, quiet: bool = False) -> Reproduced:
    """Train and check everything a plan asks for and is not there yet, then write the tables.

    It can be killed at any moment; the same call carries on, and ends with the same tables. Trainings are exact when
    resumed, results in the folder are kept as long as they were made from the same images, recipe and check.

    Args:
        plan: the study, its settings, images, folder, seeds and tables.
        workers: processes that train and check at the same time; `default_workers()` says how many pay. More than one
            in a script of your own needs its calls under `if __name__ == "__main__":`, as every pool of processes does.
        say: receives one line at the beginning and one for each job.
        quiet: show no progress bar.

    Raises:
        InputError: the images do not fit the settings, or the folder holds another study.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # a worker that imports the caller's script anew would wait for its own parent
        raise InputError("call reproduce under `if __name__ == '__main__':`, or with workers=1")
    require_legal(plan)
    source = open_training(plan)
    every = jobs(plan, source)
    with locked(plan.out / "study"):
        _claim(plan, source)
        pending = [job for job in every if not is_done(plan, job)]
        trainings = sum(job.kind == "train" for job in every)
        counts = f"{trainings} models, {len(every) - trainings} comparisons"
        if pending:
            require_benchmark(plan)
            there = len(every) - len(pending)
            say(f"{counts}; {len(pending)} to do, {there} there already; {workers} workers")
            _work(plan, pending, workers, say, quiet)
        else:
            say(f"{counts}: everything is there, nothing to do")
        certificates = load_certificates(plan)
        found = results(plan, certificates)
        written = write_study(found, plan.out, pictures(plan, certificates))
    return Reproduced(found, plan.out / "study.html", len(pending), len(every), written)


def default_workers() -> int:
    """One for each core up to four; one where there is a GPU, which several trainings would only share."""
    return 1 if torch.cuda.is_available() else min(_MOST_WORKERS, os.cpu_count() or 1)


def _work(plan: Plan, pending: list[Any], workers: int, say: Callable[[str], None], quiet: bool) -> None:
    if quiet:
        carry_out(plan, pending, workers=workers, say=say, advance=lambda done, note="": None)
        return
    with bar(plan.study.name, sum(job.cost for job in pending)) as advance:
        carry_out(plan, pending, workers=workers, say=say, advance=advance)


def _claim(plan: Plan, source: ImageSource) -> None:
    """Mark the folder as this study's, or refuse one that holds another's results."""
    file, mine = plan.out / "settings.json", identity(plan, source)
    if not file.exists():
        write_json(file, mine)
        return
    theirs = read_json(file, "the settings of a study")
    changed = [key for key, value in mine.items() if theirs.get(key) != value]
    if changed:
        raise InputError(
            f"{plan.out} holds a study with other {' and other '.join(changed)}; choose another --out, or remove it"
        )
