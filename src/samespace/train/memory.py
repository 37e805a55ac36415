"""Freed memory that the process keeps for the next step of a training."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST = 2**30, 2**25
_CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Let the C library keep up to 1 GiB that it would hand back to the system after each tensor.

    A step frees what the next one needs again, and the system clears each page that it gives: a sixth of the time of
    a small network's step. It holds for the whole process, and blocks from 32 MiB on still go back at once. Only
    glibc can be told so; elsewhere nothing happens, nor where the environment already sets what it keeps.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in _CHOSEN):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_TRIM_THRESHOLD, _KEPT)
            mallopt(_MMAP_THRESHOLD, _LARGEST)
