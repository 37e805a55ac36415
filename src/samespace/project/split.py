"""Which classes a project trains on, chooses by and certifies on; none is in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samespace.data import Allocation, ImageSource, holdout, subset
from samespace.data.allocations import class_map
from samespace.errors import InputError
from samespace.project.settings import Split
from samespace.train.sections import ValidationSection
from samespace.train.validation import ValidationSlice, validation_slice
from samespace.vectors import find_ids

Ints = npt.NDArray[np.int64]

STAND_IN = 0.3
FEW = 20
_LEAST = 6


@dataclass(frozen=True, eq=False)
class Shares:
    """The parts of a source.

    Attributes:
        allocation: `new` to train on, with the classes that trainings keep apart for validation; `queries` and
            `gallery` for the certificate; `old` is what the old model was trained on, or its stand-in is to be.
        validation: `queries` and `gallery` of the validation classes, of those that the old model was not trained on
            where they suffice; None where there are none.
        check_classes: number of classes of the certificate.
        validation_classes: number of classes that trainings keep apart.
        judged_classes: number of those in `validation`.
        trained_classes: number of classes that are trained on, with `trained_images`.
        notes: what a reader of the certificate should know, a sentence each.
    """

    allocation: Allocation
    validation: Allocation | None
    check_classes: int
    validation_classes: int
    judged_classes: int
    trained_classes: int
    trained_images: int
    notes: tuple[str, ...] = ()


def share_out(
    source: ImageSource,
    split: Split,
    *,
    seed: int,
    rows: Ints | None = None,
    known: Sequence[str] | None = None,
    stand_in: bool = False,
    open_set: float = 0.0,
) -> Shares:
    """Draw the parts.

    Args:
        source: the images.
        split: shares of the classes.
        seed: of the draw.
        rows: the images that can be used, such as those with an old vector; all by default.
        known: names of the classes that the old model was trained on; the others are certified on, where they suffice.
        stand_in: whether an old model is trained first, on a share of the training classes.
        open_set: share of the certified classes that are queries without a mate, for TPIR.

    Raises:
        InputError: too few classes of two images or more.
    """
    rows = np.arange(len(source), dtype=np.int64) if rows is None else rows
    labels = source.labels[rows]
    counts = np.bincount(labels, minlength=len(source.classes))
    usable = np.flatnonzero(counts >= 2)
    if len(usable) < _LEAST:
        raise InputError(
            f"{source.name} has {len(usable)} class{'' if len(usable) == 1 else 'es'} of two images or more (of "
            f"{int((counts > 0).sum()):,} classes, {len(rows):,} images); an upgrade needs at least {_LEAST} to train "
            "on some and certify on others"
        )
    random = np.random.default_rng(np.random.SeedSequence([seed, 7]))
    seen = np.isin(np.asarray(source.classes), np.asarray(known or (), dtype=np.str_))
    order = random.permutation(usable)
    order = np.concatenate([order[~seen[order]], order[seen[order]]])
    check = min(max(round(split.check * len(usable)), 2), len(usable) - 4)
    unseen = int((~seen[usable]).sum())
    # the successor needs some of the classes that the old model does not know, too
    roomy = bool(known) and unseen >= FEW
    if roomy:
        check = min(check, unseen // 2)
    chosen = order[:check]
    pool = rows[~np.isin(labels, chosen)]
    classes = np.unique(source.labels[pool])
    count = round(split.validation * len(classes))
    if roomy:
        count = min(count, unseen // 6)
    held = None
    if 2 <= count <= len(classes) - 4:
        section = ValidationSection(classes=count, seed=seed)
        held = validation_slice(subset(source, pool), section)
    apart = np.flatnonzero(np.isin(np.asarray(source.classes), held.classes if held else ()))
    trained = np.setdiff1d(classes, apart)
    drawn = random.permutation(trained)[: max(round(STAND_IN * len(trained)), 2)]
    old = drawn if stand_in else trained[seen[trained]]
    certified = holdout(source.labels[rows], check_classes=chosen, seed=seed, open_set=open_set)
    old_rows = pool[np.isin(source.labels[pool], old)]
    fresh = apart[~seen[apart]] if (~seen[apart]).sum() >= FEW else apart
    return Shares(
        _allocation(source, pool, old_rows, rows[certified.query_rows], rows[certified.gallery_rows], seed),
        None if held is None else _validation(source, pool, held, fresh, seed),
        check,
        len(apart),
        len(fresh),
        len(trained),
        int(np.isin(source.labels[pool], trained).sum()),
        tuple(_notes(int(seen[chosen].sum()), check, known, stand_in)),
    )


def _validation(source: ImageSource, pool: Ints, held: ValidationSlice, classes: Ints, seed: int) -> Allocation:
    """Queries and gallery of the validation classes, those of `classes`."""
    order = np.argsort(source.ids, kind="stable")
    sides = held.images.ids[: held.queries], held.images.ids[held.queries :]
    queries, gallery = (np.sort(find_ids(source.ids, order, ids)) for ids in sides)
    judged = np.isin(source.labels, classes)
    return _allocation(source, pool, pool[:0], queries[judged[queries]], gallery[judged[gallery]], seed)


def _allocation(source: ImageSource, pool: Ints, old: Ints, queries: Ints, gallery: Ints, seed: int) -> Allocation:
    """The rows to train on, with queries and gallery of other classes."""
    old_classes, new_classes = np.unique(source.labels[old]), np.unique(source.labels[pool])
    return Allocation(
        kind="extended-class",
        seed=seed,
        fraction=len(old) / len(pool),
        old_rows=old,
        new_rows=pool,
        old_classes=old_classes,
        new_classes=new_classes,
        new_to_old=class_map(new_classes.tolist(), old_classes.tolist()),
        query_rows=queries,
        gallery_rows=gallery,
    )


def _notes(seen: int, check: int, known: Sequence[str] | None, stand_in: bool) -> list[str]:
    if stand_in:
        return [
            "A rehearsal: the old model is a stand-in, trained for this build on a share of the training classes; give "
            "your own with old: or old_vectors: for a certificate of your upgrade."
        ]
    if known is None:
        return [
            "Nothing says which classes the old model was trained on; where the certified ones are among them, it is "
            "judged too well, and the gain here too low."
        ]
    if seen:
        return [
            f"{seen:,} of the {check:,} certified classes were among the old model's training classes: it is judged "
            "too well on them, and the gain here is too low."
        ]
    return []
