"""Requests that schemathesis makes up from the OpenAPI: none is answered by a fault or a traceback, or changes much.

Runs where SAMESPACE_EXAMPLES is set and schemathesis installed; examples for each kind of request are 25 times it.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samespace.gallery import Gallery

from .running import NEW, OLD, Limits, Running, Service, made

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
if EXAMPLES < 2:
    pytest.skip("a recorded run: set SAMESPACE_EXAMPLES", allow_module_level=True)
schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")


def sent(running: Running, case: Any) -> Any:
    """The answer to a made-up request, mostly to the gallery and to spaces and items that there are."""
    path = case.path
    for name, value in (case.path_parameters or {}).items():
        value = "shop" if name == "gallery" and len(str(value)) % 4 else value
        path = path.replace(f"{{{name}}}", quote(str(value), safe=""))
    if isinstance(case.body, schemathesis.core.NotSet):
        return running.http.request(case.method, path)
    content = case.body if isinstance(case.body, bytes) else json.dumps(_known(case.body), default=repr)
    headers = {"Content-Type": "application/json"}
    return running.http.request(case.method, path, content=content, headers=headers)


def _known(body: Any) -> Any:
    """The same body, with most ids of spaces and vectors ones that the gallery has."""
    if isinstance(body, list):
        return [_known(part) for part in body]
    if not isinstance(body, dict):
        return body
    found = {key: _known(part) for key, part in body.items()}
    if isinstance(found.get("space"), str) and len(found["space"]) % 3:
        found["space"] = OLD.id if len(found["space"]) % 2 else NEW.id
        if isinstance(found.get("vectors"), list) and len(found["vectors"]) % 2:
            found["vectors"] = made(2).vectors.tolist()
            found["ids"] = ["item-1", "another"] if found.get("ids") else None
    return found


def test_made_up_requests_are_answered(tmp_path: Path, start: Callable[..., Running]) -> None:
    gallery = Gallery.create(tmp_path / "shop", OLD)
    gallery.add(made(40))
    gallery.upgrade(NEW, accept_uncertified=True, grace=True)
    running = start(Service({"shop": gallery}, limits=Limits(deadline=30)))
    schema = schemathesis.openapi.from_dict(running.http.get("/openapi.json").json())
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    for operation in schema.get_all_operations():
        made_up = operation.ok()
        fitting, unfitting = (made_up.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)

        @given(case=st.one_of(fitting, unfitting))
        @settings(max_examples=25 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
        def ask(case: Any) -> None:
            answer = sent(running, case)
            statuses[answer.status_code] += 1
            if answer.status_code in (500, 504) or "Traceback" in answer.text:
                faults.append(f"{case.method} {case.path} {case.body!r}: {answer.text}")
            elif answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json", answer.text
                assert "\n" not in answer.json()["detail"]

        ask()
    print(f"{statuses.total():,} requests: {dict(statuses)}")
    assert not faults, faults[:5]
    assert statuses[200] > statuses.total() / 20
    assert not [one for one in gallery.doctor().findings if one.level == "error"]
