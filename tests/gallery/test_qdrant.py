from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.ledger.filters import conditions
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import NewItem
from samespace.space import Space
from samespace.vectors import VectorSet

qdrant_client = pytest.importorskip("qdrant_client", reason="the extra 'qdrant' is not installed")
from samespace.gallery.index.qdrant import search as qdrant_search  # noqa: E402
from samespace.gallery.index.qdrant import source as qdrant  # noqa: E402
from samespace.gallery.index.qdrant.points import Points  # noqa: E402
from samespace.gallery.index.qdrant.source import QdrantSource  # noqa: E402
from samespace.gallery.index.qdrant.wire import vector_name  # noqa: E402

COUNT = 240
OLD = Space(weights="aa" * 32, preprocessing="resize", dim=8, normalized=True, name="old")
NEW = Space(weights="bb" * 32, preprocessing="resize", dim=16, normalized=True, name="new")


class World:
    """A small ledger, and what its searches should say, by the slow definition."""

    def __init__(self, folder: Path | str, *, old: Space = OLD, new: Space = NEW) -> None:
        self.spaces = {1: old, 2: new}
        self.rng = np.random.default_rng(7)
        self.ledger = Ledger.create(folder, old, model=None, settings={})
        self.vectors: dict[tuple[int, int], np.ndarray] = {}
        with self.ledger.write() as writer:
            items = [
                NewItem(f"item-{place:03}", f"c{place}", label=str(place % 7), metadata={"year": 2000 + place % 20})
                for place in range(COUNT)
            ]
            self.numbers = writer.add_items(items)
            self._put(writer, 1, self.numbers, self.fresh(1, COUNT))
            writer.add_space(new, None)
            writer.add_upgrade(1, 2, order="random", plan={})
            writer.set_upgrade(writer.state().upgrades[-1], state="open")

    def fresh(self, generation: int, count: int) -> np.ndarray:
        values = self.rng.normal(size=(count, self.spaces[generation].dim)).astype(np.float32)
        # copies of one vector tie to the bit
        values[1::5] = values[:1]
        return unit(values) if self.spaces[generation].normalized else values

    def _put(self, writer, generation, numbers, values):
        known = writer.items(numbers)
        writer.put_vectors(generation, numbers, [known[number].content for number in numbers.tolist()], values)
        for number, value in zip(numbers.tolist(), values, strict=True):
            self.vectors[generation, number] = value

    def query(self, generation: int) -> None:
        with self.ledger.write() as writer:
            writer.set_query(generation)

    def backfill(self, numbers: np.ndarray) -> None:
        with self.ledger.write() as writer:
            self._put(writer, 2, numbers, self.fresh(2, len(numbers)))

    def change(self, number: int) -> None:
        with self.ledger.write() as writer:
            writer.change_items(np.array([number]), [NewItem(f"item-{number - 1:03}", f"changed-{number}")])
            self.vectors = {key: value for key, value in self.vectors.items() if key[1] != number}
            self._put(writer, 1, np.array([number]), self.fresh(1, 1))

    def remove(self, number: int) -> None:
        with self.ledger.write() as writer:
            writer.remove_items(np.array([number]))
        self.vectors = {key: value for key, value in self.vectors.items() if key[1] != number}

    def answers(self, query: int, queries: dict[int, np.ndarray], k: int, allowed=None):
        """By generation: for each query (item, raw) of the k best and their ties."""
        found = {}
        for generation in range(1, query + 1):
            served = [
                (number, value)
                for (have, number), value in self.vectors.items()
                if have == generation
                and not any((above, number) in self.vectors for above in range(generation + 1, query + 1))
            ]
            if allowed is not None:
                served = [pair for pair in served if pair[0] in set(np.asarray(allowed).tolist())]
            found[generation] = [
                best(served, one, k, self.spaces[generation].normalized) for one in queries[generation]
            ]
        return found


def unit(values: np.ndarray) -> np.ndarray:
    wide = values.astype(np.float64)
    return (wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))).astype(np.float32)


def best(served, query, k, normalized):
    scored = []
    for number, value in served:
        row = value if normalized else unit(value[None])[0]
        scored.append((number, float((row.astype(np.float64) * query.astype(np.float64)).sum())))
    scored.sort(key=lambda pair: (-pair[1], pair[0]))
    return [pair for pair in scored if len(scored) <= k or pair[1] >= scored[k - 1][1]]


def searched(source, queries, k, *, where=None, exact=True):
    with source.snapshot(conditions(where)) as snapshot:
        return {
            generation: pairs(snapshot.top(generation, queries[generation], k, allowed=snapshot.allowed, exact=exact))
            for generation in snapshot.state.servable
        }


def pairs(found):
    return [list(zip(one.items.tolist(), one.raw.tolist(), strict=True)) for one in found]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "gallery")
    yield made
    made.ledger.close()


@pytest.fixture
def queries(world: World) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(3)
    # the last one is a stored vector itself, with its ties
    return {
        1: unit(np.vstack([rng.normal(size=(3, 8)), world.vectors[1, 1]]).astype(np.float32)),
        2: unit(rng.normal(size=(4, 16)).astype(np.float32)),
    }


@pytest.fixture(params=["memory", "path"])
def client(request, tmp_path):
    place = {"location": ":memory:"} if request.param == "memory" else {"path": str(tmp_path / "qdrant")}
    made = qdrant_client.QdrantClient(**place, force_disable_check_same_thread=True)
    yield made
    made.close()


@pytest.fixture
def memory():
    made = qdrant_client.QdrantClient(":memory:")
    yield made
    made.close()


@pytest.fixture
def scanned(monkeypatch):
    """Counts searches that the ledger answered alone."""
    calls: list[int] = []
    real = qdrant_search.QdrantSnapshot._scanned

    def counting(self, *given):
        calls.append(1)
        return real(self, *given)

    monkeypatch.setattr(qdrant_search.QdrantSnapshot, "_scanned", counting)
    return calls


def ready(world, client) -> QdrantSource:
    source = QdrantSource(world.ledger, client, scan_below=0)
    source.maintain()
    return source


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("exact", [True, False])
def test_equals_brute_force_at_every_mixture(world, queries, memory, scanned, share, exact):
    world.backfill(world.numbers[: int(share * COUNT)])
    world.query(2)
    source = ready(world, memory)
    for k in (1, 10, 60):
        assert searched(source, queries, k, exact=exact) == world.answers(2, queries, k)
    # what has no row to serve needs no collection; all else came from it
    assert len(scanned) == (0 if share == 0.5 else 3)


def test_a_collection_kept_in_a_folder_is_found_again(world, queries, tmp_path, scanned):
    world.query(2)
    world.backfill(world.numbers[::2])
    for place in range(2):
        client = qdrant_client.QdrantClient(path=str(tmp_path / "qdrant"))
        source = QdrantSource(world.ledger, client, scan_below=0)
        if not place:
            source.maintain()
        assert source.coverage()[2] == {"indexed": COUNT // 2, "lag": 0, "kind": "qdrant"}
        assert searched(source, queries, 10) == world.answers(2, queries, 10)
        client.close()
    assert not scanned


def test_k_beyond_the_gallery_and_generations(world, queries, memory):
    source = ready(world, memory)
    assert searched(source, queries, 10_000) == world.answers(1, queries, 10_000)
    with source.snapshot() as snapshot:
        assert snapshot.generations() == [1]
        assert snapshot.ids(world.numbers[:3]) == ["item-000", "item-001", "item-002"]
    world.backfill(world.numbers)
    world.query(2)
    with source.snapshot() as snapshot:
        assert snapshot.generations() == [2]


def test_rows_are_normalised_where_the_space_is_not(tmp_path, memory, scanned):
    raw = Space(weights="cc" * 32, preprocessing="resize", dim=8, normalized=False, name="raw")
    world = World(tmp_path / "raw", old=raw)
    given = {1: unit(np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32))}
    source = ready(world, memory)
    assert searched(source, given, 7) == world.answers(1, given, 7)
    stored = memory.retrieve(source.points.collection, [1, 2, 3], with_vectors=True)
    assert [np.linalg.norm(point.vector[vector_name(raw.id)]) for point in stored] == pytest.approx([1.0] * 3)
    assert not scanned
    world.ledger.close()


def test_rollback_in_mid_backfill_answers_as_before_to_the_bit(world, queries, memory, scanned):
    source = ready(world, memory)
    before = searched(source, queries, 20)
    world.query(2)
    world.backfill(world.numbers[::3])
    source.maintain()
    during = searched(source, queries, 20)
    assert during == world.answers(2, queries, 20) == searched(LocalSource(world.ledger, None), queries, 20)
    written = len(source.points.touched(-1))
    world.query(1)
    assert searched(source, queries, 20) == before
    source.maintain()
    assert searched(source, queries, 20) == before
    world.query(2)
    assert searched(source, queries, 20) == during
    assert not scanned
    assert len(source.points.touched(-1)) == written == COUNT


@pytest.mark.parametrize("where", [["label=3"], ["year>=2010", "label=1|2"], ["year>=2001"], ["label=none"]])
@pytest.mark.parametrize("listed", [10_000, 10])
def test_filters(world, queries, memory, monkeypatch, where, listed):
    monkeypatch.setattr(qdrant_search, "_MOST", listed)
    world.backfill(world.numbers[::2])
    world.query(2)
    source = ready(world, memory)
    with world.ledger.read() as reader:
        allowed = reader.select(conditions(where))
    for exact in (True, False):
        assert searched(source, queries, 5, where=where, exact=exact) == world.answers(2, queries, 5, allowed)


def test_what_is_not_synced_is_searched_exactly(world, queries, memory, scanned):
    world.query(2)
    source = ready(world, memory)
    world.backfill(world.numbers[10:40])
    world.change(5)
    world.remove(100)
    assert source.coverage()[2] == {"indexed": 0, "lag": 30, "kind": "qdrant"}
    assert source.coverage()[1]["lag"] == 31
    lagging = searched(source, queries, 10)
    assert lagging == world.answers(2, queries, 10)
    assert len(scanned) == 1  # the new space has no point yet
    source.maintain()
    assert searched(source, queries, 10) == lagging
    assert {generation: one["lag"] for generation, one in source.coverage().items()} == {1: 0, 2: 0}


def test_beside_postgresql(schema, queries, memory, scanned):
    world = World(schema)
    source = ready(world, memory)
    before = searched(source, queries, 10)
    assert before == world.answers(1, queries, 10)
    world.query(2)
    world.backfill(world.numbers[::2])
    for _ in range(2):
        assert searched(source, queries, 10) == world.answers(2, queries, 10)
        source.maintain()
    world.query(1)
    assert searched(source, queries, 10) == before
    world.change(3)
    world.remove(4)
    source.maintain()
    assert searched(source, queries, 10, where=["year>=2005"])[1]
    assert searched(source, queries, 10) == world.answers(1, queries, 10)
    assert len(scanned) == 1  # before the new space had a point
    world.ledger.close()


def test_a_changed_item_falls_back_to_the_space_it_still_has(world, queries, memory, scanned):
    world.query(2)
    world.backfill(world.numbers[:100])
    source = ready(world, memory)
    assert searched(source, queries, 10) == world.answers(2, queries, 10)
    world.change(5)
    world.remove(6)
    for _ in range(2):
        assert searched(source, queries, 60) == world.answers(2, queries, 60)
        source.maintain()
    assert not scanned


def test_a_sync_cut_short_carries_on(world, queries, client, monkeypatch):
    source = QdrantSource(world.ledger, client, scan_below=0)
    monkeypatch.setattr(qdrant, "_POINTS", 50)
    real, left = Points.write, [2]

    def dying(self, points):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(self, points)

    world.change(3)
    monkeypatch.setattr(Points, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        source.maintain()
    assert source.points.mark().revision == 1  # the first batch of items is of one change, and not all of it is there
    assert searched(source, queries, 10) == world.answers(1, queries, 10)
    left[0] = 1000
    other = QdrantSource(world.ledger, client, scan_below=0)
    other.maintain()
    assert other.coverage()[1] == {"indexed": COUNT, "lag": 0, "kind": "qdrant"}
    assert searched(other, queries, 10) == world.answers(1, queries, 10)


def test_a_slow_writer_overwrites_nothing_newer(world, queries, memory):
    source = ready(world, memory)
    with world.ledger.read() as reader:
        state = reader.state()
        early, _ = qdrant._changed(reader, state, (0, 0))
    assert len(early) == COUNT
    world.change(3)
    world.remove(4)
    source.maintain()
    source.points.write(early)
    source.points.set_mark(source.points.mark().generation, 1)
    with world.ledger.read() as reader:
        assert source.points.mark().revision == reader.revision()
    assert source.points.count(vector_name(OLD.id)) == COUNT - 1
    assert searched(source, queries, 10) == world.answers(1, queries, 10)


def test_a_snapshot_holds_still_while_others_write_and_sync(world, queries, memory, scanned):
    world.query(2)
    world.backfill(world.numbers[::2])
    source = ready(world, memory)
    expected = world.answers(2, queries, 10)
    before = dict(world.vectors)
    top = {number for found in expected[1] for number, _ in found}

    def elsewhere():
        for number in sorted(top)[:3]:
            world.remove(number)
        world.change(sorted(top)[4])
        world.backfill(np.array(sorted(top)[5:8]))
        QdrantSource(world.ledger, memory, scan_below=0).maintain()

    with source.snapshot() as snapshot:
        state = snapshot.state
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        found = {
            generation: pairs(snapshot.top(generation, queries[generation], 10, allowed=None, exact=True))
            for generation in (1, 2)
        }
        assert snapshot.state is state
    assert before != world.vectors
    assert found == expected
    assert not scanned
    assert searched(source, queries, 10) == world.answers(2, queries, 10)


def test_a_point_that_is_no_copy_is_found_out(world, queries, memory):
    source = ready(world, memory)
    name = vector_name(OLD.id)
    point = memory.retrieve(source.points.collection, [7], with_payload=True)[0]
    row, checksum = point.payload["rows"][name]
    for rows in ([row + 1, checksum], [row, checksum ^ 1]):
        payload = point.payload | {"rows": {name: rows}}
        memory.upsert(
            source.points.collection,
            [qdrant_client.models.PointStruct(id=7, vector={name: queries[1][0].tolist()}, payload=payload)],
        )
        # the altered vector claims the first place, so that it is looked at
        assert searched(source, queries, 5) == world.answers(1, queries, 5)
        source.maintain()
        assert memory.retrieve(source.points.collection, [7], with_payload=True)[0].payload == point.payload


def test_a_lost_collection_costs_time_only(world, queries, client, scanned):
    source = ready(world, client)
    right = world.answers(1, queries, 10)
    client.delete_collection(source.points.collection)
    assert searched(source, queries, 10) == right
    assert source.coverage()[1] == {"indexed": 0, "lag": COUNT, "kind": "qdrant"}
    assert len(scanned) == 1
    source.maintain()
    assert searched(source, queries, 10) == right
    assert len(scanned) == 1
    with source.snapshot() as snapshot:
        client.delete_collection(source.points.collection)
        assert pairs(snapshot.top(1, queries[1], 10, allowed=None, exact=False)) == right[1]
    source.rebuild()
    assert source.coverage()[1]["lag"] == 0


def test_lost_points_are_noticed(world, queries, memory):
    source = ready(world, memory)
    right = world.answers(1, queries, 10)
    lost = [number for number, _ in right[1][0]]
    memory.delete(source.points.collection, lost)
    assert source.coverage()[1]["lag"] == len(lost)
    assert searched(source, queries, 10, exact=True) == right
    source.maintain()
    assert source.coverage()[1]["lag"] == 0
    assert searched(source, queries, 10, exact=False) == right


def test_the_mark_of_a_lost_collection_is_not_set_on_the_next(world, memory):
    source = ready(world, memory)
    lost = source.points.mark().generation
    source.points.drop()
    source.points.ready(qdrant._params(world_state(world)))
    source.points.set_mark(lost, 99)
    assert source.points.mark().revision == -1


def world_state(world):
    with world.ledger.read() as reader:
        return reader.state()


def test_a_ledger_set_back_gets_a_new_collection(world, queries, memory):
    source = ready(world, memory)
    source.points.set_mark(source.points.mark().generation, 1000)
    assert searched(source, queries, 10) == world.answers(1, queries, 10)
    source.maintain()
    assert source.points.mark().revision == world_state(world).revision


def test_two_sources_share_a_collection(world, queries, memory):
    one, two = (QdrantSource(world.ledger, memory, scan_below=0) for _ in range(2))
    failed = []

    def keep_up(source):
        try:
            for _ in range(4):
                source.maintain()
                for answers in searched(source, queries, 5).values():
                    for found in answers:
                        assert len({number for number, _ in found}) == len(found) >= 5
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=keep_up, args=(source,)) for source in (one, two)]
    for thread in threads:
        thread.start()
    for number in range(1, 9):
        world.change(number)
    for thread in threads:
        thread.join()
    assert not failed
    two.maintain()
    assert searched(one, queries, 10) == searched(two, queries, 10) == world.answers(1, queries, 10)


def test_vectors_of_a_retired_space_go(world, queries, memory):
    world.backfill(world.numbers)
    world.query(2)
    source = ready(world, memory)
    with world.ledger.write() as writer:
        writer.retire(1)
        while writer.drop_superseded(1, 2, 100):
            pass
    source.maintain()
    present = memory.get_collection(source.points.collection).config.params.vectors
    assert set(present) == {vector_name(NEW.id)}
    assert searched(source, queries, 10)[2] == world.answers(2, queries, 10)[2]


def test_a_collection_of_something_else_is_refused(world, memory, tmp_path):
    ready(world, memory)
    taken = QdrantSource(world.ledger, memory).points.collection
    other = Ledger.create(tmp_path / "other", OLD, model=None, settings={})
    with pytest.raises(GalleryError, match="indexes another gallery"):
        QdrantSource(other, memory, collection=taken).maintain()
    memory.create_collection("foreign", vectors_config={})
    memory.upsert("foreign", [qdrant_client.models.PointStruct(id=9, vector={}, payload={})])
    with pytest.raises(GalleryError, match="points of something else"):
        QdrantSource(other, memory, collection="foreign").maintain()
    assert memory.count("foreign").count == 1
    other.close()


def test_an_unreachable_server_is_named_in_one_line(world):
    with pytest.raises(GalleryError, match=r"http://127\.0\.0\.1:9 cannot be reached") as caught:
        QdrantSource(world.ledger, "http://127.0.0.1:9", timeout=2)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no address of a Qdrant server"):
        QdrantSource(world.ledger, "qdrant.example")


def test_without_the_client_it_says_what_to_install(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(InputError, match=r"pip install 'samespace\[qdrant\]'"):
        QdrantSource(world.ledger, ":memory:")


def test_a_server_gone_during_a_search_is_an_error_not_a_hang(world, memory, monkeypatch):
    from qdrant_client.http.exceptions import ResponseHandlingException

    source = ready(world, memory)

    def refused(*given, **named):
        raise ResponseHandlingException(ConnectionError("connection refused"))

    monkeypatch.setattr(memory, "query_batch_points", refused)
    with pytest.raises(GalleryError, match="connection refused"):
        searched(source, {1: np.eye(8, dtype=np.float32)}, 3)


class Server(ThreadingHTTPServer):
    """Speaks the parts of Qdrant's REST interface that are used, on top of the client's in-process store."""

    daemon_threads = True
    version = "1.20.0"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = qdrant_client.QdrantClient(":memory:")
        self.lock = threading.Lock()
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def answer(self, method: str, parts: list[str], body: dict):
        m, store = qdrant_client.models, self.store
        if not parts:
            return {"title": "qdrant", "version": self.version}
        name, rest = parts[1], parts[2:]
        if rest == ["exists"]:
            return {"exists": store.collection_exists(name)}
        if not rest and method == "PUT":
            vectors = {key: m.VectorParams(**value) for key, value in body["vectors"].items()}
            return store.create_collection(name, vectors)
        if not store.collection_exists(name):
            return None
        if not rest:
            return store.delete_collection(name) if method == "DELETE" else store.get_collection(name)
        done = {"operation_id": 0, "status": "completed"}
        if rest[0] == "index":
            return done
        if rest[0] == "vectors":
            assert method == "PUT"
            return store.create_vector_name(name, rest[1], m.DenseVectorNameConfig(**body))
        if rest == ["points"] and method == "POST":
            return store.retrieve(name, body["ids"], with_payload=True)
        if rest == ["points"]:
            listed = m.PointsList(**body)
            return store.upsert(
                name, listed.points, update_filter=listed.update_filter, update_mode=listed.update_mode
            )  # fmt: skip
        if rest[1] == "batch":
            return store.batch_update_points(name, m.UpdateOperations(**body).operations)
        if rest[1] == "scroll":
            found, after = store.scroll(name, m.Filter(**body["filter"]), limit=body["limit"], with_payload=False)
            return {"points": [point.model_dump(mode="json") for point in found], "next_page_offset": after}
        if rest[1] == "count":
            return store.count(name, m.Filter(**body["filter"]) if body.get("filter") else None)
        assert rest[1:] == ["query", "batch"]
        self.asked += body["searches"]
        requests = [m.QueryRequest(**{**one, "params": None}) for one in body["searches"]]
        return [
            {"points": [point.model_dump(mode="json") for point in one.points]}
            for one in store.query_batch_points(name, requests)
        ]


class Handler(BaseHTTPRequestHandler):
    def _speak(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = [part for part in self.path.split("?")[0].split("/") if part]
        with self.server.lock:
            self.server.keys.append(self.headers.get("api-key"))
            result = self.server.answer(self.command, parts, json.loads(body or b"{}"))
        plain = result if not parts else {"result": _plain(result), "status": "ok", "time": 0.0}
        text = json.dumps(plain).encode()
        self.send_response(200 if result is not None else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_DELETE = _speak

    def log_message(self, *given) -> None:
        pass


def _plain(value):
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


@pytest.fixture
def rest():
    made = Server()
    yield made
    made.shutdown()
    made.server_close()
    made.store.close()


def test_over_http_the_answers_are_the_same(world, queries, rest, scanned):
    world.query(2)
    source = QdrantSource(world.ledger, rest.url, scan_below=0)
    source.maintain()
    world.backfill(world.numbers[::2])
    source.maintain()
    for exact in (True, False):
        assert searched(source, queries, 10, exact=exact) == world.answers(2, queries, 10)
        assert all(one["params"]["exact"] is exact for one in rest.asked)
        assert all(one["params"]["acorn"]["enable"] for one in rest.asked)
        rest.asked.clear()
    assert searched(source, queries, 5, where=["label=3"])[1][0][0][1] > 0
    assert not scanned
    world.remove(3)
    world.change(4)
    source.maintain()
    assert searched(source, queries, 10) == world.answers(2, queries, 10)
    assert {generation: one["lag"] for generation, one in source.coverage().items()} == {1: 0, 2: 0}
    rest.store.delete_collection(source.points.collection)
    assert searched(source, queries, 10) == world.answers(2, queries, 10)
    source.maintain()
    assert source.coverage()[1]["lag"] == 0
    source.close()


def test_a_server_that_is_too_old_is_refused(world, rest):
    rest.version = "1.17.2"
    with pytest.raises(GalleryError, match=r"is version 1\.17\.2; .* need 1\.18 or newer"):
        QdrantSource(world.ledger, rest.url)


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_gallery_connects_to_the_index_that_its_user_names_and_to_no_other(rest, tmp_path, monkeypatch):
    from samespace.cli.main import run
    from samespace.gallery import Gallery

    place = tmp_path / "g"
    vectors = VectorSet.from_arrays(np.eye(8, dtype=np.float32), ids=list("abcdefgh"), space=OLD)
    vectors.save(tmp_path / "v")
    monkeypatch.setenv("QDRANT_API_KEY", "secret-1")
    assert run(["gallery", "create", str(place), str(tmp_path / "v"), "--index", rest.url]) == 0
    assert set(rest.keys) == {"secret-1"}
    assert b"secret-1" not in b"".join(file.read_bytes() for file in place.iterdir() if file.is_file())
    rest.keys.clear()
    with pytest.raises(GalleryError, match=f"name it: set SAMESPACE_INDEX={rest.url}"):
        Gallery.open(place)
    assert rest.keys == []
    with Gallery.open(place, index=rest.url, index_key="secret-2") as gallery:
        assert gallery.search(vectors, k=1).hits[2][0].item == "c"
        assert set(rest.keys) == {"secret-2"}
        for altered in ("http://elsewhere.example:1", "file:///etc", 7, "http://u:p@127.0.0.1:1/?x=1"):
            with gallery.ledger.write() as writer:
                writer.put_meta("settings", json.dumps({"index": altered}))
            rest.keys.clear()
            with pytest.raises(GalleryError, match=r"name it|was altered"):
                Gallery.open(place)
            assert rest.keys == []
    monkeypatch.setenv("SAMESPACE_INDEX", rest.url)
    with gallery_set_to(place, "http://elsewhere.example:1"):
        assert run(["gallery", "status", str(place)]) == 0
    assert set(rest.keys) == {"secret-1"}
    for wrong in ("http://u:p@127.0.0.1:1", "qdrant.example", "ftp://x"):
        with pytest.raises(InputError, match="is no address of a Qdrant server") as caught:
            Gallery.create(tmp_path / "other", OLD, index=wrong)
        assert ":p@" not in str(caught.value)
    with pytest.raises(InputError, match="made without an index"), Gallery.create(tmp_path / "plain", OLD):
        Gallery.open(tmp_path / "plain", index=rest.url)


@contextmanager
def gallery_set_to(place, index):
    """A gallery whose stored address of its index was altered."""
    ledger = Ledger.open(place)
    with ledger.write() as writer:
        writer.put_meta("settings", json.dumps({"index": index}))
    ledger.close()
    yield
