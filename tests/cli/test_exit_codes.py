"""Exit statuses and output of the whole process: no closed pipe, full disk or console changes what a command says."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import numpy as np
import pytest

from samespace.cli import main as command_line
from samespace.cli.exits import MEANINGS
from samespace.cli.main import cli, run
from samespace.gallery import Gallery, Limits

CHECK = ["check", "--queries", "new.npz", "--gallery", "gallery.npz", "--baseline", "old.npz", "--replicates", "100"]


def commands(group: click.Command = cli, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    """Every command that does something, by the words that name it."""
    if not isinstance(group, click.Group):
        return {path: group}
    return {key: found for name, one in group.commands.items() for key, found in commands(one, (*path, name)).items()}


EVERY = commands()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Vectors whose check says yes, and the same with other queries, whose check says no."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    centres = random.standard_normal((8, 16))
    labels = np.arange(160) % 8

    def saved(name: str, kind: str, noise: float) -> None:
        vectors = centres[labels] + noise * random.standard_normal((160, 16))
        np.savez(name, vectors=vectors.astype("f4"), labels=labels, ids=[f"{kind}{row}" for row in range(160)])

    for name, kind, noise in (("gallery", "g", 1.5), ("old", "q", 2.5), ("new", "q", 0.1), ("bad", "q", 9.0)):
        saved(f"{name}.npz", kind, noise)
    return tmp_path


def process(*arguments: str, stdout: int | None = subprocess.PIPE, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "samespace", *arguments],
        stdout=stdout, stderr=subprocess.PIPE, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


def ends(raising: BaseException, words: tuple[str, ...], monkeypatch) -> int:
    """The status of a command in the middle of which something is raised."""

    def body(**options: object) -> None:
        raise raising

    monkeypatch.setattr(EVERY[words], "callback", body)
    monkeypatch.setattr(EVERY[words], "params", [])
    return run(list(words))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_command_ends_with_the_status_of_what_happened(words, monkeypatch, capsys):
    expected = {
        FileNotFoundError(2, "No such file or directory", "x.npz"): 2,
        BrokenPipeError(32, "Broken pipe"): 2,
        OSError(28, "No space left on device"): 2,
        KeyboardInterrupt(): 130,
        click.Abort(): 130,
        MemoryError(): 70,
        RecursionError("maximum recursion depth exceeded"): 70,
        RuntimeError("DefaultCPUAllocator: can't allocate memory"): 70,
        TypeError("unsupported operand"): 70,
        UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"): 70,
        SystemExit(1): 70,
        OSError("image file is truncated"): 70,
    }
    for raised, status in expected.items():
        capsys.readouterr()
        assert ends(raised, words, monkeypatch) == status, raised
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.strip().splitlines()) == 1
        assert "Traceback" not in err
        if status == 70:
            assert "SAMESPACE_TRACEBACK=1" in err
        if words in (("check",), ("gallery", "search")) and status == 130:
            assert "nothing was kept, the same command begins anew" in err
        elif status == 130 and words in (("train",), ("gallery", "add"), ("gallery", "backfill")):
            assert "what was finished is kept, run the same command to carry on" in err


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_command_refuses_an_argument_that_is_no_text(words, capsys):
    assert run([*words, os.fsdecode(b"m\xfcller")]) == 2
    assert "argument 'm\\xfcller' cannot be used: its name is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_the_help_of_every_command_goes_to_any_console_and_to_none(words, monkeypatch):
    for encoding in ("ascii", "cp1252", "latin-1", "utf-16"):
        with open(os.devnull, "w", encoding=encoding) as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            assert run([*words, "--help"]) == 0
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert run([*words, "--help"]) == 0
    assert run([*words, "--no-such-option"]) == 2


def test_the_traceback_is_there_for_who_asks(monkeypatch, capsys):
    monkeypatch.setenv("SAMESPACE_TRACEBACK", "1")
    assert ends(TypeError("odd"), ("check",), monkeypatch) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_error_in_a_background_thread_is_not_passed_over(monkeypatch, capsys):
    def body(**options: object) -> int:
        thread = threading.Thread(target=lambda: [].pop())
        thread.start()
        thread.join()
        return 1

    monkeypatch.setattr(EVERY["check",], "callback", body)
    monkeypatch.setattr(EVERY["check",], "params", [])
    assert run(["check"]) == 70
    err = capsys.readouterr().err
    assert "unexpected IndexError" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("raised", [KeyError("odd"), np.linalg.LinAlgError("odd"), OSError(28, "No space left")])
def test_an_error_in_another_process_is_one_line_too(here, capfd, monkeypatch, raised):
    from samespace import Space, VectorSet
    from samespace.gallery.backfill import run as backfill

    def fail(job: object, stop: object) -> None:
        raise raised

    space = Space(weights="a" * 64, preprocessing="none", dim=4, normalized=True, name="m")
    VectorSet.from_arrays(np.eye(4, dtype=np.float32), ids=list("abcd"), space=space).save("v")
    assert run(["gallery", "create", "g", "--space", "v"]) == 0
    assert run(["gallery", "add", "g", "v", "--quiet"]) == 0
    monkeypatch.setattr(backfill, "run_job", fail)
    # a forked process knows the replaced function
    forked = multiprocessing.get_context("fork")
    monkeypatch.setattr(backfill.multiprocessing, "get_context", lambda kind: forked)
    job = backfill.Job("g", "m", "i", Limits())
    with Gallery.open("g") as gallery:
        monkeypatch.setattr(
            EVERY["gallery", "backfill"], "callback",
            lambda **o: backfill.run_many(gallery.ledger, job, 2, source=gallery.source),
        )  # fmt: skip
        monkeypatch.setattr(EVERY["gallery", "backfill"], "params", [])
        capfd.readouterr()
        assert run(["gallery", "backfill"]) == (2 if isinstance(raised, OSError) else 70)
        err = capfd.readouterr().err
        assert err.count("\n") == 1
        assert "odd" in err or "No space left" in err
        assert "Traceback" not in err
        monkeypatch.setenv("SAMESPACE_TRACEBACK", "1")
        run(["gallery", "backfill"])
    # where it was raised, not only where it was received
    assert "in fail\n" in capfd.readouterr().err


class Full:
    """A stream of which the disk is full."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


class Left(Full):
    """A pipe that nobody reads any more."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self) -> None:
        self.write("")


@pytest.mark.parametrize(("queries", "verdict"), [("new.npz", 0), ("bad.npz", 1)])
@pytest.mark.parametrize(("stream", "lost"), [(Full, True), (Left, False)])
def test_what_a_verdict_and_its_files_are_when_nobody_can_read_standard_output(
    here, capsys, monkeypatch, queries, verdict, stream, lost
):
    command = [queries if word == "new.npz" else word for word in CHECK]
    monkeypatch.setattr(sys, "stdout", stream())
    assert run([*command, "--json", "c.json", "--report", "r"]) == (2 if lost else verdict)
    assert json.loads(Path("c.json").read_text())["compatible"] is (verdict == 0)
    assert (here / "r" / "report.html").is_file()
    assert json.loads((here / "r" / "certificate.json").read_text())["compatible"] is (verdict == 0)
    err = capsys.readouterr().err
    assert ("standard output could not be written (No space left on device); the work is done" in err) is lost


def test_a_result_that_cannot_be_stored_is_shown_and_the_other_one_stored(here, capsys, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("samespace.cli.output.write_json", full)
    assert run([*CHECK, "--json", "c.json"]) == 2
    assert "COMPATIBLE" in capsys.readouterr().out


def test_a_pipe_that_a_shell_made_receives_the_json_and_stays_a_pipe(here):
    os.mkfifo("pipe")
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(Path("pipe").read_text()))
    reader.start()
    assert run([*CHECK, "--json", "pipe"]) == 0
    reader.join()
    assert json.loads(found[0])["compatible"]
    assert (here / "pipe").is_fifo()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_console_of_any_encoding_shows_the_verdict(here, encoding):
    done = process(*CHECK, "--json", "c.json", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0
    assert b"COMPATIBLE" in done.stdout
    assert b"Traceback" not in done.stderr
    done.stdout.decode(encoding)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_full_disk_and_a_closed_pipe_of_a_real_process(here):
    with open("/dev/full", "w") as full:
        done = process("check", "--help", stdout=full.fileno())
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    reading, writing = os.pipe()
    os.close(reading)
    done = process("check", "--help", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
@pytest.mark.parametrize(("queries", "verdict"), [("new.npz", 0), ("bad.npz", 1)])
def test_a_verdict_of_a_real_process_outlives_a_full_disk_and_a_closed_pipe(here, queries, verdict):
    command = [queries if word == "new.npz" else word for word in CHECK]
    with open("/dev/full", "w") as full:
        done = process(*command, "--json", "full.json", stdout=full.fileno())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(b"samespace: error: standard output could not be written (No space")
    reading, writing = os.pipe()
    os.close(reading)
    done = process(*command, "--json", "left.json", stdout=writing)
    os.close(writing)
    assert done.returncode == verdict
    assert b"error" not in done.stderr
    assert b"Traceback" not in done.stderr
    for name in ("full.json", "left.json"):
        assert json.loads((here / name).read_text())["compatible"] is (verdict == 0)


def test_a_terminated_process_says_so(here):
    (here / "recipe.yaml").write_text("data: {source: 'glyphs:classes=90,images=60,size=32'}\n")
    code = "import sys, time; from samespace.cli import main; main.cli.commands['train'].callback = "
    code += (
        "lambda **o: (print('begun', flush=True), time.sleep(60)); sys.argv = ['samespace', *sys.argv[1:]]; main.main()"
    )
    working = subprocess.Popen(
        [sys.executable, "-c", code, "train", "recipe.yaml", "--out", "m"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert working.stdout is not None and working.stdout.readline() == b"begun\n"  # noqa: PT018
    working.send_signal(signal.SIGTERM)
    _, err = working.communicate(timeout=60)
    assert working.returncode == 130
    assert err.startswith(b"samespace: interrupted") or b"\nsamespace: interrupted" in err
    assert b"Traceback" not in err


def test_a_watched_gallery_is_not_shown_to_nobody_for_ever(here, monkeypatch):
    vectors = np.eye(4, dtype=np.float32)
    from samespace import Space, VectorSet

    space = Space(weights="a" * 64, preprocessing="none", dim=4, normalized=True, name="m")
    VectorSet.from_arrays(vectors, ids=list("abcd"), space=space).save("v")
    assert run(["gallery", "create", "g", "--space", "v"]) == 0
    monkeypatch.setattr(sys, "stdout", Left())
    began = time.monotonic()
    assert run(["gallery", "status", "g", "--watch", "0.1"]) == 0
    assert time.monotonic() - began < 30


def test_the_table_of_statuses_is_that_of_the_docs():
    page = (Path(command_line.__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
    for status, meaning in MEANINGS.items():
        assert f"| {status} | {meaning} |" in page
