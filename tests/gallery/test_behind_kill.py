"""The benchmark of behind upgrades in short: killed at random moments, no answer mixes, the way back is exact."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "behind.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_no_answer_mixes_whatever_is_killed_when() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--kills", "2", "--searches", "50", "--items", "80", "--seed", "7"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all | 2 |" in done.stdout
    assert re.search(r"searches \(\d[\d,]* by the new model, \d[\d,]* by the old model\).*; 0 failures", done.stdout)
