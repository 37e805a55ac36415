"""What a user says that vectors are, where their file does not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.space import Space

Floats = npt.NDArray[np.floating[Any]]
_SLACK = 1e-3  # how far a length may be from one: float16 is off by less


@dataclass(frozen=True)
class Declared:
    """The model that made vectors, by its name and revision.

    Attributes:
        name: of the model.
        revision: of the model; "" where it has none.
        dim: how many dimensions its vectors have; None takes what there are.
    """

    name: str
    revision: str = ""
    dim: int | None = None

    def require(self, dim: int, own: Space | None, where: str) -> None:
        """Refuse vectors of another dimension, or of a file that declares its space itself, by an InputError."""
        if self.dim is not None and dim != self.dim:
            raise InputError(f"{where}: vectors have {dim} dimensions, and --dim says {self.dim}")
        if own is not None:
            raise InputError(f"{where} declares its space, {own}; leave the name of another out")

    def space(self, blocks: Iterable[Floats], dim: int) -> Space:
        """The space of all these vectors, (n, dim) a block: normalised where each has unit length."""
        return Space.declared(self.name, dim, self.revision, normalized=all(map(are_unit, blocks)))


def agreed(given: Declared | None, after: Declared | None, where: str) -> Declared | None:
    """What is said of vectors, by the user and after their address; two that differ are an InputError."""
    if given is not None and after is not None and (given.name, given.revision) != (after.name, after.revision):
        said = [" ".join(filter(None, (one.name, one.revision))) for one in (after, given)]
        raise InputError(
            f"{where}: its address says space {said[0]}, and the space given beside it is {said[1]}; give one"
        )
    return given or after


def are_unit(vectors: Floats) -> bool:
    """Whether each of these vectors, (N, D), has unit length."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float32)
    return bool((np.abs(np.sqrt(squares) - 1) <= _SLACK).all())
