"""What a PostgreSQL server says when something fails, in one line that says what to do."""

from __future__ import annotations

from shlex import quote

import psycopg

from samespace.errors import GalleryError, InputError, SamespaceError
from samespace.gallery.ledger.pool import Unreachable
from samespace.gallery.ledger.postgres.address import Address

WAIT_SECONDS = 60

_KEPT = "what was acknowledged is kept"
_BY_STATE = {
    "53100": f"the disk of the server is full; {_KEPT}, make room and run the same command again",
    "53200": f"the server ran out of memory; {_KEPT}, run the same command again",
    "53300": "the server has no connection left; raise max_connections there or run fewer workers",
    "28P01": "wrong user or password; set PGPASSWORD, or write it into ~/.pgpass",
    "28000": "the server does not let this user in; see its pg_hba.conf",
    "25006": "the server takes no writes now (a standby, or default_transaction_read_only); nothing was changed",
    "55P03": f"another process has been writing for over {WAIT_SECONDS} s; try again",
    "57014": f"a statement took too long and was ended; {_KEPT}, see what else the server is doing",
    "40P01": f"two processes waited for each other; {_KEPT}, run the same command again",
    "40001": f"two processes changed the same rows; {_KEPT}, run the same command again",
    "XX001": "the database is damaged; restore it from a backup",
    "XX002": "an index of the database is damaged; run REINDEX there",
}
# errors of a connection that never came about carry no state, only words
_BY_WORDS = {
    "password authentication failed": _BY_STATE["28P01"],
    "no password supplied": "the server asks for a password; set PGPASSWORD, or write it into ~/.pgpass",
    "pg_hba.conf": _BY_STATE["28000"],
    "too many clients": _BY_STATE["53300"],
    "remaining connection slots": _BY_STATE["53300"],
}
_SILENT = "the server cannot be reached"
_NOT_TEXT = ("22021", "22P05", "22P02")


def explained(error: psycopg.Error, address: Address) -> SamespaceError:
    """The same error for a user, without secrets."""
    where, text = address.shown, _one_line(error, address)
    state = error.sqlstate or ""
    if state in _BY_STATE:
        return GalleryError(f"{where}: {_BY_STATE[state]} ({text})")
    if state in ("42P01", "3F000"):
        return GalleryError(no_gallery(address))
    if state in ("42P06", "42P07"):
        return InputError(
            f"{where} holds a gallery already; name another schema with ?schema=NAME, or add to it; what was adopted "
            "is brought up to date by sync"
        )
    if state == "42501":
        return GalleryError(f"{where}: this user may not do that ({text}); GRANT it the right, or use another user")
    if state in _NOT_TEXT or (isinstance(error, psycopg.DataError) and "NUL" in text):
        return InputError(f"{where}: PostgreSQL cannot store this text or metadata ({text}); nothing was changed")
    if isinstance(error, psycopg.OperationalError):
        advice = _connecting(text, address)
        kind = Unreachable if _SILENT in advice else GalleryError
        return kind(f"{where}: {advice}")
    if not state and isinstance(error, psycopg.ProgrammingError):
        return InputError(
            f"{where}: the address is not understood; write postgresql://user@host:5432/database?schema=name, "
            "special characters percent-encoded"
        )
    return GalleryError(f"{where}: the database failed ({text}); {_KEPT}")


def no_gallery(address: Address) -> str:
    """The message that an address holds no gallery."""
    return (
        f"{address.shown} holds no gallery; make one with 'samespace gallery create {quote(address.shown)} --model DIR'"
    )


def no_vectors(error: psycopg.Error, address: Address) -> GalleryError:
    """The error for a server without pgvector, or a user who may not switch it on."""
    return GalleryError(
        f"{address.shown}: the extension pgvector is needed; install it on the server (Debian: postgresql-N-pgvector), "
        f"then run 'CREATE EXTENSION vector' in this database as its owner ({_one_line(error, address)})"
    )


def starting(error: psycopg.Error) -> bool:
    """Whether the server is about to answer: it starts, or recovers after a crash."""
    text = str(error)
    return any(words in text for words in ("the database system is", "server closed the connection unexpectedly"))


def _connecting(text: str, address: Address) -> str:
    for words, advice in _BY_WORDS.items():
        if words in text:
            return f"{advice} ({text})"
    if 'database "' in text and "does not exist" in text:
        return f"there is no such database; make it with 'createdb' first ({text})"
    if 'role "' in text and "does not exist" in text:
        return f"there is no such user ({text})"
    if "connection" in text or "resolve" in text or "terminat" in text:
        return f"{_SILENT}; {_KEPT}, see that it runs and run the same command again ({text})"
    return f"the database failed ({text}); {_KEPT}"


def _one_line(error: psycopg.Error, address: Address) -> str:
    text = error.diag.message_primary or str(error)
    return address.without_secrets(" ".join(text.split()))
