"""What vectors must be like before a space takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.gallery.ledger.state import Vectors
from samespace.space import Space

_NORM_SLACK = 1e-3


def require_vectors(values: Vectors, space: Space, name: str, ids: Sequence[str] | npt.NDArray[np.str_]) -> None:
    """Refuse vectors that a space cannot hold.

    Raises:
        InputError: another dimension, a value that is not finite, a zero vector, or one that is not of unit length
            where the space says so.
    """
    if values.ndim != 2 or values.shape[1] != space.dim:
        raise InputError(f"{name}: expected vectors of {space.dim} dimensions for space {space}, got {values.shape}")
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    wrong = ~np.isfinite(lengths)
    if wrong.any():
        raise InputError(f"{name}: the vector of '{ids[int(np.argmax(wrong))]}' holds NaN or infinity")
    wrong = lengths == 0
    if wrong.any():
        raise InputError(f"{name}: the vector of '{ids[int(np.argmax(wrong))]}' is zero and has no direction")
    wrong = abs(lengths - 1) > _NORM_SLACK
    if space.normalized and wrong.any():
        place = int(np.argmax(wrong))
        raise InputError(
            f"{name}: the vector of '{ids[place]}' has length {lengths[place]:.4g}, but space {space} is of unit "
            "vectors; normalise them, or check that they are of this model"
        )
