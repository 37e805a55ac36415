"""What an application's table must be to be adopted, and what stops a release: one line each, nothing made or lost."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import numpy as np
import psycopg
import pytest

from samespace.cli.main import run
from samespace.errors import GalleryError, InputError, SamespaceError, SpaceError
from samespace.gallery import Gallery
from samespace.gallery.adoption.adopt import adopt_table
from samespace.gallery.adoption.inspect import Columns
from samespace.space import Space
from samespace.vectors import VectorSet

from ..servers import Server
from .applications import PostgresApplication, World

_NAMES = itertools.count()
SQL = Callable[[str], list[tuple[object, ...]]]


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.address, autocommit=True) as opened:
        opened.execute("CREATE EXTENSION IF NOT EXISTS vector")
        yield opened


@pytest.fixture
def table(connection: psycopg.Connection) -> str:
    """A table of two rows: a key, a unit vector, a column with a twin and a NULL, a view on it."""
    name = f"t{next(_NAMES)}"
    connection.execute(
        f"CREATE TABLE {name} (sku text PRIMARY KEY, twin text, plain text, number float8, v vector(2), free vector);"
        f"INSERT INTO {name} VALUES ('a', 'x', 'p', 1, '[1,0]', '[1]'), ('b', 'x', NULL, 2, '[0,1]', '[1,2]');"
        f"CREATE VIEW {name}_view AS SELECT * FROM {name}".encode()
    )
    return name


def adopt(server: Server, table: str, key: str = "sku", vector: str = "v", **more: object) -> None:
    given = {"space": ("m", "1"), **more}
    adopt_table(f"{server.address}&schema=none", table, Columns(key, vector), **given)  # type: ignore[arg-type]


REFUSED = {
    "no such table": ({"table": "nothing"}, "has no table 'nothing'; tables with vectors: "),
    "a view": ({"table": "{0}_view"}, "_view is a view, and a gallery adopts tables"),
    "no such column": ({"vector": "vv"}, "has no column 'vv'"),
    "no vectors": ({"vector": "twin"}, "the column 'twin' is of type text; columns of vectors: v, free"),
    "no key": ({"key": "plain"}, "has no key on 'plain': nothing keeps an id from standing there twice"),
    "an id twice": ({"key": "twin"}, "the id 'x' stands in 2 rows of 'twin'"),
    "ids that are no text": ({"key": "number"}, "of type float8; ids are text, whole numbers or uuid"),
    "several dimensions": ({"vector": "free"}, "vectors in 'free' have 1 to 2 dimensions"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_cannot_be_adopted(case: str, server: Server, table: str, connection: psycopg.Connection) -> None:
    given, message = REFUSED[case]
    options = {"table": table, **given}
    options["table"] = options["table"].format(table)
    with pytest.raises(InputError) as caught:
        adopt(server, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'none'").fetchall()


def test_a_model_of_another_dimension(server: Server, table: str) -> None:
    with pytest.raises(SpaceError, match=r"has vectors of 2 dimensions, the space .* has 3"):
        adopt(server, table, space=Space.declared("m", 3, normalized=True))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("(NULL, '[1,0]')", "1 rows have no id in 'key'; give them one"),
        ("('c', '[0,0]')", "the vector of 'c' is zero and has no direction; set it to NULL"),
    ],
)
def test_rows_that_no_search_could_answer(
    row: str, message: str, server: Server, connection: psycopg.Connection
) -> None:
    name = f"t{next(_NAMES)}"
    connection.execute(
        f"CREATE TABLE {name} (key text UNIQUE, v vector(2)); INSERT INTO {name} VALUES ('a', '[1,0]'), {row}".encode()
    )
    with pytest.raises(InputError, match=re.escape(message)):
        adopt(server, name, "key")


def test_rows_without_a_vector_wait_until_they_have_one(server: Server, connection: psycopg.Connection) -> None:
    name = f"t{next(_NAMES)}"
    connection.execute(
        f"CREATE TABLE {name} (key bigint PRIMARY KEY, v halfvec(2)); "
        f"INSERT INTO {name} VALUES (1, '[1,0]'), (2, NULL)".encode()
    )
    address = f"{server.address}&schema={name}"
    found = adopt_table(address, name.upper(), Columns("key", "v"), space=("m", ""))
    assert (found.items, found.without) == (1, 1)
    connection.execute(f"UPDATE {name} SET v = '[0,2]' WHERE key = 2".encode())
    assert run(["gallery", "sync", address, "--quiet"]) == 0
    assert connection.execute(f"SELECT count(*) FROM {name}.adopted".encode()).fetchall() == [(2,)]
    assert run(["gallery", "status", address]) == 0


@pytest.mark.parametrize(
    ("granted", "message"),
    [
        ("", "may not read it; GRANT SELECT ON it, nothing was made"),
        (
            "GRANT SELECT ON {0} TO {1}",
            "may not make the schema 'none', where the ledger goes; GRANT CREATE ON DATABASE",
        ),
    ],
)
def test_a_user_without_the_rights(
    granted: str, message: str, server: Server, table: str, connection: psycopg.Connection
) -> None:
    user = f"u{next(_NAMES)}"
    connection.execute(f"CREATE USER {user}; {granted.format(table, user)}".encode())
    address = server.address.replace("postgres@", f"{user}@")
    with pytest.raises(GalleryError) as caught:
        adopt_table(f"{address}&schema=none", table, Columns("sku", "v"), space=("m", ""))
    assert message in str(caught.value)


def test_a_user_with_just_the_rights_adopts_and_searches(
    server: Server, table: str, connection: psycopg.Connection
) -> None:
    user = f"u{next(_NAMES)}"
    connection.execute(
        f"CREATE USER {user}; GRANT SELECT ON {table} TO {user}; GRANT CREATE ON DATABASE postgres TO {user}".encode()
    )
    address = f"{server.address.replace('postgres@', f'{user}@')}&schema=of_{user}"
    adopt_table(address, table, Columns("sku", "v"), space=("m", ""))
    with Gallery.open(address) as gallery:
        queries = VectorSet.from_arrays(np.eye(2, dtype=np.float32), ids=["q", "r"], space=gallery.space)
        assert [hits[0].item for hits in gallery.search(queries, k=1).hits] == ["a", "b"]
        assert gallery.sync().changed == 0


def test_a_column_that_a_view_reads_is_not_handed_over(server: Server) -> None:
    application = PostgresApplication(server.address)
    world = World(application, 40)
    world.upgrade()
    world.backfill()
    rows = application.read()
    application.run(f'CREATE VIEW reader_{application.number} AS SELECT "an embedding" FROM {application.quoted}')
    with pytest.raises(GalleryError, match=f"in use by reader_{application.number}, .* nothing was done"):
        world.gallery.seal()
    application.run(f"DROP VIEW reader_{application.number}")
    application.run(f'ALTER TABLE {application.quoted} ADD COLUMN "an embedding_new" int')
    with pytest.raises(GalleryError, match="has a column 'an embedding_new' already; rename or drop it first"):
        world.gallery.seal()
    assert application.read() == rows
    assert world.found() == world.expected()
    world.gallery.close()
    application.close()


def test_a_connection_lost_in_the_middle_loses_nothing(server: Server, connection: psycopg.Connection) -> None:
    application = PostgresApplication(server.address)
    world = World(application, 40)
    world.upgrade()
    world.backfill(20)
    own = application.connection.info.backend_pid, connection.info.backend_pid

    def cut() -> None:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> ALL(%s) AND backend_type = 'client "
            "backend'",
            [list(own)],
        )

    def interrupted() -> None:
        with world.gallery.ledger.write() as writer:
            writer.remove_items(np.arange(1, 10, dtype=np.int64))
            cut()
            writer.note("lost")

    with pytest.raises(SamespaceError) as caught:
        interrupted()
    assert "\n" not in str(caught.value)
    assert world.found() == world.expected()
    world.backfill()
    assert world.found() == world.expected()
    world.gallery.close()
    application.close()
