"""Requests of somebody who means harm: each is refused in one line, changes nothing and holds nothing up."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from samespace.gallery import Gallery
from samespace.serve.keys import KeyRing, add_key

from .running import OLD, JsonLines, Limits, Running, Service, made

Start = Callable[..., Running]
ONE = {"queries": {"space": OLD.id, "vectors": made(1).vectors.tolist()}}
JSON = {"Content-Type": "application/json"}


def png(width: int, height: int, data: bytes = b"") -> str:
    """A PNG file in base64 that says to have so many pixels."""

    def chunk(kind: bytes, held: bytes) -> bytes:
        return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()


POSTSCRIPT = base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n").decode()
ITEM = ONE["queries"] | {"ids": ["a"]}
BODIES = {
    # numbers
    "k is true": ("search", ONE | {"k": True}, 422, "body.k"),
    "k is text": ("search", ONE | {"k": "10"}, 422, "body.k"),
    "k is a fraction": ("search", ONE | {"k": 1.5}, 422, "body.k"),
    "k is none": ("search", ONE | {"k": 0}, 422, "body.k"),
    "k is below none": ("search", ONE | {"k": -1}, 422, "body.k"),
    "k is huge": ("search", ONE | {"k": 10**30}, 400, "more than this service takes"),
    "k has 5,000 digits": ("search", b'{"k": ' + b"9" * 5000 + b"}", 400, "too many digits"),
    "a vector of NaN": ("search", b'{"queries": {"space": "x", "vectors": [[NaN]]}}', 400, "not a finite number"),
    "a vector of infinity": ("search", b'{"min_score": -Infinity}', 400, "-Infinity, which is not"),
    "a number that becomes infinite": ("search", b'{"min_score": 1e999}', 422, "finite number"),
    "a number beyond float32": ("search", {"queries": {"space": OLD.id, "vectors": [[1e39] * 8]}}, 400, "infinity"),
    "a vector of true": ("search", {"queries": {"space": OLD.id, "vectors": [[True] * 8]}}, 422, "vectors"),
    "a flag as text": ("search", ONE | {"exact": "yes"}, 422, "body.exact"),
    # text
    "NUL in an id": ("items", {"vectors": ITEM | {"ids": ["a\0b"]}}, 422, "NUL"),
    "half of a character": ("items", b'{"vectors": {"space": "x", "ids": ["\\ud800"]}}', 422, "ids"),
    "a line break in the error": ("search", {"queries": {"space": "x\r\nA: 1", "vectors": [[1.0]]}}, 409, "no space"),
    "text that turns round": ("remove", {"ids": ["\u202eexe.txt"]}, 400, "no item"),
    "an id that looks the same": ("remove", {"ids": ["item\u2010\u200b1"]}, 400, "no item"),
    # JSON
    "no JSON": ("search", b"<xml/>", 422, "the body is not valid JSON"),
    "bytes that are no UTF-8": ("search", b'{"texts": ["\xff\xff"]}', 400, "not UTF-8"),
    "a key twice": ("search", b'{"k": 1, "k": 1000}', 400, "names the key 'k' twice"),
    "an unknown key": ("search", ONE | {"__class__": "x"}, 422, "Extra inputs"),
    "deep lists": ("search", b"[" * 200_000, 400, "nested too deep"),
    "deep objects": ("plan", b'{"certificates": [' + b'{"a":' * 50_000, 400, "nested too deep"),
    "a list for an object": ("search", b"[]", 422, "body"),
    # bytes
    "base64 of junk": ("search", {"queries": {"space": OLD.id, "base64": "!!!!"}}, 400, "should be base64"),
    "base64 of a few bytes": ("search", {"queries": {"space": OLD.id, "base64": "AAAAAA=="}}, 400, "no float32"),
    "base64 of NaN": ("search", {"queries": {"space": OLD.id, "base64": base64.b64encode(b"\xff" * 32).decode()}}, 400,
                      "NaN"),
    "an image of 2.5 billion pixels": ("search", {"images": [png(50_000, 50_000)]}, 400, "pixels"),
    "an image just above the limit": ("search", {"images": [png(50_000, 1_001)]}, 400, "50,050,000 are more"),
    "an image that starts a program": ("search", {"images": [POSTSCRIPT]}, 400, "not an image of a known kind"),
    "a program as an image": ("search", {"images": [base64.b64encode(b"\x7fELF" * 99).decode()]}, 400, "known kind"),
    # how much
    "many queries": ("search", {"queries": {"space": OLD.id, "vectors": [[0.5] * 8] * 257}}, 400, "257 are more"),
    "many texts": ("search", {"texts": ["a"] * 257}, 400, "257 are more"),
    "many items": ("remove", {"ids": ["a"] * 10_001}, 400, "10,001 are more"),
    "many spaces": ("items", {"vectors": ITEM, "also": [ITEM] * 17}, 422, "body.also"),
    "a long id": ("items", {"vectors": ITEM | {"ids": ["a" * 2000]}}, 400, "characters of the id"),
    "much metadata": ("items", {"vectors": ITEM, "metadata": {"a": {"b": "c" * 20_000}}}, 400, "metadata"),
    "many conditions": ("search", ONE | {"where": [{"key": "a", "op": "in", "value": [1] * 101}]}, 400, "filter"),
    "SQL in a filter": ("search", ONE | {"where": ["a'; DROP TABLE item; --"]}, 400, "not understood"),
    # files and code of the service's machine
    "a model by a path": ("plan", {"model": "../../etc/passwd"}, 400, "has no model"),
    "code as a model": ("upgrade", {"model": "os:system"}, 400, "has no model"),
    "a certificate by a path": ("plan", {"space": OLD.to_dict(), "certificates": ["/etc/passwd"]}, 422, "certificates"),
}  # fmt: skip


def problem_of(answer: Any, status: int) -> str:
    """The detail of a problem, which is one line and shows nothing of the inside."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    value = answer.json()
    assert ("error" in value) == (status in (400, 409, 422)), value
    assert not {"\n", "\r", "\0"} & set(value["detail"])
    assert "Traceback" not in answer.text
    assert len(answer.text) < 8000
    return str(value["detail"])


def test_bodies_of_harm_are_refused_and_change_nothing(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop})).http
    before = shop.state.revision
    for name, (path, body, status, words) in BODIES.items():
        content = body if isinstance(body, bytes) else json.dumps(body)
        began = time.process_time()
        assert words in problem_of(http.post(f"/v1/shop/{path}", content=content, headers=JSON), status), name
        assert time.process_time() - began < 2, name
    assert shop.state.revision == before
    assert len(shop) == 40


@pytest.mark.parametrize(
    "kind",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png", "json"],
)
def test_a_body_that_is_not_said_to_be_json_is_refused(kind: str, shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop})).http
    headers = {"Content-Type": kind} if kind else {}
    answer = http.post("/v1/shop/search", content=json.dumps(ONE), headers=headers)
    assert "Content-Type: application/json" in problem_of(answer, 415)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity", "x-bomb"])
def test_a_compressed_body_is_never_unpacked(coding: str, shop: Gallery, start: Start) -> None:
    bomb = zlib.compress(b" " * 10_000_000)
    answer = start(Service({"shop": shop})).http.post(
        "/v1/shop/search", content=bomb, headers=JSON | {"Content-Encoding": coding}
    )
    assert "without Content-Encoding" in problem_of(answer, 415)


PATHS = [
    "/v1/../../etc/passwd", "/v1/..%2f..%2fetc%2fpasswd/status", "/v1/%2e%2e/%2e%2e/etc/passwd", "/v1/SHOP/status",
    "/v1/sho%EF%BD%90/status", "/v1/shop%20/status", "/v1//status",
    "/v1/shop/..%2fother/status", "/v1/shop/status/", "/v1/shop/status%2f", "/v1/shop;x/status",
    "/v1/shop/items/..%2F..%2Fgallery.db", "/v1/shop/items/%ff%fe", "/v1/shop/items/%ed%a0%80",
    "/v1/shop/items/" + "a" * 5000, "/v1/shop/jobs/..%2f..%2f", "/static/../app.py",
    "/.git/config",     "//evil.example/v1", "/docs/../v1/shop/../none/status", "/v1/shop/items/item-1'%20OR%201=1",
]  # fmt: skip


def test_paths_lead_to_galleries_and_items_only(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop})).http
    for path in PATHS:
        answer = http.get("http://localhost" + path)
        problem_of(answer, 404)
        assert "location" not in answer.headers
        assert "x-evil" not in answer.headers
    for path in ("/v1/shop/items/item-1%0a", "/v1/shop/items/item-1%00", "/v1/shop%0d%0aX-Evil:%201/status"):
        assert "control character" in problem_of(http.delete(path), 400)
    assert len(shop) == 40


def test_what_headers_say_is_not_repeated(shop: Gallery, start: Start, caplog: pytest.LogCaptureFixture) -> None:
    http = start(Service({"shop": shop})).http
    for given in ("a b", "x" * 65, "<script>", "é".encode(), "${jndi:ldap://x}"):
        assert http.get("/healthz", headers={"X-Request-Id": given}).headers["x-request-id"].isalnum()
    with caplog.at_level(logging.INFO, "samespace.serve"):
        assert http.get("/v1/a%0a%7B%22level%22:%22error%22%7D/status").status_code == 400
    lines = [JsonLines().format(one) for one in caplog.records if one.message == "request"]
    assert json.loads(lines[-1])["level"] == "info"
    assert "\n" not in lines[-1]


def test_no_page_of_another_place_gets_in_where_there_are_no_keys(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop}), hosts=("localhost", "127.0.0.1", "[::1]")).http
    for host in ("evil.example", "localhost.evil.example", "localhost@evil.example", "127.0.0.1.nip.io", "", "[::1]x"):
        assert "own address only" in problem_of(http.post("/v1/shop/pause", headers={"Host": host}), 403)
    for origin in ("https://evil.example", "null", "http://localhost:3000", "file://", "http://localhost.evil.example"):
        asked = http.post("/v1/shop/pause", headers={"Host": "localhost:8000", "Origin": origin})
        assert "own address only" in problem_of(asked, 403)
    own = {"Host": "localhost:8000", "Origin": "http://localhost:8000"}
    assert http.get("/v1/shop/status", headers=own).status_code == 200


def test_every_request_of_the_openapi_asks_for_a_key_of_its_scope(tmp_path: Path, shop: Gallery, start: Start) -> None:
    file = tmp_path / "keys.json"
    keys = {scope: add_key(file, scope, scope) for scope in ("read", "write", "admin")}
    expired, scopes = add_key(file, "old", "admin", days=1e-9), list(keys)
    http = start(Service({"shop": shop}, keys=KeyRing(file))).http
    asked = 0
    for path, methods in http.get("/openapi.json").json()["paths"].items():
        place = path.replace("{gallery}", "shop").replace("{item}", "none").replace("{job}", "none")
        for method, one in methods.items():
            if not one.get("tags"):
                assert path in ("/healthz", "/readyz"), f"{path} asks for no key"
                continue
            asked += 1
            refused = [
                None,
                "",
                f"Bearer {expired}",
                f"Basic {keys['admin']}",
                keys["admin"],
                f"Bearer {keys['admin']}x",
            ]
            for given in refused:
                headers = {} if given is None else {"Authorization": given}
                assert "send a valid key" in problem_of(http.request(method, place, headers=headers), 401), (
                    path,
                    given,
                )
            in_address = http.request(method, f"{place}?key={keys['admin']}&access_token={keys['admin']}")
            problem_of(in_address, 401)
            for scope in scopes[: scopes.index(one["tags"][0])]:
                answer = http.request(method, place, headers={"Authorization": f"Bearer {keys[scope]}"})
                assert f"this needs {one['tags'][0]}" in problem_of(answer, 403), (path, scope)
    assert asked > 20


def test_a_key_in_the_address_is_not_logged(
    tmp_path: Path, shop: Gallery, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    key = add_key(tmp_path / "keys.json", "reader", "read")
    http = start(Service({"shop": shop}, keys=KeyRing(tmp_path / "keys.json"))).http
    with caplog.at_level(logging.INFO, "samespace.serve"):
        http.get(f"/v1/shop/status?key={key}", headers={"Authorization": f"Bearer {key[:-1]}"})
    assert key[:-1] not in "".join(JsonLines().format(one) for one in caplog.records)


def test_a_key_is_compared_in_constant_time_whether_it_is_known_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = add_key(tmp_path / "keys.json", "reader", "read")
    ring, compared = KeyRing(tmp_path / "keys.json"), list[tuple[int, int]]()

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for text in (key, key[:-1] + "!", "ss_unknown_x", "", "\udce9"):
        assert (ring.find(text) is not None) == (text == key)
    assert compared == [(64, 64)] * 5


@dataclass(frozen=True)
class Listening:
    """A service in a process of its own that gives each request a second, and a body 20 KiB."""

    port: int
    key: str

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, *parts: bytes) -> bytes:
        """All that it answers until it closes the connection."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return rest(connection)

    def head(self, *lines: str, path: str = "/v1/shop/search", method: str = "POST") -> bytes:
        given = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.key}", *lines]
        return "\r\n".join([*given, "", ""]).encode("latin-1")


def rest(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder = tmp_path_factory.mktemp("attacked")
    with Gallery.create(folder / "shop", OLD) as gallery:
        gallery.add(made(40))
    key = add_key(folder / "keys.json", "reader", "read")
    command = [
        sys.executable,
        "-m",
        "samespace",
        "serve",
        "shop",
        "--keys",
        "keys.json",
        "--port",
        "0",
        "--deadline",
        "1",
    ]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[3]
        log: list[str] = []
        reading = threading.Thread(target=lambda: log.extend(process.stderr or []))
        reading.start()
        running = Listening(int(address.rpartition(":")[2]), key)
        yield running
        # it answers as before
        body = json.dumps(ONE).encode()
        whole = running.send(running.head(f"Content-Length: {len(body)}", "Content-Type: application/json",
                                          "Connection: close") + body)  # fmt: skip
        assert whole.startswith(b"HTTP/1.1 200")
        process.terminate()
        assert process.wait(20) == 0
        reading.join()
    levels = {json.loads(line)["level"] for line in log}
    assert levels <= {"info", "warning"}, log


TYPE = "Content-Type: application/json"
RAW: dict[str, tuple[list[str], bytes, bytes]] = {
    "two lengths": (["Content-Length: 2", "Content-Length: 3"], b"{}", b"400"),
    "a length and chunks": ([TYPE, "Content-Length: 2", "Transfer-Encoding: chunked"], b"2\r\n{}\r\n0\r\n\r\n", b"400"),
    "an unknown transfer coding": (["Transfer-Encoding: xchunked"], b"", b"400"),
    "chunked and more": (["Transfer-Encoding: gzip, chunked"], b"", b"400"),
    "a length below none": (["Content-Length: -1"], b"", b"400"),
    "a length with a sign": (["Content-Length: +2"], b"{}", b"400"),
    "a length of 30 digits": (["Content-Length: " + "9" * 30], b"", b"400"),
    "a length above the limit": (["Content-Length: 99999999999"], b"", b"413"),
    "a blank before the colon": (["Content-Length : 2"], b"{}", b"400"),
    "a header of no name": ([": x"], b"", b"400"),
    "NUL in a header": (["X-A: a\0b"], b"", b"400"),
    "a header of 100,000 characters": (["X-A: " + "a" * 100_000], b"", b"4"),
    "10,000 headers": ([f"X-{n}: 1" for n in range(10_000)], b"", b"4"),
    "a chunk of a wrong length": ([TYPE, "Transfer-Encoding: chunked"], b"zz\r\n", b"400"),
    "a chunk of a huge length": ([TYPE, "Transfer-Encoding: chunked"], b"f" * 40 + b"\r\n", b"400"),
    "two hosts": (["Host: y"], b"", b"400"),
}  # fmt: skip


@pytest.mark.parametrize("name", RAW)
def test_requests_that_two_servers_could_read_differently_are_refused(name: str, listening: Listening) -> None:
    lines, body, status = RAW[name]
    answer = listening.send(listening.head(*lines) + body)
    assert answer.count(b"HTTP/1.1") == 1, answer
    assert answer.split(b" ")[1].startswith(status), answer


def test_another_protocol_is_no_request(listening: Listening) -> None:
    assert b" 400 " in listening.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n")
    assert b" 400 " in listening.send(b"GET /healthz\r\n\r\n")
    assert b" 400 " in listening.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    upgraded = listening.send(listening.head("Connection: Upgrade", "Upgrade: websocket", method="GET"))
    assert b" 101 " not in upgraded
    context = ssl.create_default_context()
    with listening.connect() as connection, pytest.raises(ssl.SSLError):
        context.wrap_socket(connection, server_hostname="localhost")


def test_who_sends_or_reads_slowly_is_cut_off(listening: Listening) -> None:
    half = json.dumps(ONE).encode()[:20]
    length = [TYPE, "Content-Length: 2000"]
    slow = {
        "nothing at all": b"",
        "half of a line": b"GET /heal",
        "headers without end": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ",
        "half of a body": listening.head(*length) + half,
        "half of a chunk": listening.head(TYPE, "Transfer-Encoding: chunked") + b"7d0\r\n" + half,
    }
    began = time.monotonic()
    open_ones = {name: listening.connect() for name in slow}
    for name, sent in slow.items():
        open_ones[name].sendall(sent)
    answers = {name: rest(connection) for name, connection in open_ones.items()}
    assert time.monotonic() - began < 8
    for connection in open_ones.values():
        connection.close()
    assert all(not answers[name] for name in list(slow)[:3])
    assert all(b" 504 " in answers[name] for name in list(slow)[3:]), answers


def test_a_body_that_drips_or_never_ends_is_cut_off(listening: Listening) -> None:
    began = time.monotonic()
    with listening.connect() as dripping, listening.connect() as endless:
        dripping.sendall(b"GET /healthz HTTP/1.1\r\n")
        endless.sendall(listening.head(TYPE, "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        cut = set[str]()
        while len(cut) < 2 and time.monotonic() - began < 15:
            for name, connection, piece in (("drips", dripping, b"X-A: b\r\n"), ("endless", endless, chunk)):
                try:
                    connection.sendall(piece)
                except OSError:
                    cut.add(name)
            time.sleep(0.02)
    assert cut == {"drips", "endless"}


def test_a_service_takes_no_more_than_its_limits(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop}, limits=Limits(body=500, k=3, batch=1, items=1))).http
    assert "500 bytes" in problem_of(http.post("/v1/shop/search", content=b" " * 501, headers=JSON), 413)
    assert "k: 4 are more" in problem_of(http.post("/v1/shop/search", json=ONE | {"k": 4}), 400)
    assert "2 are more" in problem_of(http.post("/v1/shop/remove", json={"ids": ["item-1", "item-2"]}), 400)
