"""Adopting a table: a ledger beside it, its rows listed, not one vector copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samespace.errors import InputError, SpaceError
from samespace.gallery.adoption.inspect import Columns, Inspected, inspect
from samespace.gallery.index.adopted.postgres import PostgresStore, index_of
from samespace.gallery.index.adopted.sync import sync
from samespace.gallery.ledger.ledger import POSTGRES, Ledger
from samespace.gallery.ledger.postgres import PostgresEngine
from samespace.gallery.models import absolute
from samespace.progress import Advance, silent
from samespace.space import Score, Space


@dataclass(frozen=True)
class Adopted:
    """A table that a gallery serves now.

    Attributes:
        location: of the gallery, without secrets.
        schema: that the ledger lies in.
        table: its name, schema included.
        space: of its vectors.
        items: rows that were listed.
        without: rows that have no vector, and become items when they get one.
        index: the table's own index that searches walk, in words; None where they look at every row.
        bytes: that the ledger takes.
    """

    location: str
    schema: str
    table: str
    space: Space
    items: int
    without: int
    index: str | None
    bytes: int


def adopt_table(
    location: str,
    table: str,
    columns: Columns,
    *,
    space: Space | tuple[str, str] | None = None,
    model: str | Path | None = None,
    images: str | None = None,
    score: Score | None = None,
    advance: Advance = silent,
) -> Adopted:
    """Make a gallery of the vectors in a table of an application, where they are.

    Args:
        location: `postgresql://…` of the table's database; `?schema=NAME` names the ledger's schema, which is made.
        table: its name, with its schema where it needs one.
        columns: that hold ids, vectors, labels, metadata.
        space: of the vectors, or the name and revision of their model; the model's own by default.
        model: its folder or name, to be remembered.
        images: the items' images, to be remembered.
        score: what searches go by; the order of the table's index by default, or cosine.
        advance: called with how many more rows are listed.

    Raises:
        InputError: the table or its columns cannot be adopted; nothing was made.
        SpaceError: the vectors cannot be of that space; nothing was made.
        GalleryError: the server cannot be reached, or this user may not do it.
    """
    if not location.startswith(POSTGRES):
        raise InputError(f"{location} is no address of a table; adopted are tables of PostgreSQL: postgresql://…")
    folder = None
    if space is None:
        if model is None:
            raise InputError("say which model made the vectors: its space, its name, or the model itself")
        from samespace.encoders import open_encoder
        from samespace.models import resolve_model

        folder = resolve_model(model)
        space = open_encoder(folder, device="cpu").space
    engine = PostgresEngine(location, create=True)
    try:
        found = inspect(engine, table, columns)
    finally:
        engine.close()
    space = _space_of(found, space, f"the table {found.table.schema}.{found.table.table}")
    settings = {"scale": "logistic", "images": None if images is None else absolute(images), "index": None}
    ledger = Ledger.create(
        location,
        space,
        model=absolute(folder),
        settings=settings,
        adopted=found.table,
        score=score or found.score,
    )
    try:
        store = PostgresStore(ledger)
        done = sync(ledger, store, advance=advance)
        with store.engine.outside_transaction() as session:
            # the planner should know of the rows before the server's own turn comes
            session.run("ANALYZE adopted")
        with ledger.read() as reader:
            index = index_of(reader.session, found.table, reader.state().spaces[1])
        words = None if index is None else f"{index.name} ({index.kind})"
        return Adopted(
            ledger.location, engine.address.schema, store.name, space, done.added, found.without, words,
            ledger.engine.size(),
        )  # fmt: skip
    finally:
        ledger.close()


def _space_of(found: Inspected, given: Space | tuple[str, str], where: str) -> Space:
    if not isinstance(given, Space):
        return Space.declared(given[0], found.dim, given[1], normalized=found.normalized)
    if given.dim != found.dim:
        raise SpaceError(f"{where} has vectors of {found.dim} dimensions, the space {given} has {given.dim}")
    if given.normalized and not found.normalized:
        raise SpaceError(f"{where} has vectors that are not of unit length, and the space {given} says they are")
    return given
