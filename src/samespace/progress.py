"""Progress of long work: a bar with rate and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TextIO

from samespace.errors import counted

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

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
def silent_bar(title: str, total: int | None, unit: str = "images") -> Iterator[Bar]:
    """In the place of `bar`, where nothing is to be shown."""
    yield silent


@contextmanager
def bar(
    title: str,
    total: int | None,
    unit: str = "images",
    *,
    start: int = 0,
    stream: TextIO | None = None,
    summary: bool = True,
) -> Iterator[Bar]:
    """Show the progress of `total` units while the block runs.

    `total` is None where it is not known; `start` units were done before, on resuming. It writes to standard error by
    default. Without `summary` no line at the end says how long it took, because the caller does.
    """
    stages = _stages.get()
    if stages is not None:
        with stages.bar(title, total, unit, start) as advance:
            yield advance
        return
    stream = stream or sys.stderr
    if stream.isatty():
        with _on_terminal(title, total, unit, start, stream) as advance:
            yield advance
    else:
        with _in_lines(title, total, unit, start, stream, summary) as advance:
            yield advance


class Stages:
    """One view of work in several stages: its bars are shown below a bar of the whole, with the time left of it.

    The bar of the whole moves by expected seconds, and its time left by how these compare with real ones.

    Args:
        title: of the whole.
        seconds: expected of all stages together, those that were done before included.
        done: expected seconds of the stages that were done before.
        stream: standard error by default.
    """

    def __init__(self, title: str, seconds: float, *, done: float = 0.0, stream: TextIO | None = None) -> None:
        self._title, self._seconds = title, max(seconds, 1e-6)
        self._stream = stream or sys.stderr
        self._done, self._gained = done, 0.0
        self._expected = self._share = 0.0
        self._units = 1
        self._stage = ""
        self._began = self._shown = time.monotonic()
        self._live: Progress | None = None
        self._whole: TaskID | None = None

    @contextmanager
    def shown(self) -> Iterator[Stages]:
        """Show the view while the block runs; every `bar` inside becomes part of it."""
        token = _stages.set(self)
        self._began = self._shown = time.monotonic()
        try:
            if self._stream.isatty():
                with _live(self._stream) as self._live:
                    self._whole = self._live.add_task(self._title, total=self._seconds, rate="", note="", left="")
                    self._advance(0, "")
                    yield self
            else:
                yield self
        finally:
            self._live = None
            _stages.reset(token)

    @contextmanager
    def stage(self, title: str, seconds: float, units: int = 1) -> Iterator[None]:
        """One stage: the seconds it should take, and how many units all its bars count together."""
        self._stage, self._expected, self._units, self._share = title, seconds, max(units, 1), 0.0
        self._advance(0, "")
        yield
        rest = self._expected * (1 - self._share)
        self._done += rest
        self._gained += rest
        self._expected, self._share = 0.0, 1.0
        self._advance(0, "")

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str, start: int) -> Iterator[Bar]:
        """What `bar` shows inside."""
        self._advance(start, "", gained=False)
        if self._live is None:
            yield lambda done, note="": self._line(title, done, note)
            return
        live = self._live
        task = live.add_task(f"  {title}", total=total, completed=start, rate="", note="", left="")
        began, finished = time.monotonic(), 0

        def advance(done: int, note: str = "") -> None:
            nonlocal finished
            finished += done
            rate = finished / max(time.monotonic() - began, 1e-6)
            live.update(task, advance=done, rate=f"{rate:,.0f} {unit}/s")
            if note:
                live.update(task, note=note)
            self._advance(done, "")

        try:
            yield advance
        finally:
            live.remove_task(task)

    def _advance(self, units: int, note: str, *, gained: bool = True) -> None:
        step = min(units / self._units, 1 - self._share)
        self._share += step
        self._done += step * self._expected
        self._gained += step * self._expected if gained else 0.0
        if self._live is not None and self._whole is not None:
            self._live.update(self._whole, completed=self._done, left=f"{self.left} left", note=self._stage)

    def _line(self, title: str, done: int, note: str) -> None:
        self._advance(done, note)
        now = time.monotonic()
        if now - self._shown >= _SECONDS_BETWEEN_LINES:
            self._shown = now
            share = f"{min(100 * self._done / self._seconds, 99.0):.0f} %"
            tail = f", {note}" if note else ""
            print(f"{self._title}: {share}, {self.left} left; {title}{tail}", file=self._stream, flush=True)

    @property
    def left(self) -> str:
        """Time left of the whole, for people: by the pace so far, at first as expected."""
        spent = time.monotonic() - self._began
        pace = spent / self._gained if self._gained > 1 else 1.0
        return clock(max(self._seconds - self._done, 0.0) * pace)


_stages: ContextVar[Stages | None] = ContextVar("stages", default=None)


def _live(stream: TextIO) -> Progress:
    """A display of a whole and of what is under way, which knows the time left of the whole only."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[rate]}", style="dim"),
        TextColumn("{task.fields[note]}", style="dim"),
        console=Console(file=stream),
    )


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
def _in_lines(title: str, total: int | None, unit: str, start: int, stream: TextIO, summary: bool) -> Iterator[Bar]:
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
    if not summary:
        return
    spent = time.monotonic() - began
    rate, tail = finished / max(spent, 1e-6), f", {last}" if last else ""
    one = f"{unit[:-3]}y" if unit.endswith("ies") else unit[:-1]
    did = (
        f"{counted(finished, one, unit)} in {clock(spent)}, {rate:,.0f} {unit}/s{tail}"
        if finished
        else "nothing was left to do"
    )
    print(f"{title}: {did}", file=stream, flush=True)


@contextmanager
def patience(title: str, *, after: float = 2.0, quiet: bool = False, stream: TextIO | None = None) -> Iterator[None]:
    """Say what is going on, once, where the block takes longer than `after` seconds and cannot count its work."""
    timer = threading.Timer(after, lambda: print(f"{title} …", file=stream or sys.stderr, flush=True))
    timer.daemon = True
    if not quiet:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


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


class Pace:
    """Tells how far work has come, at what rate, and how long the rest takes at that rate.

    Example:
        >>> pace = Pace("queries")
        >>> pace(2_000, 10_000).partition(", ")[0]
        '2,000 of 10,000 queries'
    """

    def __init__(self, unit: str) -> None:
        self._unit, self._began = unit, time.monotonic()

    def __call__(self, done: int, total: int) -> str:
        """What to say when so many units are done."""
        rate = max(done / max(time.monotonic() - self._began, 1e-6), 1e-6)
        return f"{done:,} of {total:,} {self._unit}, {rate:,.0f}/s, {clock((total - done) / rate)} left"


def clock(seconds: float) -> str:
    """Seconds for people.

    Example:
        >>> clock(75), clock(3675), clock(0.4)
        ('1:15', '1:01:15', '0:00')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
