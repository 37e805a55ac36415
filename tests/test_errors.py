"""What users are told."""

from __future__ import annotations

from samespace.errors import InputError


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = str(InputError(f"k is a whole number, got {'9' * 5000!r}; give one"))
    assert len(text) < 2100
    assert text.startswith("k is a whole number, got '999")
    assert text.endswith("999'; give one")
    assert str(InputError("x" * 2000)) == "x" * 2000


def test_a_message_is_one_line_whatever_was_given() -> None:
    assert str(InputError("unknown key 'a\n\x1b[31m\ud800'")) == r"unknown key 'a\n\x1b[31m\ud800'"
    # a file's name that is not UTF-8, and a blank that does not break
    assert str(InputError("m\udcfcller: 5\u00a0kg")) == "m\\xfcller: 5\u00a0kg"
    assert str(InputError("Größe “x” in 東京…")) == "Größe “x” in 東京…"
