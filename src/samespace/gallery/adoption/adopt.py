"""Adopting a table: a ledger beside it, its rows listed, not one vector copied."""

from __future__ import annotations

from pathlib import Path

from samespace.errors import InputError
from samespace.gallery.adoption.adopted import Adopted, GivenSpace, fitting_space, given_space
from samespace.gallery.adoption.inspect import Columns, inspect
from samespace.gallery.index.adopted.postgres import PostgresStore, index_of
from samespace.gallery.index.adopted.sync import sync
from samespace.gallery.ledger.ledger import POSTGRES, Ledger
from samespace.gallery.ledger.postgres.engine import PostgresEngine
from samespace.gallery.models import absolute
from samespace.progress import Advance, silent
from samespace.space import Score


def adopt_table(
    location: str,
    table: str,
    columns: Columns,
    *,
    space: GivenSpace | None = None,
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
    given, folder = given_space(space, model)
    engine = PostgresEngine(location, create=True)
    try:
        found = inspect(engine, table, columns)
    finally:
        engine.close()
    where = f"the table {found.table.schema}.{found.table.table}"
    space = fitting_space(given, found.dim, normalized=found.normalized, where=where)
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
            ledger.location, f"the schema {engine.address.schema}", store.name, space, done.added, found.without, words,
            ledger.engine.size(),
        )  # fmt: skip
    finally:
        ledger.close()
