"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

Advance = Callable[[int], None]
"""Called with how many more are done."""

_SECONDS_BETWEEN_LINES = 15.0
_SILENT_SECONDS = 2.0


class Bar(Protocol):
    """What `bar` yields: call it with the number of units just finished, and perhaps a new note."""

    def __call__(self, done: int, note: str = "") -> None:
        """Advance by `done` units; a `note` that is not empty takes the place of the last one."""
        ...


def silent(done: int, note: str = "") -> None:
    """A `Bar` that shows nothing."""


@contextmanager
def silent_bar(title: str, total: int | None) -> Iterator[Bar]:
    """In the place of `bar`, where nothing is to be shown."""
    yield silent


@contextmanager
def bar(
    title: str, total: int | None, unit: str = "images", *, start: int = 0, stream: TextIO | None = None
) -> Iterator[Bar]:
    """Show the progress of `total` units while the block runs.

    `total` is None where it is not known; `start` units were done before, on resuming. It writes to standard error by
    default.
    """
    stream = stream or sys.stderr
    shown = _on_terminal if stream.isatty() else _in_lines
    with shown(title, total, unit, start, stream) as advance:
        yield advance


@contextmanager
def _on_terminal(title: str, total: int | None, unit: str, start: int, stream: TextIO) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[rate]}", style="dim"),
        TimeRemainingColumn(compact=True),
        TextColumn("left", style="dim"),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=Console(file=stream)) as progress:
        task = progress.add_task(title, total=total, completed=start, rate="", note="")
        began, finished = time.monotonic(), 0

        def advance(done: int, note: str = "") -> None:
            nonlocal finished
            finished += done
            rate = f"{finished / max(time.monotonic() - began, 1e-6):,.0f} {unit}/s"
            progress.update(task, advance=done, rate=rate)
            if note:
                progress.update(task, note=note)

        yield advance


@contextmanager
def _in_lines(title: str, total: int | None, unit: str, start: int, stream: TextIO) -> Iterator[Bar]:
    began = shown = time.monotonic()
    finished = 0
    last = ""

    def advance(done: int, note: str = "") -> None:
        nonlocal finished, shown, last
        finished += done
        last = note or last
        now = time.monotonic()
        if now - shown >= _SECONDS_BETWEEN_LINES:
            shown = now
            rate = max(finished / max(now - began, 1e-6), 1e-6)
            left = "" if total is None else f", {clock((total - start - finished) / rate)} left"
            tail = f", {last}" if last else ""
            at = f"{start + finished:,}{'' if total is None else f'/{total:,}'} {unit}"
            print(f"{title}: {at}, {rate:,.0f} {unit}/s{left}{tail}", file=stream, flush=True)

    yield advance
    spent = time.monotonic() - began
    rate, tail = finished / max(spent, 1e-6), f", {last}" if last else ""
    print(f"{title}: {finished:,} {unit} in {clock(spent)}, {rate:,.0f} {unit}/s{tail}", file=stream, flush=True)


def notice(text: str) -> None:
    """Say one line about the work to come, where progress goes."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def working(title: str, *, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Callable[[str], None]]:
    """Say on a terminal that work goes on, and for how long, once the block has taken two seconds.

    Elsewhere, and where `quiet`, nothing is shown. The line is gone when the block ends.

    Yields:
        A function that sets what the line says behind the title.
    """
    stream = stream or sys.stderr
    if quiet or not stream.isatty():
        yield lambda note: None
        return
    ended, notes = threading.Event(), [""]
    teller = threading.Thread(target=_tell, args=(title, notes, ended, stream), daemon=True)
    teller.start()
    try:
        yield lambda note: notes.append(note)
    finally:
        ended.set()
        teller.join()


def _tell(title: str, notes: list[str], ended: threading.Event, stream: TextIO) -> None:
    began, wait, width = time.monotonic(), _SILENT_SECONDS, 0
    while not ended.wait(wait):
        note = f", {notes[-1]}" if notes[-1] else ""
        line = f"{title}{note}: {clock(time.monotonic() - began)}"[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line:<{width}}", end="", file=stream, flush=True)
        width, wait = len(line), 0.5
    if width:
        print(f"\r{' ' * width}\r", end="", file=stream, flush=True)


def clock(seconds: float) -> str:
    """Seconds for people.

    Example:
        >>> clock(75), clock(3675), clock(0.4)
        ('1:15', '1:01:15', '0:00')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
