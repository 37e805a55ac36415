"""What is checked before a gallery takes vectors: their space, their shape and length, that searches stay possible."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery.ledger.adopted import UNKNOWN_CHECKSUM
from samespace.gallery.ledger.state import Rows, State, Vectors
from samespace.scoring.score import SCORE_NAMES
from samespace.space import Score, Space, undeclared

NORM_SLACK = 1e-3

MOST_LENGTH = 1e18
"""Of a vector whose inner products and squared distances are asked for: float32 ends near 3.4e38."""


def require_vectors(
    values: Vectors,
    space: Space,
    name: str,
    ids: Sequence[str] | npt.NDArray[np.str_],
    *,
    score: Score = "cosine",
) -> None:
    """Refuse vectors that a space cannot hold, or that a search by `score` cannot compare.

    Raises:
        InputError: another dimension, a value that is not finite, one that is not of unit length where the space says
            so; for cosines a zero vector, else one so long that float32 cannot hold its products.
    """
    if values.ndim != 2 or values.shape[1] != space.dim:
        raise InputError(f"{name}: expected vectors of {space.dim} dimensions for space {space}, got {values.shape}")
    lengths = np.sqrt(np.einsum("ij,ij->i", values, values))
    wrong = ~np.isfinite(lengths)
    if wrong.any():
        raise InputError(f"{name}: the vector of '{ids[int(np.argmax(wrong))]}' holds NaN or infinity")
    wrong = lengths > MOST_LENGTH
    if score != "cosine" and wrong.any():
        place = int(np.argmax(wrong))
        raise InputError(
            f"{name}: the vector of '{ids[place]}' has length {lengths[place]:.4g}; at most {MOST_LENGTH:g} can be "
            f"compared by {SCORE_NAMES[score]}"
        )
    wrong = lengths == 0
    if score == "cosine" and wrong.any():
        raise InputError(f"{name}: the vector of '{ids[int(np.argmax(wrong))]}' is zero and has no direction")
    wrong = abs(lengths - 1) > NORM_SLACK
    if space.normalized and wrong.any():
        place = int(np.argmax(wrong))
        raise InputError(
            f"{name}: the vector of '{ids[place]}' has length {lengths[place]:.4g}, but space {space} is of unit "
            "vectors; normalise them, or check that they are of this model"
        )


def generation_of(state: State, space: Space | None, name: str = "the model") -> int:
    """The generation of a space that vectors or a model declare.

    Raises:
        SpaceError: it is undeclared, or the gallery does not know it.
    """
    if space is None:
        raise undeclared(name)
    generation = state.generation_of(space)
    if generation is None:
        known = ", ".join(str(kept.space) for kept in state.spaces.values())
        raise SpaceError(f"{name}: the gallery does not know the space {space}; it has {known}")
    return generation


def require_precision(kept: Space, given: Space | None, name: str) -> None:
    """Refuse vectors of a space whose stored ones were made by another arithmetic: near, and not the same.

    Raises:
        SpaceError: the precisions differ.
    """
    if given is not None and given.precision != kept.precision:
        raise SpaceError(
            f"{name}: its vectors are made in {given.precision}, those of space {kept} in the gallery in "
            f"{kept.precision}; embed them with 'samespace embed --precision {kept.precision}'"
        )


def require_calibrated(state: State) -> None:
    """Refuse what would leave a gallery of several spaces that cannot be searched.

    Raises:
        GalleryError: scores of the spaces that serve cannot be brought to a common scale.
    """
    lacking = [generation for generation in state.servable if not state.calibrated(generation)]
    if lacking and len(state.servable) > 1:
        pairs = ", ".join(str(state.spaces[generation].space) for generation in lacking)
        raise GalleryError(
            f"a gallery of several spaces cannot be searched without calibrations, and queries of "
            f"{state.spaces[state.query].space} have none for {pairs}; run gallery.calibrate(queries, "
            "items) for each, on items that no model was trained on"
        )


def damaged(rows: Rows) -> int:
    """How many stored vectors are not what was written, as far as there are checksums of them."""
    values = np.ascontiguousarray(rows.values, dtype="<f4")
    checksums = np.fromiter(map(zlib.crc32, values), dtype=np.int64, count=len(values))
    return int(((checksums != rows.checksums) & (rows.checksums != UNKNOWN_CHECKSUM)).sum())
