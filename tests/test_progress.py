from __future__ import annotations

import io
import time

import pytest

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


def test_where_nothing_was_left_no_rate_is_told():
    stream = io.StringIO()
    with progress.bar("embedding photos", 96, start=96, stream=stream):
        pass
    assert stream.getvalue() == "embedding photos: nothing was left to do\n"


@pytest.mark.parametrize(("unit", "one"), [("images", "image"), ("queries", "query")])
def test_one_is_one(unit, one):
    stream = io.StringIO()
    with progress.bar("work", 1, unit, stream=stream) as advance:
        advance(1)
    assert f"work: 1 {one} in " in stream.getvalue()


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


def test_bars_inside_stages_move_one_view_of_the_whole(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with progress.Stages("build", 120, done=20, stream=stream).shown() as view:
        with view.stage("train old", 40, units=400), progress.bar("training old", 400, start=100) as advance:
            # a quarter was done by an earlier call; what is left goes at half the expected speed
            now[0] += 20
            advance(100, "epoch 2/4")
        with view.stage("train new", 60, units=100), progress.bar("training new", 100) as advance:
            now[0] += 20
            advance(50)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "build: 33 %, 2:40 left; training old, epoch 2/4"
    assert lines[1].startswith("build: 75 %")
    assert lines[1].endswith("training new")


def test_on_a_terminal_stages_show_the_whole_and_what_is_under_way():
    stream = Terminal()
    with (
        progress.Stages("build", 10, stream=stream).shown() as view,
        view.stage("train old", 10, units=10),
        progress.bar("training old", 10) as advance,
    ):
        advance(5, "epoch 1/2")
    assert "build" in stream.getvalue()
    assert "left" in stream.getvalue()
    with progress.bar("alone", 1, stream=stream) as advance:
        advance(1)
    assert "alone" in stream.getvalue()
