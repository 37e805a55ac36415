"""Exit statuses, the one line that goes with each, and what a process needs before a command runs."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from samespace.errors import SamespaceError
from samespace.names import one_line

EXIT_DONE, EXIT_NO, EXIT_BAD_INPUT, EXIT_UNEXPECTED, EXIT_INTERRUPTED = 0, 1, 2, 70, 130
MEANINGS = {
    EXIT_DONE: "done; a check said yes",
    EXIT_NO: "a check said no",
    EXIT_BAD_INPUT: "wrong use or bad input, or a place that cannot be written, such as standard output on a full disk",
    EXIT_UNEXPECTED: "anything unexpected",
    EXIT_INTERRUPTED: "interrupted by Ctrl-C, SIGTERM or SIGHUP",
}
"""What each exit status means, for docs/cli.md."""
_KEEP_NOTHING = (
    "check", "probe", "bridge", "data", "export", "gallery calibrate", "gallery doctor", "gallery search",
    "gallery status",
)  # fmt: skip
"""Commands whose result is written at the end, if at all."""
TRACEBACK = "SAMESPACE_TRACEBACK"
"""Environment variable: set to anything, errors show their traceback, and libraries may warn."""


def complain(message: str, status: int = EXIT_BAD_INPUT) -> int:
    """Say in one line on standard error what is wrong; returns the status."""
    print(f"samespace: error: {one_line(message)}", file=sys.stderr)
    return status


def explained(error: BaseException) -> int:
    """Say what an error means in one line; returns its status."""
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    if isinstance(error, SamespaceError):
        return complain(str(error))
    if isinstance(error, OSError) and error.strerror:
        return complain(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return _unexpected(error)


def _unexpected(error: BaseException) -> int:
    """Say that an error is not the user's, and how to see where it is; returns the status for that."""
    if _out_of_memory(error):
        what = "there is not enough memory; smaller batches (--batch-size, optim.batch_size) or fewer workers need less"
    else:
        what = (
            f"unexpected {type(error).__name__} ({' '.join(str(error).split()) or 'no message'}), a fault of samespace"
        )
    return complain(f"{what}; {TRACEBACK}=1 before the command shows where", EXIT_UNEXPECTED)


def interrupted(arguments: Sequence[str]) -> int:
    """Say that the work of a command line was cut off, and what is left of it; returns the status for that."""
    words = " ".join(arguments[:2])
    kept = "nothing was kept, the same command begins anew"
    if not words.startswith(_KEEP_NOTHING):
        kept = "what was finished is kept, run the same command to carry on"
    print(f"samespace: interrupted; {kept}", file=sys.stderr)
    return EXIT_INTERRUPTED


def _out_of_memory(error: BaseException) -> bool:
    # torch has a class of its own for a GPU, and a RuntimeError for the CPU
    text = str(error)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "t allocate memory" in text


@contextmanager
def background_errors() -> Iterator[list[BaseException]]:
    """Collect what threads raise and nobody catches, in the place of Python's traceback."""
    found: list[BaseException] = []
    before = threading.excepthook

    def collect(raised: threading.ExceptHookArgs) -> None:
        if raised.exc_value is not None:
            found.append(raised.exc_value)

    threading.excepthook = collect
    try:
        yield found
    finally:
        threading.excepthook = before


def prepare_process() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, and keep the words of libraries from the terminal.

    What libraries warn of is for programmers; samespace says itself what a user has to know.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    if os.environ.get(TRACEBACK) or sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    # or what they log goes to standard error
    logging.getLogger().addHandler(logging.NullHandler())
    # for worker processes, and for what torch prints past Python
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
