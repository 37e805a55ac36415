"""The skeletons of procedural characters, and random numbers that depend on a key alone.

Random numbers come from a hash of counters (SplitMix64, Steele, Lea and Flood 2014) instead of a generator with
state, so that the draws of one class or image do not depend on how many others are drawn, or in which order.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
KeyArray = npt.NDArray[np.uint64]

STROKES = 4
FAMILY = 4
DRAWS = 12
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(value: KeyArray) -> KeyArray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def key(seed: int, purpose: str, *numbers: npt.NDArray[np.int64]) -> KeyArray:
    """One 64-bit key for each row of `numbers`, `(B,)`, unlike for another seed or purpose."""
    start = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    state = _mix(_mix(start[:1] + GOLDEN) ^ start[1:])
    for number in numbers:
        state = _mix(state + GOLDEN * (number.astype(np.uint64) + np.uint64(1)))
    return state


def _bits(keys: KeyArray, count: int) -> KeyArray:
    return _mix(keys[:, None] + GOLDEN * np.arange(1, count + 1, dtype=np.uint64))


def uniform(keys: KeyArray, count: int) -> FloatArray:
    """Numbers uniform in [0, 1), `(B, count)`."""
    return (_bits(keys, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(keys: KeyArray, count: int) -> FloatArray:
    """Numbers of mean 0 and variance 1, nearly normal: the sum of four uniform 16-bit parts, `(B, count)`."""
    bits = _bits(keys, count)
    low = np.uint64(0xFFFF)
    total = bits & low
    for shift in (16, 32, 48):
        total += (bits >> np.uint64(shift)) & low
    drawn: FloatArray = (total.astype(np.float64) / 65535.0 - 2.0) * 3.0**0.5
    return drawn


def skeletons(seed: int, classes: npt.NDArray[np.int64], difficulty: float) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Control points of each class in the unit square, and which strokes are used.

    Returns:
        `(K, STROKES, 4, 2)` control points as (x, y), and `(K, STROKES)` true for a stroke that is drawn.
    """
    family, member = classes // FAMILY, classes % FAMILY
    theirs = uniform(key(seed, "family", family), 1 + STROKES * DRAWS)
    own = uniform(key(seed, "class", classes), 1 + STROKES * (DRAWS + 1))
    shared_count = theirs[:, 0] if difficulty > 0 else own[:, 0]
    strokes = 2 + np.minimum((shared_count * 3).astype(np.int64), STROKES - 2)
    order = np.arange(STROKES)
    always_own = order == ((family + member) % strokes)[:, None]
    shares = (own[:, 1 : 1 + STROKES] < 1.3 * min(difficulty, 0.7)) & ~always_own
    draws = np.where(
        shares[:, :, None],
        theirs[:, 1:].reshape(-1, STROKES, DRAWS),
        own[:, 1 + STROKES :].reshape(-1, STROKES, DRAWS),
    )
    used = order < strokes[:, None]
    return _fit(_compose(draws), used), used


def _compose(draws: FloatArray) -> FloatArray:
    """Strokes one after another, most of them starting where an earlier one has a start, middle or end."""
    controls = np.zeros((len(draws), STROKES, 4, 2))
    for index in range(STROKES):
        u = draws[:, index]
        start = 0.1 + 0.8 * u[:, 0:2]
        if index:
            earlier = controls[np.arange(len(draws)), (u[:, 2] * index).astype(np.int64)]
            joint = _joint(earlier, u[:, 3])
            start = np.where((u[:, 4] < 0.62)[:, None], joint, start)
        controls[:, index] = _stroke(start, u[:, 5:])
    return controls


def _joint(stroke: FloatArray, choice: FloatArray) -> FloatArray:
    middle = (stroke[:, 0] + 3 * stroke[:, 1] + 3 * stroke[:, 2] + stroke[:, 3]) / 8
    where = np.minimum((choice * 3).astype(np.int64), 2)
    return np.stack([stroke[:, 0], middle, stroke[:, 3]], axis=1)[np.arange(len(stroke)), where]


def _stroke(start: FloatArray, u: FloatArray) -> FloatArray:
    """One stroke from `start`: nearly straight, an arc, an S or a hook, mostly along one of eight directions."""
    angle = (np.floor(u[:, 0] * 8) / 8 + 0.07 * (u[:, 1] - 0.5)) * 2 * np.pi
    length = 0.32 + 0.5 * u[:, 2]
    delta = length[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    inside = (start + delta > 0.02) & (start + delta < 0.98)
    delta = np.where(inside, delta, -delta)
    side = np.stack([-delta[:, 1], delta[:, 0]], axis=-1) * np.where(u[:, 3] < 0.5, -1.0, 1.0)[:, None]
    kind, strength = u[:, 4], u[:, 5]
    straight, arc, wave = kind < 0.36, kind < 0.70, kind < 0.84
    first = np.select([straight, arc, wave], [0.12 * strength, 0.35 + 0.45 * strength, 0.5 + 0.5 * strength], 1.1)
    second = np.select([straight, arc, wave], [0.12 * strength, 0.35 + 0.45 * strength, -first], 0.4 + strength)
    near = np.select([straight, arc, wave], [0.33, 0.2, 0.3], 0.7 + 0.5 * u[:, 6])
    far = np.select([straight, arc, wave], [0.67, 0.8, 0.7], 1.0 + 0.3 * u[:, 6])
    return np.stack(
        [
            start,
            start + near[:, None] * delta + first[:, None] * side,
            start + far[:, None] * delta + second[:, None] * side,
            start + delta,
        ],
        axis=1,
    )


def _fit(controls: FloatArray, used: npt.NDArray[np.bool_]) -> FloatArray:
    """Centre each character and bring its longer side to 72 % of the square."""
    time = np.linspace(0.0, 1.0, 17)
    basis = np.stack([(1 - time) ** 3, 3 * time * (1 - time) ** 2, 3 * time**2 * (1 - time), time**3], axis=-1)
    curve = np.einsum("tp,bspc->bstc", basis, controls)
    hidden = ~used[:, :, None, None]
    low = np.where(hidden, np.inf, curve).min(axis=(1, 2))
    high = np.where(hidden, -np.inf, curve).max(axis=(1, 2))
    side = np.maximum((high - low).max(axis=1), 1e-6)
    fitted: FloatArray = (controls - ((low + high) / 2)[:, None, None]) * (0.72 / side)[:, None, None, None] + 0.5
    return fitted
