"""Storing items batch by batch: which are new, which are there already, which have changed."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from samespace.errors import InputError, SpaceError, short
from samespace.gallery.ingest.checks import require_calibrated
from samespace.gallery.ingest.images import same_content
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Ints, Item, NewItem, State, Vectors
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.progress import Advance

_SAME = 1e-4
_ID_BYTES = 1024
_METADATA_BYTES = 16 * 2**10

Verdict = Literal["new", "same", "changed", "unknown"]


@dataclass(frozen=True)
class Added:
    """What became of items: counts.

    Attributes:
        added: new to the gallery.
        present: already there with the same content.
        updated: there with other content, label or metadata, which was replaced; or removed before, and back again.
        filled: already there, and given a vector of a space in which they had none.
        only_new: added or updated without a vector of the space before the upgrade; a rollback would hide them until
            the old model embeds them.
        skipped: reason by id of those whose image cannot be read.
        passed_over: name and kind of what lies among the images and is none of them.
        notes: what the user should know about the vectors.
        listed: during a behind upgrade, how many lack a vector of which of its spaces, and are on its work list now.
    """

    added: int = 0
    present: int = 0
    updated: int = 0
    filled: int = 0
    only_new: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    listed: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Added) -> Added:
        """Counts of both."""
        names = ("added", "present", "updated", "filled", "only_new")
        counts: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in names}
        return Added(
            **counts,
            skipped={**self.skipped, **other.skipped},
            passed_over=(*self.passed_over, *other.passed_over),
            notes=(*self.notes, *other.notes),
            listed=dict(Counter(self.listed) + Counter(other.listed)),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Items to store, and their vectors (N, D) by generation of the space; none at all where all are there already."""

    items: list[NewItem]
    vectors: dict[int, Vectors]


def store(ledger: Ledger, state: State, batches: Iterable[Batch], *, update: bool, advance: Advance) -> Added:
    """Store batches of items that differ from one another, each batch whole or not at all.

    `state` is the gallery's when the vectors were made; `update` replaces what has changed.

    Raises:
        SpaceError: queries went over to another space meanwhile.
        GalleryError: several spaces would serve without calibrations.
        InputError: an id or metadata that cannot be stored, or an item that is there with another content.
    """
    total = Added()
    for batch in batches:
        if not batch.items:
            continue
        for item in batch.items:
            _require_storable(item)
        with ledger.write() as writer:
            now = writer.state(state)
            # a switch within a behind upgrade leaves its two spaces to be written
            if now.query != state.query and set(now.sides) != set(state.sides):
                raise SpaceError(
                    f"the gallery went from {state.spaces[state.query].space} to {now.spaces[now.query].space} while "
                    "items were added; what was added is kept, add the rest in the new space"
                )
            require_calibrated(now)
            total += _store_batch(writer, now, batch, update)
        advance(len(batch.items))
    return total


def _store_batch(writer: LedgerWriter, state: State, batch: Batch, update: bool) -> Added:
    # a space that was sealed away since takes no more vectors
    vectors = {
        generation: values for generation, values in batch.vectors.items() if not state.spaces[generation].retired
    }
    known = writer.find([item.id for item in batch.items])
    verdicts = _verdicts(writer, batch.items, vectors, known)
    for item, verdict in zip(batch.items, verdicts, strict=True):
        if not update and verdict in ("changed", "unknown"):
            raise InputError(_conflict(item.id, verdict, state))
    same = [place for place, verdict in enumerate(verdicts) if verdict == "same"]
    old = {place: known[batch.items[place].id] for place in same}
    added = Added(
        present=len(same),
        updated=_describe(writer, batch.items, old) if update else 0,
        filled=_fill(writer, vectors, old),
    )
    new = [place for place, verdict in enumerate(verdicts) if verdict == "new" and batch.items[place].id not in known]
    changed = [place for place in range(len(verdicts)) if place not in old and batch.items[place].id in known]
    # a batch without vectors is of items that were there shortly before; one that was removed since stays removed
    if not (new or changed) or not set(vectors) & set(state.sides):
        return added
    numbers = np.array([known[batch.items[place].id].number for place in changed], dtype=np.int64)
    if changed:
        writer.change_items(numbers, _kept(writer, [batch.items[place] for place in changed], known))
    numbers = np.concatenate([writer.add_items([batch.items[place] for place in new]), numbers])
    places = [*new, *changed]
    contents = [batch.items[place].content for place in places]
    for generation, values in vectors.items():
        writer.put_vectors(
            generation, numbers, contents, values if places == list(range(len(values))) else values[places], fresh=True
        )
    listed = {}
    for generation in set(state.sides) - set(vectors):
        writer.append_work(generation, numbers)
        listed[str(state.spaces[generation].space)] = len(numbers)
    upgrade = state.upgrade
    bare = upgrade is not None and upgrade.state == "open" and not upgrade.behind and upgrade.old not in vectors
    return added + Added(len(new), updated=len(changed), only_new=len(places) if bare else 0, listed=listed)


def _verdicts(
    writer: LedgerWriter, items: Sequence[NewItem], vectors: Mapping[int, Vectors], known: Mapping[str, Item]
) -> list[Verdict]:
    """What each item is to the gallery; where contents do not tell, its vectors are compared with the stored ones."""
    verdicts: list[Verdict] = [_by_content(item, known.get(item.id)) for item in items]
    open_places = [place for place, verdict in enumerate(verdicts) if verdict == "unknown"]
    if not open_places:
        return verdicts
    numbers = np.array([known[items[place].id].number for place in open_places], dtype=np.int64)
    for generation, values in vectors.items():
        rows = writer.rows_of(generation, numbers)
        stored = dict(zip(rows.items.tolist(), rows.values, strict=True))
        for place, number in zip(open_places, numbers.tolist(), strict=True):
            if number in stored and verdicts[place] != "changed":
                near = float(np.abs(stored[number] - values[place]).max()) <= _SAME
                verdicts[place] = "same" if near else "changed"
    return verdicts


def _by_content(item: NewItem, old: Item | None) -> Verdict:
    if old is None or old.deleted:
        return "new"
    same = same_content(old.content, item.content)
    return "unknown" if same is None else "same" if same else "changed"


def _conflict(name: str, verdict: Verdict, state: State) -> str:
    if verdict == "changed":
        return (
            f"the gallery holds {short(name)} already, with another content; leave it out, remove it, or replace it "
            "with update=True"
        )
    return (
        f"the gallery holds {short(name)} already, without a vector of {state.spaces[state.query].space} to compare; "
        "give items that are there their vectors with gallery.backfill(vectors=…), or their old ones as well: also=…"
    )


def _fill(writer: LedgerWriter, vectors: Mapping[int, Vectors], old: Mapping[int, Item]) -> int:
    """Give items that are there the vectors that they lack; how many got one."""
    filled: set[int] = set()
    numbers = [item.number for item in old.values()]
    for generation, values in vectors.items():
        having = writer.with_vector(generation, numbers)
        places = [place for place, item in old.items() if item.number not in having]
        items = np.array([old[place].number for place in places], dtype=np.int64)
        writer.put_vectors(generation, items, [old[place].content for place in places], values[places])
        filled.update(places)
    return len(filled)


def _describe(writer: LedgerWriter, items: Sequence[NewItem], old: Mapping[int, Item]) -> int:
    """Give items that are there new labels and metadata where some are given; how many differ from before."""
    given = [place for place in old if items[place].label is not None or items[place].metadata]
    if not given:
        return 0
    stored = writer.metadata([old[place].number for place in given])
    merged = {place: _merged(items[place], old[place], stored[old[place].number]) for place in given}
    differs = [
        place
        for place in given
        if merged[place].label != old[place].label or dict(merged[place].metadata) != stored[old[place].number]
    ]
    if differs:
        numbers: Ints = np.array([old[place].number for place in differs], dtype=np.int64)
        writer.describe_items(numbers, [merged[place] for place in differs])
    return len(differs)


def _kept(writer: LedgerWriter, items: Sequence[NewItem], known: Mapping[str, Item]) -> list[NewItem]:
    """Items with the labels and metadata that they had where none are given."""
    stored = writer.metadata([known[item.id].number for item in items])
    return [
        item if known[item.id].deleted else _merged(item, known[item.id], stored[known[item.id].number])
        for item in items
    ]


def _merged(item: NewItem, old: Item, metadata: Mapping[str, Any]) -> NewItem:
    return replace(
        item,
        label=old.label if item.label is None else item.label,
        metadata=dict(item.metadata) if item.metadata else dict(metadata),
    )


def _require_storable(item: NewItem) -> None:
    try:
        item.id.encode()
    except UnicodeEncodeError:
        raise InputError(f"the id {short(item.id)} is no valid text; ids are strings that UTF-8 can hold") from None
    if not item.id or "\0" in item.id:
        raise InputError(f"an id should be a text that is not empty and without NUL, got {short(item.id)}")
    if len(item.id.encode()) > _ID_BYTES:
        raise InputError(
            f"the id {short(item.id, 40)} takes {len(item.id.encode()):,} bytes, at most {_ID_BYTES:,} fit"
        )
    if item.label is not None and not _is_text(item.label, _METADATA_BYTES):
        raise InputError(
            f"the label of {short(item.id)} is no text of up to 16 KiB without NUL: {short(item.label, 40)}"
        )
    for key, value in item.metadata.items():
        fine = _is_text(value) or isinstance(value, bool) or (isinstance(value, int) and -(2**63) <= value < 2**63)
        if not _is_text(key) or not (fine or (isinstance(value, float) and math.isfinite(value))):
            raise InputError(
                f"metadata {short(key)} of {short(item.id)} should be a string without NUL, a finite number of up to "
                f"64 bits, true or false, got {short(value)}"
            )
        if key == "label":
            raise InputError(
                f"metadata 'label' of {short(item.id)}: filters on 'label' mean the class; name it otherwise"
            )
    if (size := len(json.dumps(dict(item.metadata)))) > _METADATA_BYTES:
        raise InputError(f"the metadata of {short(item.id)} takes {size:,} bytes as JSON; at most 16 KiB fit")


def _is_text(value: Any, most: int | None = None) -> bool:
    """Whether both stores can hold a value as text, in at most so many bytes."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return len(value.encode()) <= (math.inf if most is None else most)
    except UnicodeEncodeError:
        return False
