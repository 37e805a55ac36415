"""What SQLite says when something fails, in one line that says what to do."""

from __future__ import annotations

import shutil
import sqlite3

from samespace.gallery.ledger.sqlite.file import FILE

_SHARED_BYTES = 65536


def explain(error: sqlite3.Error | OSError, where: str, waited: float) -> str:
    """The line for an error of the database in the folder `where`; a lock was waited for as many seconds."""
    text = str(error)
    # the shared-memory file grows by other calls, which fail with another text
    if "disk is full" in text or "No space left" in text or ("disk I/O error" in text and _full(where)):
        return f"{where}: the disk is full; what was acknowledged is kept, make room and run the same command again"
    if "malformed" in text or "not a database" in text or "no such table" in text:
        return f"{where}/{FILE} is damaged; restore it from a backup: the index files hold no item that it lacks"
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text:
        reason = (isinstance(error, OSError) and error.strerror) or "its file or folder may not be changed"
        return f"{where} cannot be written ({reason}); nothing was changed"
    if "locked" in text or "busy" in text:
        return f"{where}: another process has been writing for over {waited:.0f} s; try again"
    code = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return f"{where}: the database failed ({code}); nothing was changed"


def _full(folder: str) -> bool:
    try:
        return shutil.disk_usage(folder).free < _SHARED_BYTES
    except OSError:
        return False
