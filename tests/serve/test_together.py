"""Searches that come at the same time are answered together, each as it would be alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from samespace.gallery import Gallery

from .running import NEW, OLD, Running, Service, made

Start = Callable[..., Running]


def body(space: Any, row: int, **options: Any) -> dict[str, Any]:
    return {"queries": {"space": space.id, "vectors": made(40, space).vectors[[row]].tolist()}, **options}


def answered_together(
    running: Running, shop: Gallery, asked: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Any], list[int]]:
    """The answers to requests that come while the first searches are held up; how many queries each search had."""
    held, sizes, search = threading.Event(), [], shop.search

    def slow(queries: Any, **options: Any) -> Any:
        sizes.append(len(queries))
        held.wait(30)
        return search(queries, **options)

    monkeypatch.setattr(shop, "search", slow)
    with ThreadPoolExecutor(len(asked)) as threads:
        futures = [threads.submit(running.http.post, "/v1/shop/search", json=one) for one in asked]
        while running.service.metrics.registry.get_sample_value("samespace_requests_in_flight") != len(asked):
            time.sleep(0.01)
        held.set()
        return [future.result() for future in futures], sizes


def test_answers_are_those_of_single_searches_to_the_bit(
    shop: Gallery, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = {f"item-{row}": {"n": row % 2, "odd": row % 2 == 1} for row in range(40, 240)}
    shop.add(made(200, first=40), metadata=metadata)
    shop.upgrade(NEW, accept_uncertified=True, grace=True)
    for one in (OLD, NEW):
        shop.calibrate(made(40, NEW), made(40, one, first=100))
    shop.backfill(vectors=made(90, NEW))
    asked = [body(OLD if row % 3 == 0 else NEW, row, k=1 + row % 2) for row in range(40)]
    asked += [body(NEW, row, where=[{"key": "n", "value": 1}]) for row in range(5)]
    asked += [body(NEW, row, where=[{"key": "odd", "value": True}]) for row in range(5)]
    asked += [body(NEW, row, max_fmr=0.2, exact=True) for row in range(5)]
    running = start(Service({"shop": shop}))
    alone = [running.http.post("/v1/shop/search", json=one).content for one in asked]
    together, sizes = answered_together(running, shop, asked, monkeypatch)
    assert sum(sizes) == len(asked)
    assert len(sizes) < len(asked) / 2
    assert [one.content for one in together] == alone


def test_a_request_that_is_refused_leaves_the_others_their_answers(
    shop: Gallery, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero = {"queries": {"space": OLD.id, "vectors": [[0.0] * 8]}}
    empty = {"queries": {"space": OLD.id, "vectors": []}}
    short = {"queries": {"space": OLD.id, "base64": "AAAA"}}
    asked = [*(body(OLD, row) for row in range(8)), zero, empty, short]
    running = start(Service({"shop": shop}))
    alone = [running.http.post("/v1/shop/search", json=one) for one in asked]
    together, _ = answered_together(running, shop, asked, monkeypatch)
    assert [one.status_code for one in together] == [200] * 8 + [400] * 3
    for one, other in zip(alone, together, strict=True):
        assert one.json() | {"request_id": ""} == other.json() | {"request_id": ""}


def test_filters_for_one_and_for_true_are_not_taken_for_each_other(shop: Gallery) -> None:
    shop.add(made(2, first=40), metadata={"item-40": {"n": 1}, "item-41": {"n": True}})
    found = [[hit.item for hit in shop.search(made(1), where={"n": value}).hits[0]] for value in (1, True)]
    assert found == [["item-40"], ["item-41"]]
