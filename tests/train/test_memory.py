"""Freed memory is taken again and not fetched from the system for each step."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

import samespace

STEPS = """
import resource, runpy, numpy
if {keep}:
    runpy.run_path({module!r})["keep_freed_memory"]()
def step():
    kept = [numpy.ones(2**18) for _ in range(4)]
    return [array + 1 for array in kept]
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_fetched(*, keep: bool) -> int:
    code = STEPS.format(keep=keep, module=str(Path(samespace.__file__).parent / "train" / "memory.py"))
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told so")
def test_later_steps_fetch_hardly_any_page_from_the_system() -> None:
    assert pages_fetched(keep=True) < 100
    assert pages_fetched(keep=False) > 1000
