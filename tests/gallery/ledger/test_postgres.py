"""What only the ledger on PostgreSQL can meet: servers that are away, rights that lack, schemas of others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import NewItem

from ..conftest import NEW, OLD
from ..servers import Server, start

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'samespace[postgres]'")

Opened = Callable[..., Ledger]


def sql(server: Server, *statements: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.address, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return list(cursor.fetchall()) if cursor.description else []


def add(ledger: Ledger, *ids: str) -> None:
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(name, "c") for name in ids])
        writer.put_vectors(1, numbers, ["c"] * len(ids), np.eye(len(ids), OLD.dim, dtype=np.float32))


def refused(location: str, *, create: bool = False, kind: type[Exception] = GalleryError) -> str:
    with pytest.raises(kind) as caught:
        Ledger.create(location, OLD, model=None, settings={}) if create else Ledger.open(location)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_address_is_shown_without_secrets(schema: str, opened: Opened) -> None:
    secret = schema.replace("postgres@", "postgres:s3cr3t%21@")
    assert secret != schema
    ledger = opened(secret, create=True)
    assert (ledger.location, ledger.engine.secret_location) == (schema, secret)
    assert "s3cr3t" not in refused(secret, create=True, kind=InputError)
    assert "s3cr3t" not in refused(schema.replace("postgres@/postgres", "postgres:s3cr3t%21@/none"))


def test_what_the_server_refuses_is_said_in_one_line(server: Server, schema: str) -> None:
    assert "there is no such database" in refused(server.address.replace("/postgres?", "/nowhere?"))
    assert "there is no such user" in refused(server.address.replace("postgres@", "nobody@"))
    assert "cannot be reached" in refused("postgresql://u:pw@127.0.0.1:1/x?connect_timeout=2")
    assert "cannot be reached" in refused("postgresql:///x?host=/nowhere")
    text = refused("postgresql://u:secret word@127.0.0.1/x", kind=InputError)
    assert "the address is not understood" in text
    assert "secret" not in text
    assert "is no legal name" in refused(f"{server.address}&schema=a-b", kind=InputError)


def test_a_wrong_password_is_said_to_be_one(server: Server) -> None:
    sql(server, "DROP ROLE IF EXISTS locked", "CREATE ROLE locked LOGIN PASSWORD 'right'")
    rules = server.folder / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all locked scram-sha-256\n" + before)
    try:
        sql(server, "SELECT pg_reload_conf()")
        time.sleep(0.3)
        assert "wrong user or password" in refused(server.address.replace("postgres@", "locked:wrong@"))
        assert "asks for a password" in refused(server.address.replace("postgres@", "locked@"))
    finally:
        rules.write_text(before)
        sql(server, "SELECT pg_reload_conf()")


def test_a_gallery_lives_beside_other_things(server: Server, schema: str, opened: Opened) -> None:
    name = schema.rpartition("=")[2]
    sql(server, f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.theirs (a int)")
    assert "holds other things" in refused(schema, create=True, kind=InputError)
    assert "holds no gallery" in refused(schema)
    sql(server, f"DROP TABLE {name}.theirs", "CREATE TABLE IF NOT EXISTS public.item (theirs int)")
    add(opened(schema, create=True), "a")
    add(opened(schema + "b", create=True), "a", "b")
    with opened(schema).read() as reader:
        assert reader.live() == 1
    assert sql(server, "SELECT COUNT(*) FROM public.item") == [(0,)]


def test_schemas_may_have_capitals(schema: str, opened: Opened) -> None:
    add(opened(schema.replace("=gallery", "=Gallery_X"), create=True), "a")
    with opened(schema.replace("=gallery", "=Gallery_X")).read() as reader:
        assert reader.live() == 1


def test_a_user_without_rights_reads_what_is_granted(server: Server, schema: str, opened: Opened) -> None:
    add(opened(schema, create=True), "a")
    name = schema.rpartition("=")[2]
    sql(server, "DROP OWNED BY guest", "DROP ROLE guest") if sql(
        server, "SELECT 1 FROM pg_roles WHERE rolname = 'guest'"
    ) else None
    sql(server, "CREATE ROLE guest LOGIN")
    mine = schema.replace("postgres@", "guest@")
    assert "may not do that" in refused(mine)
    assert "may not do that" in refused(mine + "_new", create=True)
    sql(server, f"GRANT USAGE ON SCHEMA {name} TO guest", f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO guest")
    ledger = opened(mine)
    assert ledger.read_only
    with ledger.read() as reader:
        assert reader.live() == 1
    with pytest.raises(GalleryError, match="nothing was changed"):
        add(ledger, "b")


def test_without_pgvector_the_user_learns_what_to_run(server: Server, opened: Opened) -> None:
    sql(server, "DROP DATABASE IF EXISTS bare", "CREATE DATABASE bare")
    if not sql(server, "SELECT 1 FROM pg_roles WHERE rolname = 'humble'"):
        sql(server, "CREATE ROLE humble LOGIN")
    sql(server, "GRANT CREATE ON DATABASE bare TO humble")
    bare = server.address.replace("/postgres?", "/bare?")
    # may make a schema, but no extension in public
    assert "CREATE EXTENSION vector" in refused(bare.replace("postgres@", "humble@"), create=True)
    assert "holds no gallery" in refused(bare)
    add(opened(bare, create=True), "a")


def test_text_that_postgres_cannot_hold_is_refused_in_one_line(schema: str, opened: Opened) -> None:
    ledger = opened(schema, create=True)
    for item in (
        NewItem("a\x00b", "c"),
        NewItem("a", "c", None, {"k": "\x00"}),
        NewItem("a", "c", None, {"k": np.inf}),
    ):
        with pytest.raises(InputError, match="PostgreSQL cannot store") as caught, ledger.write() as writer:
            writer.add_items([item])
        assert "\n" not in str(caught.value)
    with ledger.read() as reader:
        assert reader.live() == 0


def test_two_who_make_the_same_gallery_make_one(schema: str) -> None:
    outcomes: list[str] = []

    def make() -> None:
        try:
            Ledger.create(schema, OLD, model=None, settings={}).close()
            outcomes.append("made")
        except InputError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("made") == 1
    assert all("holds a gallery already" in text for text in outcomes if text != "made")


def test_claims_do_not_wait_for_writers(schema: str, opened: Opened) -> None:
    ledger = opened(schema, create=True)
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(str(place), "c") for place in range(6)])
        writer.add_space(NEW, None)
        writer.put_work(2, numbers, [0.0] * 6)
    with ledger.write() as writer:
        writer.add_items([NewItem("more", "c")])
        writer.remove_items(np.array([1]))
        with ledger.claiming() as first:
            one = first.claim(2, "a", 2, now=0.0, lease=9.0)
            with ledger.claiming() as second:
                other = second.claim(2, "b", 2, now=0.0, lease=9.0)
    # the item that is being removed is locked, the others are not
    assert ([claim.item for claim in one], [claim.item for claim in other]) == ([2, 3], [4, 5])


def test_writers_say_when_they_waited_too_long(schema: str, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samespace.gallery.ledger.postgres.engine.WAIT_SECONDS", 0.2)
    ledger, other = opened(schema, create=True), opened(schema)
    with ledger.write() as writer:
        writer.add_items([NewItem("a", "c")])
        with pytest.raises(GalleryError, match=r"another process has been writing .* try again"):
            add(other, "b")
    add(other, "b")


def test_commits_are_flushed_whatever_the_server_prefers(server: Server, schema: str, opened: Opened) -> None:
    sql(server, "ALTER ROLE postgres SET synchronous_commit = off")
    try:
        with opened(schema, create=True).write() as writer:
            assert writer.session.all("SELECT current_setting('synchronous_commit')") == [("on",)]
    finally:
        sql(server, "ALTER ROLE postgres RESET synchronous_commit")


@pytest.fixture(scope="module")
def frail(server: Server) -> Iterator[Server]:
    """A server that may be killed."""
    running = start()
    yield running
    running.close()


def test_a_ledger_outlives_a_killed_server(frail: Server, opened: Opened) -> None:
    ledger = opened(frail.address, create=True)
    add(ledger, "a")
    frail.kill9()
    with pytest.raises(GalleryError, match="cannot be reached") as caught:
        add(ledger, "b")
    assert "\n" not in str(caught.value)
    frail.restart()
    add(ledger, "c")
    with ledger.read() as reader:
        assert sorted(reader.find(["a", "b", "c"])) == ["a", "c"]
        assert (reader.stored(1), reader.orphans(1)) == (2, 0)


def test_a_change_whose_server_dies_is_not_made(frail: Server, opened: Opened) -> None:
    ledger = opened(f"{frail.address}&schema=second", create=True)
    with pytest.raises(GalleryError) as caught:
        kill_midway(frail, ledger)
    assert "\n" not in str(caught.value)
    frail.restart()
    with ledger.read() as reader:
        assert reader.live() == 0
    add(ledger, "a")


def kill_midway(server: Server, ledger: Ledger) -> None:
    with ledger.write() as writer:
        writer.add_items([NewItem("a", "c")])
        server.kill9()
        writer.add_items([NewItem("b", "c")])


def test_a_closed_connection_is_replaced(server: Server, schema: str, opened: Opened) -> None:
    ledger = opened(schema, create=True)
    add(ledger, "a")
    sql(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    add(ledger, "b")
    sql(server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with ledger.read() as reader:
        assert reader.live() == 2
