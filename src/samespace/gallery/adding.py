"""Adding items: checked, in whole batches, the same call again carries on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SpaceError
from samespace.gallery.change import Change
from samespace.gallery.images import Encoder, Images
from samespace.gallery.ledger import Ledger
from samespace.gallery.records import NewItem, State, Vectors
from samespace.progress import Advance, silent
from samespace.space import Space
from samespace.vectors import VectorSet

_BATCH = 5000
_NORM_SLACK = 1e-3

Metadata = Mapping[str, Mapping[str, Any]]
"""Metadata by item id."""


@dataclass(frozen=True)
class Added:
    """What became of items: counts.

    Attributes:
        added: new to the gallery.
        present: already there with the same content.
        updated: there with other content, which was replaced.
        only_new: added or updated without a vector of the space before the upgrade; a rollback would hide them until
            the old model embeds them.
        skipped: reason by id of those whose image cannot be read.
    """

    added: int = 0
    present: int = 0
    updated: int = 0
    only_new: int = 0
    skipped: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class _Batch:
    items: list[NewItem]
    vectors: dict[int, Vectors]


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

    Raises:
        SpaceError: a set of an unknown or undeclared space, or none of the query space.
        InputError: sets of unlike ids, no ids, vectors that are zero or not of unit length, an item that is there
            with another content.
    """
    with ledger.read() as view:
        state = view.state()
    sets = _by_rank(state, [vectors, *also])
    if state.query not in sets:
        raise SpaceError(
            f"items are added in the space that queries use, {state.spaces[state.query].space}; "
            f"got {', '.join(str(given.space) for given in sets.values())}"
        )
    first = sets[state.query]
    order = {rank: _matched(first, given) for rank, given in sets.items()}
    _known_metadata(metadata, first)

    def batches() -> Iterator[_Batch]:
        for start in range(0, len(first), batch_size):
            rows = slice(start, min(start + batch_size, len(first)))
            taken = {rank: np.ascontiguousarray(given.take(order[rank][rows])) for rank, given in sets.items()}
            for rank, values in taken.items():
                require_vectors(values, state.spaces[rank].space, sets[rank].name, first.ids[rows])
            labels = [None] * (rows.stop - start) if first.labels is None else first.labels[rows].astype(str).tolist()
            items = [
                NewItem(name, _content_of_vector(value), label, (metadata or {}).get(name, {}))
                for name, value, label in zip(first.ids[rows].tolist(), taken[state.query], labels, strict=True)
            ]
            yield _Batch(items, taken)

    return _store(ledger, state, batches(), update, advance)


def add_images(
    ledger: Ledger,
    images: Images,
    encoders: Mapping[int, tuple[Encoder, Images]],
    *,
    labelled: bool,
    metadata: Metadata | None = None,
    update: bool = False,
    batch_size: int = 256,
    advance: Advance = silent,
) -> Added:
    """Embed images by the models at hand and store them; images that are there already are not embedded again.

    Args:
        ledger: where to.
        images: what to add, as the query space's model sees it.
        encoders: model and images as it sees them, by rank; the query space's among them.
        labelled: store the source's classes as labels.
        metadata: by item id.
        update: replace items whose image has changed.
        batch_size: images embedded at once.
        advance: called with how many more are done.
    """
    with ledger.read() as view:
        state = view.state()
    source, skipped = images.source, dict[str, str]()
    classes = np.asarray(source.classes)

    def batches() -> Iterator[_Batch]:
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
            fresh = _fresh(ledger, items)
            advance(len(names) - len(items))
            chosen = [items[place] for place in fresh]
            vectors = {state.query: encoders[state.query][0].vectors(loaded.pixels[fresh])} if fresh else {}
            for rank, (encoder, others) in encoders.items():
                if rank != state.query and fresh:
                    again = others.load([item.id for item in chosen])
                    if not again.missing:
                        vectors[rank] = encoder.vectors(again.pixels)
            yield _Batch([item for place, item in enumerate(items) if place not in set(fresh)], {})
            yield _Batch(chosen, vectors)

    found = _store(ledger, state, batches(), update, advance)
    return Added(found.added, found.present, found.updated, found.only_new, skipped)


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


def _store(ledger: Ledger, state: State, batches: Iterator[_Batch], update: bool, advance: Advance) -> Added:
    added = present = updated = only_new = 0
    for batch in batches:
        if not batch.items:
            continue
        with ledger.write() as change:
            now = change.state(state)
            if now.query != state.query:
                raise SpaceError(
                    f"the gallery went from {state.spaces[state.query].space} to {now.spaces[now.query].space} while "
                    "items were added; what was added is kept, add the rest in the new space"
                )
            counts = _store_batch(change, now, batch, update)
        added, present = added + counts[0], present + counts[1]
        updated, only_new = updated + counts[2], only_new + counts[3]
        advance(len(batch.items))
    return Added(added, present, updated, only_new)


def _store_batch(change: Change, state: State, batch: _Batch, update: bool) -> tuple[int, int, int, int]:
    known = change.find([item.id for item in batch.items])
    new, changed, same, present = [], [], [], 0
    for place, item in enumerate(batch.items):
        old = known.get(item.id)
        if old is None:
            new.append(place)
        elif not old.deleted and old.content == item.content:
            present += 1
            same.append(place)
        elif old.deleted or update:
            changed.append(place)
        else:
            raise InputError(
                f"the gallery holds '{item.id}' already, with another content; leave it out, remove it, or replace it "
                "with update (--update)"
            )
    if update and same:
        numbers = np.array([known[batch.items[place].id].number for place in same], dtype=np.int64)
        change.describe_items(numbers, [batch.items[place] for place in same])
    places = [*new, *changed]
    # a batch without vectors is of items that were there a moment ago; one that was removed since stays removed
    if not places or state.query not in batch.vectors:
        return 0, present, 0, 0
    numbers = np.array([known[batch.items[place].id].number for place in changed], dtype=np.int64)
    if len(changed):
        change.change_items(numbers, [batch.items[place] for place in changed])
    numbers = np.concatenate([change.add_items([batch.items[place] for place in new]), numbers])
    contents = [batch.items[place].content for place in places]
    for rank, values in batch.vectors.items():
        change.put_vectors(rank, numbers, contents, _rows(values, places), fresh=True)
    upgrade = state.upgrade
    bare = upgrade is not None and upgrade.state == "open" and upgrade.old not in batch.vectors
    return len(new), present, len(changed), len(places) if bare else 0


def _fresh(ledger: Ledger, items: Sequence[NewItem]) -> list[int]:
    """Places of the items that the gallery lacks or has with other content."""
    with ledger.read() as view:
        known = view.find([item.id for item in items])
    return [
        place
        for place, item in enumerate(items)
        if (old := known.get(item.id)) is None or old.deleted or old.content != item.content
    ]


def _by_rank(state: State, sets: Sequence[VectorSet]) -> dict[int, VectorSet]:
    found: dict[int, VectorSet] = {}
    for given in sets:
        if given.space is None:
            raise SpaceError(f"{given.name} declares no space; embed with 'samespace embed', which records it")
        rank = state.rank_of(given.space)
        if rank is None or state.spaces[rank].retired:
            known = ", ".join(str(kept.space) for kept in state.spaces.values() if not kept.retired)
            raise SpaceError(f"{given.name} is of space {given.space}, which the gallery does not know; it has {known}")
        if rank in found:
            raise InputError(f"{given.name} and {found[rank].name} are of the same space; give one set for each space")
        found[rank] = given
    return found


def _matched(first: VectorSet, other: VectorSet) -> npt.NDArray[np.int64]:
    """The rows of `other` in the order of the ids of `first`."""
    for given in (first, other):
        if not given.has_ids:
            raise InputError(f"{given.name} has no ids; items of a gallery need names: add 'ids' to the file")
    if first is other or np.array_equal(first.ids, other.ids):
        return np.arange(len(first))
    order = np.argsort(other.ids)
    place = np.minimum(np.searchsorted(other.ids[order], first.ids), len(other) - 1)
    rows = order[place]
    lacking = other.ids[rows] != first.ids
    if lacking.any():
        raise InputError(f"{other.name} lacks the item '{first.ids[int(np.argmax(lacking))]}' of {first.name}")
    return np.asarray(rows, dtype=np.int64)


def _known_metadata(metadata: Metadata | None, first: VectorSet) -> None:
    if metadata and len(foreign := set(metadata) - set(first.ids.tolist())):
        raise InputError(f"metadata names the item '{min(foreign)}', which {first.name} lacks")


def _content_of_vector(vector: npt.NDArray[np.float32]) -> str:
    return f"vector:{hashlib.sha256(vector.data).hexdigest()[:32]}"


def _rows(values: Vectors, places: list[int]) -> Vectors:
    return values if places == list(range(len(values))) else values[places]
