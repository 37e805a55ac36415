"""What a store keeps of the vectors of its gallery: halves, eight bits a dimension, or signs.

- `float16`: each value rounded to the nearest half (IEEE 754), as pgvector's `halfvec` and NumPy do.
- `int8`: FAISS's `QT_8bit` (`IndexScalarQuantizer`, `SQ8`): each dimension of the gallery is divided into 255 equal
  steps from its least to its greatest value; what is compared is the middle of a value's step.
- `binary`: the sign of each value, above zero or not, as pgvector's `binary_quantize` and Qdrant do; of queries, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.scoring.grid import Doubles

StoredForm = Literal["float32", "float16", "int8", "binary"]

_STEPS = np.float32(255)
_BITS: dict[StoredForm, int] = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}


def bytes_per_vector(dim: int, form: StoredForm) -> int:
    """What one vector of `dim` values takes in the store, without its id.

    Example:
        >>> [bytes_per_vector(100, form) for form in ("float32", "float16", "int8", "binary")]
        [400, 200, 100, 13]
    """
    return -(-dim * _BITS[form] // 8)


def halves(values: Doubles, name: Callable[[int], str]) -> Doubles:
    """Each value rounded to float16, as float64; `name` says what to call a row.

    Raises:
        InputError: a value is beyond the largest float16, 65504.
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32).astype(np.float16).astype(np.float64)
    beyond = np.isinf(rounded).any(axis=1)
    if beyond.any():
        raise InputError(f"{name(int(np.argmax(beyond)))} holds a value beyond 65504, the largest float16")
    return rounded


def signs(values: npt.NDArray[Any]) -> Doubles:
    """1 where a value is above zero, else −1, float64: their inner product is D − 2 · the Hamming distance.

    Example:
        >>> signs(np.array([[0.3, 0.0, -2.0]])).tolist()
        [[1.0, -1.0, -1.0]]
    """
    return np.where(values > 0, 1.0, -1.0)


@dataclass(frozen=True, eq=False)
class Int8Codes:
    """Codes of 0 to 255 for each dimension by its own range, in float32 as FAISS computes them.

    Attributes:
        low: (D,) float32, least value of each dimension.
        width: (D,) float32, greatest − least.
    """

    low: npt.NDArray[np.float32]
    width: npt.NDArray[np.float32]

    @classmethod
    def of(cls, blocks: Iterable[npt.NDArray[Any]]) -> Int8Codes:
        """The ranges of all vectors, given in blocks of (n, D)."""
        low, high = np.float32(np.inf), np.float32(-np.inf)
        for block in blocks:
            values = block.astype(np.float32)
            low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
        return cls(low=np.asarray(low), width=np.asarray(high - low))

    def encode(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The code of each value of (n, D); a dimension that is constant has 0."""
        width = np.where(self.width > 0, self.width, np.float32(1))
        shares = np.clip((values.astype(np.float32) - self.low) / width, 0, 1)
        return np.asarray((shares * _STEPS).astype(np.uint8))

    def decode(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The middle of the step of each code, (n, D) float32."""
        return np.asarray(self.low + self.width * ((codes + np.float32(0.5)) / _STEPS))
