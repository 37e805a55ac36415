"""Which items of larger sets a check takes: those that are named, and those that its other sets have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samespace.errors import InputError, counted
from samespace.vectors import VectorSet

# each set with the one whose items it has to hold, by their roles in a check
REFERENCES = {
    "baseline": "queries",
    "paragon queries": "queries",
    "new_gallery": "gallery",
    "paragon gallery": "gallery",
    "baseline_gallery": "gallery",
}


def select(source: VectorSet, ids: Sequence[str], what: str, of: int) -> VectorSet:
    """The items of a set with these ids, in their order.

    Args:
        source: the set.
        ids: of the items.
        what: what they are, for the message.
        of: how many items the whole has that the ids were drawn from.

    Raises:
        InputError: the set lacks one, or it has no ids and is not the whole.
    """
    if not source.has_ids and len(source) != of and np.array_equal(source.ids, np.arange(len(source)).astype(str)):
        raise InputError(
            f"{source.name} has no ids, so {what} cannot be found in it: its {len(source):,} rows are not the {of:,} "
            "images that they were drawn from; give ids, or leave the allocation out"
        )
    rows = source.rows_of(ids)
    missing = np.flatnonzero(rows < 0)
    if missing.size:
        raise InputError(
            f"{source.name} lacks {missing.size:,} of {len(ids):,} {what}, such as '{ids[int(missing[0])]}'; embed the "
            "whole source, or this part of it"
        )
    return source.subset(rows)


def surplus_notes(sets: Mapping[str, VectorSet]) -> list[str]:
    """A note for each set that holds more items than the set it has to match by id: only the shared ones are used."""
    notes = []
    for role, reference in REFERENCES.items():
        if role not in sets or reference not in sets:
            continue
        one, other = sets[role], sets[reference]
        if one.has_ids and other.has_ids and len(one) > len(other):
            name = f"{role.capitalize().replace('_', ' ')} ({one.name})"
            rest = len(one) - len(other)
            left_out = counted(
                rest, f"item that is not in {reference}; it is", f"items that are not in {reference}; they are"
            )
            notes.append(f"{name} has {left_out} left out.")

    return notes
