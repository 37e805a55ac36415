"""Queries by image: embedded by the model that the gallery remembers, and by the older one where queries are fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samespace.errors import GalleryError, InputError, SamespaceError, SpaceError, escaped
from samespace.gallery.index.base import Source
from samespace.gallery.ingest.images import Images, ImagesLike, ItemEmbedder, ModelLike, load_embedder
from samespace.gallery.ledger.state import State
from samespace.progress import Advance, silent
from samespace.space import Space
from samespace.vectors import VectorSet


def older_needed(source: Source, state: State, queries: Space, fuse: float | None = None) -> int | None:
    """The space whose model has to embed queries as well, by its generation; None where none has to.

    That is the newest which serves items beside the one that queries use: of all, where `fuse` asks for fused queries;
    else of those whose certificate does.
    """
    query = state.query
    if queries != state.spaces[query].space:  # of an earlier space, answered by what that has
        return None
    links = [one for one in state.links.values() if one.query == query]
    asked = [one.gallery for one in links if fuse is not None or one.share not in (None, 1)]
    if not asked:
        return None
    with source.snapshot() as snapshot:
        return max(set(snapshot.generations()) & set(asked) - {query}, default=None)


@dataclass(frozen=True, eq=False)
class EmbeddedQueries:
    """Queries made of images.

    Attributes:
        vectors: of the images that could be read, by their ids.
        space: of the vectors.
        skipped: name and reason of those that could not.
    """

    vectors: VectorSet
    space: Space
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
        advice = "name its folder with model=…, or embed the images with 'samespace embed' and give the vectors"
        lacking = f"the gallery remembers no model of space {kept.space}"
        raise GalleryError(lacking if generation is not None else f"{lacking}; {advice}")
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
    return EmbeddedQueries(found, kept.space, (*getattr(source, "skipped", ()), *late))


def embed_by_older(
    state: State,
    images: ImagesLike,
    older: int,
    *,
    model: ModelLike | None = None,
    device: str = "auto",
    advance: Advance = silent,
) -> VectorSet:
    """The same queries by the older model that `older_needed` names; by default the one that the gallery remembers.

    Raises:
        GalleryError: it is not at hand.
    """
    try:
        return embed_queries(state, images, generation=older, model=model, device=device, advance=advance).vectors
    except SamespaceError as error:
        raise older_missing(
            state.spaces[older].space,
            f"{error}; name its folder with old_model=…, or give the queries as vectors of both models, with "
            "old_queries=…",
        ) from None


def older_missing(space: Space, why: str) -> GalleryError:
    """That queries cannot be embedded by the model of an older space that serves items."""
    return GalleryError(
        f"items are served by the older space {space}, so queries are embedded by its model as well and fused; that "
        f"cannot be used: {why}"
    )


def queries_by_image(
    source: Source,
    state: State,
    images: Sequence[Path | bytes],
    *,
    model: ModelLike | None = None,
    old_model: ModelLike | None = None,
    device: str = "auto",
) -> tuple[VectorSet, VectorSet | None]:
    """One query for each image file, or its bytes, and the same by the older model where they are fused.

    Raises:
        InputError: no image, or one that cannot be read.
        GalleryError: a model is not at hand.
    """
    from samespace.data.sources.picked import listing_of

    if not images:
        raise InputError("there is no image to search by")
    listing = listing_of({str(place): image for place, image in enumerate(images)})
    made = embed_queries(state, listing, model=model, device=device)
    for place, reason in made.skipped:
        image = images[int(place)]
        raise InputError(
            f"{'image ' + place if isinstance(image, bytes) else image} cannot be read as an image: {reason}"
        )
    older = older_needed(source, state, made.space)
    if older is None:
        return made.vectors, None
    return made.vectors, embed_by_older(state, listing, older, model=old_model, device=device)
