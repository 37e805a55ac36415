"""The file of a ledger on SQLite: where one can be made, and whether it can be written."""

from __future__ import annotations

import os
from pathlib import Path

from samespace.errors import GalleryError, InputError
from samespace.files import require_place

FILE = "gallery.db"
HOLDS_ALREADY = (
    "holds a gallery already; choose another folder, or add to it; what was adopted is brought up to date by sync"
)
"""What is said of a folder with a gallery, where another one was to be made."""


def require_empty(folder: Path) -> None:
    """Refuse a folder for a new gallery that holds anything.

    Raises:
        InputError: it holds a gallery, or something else.
        GalleryError: it cannot be read.
    """
    require_place(folder)
    try:
        # listed at once: another process may be making a gallery here
        names = {file.name for file in folder.iterdir()}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        names = {folder.name}
    except OSError as error:
        raise GalleryError(f"{folder} cannot be read: {error.strerror}") from None
    if FILE in names:
        raise InputError(f"{folder} {HOLDS_ALREADY}")
    if names:
        raise InputError(f"{folder} exists and is not empty; choose another folder for the gallery")


def writable(path: Path) -> bool:
    """Whether the file and its folder may be changed."""
    try:
        # access(2) alone says yes to root on a read-only file system in some kernels
        read_only = hasattr(os, "statvfs") and bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False
    return not read_only and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def has_log(path: Path) -> bool:
    """Whether the file has a write-ahead log that holds something."""
    log = path.with_name(path.name + "-wal")
    return log.is_file() and log.stat().st_size > 0
