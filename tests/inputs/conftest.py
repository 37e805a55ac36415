"""Counts the inputs that the tests of this folder really tried, for `benchmarks/inputs.py`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

COUNT = os.environ.get("SAMESPACE_INPUTS_COUNT")
"""A file that receives a JSON line for each test: its kind, the inputs that held, the inputs that did not."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:  # gives a TestReport back
    report = yield
    if COUNT is None or call.when != "call" or report.skipped:  # type: ignore[attr-defined]
        return report  # type: ignore[return-value]
    # of a property test hypothesis tells how many examples it tried; any other test is one input
    told = re.findall(r"(\d+) passing", str(getattr(item, "hypothesis_statistics", "")))
    held = sum(map(int, told)) if told else int(report.passed)  # type: ignore[attr-defined]
    failed = int(report.failed)  # type: ignore[attr-defined]
    line = {"kind": item.path.stem.removeprefix("test_"), "test": item.name, "held": held, "failed": failed}
    with open(COUNT, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return report  # type: ignore[return-value]
