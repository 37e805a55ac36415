from __future__ import annotations

import io
import time

from samespace import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_lines_tell_rate_and_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with progress.bar("training v2", 1000, start=200, stream=stream) as advance:
        for _ in range(4):
            now[0] += 10
            advance(100, "loss 1.5")
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training v2: 400/1,000 images, 10 images/s, 1:00 left, loss 1.5"
    assert lines[-1] == "training v2: 400 images in 0:40, 10 images/s, loss 1.5"


def test_on_a_terminal_a_bar_is_drawn():
    stream = Terminal()
    with progress.bar("embedding", 10, stream=stream) as advance:
        advance(10, "done")
    assert "embedding" in stream.getvalue()
    assert "100 %" in stream.getvalue()


def test_silence_shows_nothing(capsys):
    progress.silent(3, "note")
    assert capsys.readouterr() == ("", "")


def waited(seconds: float, stream: io.StringIO, *, quiet: bool = False) -> str:
    with progress.working("opening images", quiet=quiet, stream=stream) as tell:
        tell("12 of 90")
        time.sleep(seconds)
    return stream.getvalue()


def test_silent_work_tells_how_long_it_has_taken_and_leaves_no_trace(monkeypatch):
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.01)
    shown = waited(0.2, Terminal())
    assert shown.startswith("\ropening images, 12 of 90: 0:00")
    assert shown.endswith(f"\r{' ' * len('opening images, 12 of 90: 0:00')}\r")


def test_short_work_quiet_work_and_work_without_a_terminal_say_nothing(monkeypatch):
    assert waited(0.0, Terminal()) == ""
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.01)
    assert waited(0.05, Terminal(), quiet=True) == ""
    assert waited(0.05, io.StringIO()) == ""
