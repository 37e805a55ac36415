"""Output: any text to any console, a stream that fails at any moment, and any error in a command."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

import click
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.cli.main import cli, run
from samespace.cli.streams import Outlet, shown
from samespace.errors import GalleryError, InputError, SpaceError
from samespace.names import one_line

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
ENCODINGS = ("ascii", "cp1252", "latin-1", "cp437", "utf-8", "utf-16", "shift_jis", "gbk", "koi8-r")
# surrogates too: they stand for the bytes of file names
ANY = st.text(st.characters(codec=None), max_size=40) | st.binary(max_size=20).map(os.fsdecode)
OURS = st.text("ok …−–—→×·≥≤±‘’“”\u00a0\u202f│█━✓✗ü中\udcfc\n\t", max_size=30)


class Failing(io.StringIO):
    """Takes so many characters, then fails."""

    def __init__(self, room: int, error: Exception, encoding: str) -> None:
        super().__init__(newline="")
        self.room, self.error, self.named = room, error, encoding
        self.taken = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.named

    def write(self, text: str) -> int:
        text.encode(self.named)
        if len(self.taken) + len(text) > self.room:
            raise self.error
        self.taken += text
        return len(text)

    def flush(self) -> None:
        if len(self.taken) == self.room:
            raise self.error


ERRORS = st.sampled_from(
    [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device"), OSError(5, "Input/output error"),
     ValueError("I/O operation on closed file")]
)  # fmt: skip


@settings(max_examples=50 * EXAMPLES)
@given(ANY | OURS, st.sampled_from(ENCODINGS))
def test_any_text_is_shown_on_any_console(text, encoding):
    found = shown(text, encoding)
    found.encode(encoding)
    assert shown(found, encoding) == found
    # nothing is dropped: each character stays, or something stands for it
    assert len(found) >= len(text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        assert found != text
    else:
        assert found == text


@settings(max_examples=50 * EXAMPLES)
@given(st.lists(ANY | OURS, max_size=6), st.integers(0, 60), ERRORS, st.sampled_from(ENCODINGS))
def test_a_stream_that_fails_takes_nothing_but_what_comes_after(texts, room, error, encoding):
    behind = Failing(room, error, encoding)
    stream = Outlet(behind)
    for text in texts:
        assert stream.write(text) == len(text)
        stream.flush()
    assert "".join(shown(text, encoding) for text in texts).startswith(behind.taken)
    whole = "".join(shown(text, encoding) for text in texts)
    assert (stream.fault is None) == (behind.taken == whole and (len(whole) != room or not texts))
    assert stream.abandoned == (stream.fault is not None and isinstance(error, BrokenPipeError))
    assert (stream.lost is None) == (stream.fault is None or stream.abandoned)


@settings(max_examples=25 * EXAMPLES)
@given(ANY | OURS, st.integers(0, 50), ERRORS, st.sampled_from(ENCODINGS), st.booleans())
def test_a_verdict_and_its_file_outlive_standard_output(text, room, error, encoding, verdict):
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "found.json"

        def body(**options: object) -> int:
            click.echo(text)
            place.write_text("{}")
            return 0 if verdict else 1

        behind, complaints = Failing(room, error, encoding), io.StringIO()
        command = cli.commands["check"]
        with (
            mock.patch.object(command, "callback", body), mock.patch.object(command, "params", []),
            mock.patch.object(sys, "stdout", behind), mock.patch.object(sys, "stderr", complaints),
        ):  # fmt: skip
            status = run(["check"])
        assert place.is_file()
    # room for the line, and for its end
    lost = len(shown(text, encoding)) + 1 >= room and not isinstance(error, BrokenPipeError)
    assert status == (2 if lost else 0 if verdict else 1)
    assert complaints.getvalue().count("\n") == int(lost)


KINDS: list[type[BaseException]] = [
    InputError, SpaceError, GalleryError, ValueError, TypeError, KeyError, RuntimeError, MemoryError, RecursionError,
    AssertionError, ArithmeticError, ImportError, SystemExit, KeyboardInterrupt, click.Abort, EOFError, Warning,
    StopIteration, GeneratorExit,
]  # fmt: skip


@settings(max_examples=50 * EXAMPLES)
@given(st.sampled_from(KINDS), ANY)
def test_any_error_is_one_line_and_a_status_that_is_no_verdict(kind, text):
    def body(**options: object) -> None:
        raise kind(text)

    complaints, command = io.StringIO(), cli.commands["check"]
    with (
        mock.patch.object(command, "callback", body), mock.patch.object(command, "params", []),
        mock.patch.object(sys, "stderr", complaints),
    ):  # fmt: skip
        status = run(["check"])
    said = complaints.getvalue().strip("\n")
    assert status in (2, 70, 130)
    assert (status == 2) == issubclass(kind, (InputError, SpaceError, GalleryError))
    assert (status == 130) == issubclass(kind, (KeyboardInterrupt, click.Abort, EOFError))
    assert said.rstrip() == one_line(said)
    assert said.startswith("samespace: ")


@settings(max_examples=25 * EXAMPLES)
@given(st.lists(ANY, min_size=1, max_size=4))
def test_any_words_are_refused_in_one_line_or_answered(words):
    out, complaints = io.StringIO(), io.StringIO()
    words = [word.replace("\0", "") for word in words]
    with mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", complaints):
        status = run(["check", *words])
    said = complaints.getvalue()
    assert status == 2 or (status == 0 and "Usage" in out.getvalue()), (words, said)
    assert "Traceback" not in said
