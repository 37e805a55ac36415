"""Files that are either whole or absent: written under a temporary name, flushed, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from samespace.errors import InputError

UNREADABLE = (OSError, ValueError, EOFError, KeyError, MemoryError, NotImplementedError, SyntaxError,
              tokenize.TokenError, zipfile.BadZipFile, zlib.error)  # fmt: skip
"""What numpy raises for an `.npy` or `.npz` that is damaged, foreign, or full of Python objects."""
_DEBRIS = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<kind>tmp|old)", re.DOTALL)
_LONG = 200  # bytes of a file's name, of which most file systems take 255
_STREAMS = ("/dev", "/dev/fd", "/proc/self/fd")
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


def require_place(path: Path) -> None:
    """Refuse a place to write that lies below a file, by an InputError; folders on the way may be missing."""
    there = next((one for one in path.absolute().parents if one.exists()), path)
    if not there.is_dir():
        raise InputError(f"{path} lies below {there}, which is a file; name a place in a folder")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the place of `path`, on error it is removed.

    What stands for a stream, such as a device or a pipe that a shell made, receives the content and stays.
    """
    require_place(path)
    with _naming(path):
        if is_stream(path):
            with tempfile.TemporaryDirectory() as folder:
                content = Path(folder) / "content"
                yield content
                with content.open("rb") as written, path.open("wb") as stream:
                    shutil.copyfileobj(written, stream)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path, f"{uuid.uuid4().hex[:8]}.tmp")
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the operating system that names none, as when a disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _beside(path: Path, ending: str) -> Path:
    """A hidden name beside `path`."""
    name = os.fsencode(path.name)
    return path.with_name(f".{path.name if len(name) <= _LONG else hashlib.sha256(name).hexdigest()[:16]}.{ending}")


def is_stream(path: Path) -> bool:
    """Whether what is there is a device or a pipe, or a name for an open file, which nothing may take the place of."""
    return (path.exists() and not path.is_file() and not path.is_dir()) or str(path.parent) in _STREAMS


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it takes the place of `path`, on error it is removed."""
    require_place(path)
    with _naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path, f"{uuid.uuid4().hex[:8]}.tmp")
        temporary.mkdir()
        try:
            yield temporary
            for file in filter(Path.is_file, temporary.rglob("*")):
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
            swap_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def swap_folder(new: Path, path: Path) -> None:
    """Put folder `new` in the place of `path`; what was there is removed only once the new one stands."""
    aside = _beside(path, f"{uuid.uuid4().hex[:8]}.old")
    if path.exists():
        path.rename(aside)
    new.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed writes left in `folder`; call it where no other process is writing there.

    A folder that was set aside for a new one that never came takes its place again.
    """
    for debris in list(folder.glob(".*")):
        match = _DEBRIS.fullmatch(debris.name)
        if match is None:
            continue
        place = debris.with_name(match["name"])
        if match["kind"] == "old" and not place.exists():
            debris.rename(place)
        elif debris.is_dir():
            shutil.rmtree(debris, ignore_errors=True)
        else:
            debris.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other threads and processes out of the same block for `path`, waiting for them; locks a file beside it."""
    require_place(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _beside(path, "lock")
    from filelock import FileLock  # not needed by commands that lock nothing, and slow to import

    guard = FileLock(lock, mode=0o666, poll_interval=0.02)
    try:
        guard.acquire()
    except (NotImplementedError, OSError) as error:
        # some network file systems have no locks; embedding there must still work
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        with suppress(OSError):
            # removed while held: whoever waits for this file sees that it is gone and takes a new one
            lock.unlink()
        guard.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Read a JSON object; `what` names the file's role in the error.

    Raises:
        InputError: the file is missing, or is not one JSON object.
    """
    require_file(path, what)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON{_json_place(error)}; expected {what}") from error
    if not isinstance(value, dict):
        kind = "null" if value is None else type(value).__name__
        raise InputError(f"{path} holds a JSON {kind}; expected {what}, a JSON object")
    return value


def _json_place(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f" at line {error.lineno}, column {error.colno}"
    return f": no UTF-8 text at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""


def read_npz(path: Path, names: Sequence[str], what: str) -> tuple[dict[str, Any], list[str]]:
    """Those of the named arrays that an `.npz` holds, and the names of all it holds; nothing is unpickled.

    Raises:
        InputError: the file is missing, damaged or no `.npz`, or an array holds Python objects; `what` was expected.
    """
    import numpy as np

    require_file(path, what)
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} cannot be read as .npz: it is not an .npz file, or is cut short; expected {what}")
    try:
        # opened here, since numpy leaves open what it opens itself and finds damaged
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            present = [name for name in names if name in file.files]
            for name in present:
                _refuse_objects(path, name)
            return {name: file[name] for name in present}, list(file.files)
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path} cannot be read as .npz: it is damaged or cut short; expected {what}") from error


def _refuse_objects(path: Path, name: str) -> None:
    """Refuse an array of Python objects, which nothing but unpickling could read, by its name."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
        read_header = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
        *_, kind = read_header(member)
    if kind.hasobject:
        raise InputError(
            f"{path} cannot be read as .npz: array '{name}' holds Python objects, as a column of pandas does; save "
            f"text or numbers, {name}=np.array({name}.tolist())"
        )


def size_below(folder: Path) -> int:
    """Bytes of all files in a folder, those of its folders included; 0 where there is no folder."""
    total = 0
    for file in folder.rglob("*"):
        # files come and go under another process
        with suppress(OSError):
            total += file.stat().st_size
    return total


def require_file(path: Path, what: str) -> None:
    """Refuse a path where there is no file, or a folder, by an InputError."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected {what}, a file")
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected {what}")


def split_options(address: str, option: re.Pattern[str]) -> tuple[str, dict[str, str]]:
    """A path and the options after it, `items.parquet,id=sku`; a file whose own name ends so is taken as it is.

    `option` matches the last one: its first group is the name, its second the value.
    """
    options: dict[str, str] = {}
    while not Path(address).exists() and (match := option.search(address)):
        options.setdefault(match[1], match[2])
        address = address[: match.start()]
    return address, options
