"""Adding items: checked, in whole batches, the same call again carries on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SpaceError
from samespace.gallery.ingest.checks import NORM_SLACK, require_precision, require_vectors
from samespace.gallery.ingest.images import ItemEmbedder, content_of_vector, same_content
from samespace.gallery.ingest.store import Added, Batch, store
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import NewItem, State, Vectors
from samespace.progress import Advance, silent
from samespace.space import lengths_differ, undeclared
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    import torch

_BATCH = 5000

Metadata = Mapping[str, Mapping[str, Any]]
"""Metadata by item id."""


def add_vectors(
    ledger: Ledger,
    vectors: VectorSet,
    also: Sequence[VectorSet] = (),
    *,
    metadata: Metadata | None = None,
    update: bool = False,
    batch_size: int = _BATCH,
    advance: Advance = silent,
) -> Added:
    """Store vectors of the query space, and of earlier spaces, for items named by their ids.

    During a behind upgrade those of either of its spaces will do.

    Raises:
        SpaceError: a set of an unknown or undeclared space, or none of the query space.
        InputError: sets of unlike ids, no ids, vectors that are zero or not of unit length, an item that is there
            with another content.
    """
    state = ledger.state()
    sets = _by_generation(state, [vectors, *also])
    main = next((generation for generation in state.sides if generation in sets), None)
    if main is None:
        raise SpaceError(
            f"items are added in the space that queries use, {state.spaces[state.query].space}; "
            f"got {', '.join(str(given.space) for given in sets.values())}"
        )
    first = sets[main]
    order = {generation: _matched(first, given) for generation, given in sets.items()}
    if metadata and len(foreign := set(metadata) - set(first.ids.tolist())):
        raise InputError(f"metadata names the item '{min(foreign)}', which {first.name} lacks")

    def batches() -> Iterator[Batch]:
        for start in range(0, len(first), batch_size):
            rows = slice(start, min(start + batch_size, len(first)))
            taken = {
                generation: np.ascontiguousarray(given.take(order[generation][rows]))
                for generation, given in sets.items()
            }
            for generation, values in taken.items():
                kept = state.spaces[generation]
                require_vectors(values, kept.space, sets[generation].name, first.ids[rows], score=kept.score)
            labels = [None] * (rows.stop - start) if first.labels is None else first.labels[rows].astype(str).tolist()
            items = [
                NewItem(name, content_of_vector(value), label, (metadata or {}).get(name, {}))
                for name, value, label in zip(first.ids[rows].tolist(), taken[main], labels, strict=True)
            ]
            yield Batch(items, taken)

    added = store(ledger, state, batches(), update=update, advance=advance)
    by_cosine = [given for generation, given in sets.items() if state.spaces[generation].score == "cosine"]
    return added + Added(notes=tuple(note for given in by_cosine for note in _length_note(given)))


def add_images(
    ledger: Ledger,
    embedders: Mapping[int, ItemEmbedder],
    *,
    labelled: bool,
    metadata: Metadata | None = None,
    update: bool = False,
    batch_size: int = 256,
    advance: Advance = silent,
) -> Added:
    """Embed images by the models at hand and store them; images that are there already are not embedded again.

    `embedders` are by generation; the images of the query space's are the ones to add. Other arguments as of
    `Gallery.add_images`.
    """
    state = ledger.state()
    images = embedders[state.query].images
    source, skipped = images.source, dict(images.skipped)
    classes = np.asarray(source.classes)

    def batches() -> Iterator[Batch]:
        for start in range(0, len(source), batch_size):
            names = source.ids[start : start + batch_size].tolist()
            loaded = images.load(names)
            skipped.update({names[place]: reason for place, reason in loaded.missing.items()})
            items = [
                NewItem(
                    names[place],
                    content,
                    str(classes[source.labels[start + place]]) if labelled else None,
                    (metadata or {}).get(names[place], {}),
                )
                for place, content in zip(loaded.places, loaded.contents, strict=True)
            ]
            fresh = _fresh(ledger, items, embedders)
            advance(len(names) - len(items))
            yield Batch([item for place, item in enumerate(items) if place not in set(fresh)], {})
            chosen = [items[place] for place in fresh]
            yield Batch(chosen, _embedded(embedders, state.query, chosen, loaded.pixels[fresh]) if fresh else {})

    return store(ledger, state, batches(), update=update, advance=advance) + Added(
        skipped=skipped, passed_over=tuple(getattr(source, "passed_over", ()))
    )


def _length_note(given: VectorSet) -> list[str]:
    """A note where vectors differ in length, which a search by cosine does not see."""
    if given.space is not None and given.space.normalized:
        return []
    spans = [
        (float(lengths.min()), float(lengths.max()))
        for _, block in given.blocks()
        for lengths in [np.linalg.norm(block, axis=1)]
    ]
    least, greatest = min(low for low, _ in spans), max(high for _, high in spans)
    if greatest <= least * (1 + NORM_SLACK):
        return []
    return [
        f"the vectors of {given.name} differ in length, {least:.4g} to {greatest:.4g}; a search here goes by cosine, "
        "which does not see that; a gallery made with --score ip or l2 does"
    ]


def _embedded(
    embedders: Mapping[int, ItemEmbedder], query: int, items: Sequence[NewItem], pixels: torch.Tensor
) -> dict[int, Vectors]:
    """Vectors of items by every model; the images of the others than the query space's are read at their own size."""
    vectors = {query: embedders[query].vectors(pixels)}
    for generation, embedder in embedders.items():
        if generation != query:
            again = embedder.images.load([item.id for item in items])
            if not again.missing:
                vectors[generation] = embedder.vectors(again.pixels)
    return vectors


def _fresh(ledger: Ledger, items: Sequence[NewItem], generations: Iterable[int]) -> list[int]:
    """Places of the items that are new, may have changed, or lack a vector of one of these spaces."""
    with ledger.read() as reader:
        known = reader.find([item.id for item in items])
        numbers = [item.number for item in known.values() if not item.deleted]
        having = [reader.with_vector(generation, numbers) for generation in generations]
    return [
        place
        for place, item in enumerate(items)
        if (old := known.get(item.id)) is None
        or old.deleted
        or not all(old.number in some for some in having)
        or not same_content(old.content, item.content)
    ]


def _by_generation(state: State, sets: Sequence[VectorSet]) -> dict[int, VectorSet]:
    by_generation: dict[int, VectorSet] = {}
    for given in sets:
        if given.space is None:
            raise undeclared(given.name)
        generation = state.generation_of(given.space)
        if generation is None or state.spaces[generation].retired:
            known = [kept.space for kept in state.spaces.values() if not kept.retired]
            raise SpaceError(
                f"{given.name} is of space {given.space}, which the gallery does not know; it has "
                f"{', '.join(map(str, known))}{lengths_differ(given.space, known)}"
            )
        require_precision(state.spaces[generation].space, given.space, given.name)
        if generation in by_generation:
            raise InputError(
                f"{given.name} and {by_generation[generation].name} are of the same space; give one set for each space"
            )
        by_generation[generation] = given
    return by_generation


def _matched(first: VectorSet, other: VectorSet) -> npt.NDArray[np.int64]:
    """The rows of `other` in the order of the ids of `first`."""
    for given in (first, other):
        if not given.has_ids:
            raise InputError(f"{given.name} has no ids; items of a gallery need names: add 'ids' to the file")
    if first is other:
        return np.arange(len(first))
    rows = other.rows_of(first.ids)
    lacking = rows < 0
    if lacking.any():
        raise InputError(f"{other.name} lacks the item '{first.ids[int(np.argmax(lacking))]}' of {first.name}")
    return rows
