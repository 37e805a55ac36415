"""`reproduce`: carry out a study on a user's images and write its page; what is there is kept."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_exit
from pathlib import Path
from typing import Any

import torch

from samespace.data import ImageSource
from samespace.errors import InputError, TrainingError, counted
from samespace.files import locked, read_json, write_json
from samespace.progress import Bar, bar, clock, silent
from samespace.studies.jobs import do, require_benchmark
from samespace.studies.page import write_study
from samespace.studies.plan import Job, Kind, Plan, identity, is_done, jobs, open_training, require_legal
from samespace.studies.repeated import load_comparisons
from samespace.studies.results import pictures, results
from samespace.studies.taken import NOTHING_TO_TAKE, from_each, take, takeable
from samespace.train import flushed_denormals, load_recipe
from samespace.train.recipe_file import differences

_WAIT_SECONDS = 1.0
_MOST_WORKERS = 4
# of a study that was moved, or of trainings that were taken from another
_OF_NO_ACCOUNT = ("compatibility.old_model:", "compatibility.earlier:", "data.source:", "model.name:")
_COUNTED: dict[Kind, str] = {"train": "models", "bridge": "maps", "check": "comparisons"}


@dataclass(frozen=True)
class Reproduced:
    """What a call of `reproduce` did: the tables, JSON-ready, and the page with all of them, `written` if it changed.

    `done` is how many of the `total` trainings and checks this call did.
    """

    results: dict[str, Any]
    page: Path
    done: int
    total: int
    written: bool


def reproduce(
    plan: Plan,
    *,
    workers: int = 1,
    models_from: Sequence[Path] = (),
    say: Callable[[str], None] = print,
    quiet: bool = False,
) -> Reproduced:
    """Train and check everything a plan asks for and is not there yet, then write the tables.

    It can be killed at any moment; the same call carries on, and ends with the same tables. Trainings are exact when
    resumed, results in the folder are kept as long as they were made from the same images, recipe and check.

    Args:
        plan: the study, its settings, images, folder, seeds and tables.
        workers: processes that train and check at the same time; `default_workers()` says how many pay. More than one
            in a script of your own needs its calls under `if __name__ == "__main__":`, as every pool of processes does.
        models_from: folders of other studies, whose finished trainings are taken where they are the same (`takeable`).
        say: receives one line at the beginning and one for each job.
        quiet: show no progress bar.

    Raises:
        InputError: the images do not fit the settings, the folder holds another study, or one of `models_from` none.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # a worker that imports the caller's script anew would wait for its own parent
        raise InputError("call reproduce under `if __name__ == '__main__':`, or with workers=1")
    require_legal(plan)
    source = open_training(plan)
    every = jobs(plan, source)
    found = takeable(plan, models_from)
    with locked(plan.out / "study"):
        _claim(plan, source)
        take(plan, found)
        for other, number in from_each(found, models_from).items():
            say(f"{counted(number, 'training')} taken from {other}" if number else f"{other} {NOTHING_TO_TAKE}")
        _require_same_models(plan, every)
        pending = [job for job in every if not is_done(plan, job)]
        many = Counter(job.kind for job in every)
        counts = ", ".join(f"{many[kind]} {name}" for kind, name in _COUNTED.items() if many[kind])
        if pending:
            require_benchmark(plan)
            there = len(every) - len(pending)
            say(f"{counts}; {len(pending)} to do, {there} there already; {counted(workers, 'worker')}")
            progress = nullcontext(silent) if quiet else bar(plan.study.name, sum(job.cost for job in pending))
            with progress as advance:
                _carry_out(plan, pending, workers, say, advance)
        else:
            say(f"{counts}: everything is there, nothing to do")
        comparisons = load_comparisons(plan)
        study = results(plan, comparisons)
        written = write_study(study, plan.out, pictures(plan, comparisons))
    return Reproduced(study, plan.out / "study.html", len(pending), len(every), written)


def default_workers() -> int:
    """One for each core up to four; one where there is a GPU, which several trainings would only share."""
    return 1 if torch.cuda.is_available() else min(_MOST_WORKERS, os.cpu_count() or 1)


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


def _require_same_models(plan: Plan, every: Sequence[Job]) -> None:
    """Refuse finished models that the study declared otherwise, as another version may have."""
    for job in every:
        if job.kind != "train" or not is_done(plan, job):
            continue
        folder = plan.model_folder(job.name, job.seed)
        wanted = plan.recipe(plan.study.model(job.name), job.seed).resolved()
        learnt = differences(load_recipe(folder / "recipe.yaml"), wanted)
        changed = [line for line in learnt if not line.startswith(_OF_NO_ACCOUNT)]
        if changed:
            raise InputError(
                f"{folder} was trained by another recipe than the study has now ({changed[0]}); choose another --out, "
                f"or remove all that has '{job.name}' in its name from {plan.out / f'seed{job.seed}'}"
            )


def _carry_out(plan: Plan, pending: Sequence[Job], workers: int, say: Callable[[str], None], advance: Bar) -> None:
    """Do all pending jobs, which come in an order in which they can be done, in this process or by several workers.

    Raises:
        SamespaceError: a job cannot be done, named by the message; others that are under way stop where they are.
    """
    if workers == 1:
        with flushed_denormals():
            for number, job in enumerate(pending, start=1):
                seconds = do(plan, job)
                say(f"[{number}/{len(pending)}] {job}: {clock(seconds)}")
                advance(job.cost, str(job))
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    # a worker that spins while it waits for its threads takes the core that another worker needs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool:
        try:
            _share_out(plan, pending, pool, workers, say, advance)
        except BrokenProcessPool:
            raise TrainingError(
                "a worker of the study died, perhaps for want of memory; what was finished is kept: "
                "run the same command to carry on, with fewer --workers"
            ) from None
        except BaseException:
            _stop(pool)
            raise


def _share_out(
    plan: Plan,
    pending: Sequence[Job],
    pool: ProcessPoolExecutor,
    workers: int,
    say: Callable[[str], None],
    advance: Bar,
) -> None:
    waiting, running = list(pending), dict[Future[float], Job]()
    unfinished = {(job.name, job.seed) for job in pending if job.kind != "check"}
    finished = 0
    while waiting or running:
        ready = [job for job in waiting if not any((name, job.seed) in unfinished for name in job.needs)]
        for job in ready[: workers - len(running)]:
            waiting.remove(job)
            running[pool.submit(do, plan, job)] = job
        done, _ = wait(running, timeout=_WAIT_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            job = running.pop(future)
            seconds = future.result()
            finished += 1
            unfinished.discard((job.name, job.seed))
            say(f"[{finished}/{len(pending)}] {job}: {clock(seconds)}")
            advance(job.cost, ", ".join(str(other) for other in running.values()))


def _start_worker(threads: int) -> None:
    # Ctrl-C reaches every process of a terminal; the study stops its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # a killed study must not leave workers behind that write into its folder
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    wait_for_exit([sentinel])
    os._exit(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    # taken first: a pool that is shut down knows its processes no more, and its jobs would go on to their end
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
