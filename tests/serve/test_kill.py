"""The kill benchmark of the service in short: SIGKILL among running clients, then everything must still hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install 'samespace[serve]'")

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "serve_kill.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_nothing_acknowledged_is_lost() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--kills", "3", "--items", "100", "--every", "1"],
        capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills in " in done.stdout
    assert "\n0 failures" in done.stdout
