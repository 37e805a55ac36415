"""Proof that stored vectors are an encoder's own: some of their items are embedded again and compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from samespace.data import open_for_model, subset
from samespace.data.texts import read_texts
from samespace.encoders.encoder import Encoder
from samespace.encoders.open import as_image_model
from samespace.errors import InputError, SpaceError
from samespace.models.extract import embed
from samespace.vectors import VectorSet

COMPARED = 16
"""Items that are embedded, at most: spread evenly over the vectors."""
TOLERANCE = 0.02
"""Largest length of the difference between a stored vector and the encoder's, as a share of the latter's length: half
precision, in storage or in the model, stays below."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Proof:
    """That vectors are an encoder's.

    Attributes:
        compared: items that were embedded.
        deviation: largest length of a difference, as a share of the length of the encoder's vector.
        tolerance: what it may be.
    """

    compared: int
    deviation: float
    tolerance: float = TOLERANCE


def require_dim(encoder: Encoder, dim: int, name: str) -> None:
    """Refuse vectors of another dimension than the encoder gives, by a SpaceError."""
    if dim != encoder.space.dim:
        raise SpaceError(
            f"{name}: vectors have {dim} dimensions, and {encoder.space} gives {encoder.space.dim}; are they "
            f"{'truncated' if dim < encoder.space.dim else 'of another model'}?"
        )


def prove(encoder: Encoder, items: str, stored: VectorSet) -> Proof:
    """Embed some of the items again and compare them with their stored vectors.

    Args:
        encoder: of texts or images, that is said to have made the vectors.
        items: a file of texts or a source of images, as `samespace embed` takes them; those that the vectors have ids
            for, or as many as there are vectors, in their order, where either has no ids.
        stored: the vectors.

    Raises:
        SpaceError: a vector deviates by more than `TOLERANCE`; the message says by how much and what to look at.
        InputError: the items cannot be read, or none of them is among the vectors.
    """
    require_dim(encoder, stored.dim, stored.name)
    rows, made = (_texts if encoder.modality == "text" else _images)(encoder, items, stored)
    old, new = stored.take(rows), made.take(np.arange(len(made)))
    lengths = np.linalg.norm(new, axis=1)
    deviations = np.linalg.norm(old - new, axis=1) / np.maximum(lengths, 1e-30)
    if (worst := float(deviations.max())) > TOLERANCE:
        raise SpaceError(_refusal(encoder, stored, rows, old, new))
    return Proof(len(rows), worst)


def _texts(encoder: Encoder, items: str, stored: VectorSet) -> tuple[Rows, VectorSet]:
    texts = read_texts(items, skip_empty=True)
    ids = None if texts.ids is None else np.asarray(texts.ids)
    rows, chosen = _shared(ids, len(texts), texts.name, stored)
    return rows, VectorSet.from_arrays(encoder.encode([texts.texts[row] for row in chosen]))


def _images(encoder: Encoder, items: str, stored: VectorSet) -> tuple[Rows, VectorSet]:
    model = as_image_model(encoder)
    prepared = model.preprocessing
    images = open_for_model(
        items,
        prepared.image_size if prepared else None,
        channels=prepared.channels if prepared else None,
        broken="skip",
    )
    ids = images.ids if getattr(images, "named", True) else None
    rows, chosen = _shared(ids, len(images), images.name, stored)
    made = embed(model, subset(images, chosen))
    # those that decoding shows to be damaged are left out
    kept = replace(made, has_ids=True).rows_of(images.ids[chosen])
    return rows[kept >= 0], made.subset(kept[kept >= 0])


def _shared(ids: npt.NDArray[np.str_] | None, count: int, name: str, stored: VectorSet) -> tuple[Rows, Rows]:
    """Rows of the vectors, and of the items, that are one and the same item: some, spread evenly."""
    if ids is None or not stored.has_ids:
        if count != len(stored):
            lacking = name if ids is None else stored.name
            raise InputError(
                f"{lacking} has no ids, and there are {count:,} items of {name} for {len(stored):,} vectors; to prove "
                "which model made them, give ids to both, or the very items in the order of the vectors"
            )
        rows = np.arange(count)
    else:
        rows = stored.rows_of(ids)
    own = np.flatnonzero(rows >= 0)
    if not len(own):
        raise InputError(
            f"{name} has no item of {stored.name}: its ids are such as '{ids[0] if ids is not None else ''}', those of "
            f"the vectors such as '{stored.ids[0]}'"
        )
    own = own[np.argsort(rows[own])]
    own = own[np.unique(np.linspace(0, len(own) - 1, COMPARED).round().astype(np.int64))]
    return rows[own], own


def _refusal(
    encoder: Encoder, stored: VectorSet, rows: Rows, old: npt.NDArray[np.float32], new: npt.NDArray[np.float32]
) -> str:
    lengths = np.linalg.norm(old, axis=1), np.linalg.norm(new, axis=1)
    deviations = np.linalg.norm(old - new, axis=1) / np.maximum(lengths[1], 1e-30)
    cosines = (old * new).sum(1) / np.maximum(lengths[0] * lengths[1], 1e-30)
    worst, agreeing = int(deviations.argmax()), int((deviations <= TOLERANCE).sum())
    text = encoder.modality == "text"
    if (cosines >= 1 - TOLERANCE**2 / 2).all():
        look = (
            f"normalisation: directions agree, the stored vector has length {lengths[0][worst]:.4g}, the model's "
            f"{lengths[1][worst]:.4g}"
        )
    elif agreeing:
        cut = "long texts (truncation), and at " if text else ""
        look = f"{cut}the items that differ, which may have changed: {agreeing} of {len(rows)} agree"
    elif text:
        look = "prefixes of the texts, pooling, truncation, normalisation and the revision of the model"
    else:
        look = "preprocessing (size, crop, interpolation, mean and std), normalisation and the revision of the model"
    return (
        f"{stored.name}: not the vectors of {encoder.space}: of {len(rows)} items embedded anew, "
        f"'{stored.ids[rows[worst]]}' deviates most, by {deviations[worst]:.3g} of its length (tolerance {TOLERANCE}), "
        f"cosine {cosines[worst]:.4f}; look at {look}"
    )
