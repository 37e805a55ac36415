"""What any program sees of the service: keys and scopes, limits, deadlines, problems in one line, metrics."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samespace import Client, GalleryError, InputError
from samespace.gallery import Gallery
from samespace.serve.keys import KeyRing, add_key, load_keys, revoke_key
from samespace.serve.wording import WORDS

from .running import OLD, JsonLines, Limits, Running, Service, made

Start = Callable[..., Running]
ONE = {"queries": {"space": OLD.id, "vectors": made(1).vectors.tolist()}, "k": 2}

JOB = {"space": OLD.id, "vectors": made(1).vectors.tolist(), "ids": ["item-0"]}


def require_problem(answer: Any, status: int, words: str) -> None:
    """An answer should be a problem of one line."""
    assert answer.status_code == status, answer.text
    value = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in value["detail"], value
    assert "\n" not in value["detail"]
    assert value["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text


def test_a_search_in_plain_json(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop})).http
    answer = http.post("/v1/shop/search", json=ONE, headers={"X-Request-Id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    assert answer.json()["hits"][0][0]["item"] == "item-0"
    assert answer.json()["space"] == OLD.id
    where = {"where": ["label=c1", {"key": "label", "op": "in", "value": ["c1", "c2"]}]}
    assert http.post("/v1/shop/search", json=ONE | where).json()["hits"][0][0]["item"] != "item-0"
    assert http.get("/v1/shop/items/item-3").json()["served"] == OLD.id
    assert http.delete("/v1/shop/items/item-3").json() == {"removed": 1}
    require_problem(http.delete("/v1/shop/items/item-3"), 404, "no item 'item-3'")
    assert http.get("/v1").json()["galleries"]["shop"]["id"] == OLD.id
    spaces = http.get("/v1/shop/status").json()["spaces"]
    assert spaces[0]["space"]["id"] == OLD.id


WRONG = [
    (
        "search",
        b"{",
        422,
        "the body is not valid JSON: Expecting property name",
    ),
    ("search", b"[" * 100_000, 400, "parsing the body: it is nested too deep"),
    ("search", b'{"k": ' + b"1" * 5000 + b"}", 400, "parsing the body: a number has too many digits"),
    ("search", b"{}", 400, "one of the three"),
    ("search", {"queries": ONE["queries"], "k": 1001}, 400, "1,001 are more than this service takes"),
    ("search", ONE | {"kk": 1}, 422, "body.kk: Extra inputs are not permitted"),
    ("search", ONE | {"where": ["shop"]}, 400, "not understood"),
    ("search", ONE | {"where": ["year=>2020"]}, 400, "did you mean '>='?"),
    ("search", ONE | {"where": [{"key": "year", "op": "=>", "value": 1}]}, 422, "body.where.0.op: Input should be '='"),
    ("search", ONE | {"where": [{"key": "year"}]}, 422, "body.where.0.value: Field required"),
    ("search", ONE | {"where": ["a\0=1"]}, 422, "NUL"),
    ("search", b'{"where": ["\\ud800=1"]}', 422, "where"),
    ("search", ONE | {"where": [{"key": "n", "value": 10**400}]}, 422, "body.where"),
    ("search", b'{"queries": {"space": "x", "vectors": [[NaN]]}}', 400, "finite number"),
    ("search", ONE | {"where": ["a=1"] * 101}, 400, "filter's conditions"),
    ("search", {"queries": {"space": "none", "vectors": [[1.0]]}}, 409, "has no space 'none'"),
    ("search", {"queries": {"space": OLD.id, "vectors": [[1.0]]}}, 400, "has 8 numbers"),
    ("search", {"queries": {"space": OLD.id, "base64": "AAAA"}}, 400, "3 bytes are no float32 vectors"),
    ("search", {"queries": {"space": OLD.id, "base64": "§"}}, 400, "should be base64"),
    ("search", {"queries": {"space": OLD.id, "vectors": []}}, 400, "not empty"),
    ("search", {"images": [base64.b64encode(b"GIF89a").decode()]}, 400, "not an image of a known kind"),
    ("search", {"images": []}, 400, "no image"),
    ("search", {"texts": ["a"]}, 409, "no encoder of texts"),
    ("items", {"vectors": ONE["queries"]}, 400, "items need 'ids'"),
    ("items", {"vectors": ONE["queries"] | {"ids": ["a" * 1025]}}, 400, "characters of the id"),
    ("items", {"vectors": ONE["queries"] | {"ids": [""]}}, 400, "id"),
    ("items", {"vectors": ONE["queries"] | {"ids": ["a"]}, "metadata": {"a": {"b": "c" * 17_000}}}, 400, "metadata"),
    ("items", {"vectors": ONE["queries"] | {"ids": ["a"]}, "metadata": {"a": {"b": [1]}}}, 422, "metadata"),
    ("remove", {"ids": ["none"]}, 400, "no item 'none'"),
    ("upgrade", {"model": "/etc"}, 400, "no model '/etc'"),
    ("upgrade", {"space": {**OLD.to_dict(), "id": "0" * 12}}, 400, "does not fit"),
    ("plan", {"space": OLD.to_dict(), "certificates": [{"format": "x"}]}, 400, "certificates.0"),
    ("seal", {"unused_for": -1}, 422, "unused_for"),
    ("rollback", {"dry_run": True}, 422, "body.dry_run"),
    ("rollback", {"expect": -1}, 422, "body.expect"),
    ("plan", {"space": OLD.to_dict(), "expect": 0}, 400, "'expect' goes with steps"),
    ("pause", b"not json", 422, "JSON"),
    ("sync", {"dry_run": True}, 400, "has no body"),
    ("jobs", {"batch_size": 0}, 422, "batch_size"),
    ("jobs", {"rate": -1}, 400, "rate should be above 0"),
    ("jobs", {}, 409, "no item lacks a vector of"),
    ("jobs", {"model": "v9"}, 400, "no model 'v9'"),
    ("jobs", {"model": "v9", "vectors": JOB}, 400, "exclude each other"),
    ("jobs", {"vectors": JOB, "epsilon": -1}, 400, '("epsilon") is 0 or above, such as 0.002, got -1'),
    ("jobs", {"vectors": JOB, "epsilon": 0.1}, 409, "no certificate of this upgrade has a sweep"),
]


def test_what_is_wrong_is_said_in_one_line_and_changes_nothing(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop})).http
    before = shop.state.revision
    for path, body, status, words in WRONG:
        content = body if isinstance(body, bytes) else json.dumps(body)
        answer = http.post(f"/v1/shop/{path}", content=content, headers={"Content-Type": "application/json"})
        require_problem(answer, status, words)
    # by its name, not by where it lies
    for headers in ({}, {WORDS: "python"}):
        assert http.post("/v1/shop/pause", headers=headers).json()["detail"].startswith("shop: no upgrade is under way")
    require_problem(http.get("/v1/../etc/passwd"), 404, "there is nothing at /etc/passwd; /docs lists all requests")
    require_problem(http.get("/v1/shop/nothing"), 404, "there is nothing at /v1/shop/nothing")
    require_problem(http.get("/v1/shop/items/..%2F..%2Fgallery.db"), 404, "no item")
    require_problem(http.put("/v1/shop/search"), 405, "/v1/shop/search takes POST, got PUT")
    wrong = http.put("/v1/shop/items/a")
    require_problem(wrong, 405, "/v1/shop/items/a takes DELETE and GET and HEAD, got PUT")
    assert wrong.headers["allow"] == "DELETE, GET, HEAD"
    assert http.patch("/v1/shop/jobs").headers["allow"] == "GET, HEAD, POST"
    require_problem(http.get("/v1/none/status"), 404, "there is no gallery 'none'; legal: shop")
    require_problem(http.post("/v1/shop/search", content=b"x" * 9), 415, "send the body as JSON")
    require_problem(
        http.post("/v1/shop/search", content=b"", headers={"Content-Encoding": "gzip"}), 415, "Content-Encoding"
    )
    assert shop.state.revision == before


def test_head_gives_the_head_of_every_get(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop})).http
    http.headers["Accept-Encoding"] = "identity"
    for path in ("/", "/v1", "/healthz", "/readyz", "/docs", "/openapi.json", "/metrics", "/page/main.js",
                 "/v1/shop/status", "/v1/shop/jobs", "/v1/shop/certificates", "/v1/shop/items/item-1",
                 "/v1/shop/items/none"):  # fmt: skip
        got, head = http.get(path), http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
        assert int(head.headers["content-length"]) > 0
    assert http.head("/v1/shop/search").status_code == 405


def test_a_body_may_only_be_so_long(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop}, limits=Limits(body=1000))).http
    assert http.post("/v1/shop/search", json=ONE).status_code == 200
    require_problem(http.post("/v1/shop/search", json=ONE | {"texts": ["a" * 1000]}), 413, "may have 1,000 bytes")
    unsaid = http.post("/v1/shop/search", content=iter([b"a" * 600] * 2))
    require_problem(unsaid, 413, "may have 1,000 bytes")


def test_an_unexpected_fault_is_in_the_log_only(
    shop: Gallery, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    http = start(Service({"shop": shop})).http

    def broken(*given: Any, **options: Any) -> Any:
        raise RuntimeError("secret /etc/place")

    monkeypatch.setattr(shop, "search", broken)
    answer = http.post("/v1/shop/search", json=ONE)
    require_problem(answer, 500, "a fault of samespace")
    assert "secret" not in answer.text
    logged = next(one for one in caplog.records if one.levelno == logging.ERROR)
    line = json.loads(JsonLines().format(logged))
    assert line["id"] == answer.headers["x-request-id"]
    assert "secret /etc/place" in line["traceback"]


def test_keys_open_what_their_scope_says(tmp_path: Path, shop: Gallery, start: Start) -> None:
    file = tmp_path / "keys.json"
    keys = {scope: add_key(file, scope, scope) for scope in ("read", "write", "admin")}
    old = add_key(file, "old", "admin", days=1e-9)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(key.split("_", 2)[2] in file.read_text() for key in keys.values())
    http = start(Service({"shop": shop}, keys=KeyRing(file))).http

    def status(method: str, path: str, key: str | None, **body: Any) -> int:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return int(http.request(method, path, headers=headers, **body).status_code)

    asked = {
        "read": [("POST", "/v1/shop/search", {"json": ONE}), ("GET", "/v1/shop/status", {}), ("GET", "/metrics", {}),
                 ("GET", "/v1", {}), ("GET", "/v1/shop/jobs", {}), ("GET", "/v1/shop/certificates", {})],
        "write": [("POST", "/v1/shop/remove", {"json": {"ids": ["none"]}}), ("DELETE", "/v1/shop/items/none", {}),
                  ("POST", "/v1/shop/items", {"json": {}})],
        "admin": [("POST", f"/v1/shop/{step}", {}) for step in
                  ("plan", "upgrade", "calibrate", "switch", "quality", "rollback", "pause", "resume", "seal", "sync",
                   "jobs")] + [("DELETE", "/v1/shop/jobs/none", {})],
    }  # fmt: skip
    order = list(asked)
    for scope, requests in asked.items():
        for method, path, body in requests:
            for key in (None, "", "x", "ss__", old, keys["read"][:-1], keys["read"] + "a", "ss_" + "é"):
                assert status(method, path, None if key is None else key.encode(), **body) == 401, (path, key)
            for holder, key in keys.items():
                allowed = order.index(holder) >= order.index(scope)
                assert (status(method, path, key, **body) not in (401, 403)) == allowed, (path, holder)
    assert status("GET", "/healthz", None) == status("GET", "/docs", None) == 200
    # nobody without a key makes the service read a body
    assert status("POST", "/v1/shop/search", None, content=b"{") == 401

    assert revoke_key(file, "read").name == "read"
    assert status("GET", "/v1/shop/status", keys["read"]) == 401
    assert status("GET", "/v1/shop/status", keys["write"]) == 200
    file.write_text("{")
    os.utime(file)
    assert status("GET", "/v1/shop/status", keys["write"]) == 503
    with pytest.raises(InputError, match="not valid JSON"):
        load_keys(file)


def test_the_client_sends_its_key(tmp_path: Path, shop: Gallery, start: Start) -> None:
    key = add_key(tmp_path / "keys.json", "reader", "read")
    running = start(Service({"shop": shop}, keys=KeyRing(tmp_path / "keys.json")))
    assert len(running.client(key=key)) == 40
    with pytest.raises(InputError, match="the key 'reader' has the scope read; this needs admin"):
        running.client(key=key).rollback()
    with pytest.raises(InputError, match="send a valid key"):
        running.client().status()


def test_more_than_it_takes_is_sent_away_and_comes_again(
    shop: Gallery, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(Service({"shop": shop}, limits=Limits(threads=1, waiting=1)))
    hold, search, statuses = threading.Event(), shop.search, list[int]()
    monkeypatch.setattr(shop, "search", lambda *given, **options: hold.wait() and search(*given, **options))

    def ask() -> None:
        statuses.append(running.http.post("/v1/shop/search", json=ONE).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    while running.http.get("/metrics").status_code != 429:
        time.sleep(0.01)
    answer = running.http.post("/v1/shop/search", json=ONE)
    require_problem(answer, 429, "as many requests as it takes")
    assert answer.headers["retry-after"] == "1"
    threading.Timer(0.2, hold.set).start()
    assert running.client().search(made(1)).hits
    for thread in threads:
        thread.join()
    assert statuses == [200, 200]


def test_every_request_has_a_deadline(shop: Gallery, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start(Service({"shop": shop}, limits=Limits(deadline=0.2)))
    ended = threading.Event()
    monkeypatch.setattr(shop, "search", lambda *given, **options: ended.wait(5))
    require_problem(running.http.post("/v1/shop/search", json=ONE), 504, "not answered within 0.2 s")
    with pytest.raises(GalleryError, match=r"not answered within 0.2 s.*\(request "):
        running.client().search(made(1))
    ended.set()


def test_no_request_starts_a_thread_on_the_event_loop(
    shop: Gallery, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All others would wait until a busy machine lets that thread begin, and no deadline would hold."""
    http = start(Service({"shop": shop})).http
    while http.get("/readyz").status_code != 200:
        time.sleep(0.01)
    begun: list[str] = []
    whole = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if asyncio._get_running_loop() is not None:
            begun.append(thread.name)
        whole(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    for path, body, status, _ in WRONG[:8]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = http.post(f"/v1/shop/{path}", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
    statuses = [http.post("/v1/shop/search", json=ONE).status_code, http.get("/v1/none/status").status_code]
    assert statuses == [200, 404]
    assert begun == []


def test_metrics_tell_what_is_served(shop: Gallery, start: Start) -> None:
    running = start(Service({"shop": shop}))
    client: Client = running.client()
    client.search(made(3))
    client.remove(["item-39"])
    while running.http.get("/readyz").status_code != 200:
        time.sleep(0.01)
    text = running.http.get("/metrics").text
    for line in (
        f'samespace_queries_total{{gallery="shop",space="{OLD.id}"}} 3.0',
        f'samespace_search_seconds_count{{gallery="shop",mode="vectors",space="{OLD.id}"}} 1.0',
        f'samespace_served_share{{gallery="shop",space="{OLD.id}"}} 1.0',
        'samespace_items{gallery="shop"} 39.0',
        'samespace_commit_seconds_count{gallery="shop",operation="remove"} 1.0',
        'samespace_backfill_lag_items{gallery="shop"} 0.0',
        'samespace_lease_age_seconds{gallery="shop"} 0.0',
    ):
        assert line in text.splitlines()


def test_the_openapi_is_whole_and_readable_without_a_network(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop})).http
    api = http.get("/openapi.json").json()
    assert {"/v1/{gallery}/search", "/v1/{gallery}/items", "/healthz", "/readyz", "/metrics"} <= set(api["paths"])
    page = http.get("/docs").text
    assert all(f"{path}</code>" in page for path in api["paths"])
    assert "http://" not in page.replace("http://localhost", "")
    assert "https://" not in page


def test_without_keys_no_other_name_leads_in(shop: Gallery, start: Start) -> None:
    http = start(Service({"shop": shop}), hosts=("localhost", "127.0.0.1")).http
    assert http.get("/v1", headers={"Host": "localhost:8000"}).status_code == 200
    require_problem(http.get("/v1", headers={"Host": "evil.example"}), 403, "own address only")


def test_the_page_has_what_it_shows(shop: Gallery, start: Start) -> None:
    running = start(Service({"shop": shop}))
    http = running.http
    assert running.client().canary_curve() == shop.canary_curve()
    assert running.client().status().steps == shop.status().steps
    assert http.get("/v1").json()["scope"] == "admin"
    assert http.get("/v1/shop/certificates").json() == []
    assert http.get("/v1/shop/canary-curve").json()["reason"].startswith("no upgrade is under way")
    allowed = [one["name"] for one in http.get("/v1/shop/status").json()["steps"] if one["allowed"]]
    assert allowed == ["plan"]
    require_problem(http.get("/v1/shop/pictures/item-0"), 404, "no picture of 'item-0' at hand")
    require_problem(http.get("/v1/shop/pictures/../../etc/passwd"), 404, "there is nothing at")
