"""Alignment: which rows of the given sets are the same items, and what must be refused before any score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SpaceError, counted
from samespace.evaluate.equal_rows import equal_places
from samespace.metrics._arrays import Ints, encode, look_alikes
from samespace.names import told_apart
from samespace.scoring.mates import Mates
from samespace.scoring.sides import SideVectors
from samespace.scoring.stored import StoredForm
from samespace.scoring.units import random_rotation
from samespace.space import Score
from samespace.vectors import VectorSet

_LENGTH_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class AlignedSets:
    """The sets of a check, checked against each other and in one order.

    Attributes:
        queries: the new queries, whose order is the order of all queries.
        gallery: the old gallery, in its own order.
        gallery_order: (G,) row in `gallery` of each place, so that the gallery stands sorted by identity.
        mates: the identities of queries and of the gallery in that order, and which items are in both.
        pairs: query and gallery vectors by the name of the test: old, cross, control, and where given new and paragon.
        notes: what the user should know about the inputs.
    """

    queries: VectorSet
    gallery: VectorSet
    gallery_order: Ints
    mates: Mates
    pairs: dict[str, tuple[SideVectors, SideVectors]]
    notes: list[str] = field(default_factory=list)


def align(
    *,
    queries: VectorSet,
    gallery: VectorSet,
    baseline: VectorSet,
    new_gallery: VectorSet | None = None,
    paragon: tuple[VectorSet, VectorSet] | None = None,
    baseline_gallery: VectorSet | None = None,
    prefix: bool = False,
    score: Score = "cosine",
    stored_as: StoredForm = "float32",
    seed: int = 0,
) -> AlignedSets:
    """Check the sets against each other and bring them into one order.

    Raises:
        InputError: labels are missing or contradict each other, items differ, dimensions do not fit, a vector has
            no direction, or no query has a mate.
        SpaceError: two sets of one side declare different spaces.
    """
    for source, role in ((queries, "queries"), (gallery, "gallery")):
        if source.labels is None:
            raise InputError(f"{role} ({source.name}) have no labels; a check needs the identity of every item")
    query_labels, gallery_labels = _labels(queries), _labels(gallery)
    query_codes, codes = encode(query_labels, gallery_labels)
    order = np.argsort(codes, kind="stable").astype(np.int64)
    pairs = model_pairs(
        order,
        queries=queries,
        gallery=gallery,
        baseline=baseline,
        new_gallery=new_gallery,
        paragon=paragon,
        baseline_gallery=baseline_gallery,
        prefix=prefix,
        score=score,
        stored_as=stored_as,
        seed=seed,
    )
    equal = 0
    if queries.has_ids and gallery.has_ids:
        places = self_places(queries, gallery, query_codes, codes, order)
    else:
        places, equal = equal_places(*pairs["old"], query_codes, codes[order])
    mates = Mates(
        query_codes=query_codes,
        gallery_codes=codes[order],
        self_place=places,
        identities=int(max(query_codes.max(), codes.max())) + 1,
    )
    if not (mates.counts > 0).any():
        raise InputError(
            f"no query has a mate: {queries.name} and {gallery.name} share no label (first query label "
            f"'{query_labels[0]}', first gallery label '{gallery_labels[0]}') besides items matched with themselves"
        )
    return AlignedSets(
        queries=queries,
        gallery=gallery,
        gallery_order=order,
        mates=mates,
        pairs=pairs,
        notes=[
            *origins(pairs),
            *_notes(queries, gallery, places, equal),
            *length_notes(pairs),
            *_label_notes(queries, gallery),
        ],
    )


def model_pairs(
    order: Ints,
    *,
    queries: VectorSet,
    gallery: VectorSet,
    baseline: VectorSet,
    new_gallery: VectorSet | None = None,
    paragon: tuple[VectorSet, VectorSet] | None = None,
    baseline_gallery: VectorSet | None = None,
    prefix: bool = False,
    score: Score = "cosine",
    stored_as: StoredForm = "float32",
    seed: int = 0,
) -> dict[str, tuple[SideVectors, SideVectors]]:
    """Query and gallery vectors by the name of the test, matched with each other and read once.

    `order` (G,) are rows of the gallery in the order of every test's gallery; queries stay in theirs. `stored_as` is of
    every gallery; queries stay float32, but for signs, which both sides are then.

    Raises:
        InputError: items differ, dimensions do not fit, a vector has no direction to compare, or lengths are such that
            float32 cannot hold the scores.
        SpaceError: two sets of one side declare different spaces.
    """
    measured = gallery if baseline_gallery is None else baseline_gallery
    measured_role = "gallery" if baseline_gallery is None else "baseline_gallery"
    sides = [
        (measured, measured_role, baseline, "baseline"),
        (queries, "queries", new_gallery or queries, "new_gallery"),
    ]
    if paragon is not None:
        sides.append((paragon[1], "paragon gallery", paragon[0], "paragon queries"))
    require_dims(
        queries.dim,
        gallery.dim,
        prefix,
        "queries have",
        "the gallery has",
        shorter=": learn a map from training items by both models, samespace bridge fit OLD_VECTORS NEW_VECTORS "
        f"--out bridge, or use leading values, if the old model was trained for that, --truncate {queries.dim}",
    )
    _require_one_model(sides)
    asked = partial(SideVectors, score=score, stored_as="binary" if stored_as == "binary" else "float32")
    stored = partial(SideVectors, score=score, stored_as=stored_as)
    own = np.arange(len(queries))
    cut = gallery.dim if prefix else None
    rotation = random_rotation(queries.dim, seed)
    old_gallery = stored(gallery, order)
    baseline_items = old_gallery
    if baseline_gallery is not None:
        rows = same_items(gallery, baseline_gallery, "gallery", "baseline_gallery")
        baseline_items = stored(baseline_gallery, rows[order])
    new_queries = asked(queries, own)
    cross_queries = asked(queries, own, dim=cut) if prefix else new_queries
    pairs = {
        "old": (asked(baseline, same_items(queries, baseline, "queries", "baseline")), baseline_items),
        "cross": (cross_queries, old_gallery),
        "control": (asked(queries, own, dim=cut, rotation=rotation), old_gallery),
    }
    if new_gallery is not None:
        match = same_items(gallery, new_gallery, "gallery", "new_gallery")
        pairs["new"] = (new_queries, stored(new_gallery, match[order]))
    if paragon is not None:
        rows = same_items(queries, paragon[0], "queries", "paragon queries")
        columns = same_items(gallery, paragon[1], "gallery", "paragon gallery")
        pairs["paragon"] = (asked(paragon[0], rows), stored(paragon[1], columns[order]))
    for vectors in {id(side): side for name, sides in pairs.items() if name != "control" for side in sides}.values():
        vectors.check()
    if score != "cosine":
        _require_finite(pairs)
    return pairs


def _require_finite(pairs: Mapping[str, tuple[SideVectors, SideVectors]]) -> None:
    """Refuse vectors so long or so short that their scores are infinite or zero in float32, by an InputError."""
    for queries, gallery in (sides for name, sides in pairs.items() if name != "control"):
        largest = queries.longest * gallery.longest
        if not 1e-30 < largest < 1e36:
            raise InputError(
                f"{queries.source.name} and {gallery.source.name}: vectors of lengths up to {queries.longest:.3g} and "
                f"{gallery.longest:.3g} have no scores in float32; scale them"
            )


def same_items(reference: VectorSet, other: VectorSet, role: str, other_role: str) -> Ints:
    """For each item of `reference`, its row in `other`: by id where both have ids, by row otherwise.

    By id `other` may hold more items, which are left out.

    Raises:
        InputError: the two do not hold the same items, or disagree about a label.
    """
    by_id = reference.has_ids and other.has_ids
    if len(other) < len(reference) or (len(other) > len(reference) and not by_id):
        remedy = "" if len(other) < len(reference) else "; where both have ids, more will do"
        raise InputError(
            f"{other_role} ({other.name}) should hold the items of {role} ({reference.name}): {len(reference)} "
            f"expected, got {len(other)}{remedy}"
        )
    rows = other.rows_of(reference.ids) if by_id else np.arange(len(other))
    missing = rows < 0
    if missing.any():
        raise InputError(
            f"{other_role} ({other.name}) lacks {counted(int(missing.sum()), 'item')} of {role} ({reference.name}), "
            f"the first with id '{reference.ids[int(np.argmax(missing))]}'"
        )
    if reference.labels is None or other.labels is None:
        if not by_id:
            raise InputError(
                f"{other_role} ({other.name}) cannot be matched with {role}: it has neither ids nor labels"
            )
        return rows
    codes, other_codes = encode(reference.labels, other.labels[rows])
    if (codes != other_codes).any():
        row = int(np.argmax(codes != other_codes))
        raise InputError(
            f"{other_role} ({other.name}) differs from {role} ({reference.name}) in the label of "
            f"{'item ' + str(reference.ids[row]) if by_id else 'row ' + str(row)}: '{other.labels[rows][row]}' "
            f"instead of '{reference.labels[row]}'" + ("" if by_id else "; give both ids if the order differs")
        )
    return rows


def self_places(queries: VectorSet, gallery: VectorSet, query_codes: Ints, gallery_codes: Ints, order: Ints) -> Ints:
    """Place of each query's own item, by id, in the gallery in `order`; −1 where it is not there."""
    places = np.full(len(queries), -1, dtype=np.int64)
    row = gallery.rows_of(queries.ids)
    mine = np.flatnonzero(row >= 0)
    theirs = row[mine]
    differ = query_codes[mine] != gallery_codes[theirs]
    if differ.any():
        item = int(mine[int(np.argmax(differ))])
        raise InputError(
            f"item '{queries.ids[item]}' is labelled '{_labels(queries)[item]}' in {queries.name} but otherwise in "
            f"{gallery.name}; one item has one identity"
        )
    inverse = np.empty(len(order), dtype=np.int64)
    inverse[order] = np.arange(len(order))
    places[mine] = inverse[theirs]
    return places


def length_notes(pairs: Mapping[str, tuple[SideVectors, SideVectors]]) -> list[str]:
    """A note where vectors of a set differ in length, which a cosine does not see, or where other scores see none."""
    spans = {
        side.source.name: side.lengths
        for name, sides in pairs.items()
        for side in sides
        if name != "control" and side.dim == side.source.dim and side.lengths is not None
    }
    score = next(iter(pairs.values()))[0].score
    if score != "cosine":
        if spans and all(abs(length - 1) < _LENGTH_SLACK for span in spans.values() for length in span):
            return ["All vectors have length one: this score ranks as the cosine does."]
        return []
    unlike = [
        f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in spans.items() if high > low * (1 + _LENGTH_SLACK)
    ]
    if not unlike:
        return []
    return [
        f"Vectors differ in length ({'; '.join(unlike)}), and every score here is a cosine, which does not see that: "
        "where the system searches by inner product or distance, check with that score (--score ip, --score l2) or "
        "normalise the vectors there too."
    ]


def _label_notes(queries: VectorSet, gallery: VectorSet) -> list[str]:
    """A note where labels that differ look like one."""
    alike = look_alikes(np.unique(np.concatenate([_labels(side).astype(str) for side in (queries, gallery)])))
    if not alike:
        return []
    return [
        f"{len(alike)} pairs of labels look like one and count as two identities, such as {told_apart(*alike[0])}: "
        "write each identity one way."
    ]


def _labels(source: VectorSet) -> npt.NDArray[np.generic]:
    if source.labels is None:
        raise InputError(f"{source.name} has no labels")
    return source.labels


def origins(pairs: Mapping[str, tuple[SideVectors, SideVectors]]) -> list[str]:
    """Which columns of which file were taken for what."""
    sets = {one.source.name: one.source.origin for sides in pairs.values() for one in reversed(sides)}
    return [f"{name}: {origin}." for name, origin in sets.items() if origin]


def _notes(queries: VectorSet, gallery: VectorSet, self_place: Ints, foreign: int) -> list[str]:
    notes = []
    own = np.flatnonzero(self_place >= 0)
    named = queries.has_ids and gallery.has_ids
    if own.size and not named:
        notes.append(
            f"{own.size} of {len(queries)} queries have the very vector and label of a gallery item in the old space. "
            "Without ids they count as the same items and are not matched with themselves; if they are different "
            "items, give ids."
        )
    if foreign:
        notes.append(
            f"{counted(foreign, 'query has', 'queries have')} the very vector of a gallery item of another label in "
            "the old space: the same image under two labels, or two items that the old model cannot tell apart."
        )
    if own.size and named:
        notes.append(
            f"{own.size} of {len(queries)} queries are in the gallery by id, such as '{queries.ids[own[0]]}', and are "
            "not matched with themselves; if such ids name different items, as one relative path in two folders "
            "does, make the ids unique."
        )
    if not own.size and not named and np.array_equal(_labels(queries), _labels(gallery)):
        notes.append(
            "Queries and gallery have identical labels and no ids to tell their items apart: if they are the same "
            "items, each is matched with itself; give ids to leave such pairs out."
        )
    if queries.space is not None and gallery.space is not None and queries.space == gallery.space:
        notes.append("Queries and gallery declare the same space: this is the old model checked against itself.")
    return notes


def require_dims(new: int, old: int, prefix: bool, new_has: str, old_has: str, *, shorter: str = "") -> None:
    """Refuse new and old vectors that cannot be compared, whole or by their leading values.

    `new_has` is how a message names the new vectors, such as `queries have`; `shorter` ends it where they are the
    shorter ones.

    Raises:
        InputError: the dimensions do not fit.
    """
    if prefix and new <= old:
        raise InputError(
            f"prefix compares the leading {old} values of longer new vectors, but {new_has} {new}; leave prefix out"
        )
    if not prefix and new != old:
        remedy = (
            f"; where the leading {old} values were trained to be compatible, use prefix (--prefix)"
            if new > old
            else f"; such vectors cannot be compared{shorter}"
        )
        raise InputError(f"{new_has} {new} dimensions and {old_has} {old}{remedy}")


def _require_one_model(sides: Sequence[tuple[VectorSet, str, VectorSet, str]]) -> None:
    """Refuse sets said to be of one model that differ in dimension or declare two spaces.

    `sides` are sets of one model and their roles: the old model's two, the new model's, and perhaps the paragon's.
    """
    for one, role, other, other_role in sides:
        if one.dim != other.dim:
            raise InputError(
                f"{other_role} ({other.name}) and {role} ({one.name}) come from one model and should agree in "
                f"dimension, got {other.dim} and {one.dim}"
            )
    for one, role, other, other_role in sides:
        if one.space is not None and other.space is not None and one.space != other.space:
            remedy = "embed both with one model"
            if other_role == "baseline":
                remedy += ", or name what the baseline searches (baseline_gallery, --baseline-gallery)"
            raise SpaceError(f"expected {other_role} in the space of {role}, {one.space}, got {other.space}; {remedy}")
