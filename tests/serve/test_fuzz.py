"""Requests that schemathesis makes up from the OpenAPI: none is answered by a fault or a traceback, or changes much.

Runs where SAMESPACE_EXAMPLES is set and schemathesis installed; examples for each kind of request are 25 times it. Each
is sent in eighty forms: as made up, with ids that the gallery has, with something exchanged, and without a fit key.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samespace.gallery import Gallery
from samespace.serve.keys import KeyRing, add_key

from .running import NEW, OLD, Limits, Running, Service, httpx, made

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
if EXAMPLES < 2:
    pytest.skip("a recorded run: set SAMESPACE_EXAMPLES", allow_module_level=True)
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

DEADLINE = 60.0
STILL = 5.0
EXCHANGED = 74
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 5e-324, float("nan"),
    float("inf"), "", " ", "\0", "\ud800", "\r\nX: 1", "..", "a" * 5000, "\u202e", "item-1", OLD.id, NEW.id, "=", "a=1",
    [], [[]], [None], {}, {"": {}}, {"a": {"b": {"c": []}}}, [0.0] * 8, [[0.0] * 8], ["item-1"] * 2,
]  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A request: `fit` where its ids are such as the gallery has."""

    method: str
    path: str
    content: bytes | None
    key: str | None
    fit: bool = False


def forms(case: Any, keys: dict[str, str]) -> Iterator[Sent]:
    """A made-up request in eighty forms."""
    chance, admin = random.Random(repr(case.body)), keys["admin"]
    places = [path_of(case, known=known) for known in (True, False)]
    body = None if isinstance(case.body, schemathesis.core.NotSet) else case.body
    fit = with_known(body)
    yield Sent(case.method, places[0], encoded(fit), admin, fit=True)
    yield Sent(case.method, places[1], encoded(body), admin)
    for key in (None, keys["expired"], keys["read"]):
        yield Sent(case.method, places[0], encoded(fit), key)
    for _ in range(EXCHANGED):
        yield Sent(case.method, places[0], encoded(exchanged(fit, chance)), admin)
    whole = encoded(fit) or b"{}"
    yield Sent(case.method, places[0], whole[: chance.randrange(len(whole))], admin)


def path_of(case: Any, *, known: bool) -> str:
    """The path, mostly to the gallery and to an item that there are."""
    path: str = case.path
    for name, value in (case.path_parameters or {}).items():
        held = {"gallery": "shop", "item": "item-1"}.get(name) if known else None
        path = path.replace(f"{{{name}}}", held or quote(str(value), safe="", errors="surrogatepass"))
    return path


def encoded(body: Any) -> bytes | None:
    """The bytes of a body."""
    if body is None or isinstance(body, bytes):
        return body
    return json.dumps(body, default=repr).encode()


def with_known(body: Any) -> Any:
    """The same body, with ids of spaces and vectors that the gallery has."""
    if isinstance(body, list):
        return [with_known(part) for part in body]
    if not isinstance(body, dict):
        return body
    found = {key: with_known(part) for key, part in body.items()}
    if isinstance(found.get("space"), str):
        found["space"] = OLD.id if len(found["space"]) % 2 else NEW.id
        if isinstance(found.get("vectors"), list):
            found["vectors"] = made(2).vectors.tolist()
            found["ids"] = ["item-1", "another"] if found.get("ids") else None
            found.pop("base64", None)
    return found


def exchanged(body: Any, chance: random.Random) -> Any:
    """The same body with one thing somewhere in it exchanged for something odd, left out, or doubled."""
    if not isinstance(body, (dict, list)) or not body or chance.random() < 0.1:
        return chance.choice(ODD)
    place = chance.choice(list(body)) if isinstance(body, dict) else chance.randrange(len(body))
    deeper = isinstance(body[place], (dict, list)) and chance.random() < 0.7
    new = exchanged(body[place], chance) if deeper else chance.choice(ODD)
    left_out = not deeper and chance.random() < 0.15
    if isinstance(body, dict):
        rest = {key: part for key, part in body.items() if key != place}
        return rest if left_out else rest | {place: new}
    doubled = [body[place]] if chance.random() < 0.1 else []
    return [*body[:place], *([] if left_out else [new]), *doubled, *body[place + 1 :]]


@contextmanager
def watched(running: Running) -> Iterator[list[tuple[float, float]]]:
    """How long the event loop took to answer, twice a second, and the processor time of the process meanwhile.

    Where it takes longer than `STILL` seconds, standard error gets where every thread is: a loop that waits for the
    processor shows little processor time, one that is held up by a thread about as much as it took.
    """
    over, waits = threading.Event(), list[tuple[float, float]]()

    def watch() -> None:
        while not over.wait(0.5):
            began, spent = time.monotonic(), time.process_time()
            faulthandler.dump_traceback_later(STILL, file=sys.__stderr__)  # type: ignore[arg-type]
            running.transport.wait(asyncio.sleep(0), 10 * DEADLINE)
            faulthandler.cancel_dump_traceback_later()
            waits.append((time.monotonic() - began, time.process_time() - spent))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


def test_made_up_requests_are_answered(tmp_path: Path, start: Callable[..., Running]) -> None:
    gallery = Gallery.create(tmp_path / "shop", OLD)
    gallery.add(made(40))
    gallery.upgrade(NEW, accept_uncertified=True, grace=True)
    file = tmp_path / "keys.json"
    keys = {name: add_key(file, name, name) for name in ("read", "admin")}  # type: ignore[arg-type]
    keys["expired"] = add_key(file, "expired", "admin", days=1e-9)
    running = start(Service({"shop": gallery}, keys=KeyRing(file), limits=Limits(deadline=DEADLINE, waiting=100)))
    schema = schemathesis.openapi.from_dict(running.http.get("/openapi.json").json())
    client = httpx.AsyncClient(transport=httpx.ASGITransport(running.transport.app), base_url="http://localhost")
    statuses, fitting_statuses = Counter[int](), Counter[int]()
    faults: list[str] = []
    slowest = 0.0

    async def ask_one(sent: Sent) -> None:
        nonlocal slowest
        headers = {"Content-Type": "application/json"}
        if sent.key is not None:
            headers["Authorization"] = f"Bearer {sent.key}"
        began = time.monotonic()
        answer = await client.request(sent.method, sent.path, content=sent.content, headers=headers)
        seconds = time.monotonic() - began
        slowest = max(slowest, seconds)
        statuses[answer.status_code] += 1
        fitting_statuses[answer.status_code] += sent.fit
        why = "a hang" if seconds > DEADLINE + 5 else fault_of(answer, sent, keys)
        if why is not None:
            faults.append(f"{why}: {sent.method} {sent.path} {sent.content!r}: {answer.text}")

    async def ask_all(case: Any) -> None:
        await asyncio.gather(*(ask_one(sent) for sent in forms(case, keys)))

    with watched(running) as waits:
        for operation in schema.get_all_operations():
            made_up = operation.ok()
            fitting, unfitting = (made_up.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)

            @given(case=st.one_of(fitting, unfitting))
            @settings(max_examples=25 * EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            def ask(case: Any) -> None:
                running.transport.wait(ask_all(case), 10 * DEADLINE)

            ask()
    print(f"{statuses.total():,} requests, the slowest {slowest:.2f} s: {dict(sorted(statuses.items()))}")
    print("the event loop answered within {:.2f} s, in which the process took {:.2f} s".format(*max(waits)))
    assert not faults, faults[:5]
    assert fitting_statuses[200] > fitting_statuses.total() / 20
    assert not [one for one in gallery.doctor().findings if one.level == "error"]


def fault_of(answer: Any, sent: Sent, keys: dict[str, str]) -> str | None:
    """What is wrong with an answer."""
    if answer.status_code in (500, 504) or "Traceback" in answer.text:
        return "a fault"
    if sent.key in (None, keys["expired"]) and sent.path not in ("/healthz", "/readyz") and answer.status_code != 401:
        return "a way in without a key"
    if answer.status_code < 400:
        return None
    if answer.headers["content-type"] != "application/problem+json" or "\n" in answer.json()["detail"]:
        return "no problem in one line"
    return None
