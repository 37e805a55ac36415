"""Queries by image: embedded by the model that the gallery remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samespace.errors import GalleryError, SpaceError
from samespace.gallery.index.base import Source
from samespace.gallery.ingest.images import Images, ItemEmbedder, load_embedder
from samespace.gallery.ledger.state import State
from samespace.progress import Advance, silent
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    from samespace.data import ImageSource


def older_serving(source: Source) -> int | None:
    """The newest space that serves items beside the one that queries use, by its generation; None where none does."""
    with source.snapshot() as snapshot:
        return max((one for one in snapshot.generations() if one != snapshot.state.query), default=None)


def embed_queries(
    state: State,
    images: ImageSource | str | Path,
    *,
    generation: int | None = None,
    device: str = "auto",
    batch_size: int = 256,
    advance: Advance = silent,
) -> VectorSet:
    """Vectors of images in the space that queries use now.

    `images`: a source, or what a user writes; every image is a query. `advance`: called with how many more are done.

    Raises:
        GalleryError: the gallery remembers no model of that space.
        SpaceError: the model in the remembered folder is another one now.
    """
    kept = state.spaces[state.query if generation is None else generation]
    if kept.model is None:
        raise GalleryError(
            f"the gallery remembers no model of space {kept.space}; embed the images with 'samespace embed' and give "
            "the vectors"
        )
    model = load_embedder(kept.model, device)
    embedder = ItemEmbedder(model, Images.open(images, model))
    if embedder.space != kept.space:
        raise SpaceError(f"{kept.model} holds a model of space {embedder.space} now, expected one of {kept.space}")
    source = embedder.images.source
    vectors = np.empty((len(source), kept.space.dim), dtype=np.float32)
    for start in range(0, len(source), batch_size):
        rows = np.arange(start, min(start + batch_size, len(source)))
        vectors[rows] = embedder.vectors(source.load(rows))
        advance(len(rows))
    return VectorSet.from_arrays(
        vectors, labels=np.asarray(source.classes)[source.labels], ids=source.ids, space=kept.space, name=source.name
    )
