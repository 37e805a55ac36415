"""Odd values, damaged bytes and altered JSON for `gallery_fuzz.py`."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\u202e\u0301", "💥" * 3, "ﷺ", "İ", "\n", "\r\n\t", "-", "--help", "..",
    "../../etc/passwd", "/dev/zero", "'; DROP TABLE item; --", '"', "\\", "%s%n", "{}", "[", "null", "NaN", "1e999",
    "007", "1_000", "true", "http://127.0.0.1:9/", "https://user:key@example.org", "postgresql://127.0.0.1:9/x",
    "file:///dev/zero", "x" * 1025, "é" * 600, "[" * 5000, "9" * 5000,
)  # fmt: skip
NUMBERS = (
    0, -1, 1, 2, 3, 7, 77, 2**15, 2**31, 2**32, 2**40, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64, 2**70,
    10**400, -(10**400), 0.5, -0.0, 1.5, 1e-320, 1e300, 1.8e308, math.inf, -math.inf, math.nan,
)  # fmt: skip


class Draw:
    """Random choices of one try."""

    def __init__(self, *seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def below(self, most: int) -> int:
        """A whole number from 0, below `most`."""
        return int(self.random.integers(most))

    def chance(self, share: float) -> bool:
        """Whether something with this probability happens."""
        return bool(self.random.random() < share)

    def one(self, some: Any) -> Any:
        """One of a sequence."""
        return some[self.below(len(some))]

    def text(self) -> str:
        """A text from a list of odd ones, or of characters from anywhere."""
        if self.chance(0.4):
            return str(self.one(TEXTS))
        top = self.one((0x80, 0x250, 0x3000, 0xFFFF, 0x110000))
        return "".join(chr(self.below(top)) for _ in range(self.below(12)))

    def scalar(self) -> Any:
        """A number, text or truth."""
        return self.one((self.text, lambda: self.one(NUMBERS), lambda: self.chance(0.5), lambda: None))()

    def value(self, depth: int = 0) -> Any:
        """Anything JSON can hold, and a little more."""
        kind = self.below(8 if depth < 3 else 5)
        if kind < 5:
            return self.scalar()
        several = [self.value(depth + 1) for _ in range(self.below(4))]
        return several if kind < 7 else {self.text(): value for value in several}


def damaged(draw: Draw, content: bytes) -> bytes:
    """Bytes with one to four faults, as disks, copies and strangers make them."""
    data = bytearray(content)
    for _ in range(1 + draw.below(4)):
        if not data:
            return draw.random.bytes(draw.below(100))
        at, length = draw.below(len(data)), 1 + draw.below(1 + min(len(data) - 1, draw.one((1, 8, 64, 4096))))
        kind = draw.below(8)
        if kind == 0:
            data[at] ^= 1 << draw.below(8)
        elif kind == 1:
            data[at : at + length] = draw.random.bytes(length)
        elif kind == 2:
            data[at : at + length] = bytes(length)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data += draw.random.bytes(length)
        elif kind == 5:
            other = draw.below(len(data))
            data[at : at + length] = data[other : other + length]
        elif kind == 6:
            del data[at : at + length]
        else:
            # sizes and places lie in the first bytes of most formats
            at = draw.below(min(len(data), 128))
            width = draw.one((2, 4, 8))
            number = draw.one((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)) % 2 ** (8 * width)
            data[at : at + width] = number.to_bytes(width, draw.one(("little", "big")))
    return bytes(data)


def altered(draw: Draw, text: str) -> str:
    """JSON with one to three values replaced, removed or added; or damaged as text."""
    if draw.chance(0.2):
        return damaged(draw, text.encode()).decode("utf-8", "replace")
    try:
        root = [json.loads(text)]
    except ValueError:
        return str(draw.text())
    for _ in range(1 + draw.below(3)):
        holders = list(_holders(root))
        holder = draw.one(holders)
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if isinstance(holder, dict) and (not keys or draw.chance(0.15)):
            holder[draw.text()] = draw.value()
        elif keys:
            key = draw.one(keys)
            if draw.chance(0.2) and holder is not root:
                del holder[key]
            else:
                holder[key] = draw.value()
    try:
        return json.dumps(root[0])
    except ValueError:
        return str(draw.text())


def _holders(value: Any) -> Any:
    """Every list and object within, from outside in."""
    yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list)):
            yield from _holders(inner)
