"""Queries by image: embedded by the model that the gallery remembers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samespace.errors import GalleryError, SpaceError
from samespace.gallery.index.base import Source
from samespace.gallery.ingest.images import Images, ImagesLike, ItemEmbedder, ModelLike, load_embedder
from samespace.gallery.ledger.state import State
from samespace.names import escaped
from samespace.progress import Advance, silent
from samespace.vectors import VectorSet


def older_serving(source: Source) -> int | None:
    """The newest space that serves items beside the one that queries use, by its generation; None where none does."""
    with source.snapshot() as snapshot:
        return max((one for one in snapshot.generations() if one != snapshot.state.query), default=None)


@dataclass(frozen=True, eq=False)
class EmbeddedQueries:
    """Queries made of images.

    Attributes:
        vectors: of the images that could be read, by their ids.
        skipped: name and reason of those that could not.
    """

    vectors: VectorSet
    skipped: tuple[tuple[str, str], ...]


def embed_queries(
    state: State,
    images: ImagesLike,
    *,
    generation: int | None = None,
    model: ModelLike | None = None,
    device: str = "auto",
    batch_size: int = 256,
    advance: Advance = silent,
) -> EmbeddedQueries:
    """Vectors of images in the space that queries use now.

    Args:
        state: of the gallery.
        images: a source, a listing, or what a user writes; every image is a query.
        generation: of another space to embed in.
        model: of that space; by default the one that the gallery remembers. One of an earlier space will do while an
            upgrade grants it grace.
        device: to embed on.
        batch_size: images at once.
        advance: called with how many more are done.

    Raises:
        GalleryError: no model is given, and the gallery remembers none of that space.
        SpaceError: the model given, or in the remembered folder, is of another space.
        InputError: no image can be read.
    """
    kept = state.spaces[state.query if generation is None else generation]
    chosen = kept.model if model is None else model
    if chosen is None:
        raise GalleryError(
            f"the gallery remembers no model of space {kept.space}; name its folder with model=…, or embed the images "
            "with 'samespace embed' and give the vectors"
        )
    from samespace.data import sequential

    loaded = load_embedder(chosen, device)
    if generation is None and (earlier := state.generation_of(loaded.space)) in state.graced:
        kept = state.spaces[earlier]
    if loaded.space != kept.space:
        raise SpaceError(f"{chosen} holds a model of space {loaded.space}, expected one of {kept.space}")
    embedder = ItemEmbedder(loaded, Images.open(images, loaded))
    source = embedder.images.source
    vectors = np.empty((len(source), kept.space.dim), dtype=np.float32)
    missing: dict[int, str] = {}
    for batch in sequential(source, batch_size):
        vectors[batch.asked] = embedder.vectors(batch.images)
        missing.update(batch.unreadable.values())
        advance(len(batch.rows))
    rows = np.setdiff1d(np.arange(len(source)), list(missing))
    found = VectorSet.from_arrays(
        vectors[rows],
        labels=np.asarray(source.classes)[source.labels[rows]],
        ids=source.ids[rows],
        space=kept.space,
        name=source.name,
    )
    late = [(escaped(source.ids[row]), reason) for row, reason in sorted(missing.items())]
    return EmbeddedQueries(found, (*getattr(source, "skipped", ()), *late))
