"""Shared by all tests: modest threads, and real data where there is any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# tests work on small tensors, where a second thread costs more than it brings, and may share the machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# the same examples in every run, however busy the machine is
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

DATA = Path(os.environ.get("SAMESPACE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Path of a real data file by name; skips the test, saying why, where it is absent."""

    def path_of(name: str) -> Path:
        path = DATA / name
        if not path.is_file():
            pytest.skip(f"real data {name} is not in {DATA}; set SAMESPACE_DATA to the folder that has it")
        return path

    return path_of
