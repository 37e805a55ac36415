"""One process that answers, or several at one address: started again where one dies, and stopped together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import TYPE_CHECKING

from samespace.errors import InputError, SamespaceError
from samespace.gallery import Gallery
from samespace.serve.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samespace.serve.service import Service

LOG = logging.getLogger("samespace.serve")
_HEALTHY_SECONDS = 10.0
_LONGEST_PAUSE_SECONDS = 30.0
_GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Serving:
    """All that a process needs to know in order to answer.

    Attributes:
        galleries: where each lies, by the name that addresses give it.
        models: where each lies, by the name that requests give it.
        device: of the models.
        keys: file of the keys; None lets everybody do everything.
        limits: of requests, in each process.
        hosts: the only names by which the service may be addressed; None for any.
        tls: certificate and private key.
    """

    galleries: Mapping[str, str]
    models: Mapping[str, str]
    device: str
    keys: Path | None
    limits: Limits
    hosts: tuple[str, ...] | None
    tls: tuple[Path, Path] | None

    def check(self) -> None:
        """Look whether keys, galleries and models are there; no index and no model is loaded.

        Raises:
            SamespaceError: one cannot.
        """
        from samespace.serve.encoders import Encoders
        from samespace.serve.keys import load_keys

        Encoders(self.models).require_named()
        if self.keys is not None:
            load_keys(self.keys)
        for place in self.galleries.values():
            Gallery.open(place).close()

    def open(self) -> Service:
        """Open galleries and models.

        Raises:
            SamespaceError: a gallery, a model or the keys cannot be used.
        """
        from samespace.serve.encoders import Encoders
        from samespace.serve.keys import KeyRing
        from samespace.serve.service import Service

        keys = None if self.keys is None else KeyRing(self.keys)
        encoders = Encoders(self.models, self.device)
        encoders.load_named()
        opened: dict[str, Gallery] = {}
        try:
            for name, place in self.galleries.items():
                opened[name] = Gallery.open(place)
        except BaseException:
            for gallery in opened.values():
                gallery.close()
            raise
        return Service(opened, encoders=encoders, keys=keys, limits=self.limits)


def serve(serving: Serving, listening: socket.socket, say: Callable[[], None], *, workers: int = 1) -> None:
    """Answer until SIGTERM or Ctrl-C; requests under way are finished, jobs end after the batch in hand.

    Of several workers each opens the galleries, whose index files they map together, and answers once it is warm. One
    that dies is started again, after a pause where it did not live long.

    `say`: called once what is to be served was found in order, by one process all of it, by several all but the models.

    Raises:
        SamespaceError: a gallery, a model or the keys cannot be used.
    """
    from samespace.serve.app import answer, log_as_json

    if workers == 1:
        service = serving.open()
        say()
        log_as_json()
        answer(service, listening, hosts=serving.hosts, tls=serving.tls)
        return
    serving.check()
    say()
    log_as_json()
    threads = max(1, (os.cpu_count() or 1) // workers)
    # counters of all processes lie in one folder, so that each can tell their sums
    with (
        tempfile.TemporaryDirectory(prefix="samespace-metrics-") as folder,
        _set(PROMETHEUS_MULTIPROC_DIR=folder, OMP_NUM_THREADS=str(threads)),
    ):
        _Supervisor(serving, listening, workers).run()


class _Supervisor:
    """Keeps a number of workers alive."""

    def __init__(self, serving: Serving, listening: socket.socket, workers: int) -> None:
        self._context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._opened = self._context.SimpleQueue()  # "", or why a worker could not open what it should serve
        self._usable = False
        self._work = (serving, listening, self._opened)
        self._processes: dict[BaseProcess, float] = {}
        self._due = [0.0] * workers
        self._pause = 0.0

    def run(self) -> None:
        """Until KeyboardInterrupt; a second one ends workers at once.

        Raises:
            InputError: no worker could ever open what it should serve, and it would be tried without end.
        """
        try:
            while True:
                self._start()
                self._look()
        finally:
            self._stop()

    def _start(self) -> None:
        now = time.monotonic()
        for due in [due for due in self._due if due <= now]:
            self._due.remove(due)
            process = self._context.Process(target=_answer, args=self._work)
            process.start()
            self._processes[process] = now
            LOG.info("worker started", extra={"worker": process.pid})

    def _look(self) -> None:
        """Wait until a worker ends or one has to be started."""
        from prometheus_client.multiprocess import mark_process_dead

        pause = min((due - time.monotonic() for due in self._due), default=None)
        wait([process.sentinel for process in self._processes], timeout=None if pause is None else max(0.0, pause))
        for process in [one for one in self._processes if not one.is_alive()]:
            lived = time.monotonic() - self._processes.pop(process)
            while not self._opened.empty():
                why = self._opened.get()
                self._usable = self._usable or not why
                if not self._usable:
                    raise InputError(why)
            mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
            self._pause = 0.0 if lived > _HEALTHY_SECONDS else min(max(1.0, 2 * self._pause), _LONGEST_PAUSE_SECONDS)
            LOG.error(
                "worker died, another one is started",
                extra={
                    "worker": process.pid,
                    "exitcode": process.exitcode,
                    "lived": round(lived, 1),
                    "in": self._pause,
                },
            )
            self._due.append(time.monotonic() + self._pause)

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()
        end = time.monotonic() + self._work[0].limits.deadline + _GRACE_SECONDS
        try:
            for process in self._processes:
                process.join(max(0.0, end - time.monotonic()))
        finally:
            for process in self._processes:
                process.kill()


def _answer(serving: Serving, listening: socket.socket, opened: SimpleQueue[str]) -> None:
    """What a worker does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
        from samespace.serve.app import answer, log_as_json

        log_as_json()
        try:
            service = serving.open()
        except SamespaceError as error:
            opened.put(str(error))
            return
        except Exception as error:
            opened.put(" ".join(f"unexpected {type(error).__name__}: {error}".split()))
            raise
        opened.put("")
        answer(service, listening, hosts=serving.hosts, tls=serving.tls, warm=True)
    except KeyboardInterrupt:
        # uvicorn has finished what was under way, and raises the signal again
        return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _set(**values: str) -> Iterator[None]:
    """Variables of the environment that are not set, for processes started in the block."""
    new = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
