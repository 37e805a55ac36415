"""What an application's collection in Qdrant must be to be adopted: one line each, nothing made, changed or lost."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samespace.cli.main import run
from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery import Gallery
from samespace.space import Space

qdrant_client = pytest.importorskip("qdrant_client", reason="the extra 'qdrant' is not installed")
from qdrant_client import models as q  # noqa: E402

from samespace.gallery.adoption.collection import Keys, adopt_collection  # noqa: E402

KEY = "swordfish"


def params(distance: q.Distance = q.Distance.DOT, **more: Any) -> q.VectorParams:
    return q.VectorParams(size=2, distance=distance, **more)


@pytest.fixture
def client() -> Iterator[Any]:
    """One collection with two points, and some whose vectors cannot be served."""
    made = qdrant_client.QdrantClient(":memory:")
    several = q.MultiVectorConfig(comparator=q.MultiVectorComparator.MAX_SIM)
    made.create_collection(
        "shop",
        vectors_config={"text": params(), "many": params(multivector_config=several), "empty": params()},
        sparse_vectors_config={"words": q.SparseVectorParams()},
    )
    made.create_collection("streets", vectors_config=params(q.Distance.MANHATTAN))
    made.create_collection("long", vectors_config=params(q.Distance.EUCLID))
    made.upsert("long", [q.PointStruct(id=1, vector=[3.0, 4.0])])
    points = [
        q.PointStruct(id=place, vector={"text": vector}, payload={"sku": name, "twin": "x", "parts": ["a"]})
        for place, name, vector in ((1, "a", [1.0, 0.0]), (2, "b", [0.0, 1.0]))
    ]
    made.upsert("shop", points)
    yield made
    made.close()


REFUSED = {
    "no such collection": ({"collection": "shpo"}, "has no collection 'shpo'; did you mean 'shop'"),
    "several vectors": (
        {"vector": None},
        "has several vectors a point; say which with vector=…: 'text', 'many', 'empty'",
    ),
    "no such vectors": ({"vector": "txt"}, "has no vectors 'txt'; it has: 'text', 'many', 'empty'"),
    "sparse vectors": ({"vector": "words"}, "the vectors 'words' are sparse; a gallery serves dense ones: "),
    "multivectors": ({"vector": "many"}, "the vectors 'many' are several a point (multivectors)"),
    "none yet": ({"vector": "empty"}, "has no such vector yet; there is nothing to adopt"),
    "another distance": ({"collection": "streets", "vector": None}, "compares vectors by Manhattan; a gallery can by "),
    "no id": ({"id": "ean"}, "point 1 has no id at 'ean' of its payload"),
    "an id that is a list": ({"id": "parts"}, "point 1 has no id at 'parts' of its payload"),
    "an id twice": ({"id": "twin"}, "the id 'x' at 'twin' of the payload is of 2 points, not one"),
    "another score": (
        {"collection": "long", "vector": None, "id": None, "score": "ip"},
        "is searched by squared Euclidean distance, negated, so a gallery of it cannot go by inner product",
    ),
}


def adopt(client: Any, folder: Path, **given: Any) -> None:
    keys = Keys(given.pop("vector", "text"), given.pop("id", "sku"))
    adopt_collection(client, given.pop("collection", "shop"), folder, keys, **{"space": ("m", "1"), **given})


@pytest.mark.parametrize("case", REFUSED)
def test_a_collection_that_cannot_be_adopted(case: str, client: Any, tmp_path: Path) -> None:
    given, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        adopt(client, tmp_path / "ledger", **given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ledger").exists()


@pytest.mark.parametrize(
    ("vector", "message"),
    [([0.0, 0.0], "the vector of point 3 is zero"), ([float("inf"), 0.0], "holds NaN or infinity")],
)
def test_vectors_that_cannot_be_compared(vector: list[float], message: str, tmp_path: Path) -> None:
    client = qdrant_client.QdrantClient(":memory:")
    client.create_collection("shop", vectors_config=params(q.Distance.COSINE if 0.0 in vector[:1] else q.Distance.DOT))
    client.upsert("shop", [q.PointStruct(id=3, vector=vector)])
    with pytest.raises(InputError, match=message):
        adopt(client, tmp_path / "ledger", vector=None, id=None)
    assert not (tmp_path / "ledger").exists()


def test_a_model_of_another_dimension(client: Any, tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"has vectors of 2 dimensions, the space .* has 3"):
        adopt(client, tmp_path / "ledger", space=Space.declared("m", 3, normalized=True))


def test_a_ledger_goes_to_a_folder_of_its_own(client: Any, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    with pytest.raises(InputError, match="exists and is not empty"):
        adopt(client, tmp_path)


def test_a_second_point_of_an_id_goes_by_its_own(client: Any, tmp_path: Path) -> None:
    adopt(client, tmp_path / "ledger")
    from samespace.gallery.index.adopted.qdrant import AdoptedQdrantSource
    from samespace.gallery.ledger.ledger import Ledger
    from samespace.vectors import VectorSet

    ledger = Ledger.open(tmp_path / "ledger")
    with Gallery(ledger, AdoptedQdrantSource(ledger, tmp_path / "index", client)) as gallery:
        twins = [
            q.PointStruct(id=3, vector={"text": [0.6, 0.8]}, payload={"sku": "a"}),
            q.PointStruct(id=4, vector={"text": [0.8, 0.6]}, payload={"sku": 7}),
        ]
        client.upsert("shop", twins)
        query = VectorSet.from_arrays(
            np.array([[0.8, 0.6]], np.float32), ids=["q"], space=gallery.state.spaces[1].space
        )
        for _ in range(2):
            for exact in (True, False):
                found = gallery.search(query, k=9, exact=exact).hits[0]
                assert [hit.item for hit in found] == ["7", "3", "a", "b"]
            gallery.sync()
        client.delete_collection("shop")
        with pytest.raises(GalleryError, match="has no collection 'shop' now"):
            gallery.search(query)


class Locked(BaseHTTPRequestHandler):
    """A server that asks for a key, and has one collection, 'other'."""

    def do_GET(self) -> None:
        right = self.headers.get("api-key") == KEY
        body: dict[str, Any] = {"result": {"collections": [{"name": "other"}]}, "status": "ok", "time": 0.0}
        if self.path.endswith("/exists"):
            body["result"] = {"exists": False}
        self.send_response(200 if right else 401)
        self.send_header("Content-Type", "application/json" if right else "text/plain")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode() if right else b"Must provide an API key")

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def locked() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Locked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command ends with."""
    assert run(["gallery", "adopt", *arguments, "--space-name", "m"]) == 2
    told = capsys.readouterr()
    assert not told.out
    assert KEY not in told.err
    return told.err.strip()


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_a_server_that_asks_for_a_key(
    locked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ["shop", "--ledger", str(tmp_path / "ledger")]
    monkeypatch.delenv("QDRANT_API_KEY", raising=False)
    assert "refused a request (401 Unauthorized; is QDRANT_API_KEY set, and right?)" in refused(capsys, locked, *ledger)
    monkeypatch.setenv("QDRANT_API_KEY", "carp")
    assert "401 Unauthorized" in refused(capsys, locked, *ledger)
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    assert "has no collection 'shop'; legal: other" in refused(capsys, locked, *ledger)
    assert not (tmp_path / "ledger").exists()


def test_nothing_that_answers(locked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = ["--ledger", str(tmp_path / "ledger")]
    line = refused(capsys, "http://127.0.0.1:9", "shop", *ledger)
    assert "Qdrant at http://127.0.0.1:9 cannot be reached" in line
    assert "is no folder of Qdrant's client" in refused(capsys, f"qdrant:{tmp_path}", "shop", *ledger)
    assert "--ledger FOLDER says where" in refused(capsys, locked, "shop")
    assert "Name the columns of a table" in refused(capsys, "postgresql://nobody@none/db", "shop")
    assert "--ledger is for collections" in refused(capsys, "x", "t", "--id", "a", "--vector", "b", *ledger)
    assert not (tmp_path / "ledger").exists()


# the client leaves its lock file open where it could not take it
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_folder_that_another_process_has_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "qdrant"
    other = qdrant_client.QdrantClient(path=str(folder))
    other.create_collection("shop", vectors_config=params())
    line = refused(capsys, f"qdrant:{folder}", "shop", "--ledger", str(tmp_path / "ledger"))
    assert "cannot be opened" in line
    assert "already accessed" in line
    other.upsert("shop", [q.PointStruct(id=1, vector=[1.0, 0.0])])
    other.close()
    arguments = [f"qdrant:{folder}", "shop", "--ledger", str(tmp_path / "ledger"), "--space-name", "m", "--quiet"]
    assert run(["gallery", "adopt", *arguments]) == 0
    assert "1 points of shop are items now, no vector was copied" in capsys.readouterr().out
    monkeypatch.setenv("SAMESPACE_INDEX", f"qdrant:{folder}")
    assert run(["gallery", "status", str(tmp_path / "ledger")]) == 0


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
def test_nothing_is_connected_to_that_a_ledger_alone_names(
    client: Any, locked: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(client, tmp_path / "ledger")
    with closing(sqlite3.connect(tmp_path / "ledger" / "gallery.db")) as ledger, ledger:
        (text,) = ledger.execute("SELECT value FROM meta WHERE key = 'adopted'").fetchone()
        altered = json.dumps({**json.loads(text), "address": locked})
        ledger.execute("UPDATE meta SET value = ? WHERE key = 'adopted'", (altered,))
    asked: list[str] = []
    monkeypatch.setattr(Locked, "do_GET", lambda self: asked.append(self.headers.get("api-key")))
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    monkeypatch.delenv("SAMESPACE_INDEX", raising=False)
    for command in (["status"], ["sync"], ["doctor"], ["seal", "--yes"]):
        assert run(["gallery", command[0], str(tmp_path / "ledger"), *command[1:]]) == 2
        said = capsys.readouterr().err
        assert (
            f"serves the collection shop at {locked}; if that is right, name it: set SAMESPACE_INDEX={locked}" in said
        )
        assert said.count("\n") == 1
    for wrong in ("127.0.0.1:9", "ftp://x", "postgresql://x/y"):
        monkeypatch.setenv("SAMESPACE_INDEX", wrong)
        assert run(["gallery", "status", str(tmp_path / "ledger")]) == 2
        assert "is no address of a Qdrant server" in capsys.readouterr().err
    monkeypatch.setenv("SAMESPACE_INDEX", "http://127.0.0.1:9")
    assert run(["gallery", "status", str(tmp_path / "ledger")]) == 2
    assert "Qdrant at http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err
    assert asked == []
