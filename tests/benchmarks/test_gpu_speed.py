"""The script of all GPU figures runs end to end on a CPU at tiny sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import gpu_speed


def test_every_row_is_measured_once_and_kept(tmp_path, capsys, monkeypatch):
    out = tmp_path / "speed.json"
    asked = ["--out", str(out), "--device", "cpu", "--small"]
    rows = gpu_speed.main(asked)
    assert list(rows) == list(gpu_speed.CASES)
    assert all("measured" in row and "failed" not in row for row in rows.values())
    kept = json.loads(out.read_text())
    assert kept == json.loads(json.dumps(rows))
    printed = capsys.readouterr().out
    assert all(f"| {case} | {aim} |" in printed for case, aim, _ in gpu_speed.CASES.values())

    def again(*given):
        raise AssertionError(f"measured again: {given}")

    monkeypatch.setattr(gpu_speed, "measured", again)
    assert gpu_speed.main(asked) == kept


def test_a_row_that_fails_is_said_and_tried_again(tmp_path, monkeypatch):
    out = tmp_path / "speed.json"
    asked = ["--out", str(out), "--device", "cuda", "--rows", "head"]
    monkeypatch.setattr(gpu_speed, "device_name", lambda device: "none")
    found = iter([{"failed": "out of memory"}, {"measured": "1 ms"}])
    monkeypatch.setattr(gpu_speed, "in_child", lambda name, args, seconds: next(found))
    assert gpu_speed.main(asked)["head"]["failed"] == "out of memory"
    assert gpu_speed.main(asked)["head"]["measured"] == "1 ms"


@pytest.mark.parametrize(("lines", "expected"), [('print(\'{"measured": "x"}\')', "measured"), ("1 / 0", "failed")])
def test_a_child_reports_or_fails_in_a_line(lines, expected, tmp_path, monkeypatch):
    script = tmp_path / "rows.py"
    script.write_text(lines)
    monkeypatch.setattr(gpu_speed.gpu_rows, "__file__", str(script))
    args = type("Args", (), {"device": "cpu"})()
    assert expected in gpu_speed.in_child("head", args, 30)
