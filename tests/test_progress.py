from __future__ import annotations

import io

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
