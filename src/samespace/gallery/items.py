"""What a gallery knows of one item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samespace.gallery.ledger.transactions.reader import LedgerReader


@dataclass(frozen=True)
class StoredItem:
    """An item that is in the gallery.

    Attributes:
        id: of the item.
        label: its class, if it has one.
        metadata: its other values, by name.
        spaces: ids of the spaces in which it has a vector, oldest first.
        served: id of the space by which searches find it; None where it waits for a vector.
    """

    id: str
    label: str | None
    metadata: Mapping[str, Any]
    spaces: tuple[str, ...]
    served: str | None


def stored_item(reader: LedgerReader, name: str) -> StoredItem | None:
    """The item of an id; None where there is none, or it was removed."""
    item = reader.find([name]).get(name)
    if item is None or item.deleted:
        return None
    state = reader.state()
    present = [kept for kept in state.spaces.values() if not kept.retired]
    having = [kept.generation for kept in present if item.number in reader.with_vector(kept.generation, [item.number])]
    served = max((one for one in having if one in state.servable), default=None)
    return StoredItem(
        name,
        item.label,
        reader.metadata([item.number]).get(item.number, {}),
        tuple(state.spaces[one].space.id for one in having),
        None if served is None else state.spaces[served].space.id,
    )
