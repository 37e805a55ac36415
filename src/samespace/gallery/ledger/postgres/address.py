"""Addresses of galleries on PostgreSQL: `postgresql://user@host:5432/database?schema=NAME`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from samespace.errors import InputError

SCHEMA = "samespace"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_SECRETS = ("password", "sslpassword")


@dataclass(frozen=True)
class Address:
    """Where a gallery lies.

    Attributes:
        server: what the client library is given, secrets included; never shown.
        schema: of the database, the gallery's own.
        shown: the address for people, without secrets.
    """

    server: str = field(repr=False)
    schema: str
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    def without_secrets(self, text: str) -> str:
        """A text with every secret of the address struck out."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def parsed(location: str) -> Address:
    """The parts of an address.

    Raises:
        InputError: the name of the schema is not legal.

    Example:
        >>> parsed("postgresql://ann:pw@db/shop?sslmode=require&schema=shoes").shown
        'postgresql://ann@db/shop?sslmode=require&schema=shoes'
    """
    bare, _, query = location.partition("?")
    scheme, _, rest = bare.partition("://")
    user, at, place = rest.rpartition("@")
    name, _, password = user.partition(":")
    parameters = [part.partition("=")[::2] for part in query.split("&") if part]
    schemas = [unquote(value) for key, value in parameters if key == "schema"]
    schema = schemas[-1] if schemas else SCHEMA
    if not _NAME.fullmatch(schema) or schema.lower().startswith("pg_"):
        raise InputError(
            f"the schema {schema!r} is no legal name; use letters, digits and '_', not beginning with a digit or 'pg_'"
        )
    own = [(key, value) for key, value in parameters if key != "schema"]
    open_ones = [(key, value) for key, value in own if key not in _SECRETS]
    given = [password, *(value for key, value in own if key in _SECRETS)]
    secrets = {text for value in given for text in (value, unquote(value)) if text}
    return Address(
        server=bare + _query(own),
        schema=schema,
        shown=f"{scheme}://{name}{at}{place}" + _query([*open_ones, *([("schema", schema)] if schemas else [])]),
        secrets=tuple(sorted(secrets, key=len, reverse=True)),
    )


def _query(parameters: list[tuple[str, str]]) -> str:
    return "?" + "&".join(f"{key}={value}" for key, value in parameters) if parameters else ""
