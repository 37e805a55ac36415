"""API keys: a file of their hashes, each with a scope and perhaps an end; read anew when it changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from samespace.errors import InputError
from samespace.files import locked, read_json, replacing
from samespace.names import require_name
from samespace.typed import plain, read

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_FORMAT = "samespace-keys-1"
_PREFIX = "ss"


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept: never its text, from which alone a request can be made.

    Attributes:
        id: public part of the key's text.
        name: what people call it.
        scope: `read` searches and looks; `write` also adds and removes items; `admin` also upgrades and rolls back.
        hash: sha256 of the key's text in hex. The text has 256 random bits, so no slower hash is needed.
        created: seconds since 1970.
        expires: seconds since 1970 from which it is refused; None for never.
    """

    id: str
    name: str
    scope: Scope
    hash: str
    created: float
    expires: float | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether requests of a scope may be made with it; a higher scope holds the lower ones."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


def load_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises:
        InputError: it is missing, or is no file of keys.
    """
    value = read_json(path, "keys made by 'samespace serve key add'")
    if value.get("format") != _FORMAT or not isinstance(value.get("keys"), list):
        raise InputError(f"{path} is no file of keys; make one with 'samespace serve key add {path} NAME'")
    return read(tuple[ApiKey, ...], value["keys"], f"{path}: keys")


def add_key(path: Path, name: str, scope: Scope, *, days: float | None = None) -> str:
    """Make a key and keep its hash in the file, which is made where there is none; returns the key's text.

    Raises:
        InputError: a name that another key has, days that are not above 0, or no folder to make the file in.
    """
    require_name(name, "the key")
    if days is not None and not 0 < days < 36_525:
        raise InputError(f"a key lasts more than 0 and less than 36,525 days, got {days:g}")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no folder {path.absolute().parent} for {path.name}; make it first, or correct it")
    with locked(path):
        keys = load_keys(path) if path.exists() else ()
        if any(key.name == name for key in keys):
            raise InputError(f"{path} has a key '{name}' already; revoke it first, or choose another name")
        now, public = time.time(), secrets.token_hex(6)
        text = f"{_PREFIX}_{public}_{secrets.token_urlsafe(32)}"
        end = None if days is None else now + 86_400 * days
        _write(path, [*keys, ApiKey(public, name, scope, _hash(text), now, end)])
    return text


def revoke_key(path: Path, name: str) -> ApiKey:
    """Take a key out of the file, by its name or id; a running service refuses it from its next request on.

    Raises:
        InputError: there is no such key.
    """
    load_keys(path)  # a lock makes the folder of what it locks
    with locked(path):
        keys = load_keys(path)
        gone = next((key for key in keys if name in (key.name, key.id)), None)
        if gone is None:
            raise InputError(f"{path} has no key '{name}'; it has {', '.join(key.name for key in keys) or 'none'}")
        _write(path, [key for key in keys if key != gone])
    return gone


class KeyRing:
    """Says whether a request may pass, by the keys of a file, which is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._keys = {key.id: key for key in load_keys(path)}
        self._stamp: tuple[int, ...] = ()

    def find(self, text: str) -> ApiKey | None:
        """The key of this text that has not expired.

        Raises:
            InputError: the file cannot be read any more.
        """
        parts = text.split("_", 2)
        given = _hash(text)
        with self._guard:
            if (stamp := self._stat()) != self._stamp:
                self._keys, self._stamp = {key.id: key for key in load_keys(self._path)}, stamp
            key = self._keys.get(parts[1]) if len(parts) == 3 else None
        # compared even where there is no such key, so that time tells nothing
        right = hmac.compare_digest(given, key.hash if key is not None else _hash(""))
        if key is None or not right or (key.expires is not None and key.expires <= time.time()):
            return None
        return key

    def _stat(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise InputError(f"{self._path} cannot be read: {error.strerror}") from error
        return found.st_mtime_ns, found.st_size, found.st_ino


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _write(path: Path, keys: Sequence[ApiKey]) -> None:
    """Write the file whole, readable by its owner alone."""
    with replacing(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "keys": [plain(key) for key in keys]}, file, indent=2)
