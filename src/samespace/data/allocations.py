"""How old and new training sets share images and classes: the five allocations of UniBCT Table 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from samespace.data.holdout import Holdout, IntArray, count_of, labels_of, require_seed, require_share
from samespace.data.source import ImageSource, subset
from samespace.errors import InputError, suggest
from samespace.files import read_json, write_json
from samespace.vectors import find_ids

Kind = Literal["extended-data", "open-data", "extended-class", "open-class", "identical-data"]
Part = Literal["old", "new", "queries", "gallery"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PARTS: tuple[Part, ...] = get_args(Part)
FORMAT = "samespace.allocation/1"


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Allocation:
    """Which images of one labelled source train the old model, train the new model, and check them.

    Attributes:
        kind: one of the five kinds.
        seed: what it was drawn from.
        fraction: share of images or classes that the old model gets.
        old_rows: rows of the source for the old model, sorted int64.
        new_rows: rows for the new model, sorted int64.
        old_classes: labels of the source that the old rows have, sorted; position = label of the old model.
        new_classes: labels of the source that the new rows have, sorted; position = label of the new model.
        new_to_old: the old model's label of each new class, -1 where it never saw the class, int64.
        query_rows: rows of the queries of the check, empty where none was held out.
        gallery_rows: rows of the gallery of the check.
    """

    kind: Kind
    seed: int
    fraction: float
    old_rows: IntArray
    new_rows: IntArray
    old_classes: npt.NDArray[Any]
    new_classes: npt.NDArray[Any]
    new_to_old: IntArray
    query_rows: IntArray = field(default_factory=_none)
    gallery_rows: IntArray = field(default_factory=_none)

    def rows(self, name: Part) -> IntArray:
        """Rows of one part: `old`, `new`, `queries` or `gallery`.

        Raises:
            InputError: no such part.
        """
        if name not in PARTS:
            raise InputError(f"an allocation has no part {name!r}; {suggest(name, PARTS)}")
        return {
            "old": self.old_rows,
            "new": self.new_rows,
            "queries": self.query_rows,
            "gallery": self.gallery_rows,
        }[name]

    def save(self, path: str | Path, source: ImageSource) -> None:
        """Write the allocation as JSON, see `to_dict`.

        Raises:
            InputError: the allocation has rows that the source has not.
        """
        write_json(Path(path), self.to_dict(source))

    def to_dict(self, source: ImageSource) -> dict[str, Any]:
        """The allocation as JSON-ready values, with the ids of each part, so that it fits any copy of the source.

        Raises:
            InputError: the allocation has rows that the source has not.
        """
        for name in PARTS:
            rows = self.rows(name)
            if len(rows) and rows.max() >= len(source):
                raise InputError(f"{name} has row {rows.max()}, but {source.name} has {len(source)} images")
        return {
            "format": FORMAT,
            "kind": self.kind,
            "seed": self.seed,
            "fraction": self.fraction,
            "source": {
                "name": source.name,
                "fingerprint": source.fingerprint(),
                "images": len(source),
                "classes": len(source.classes),
            },
            "parts": {name: source.ids[self.rows(name)].tolist() for name in PARTS},
        }

    @classmethod
    def load(cls, path: str | Path, source: ImageSource) -> Allocation:
        """Read an allocation and find its images in `source` by their ids.

        Raises:
            InputError: not an allocation, an id that the source lacks, or ids that are mere row numbers of a
                source with other contents.
        """
        stored = read_allocation(path)
        bare = all(item.isdecimal() for name in PARTS for item in stored.ids[name])
        if bare and stored.fingerprint != source.fingerprint():
            raise InputError(
                f"{path} was made for other contents than {source.name} and its ids are mere row numbers; "
                "use the source it was made for, or give the images ids"
            )
        order = np.argsort(source.ids)
        rows = {name: _rows(stored.ids[name], source, order, f"{name!r} in {path}") for name in PARTS}
        check = Holdout(_none(), rows["queries"], rows["gallery"])
        return _allocation(stored.kind, stored.seed, stored.fraction, source.labels, rows["old"], rows["new"], check)


@dataclass(frozen=True, eq=False)
class StoredAllocation:
    """An allocation as its file says it, by ids alone.

    Attributes:
        kind: one of the five kinds.
        seed: what it was drawn from.
        fraction: share of images or classes that the old model gets.
        fingerprint: of the source.
        images: of the source.
        ids: of each part.
    """

    kind: Kind
    seed: int
    fraction: float
    fingerprint: str
    images: int
    ids: dict[Part, list[str]]


def read_allocation(path: str | Path) -> StoredAllocation:
    """Read the file of an allocation without its source. Raises InputError: it is none, or not whole."""
    value = read_json(Path(path), "an allocation")
    if value.get("format") != FORMAT:
        raise InputError(f"{path} has format {value.get('format')!r}; expected an allocation, {FORMAT!r}")
    try:
        stored = StoredAllocation(
            kind=value["kind"],
            seed=int(value["seed"]),
            fraction=float(value["fraction"]),
            fingerprint=str(value["source"]["fingerprint"]),
            images=int(value["source"].get("images", 0)),
            ids={name: [str(item) for item in value["parts"][name]] for name in PARTS},
        )
    except (KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else "a part is of the wrong kind"
        raise InputError(f"{path} is not a whole allocation: {reason}") from error
    require_kind(stored.kind)
    return stored


def allocate(
    labels: npt.ArrayLike | ImageSource,
    kind: Kind,
    *,
    fraction: float = 0.3,
    seed: int = 666,
    holdout: Holdout | None = None,
) -> Allocation:
    """Split a labelled set into old and new training sets (UniBCT section 3.1 and Table 1).

    | kind | old | new |
    |---|---|---|
    | `extended-data` | 30 % of the images | all images |
    | `open-data` | 30 % of the images | the other 70 % |
    | `extended-class` | all images of 30 % of the classes | all images |
    | `open-class` | all images of 30 % of the classes | all images of the other 70 % |
    | `identical-data` | 30 % of the images | the same 30 % |

    The kinds by image share one draw, and so do the two kinds by class, as in Table 1. The draw by image is uniform
    over the whole set, except that both sides keep an image of every class as far as that is possible: a class of
    one image falls to the old side, and if the old side has fewer images than there are classes, it has one each of
    as many classes as it can. The number of images is exact in every case.

    Args:
        labels: a source, or one label per image (whole numbers or strings).
        kind: one of the five kinds.
        fraction: share of images, or of classes, that the old model gets.
        seed: what the draw depends on, alone.
        holdout: classes kept apart for checking; only its training rows are shared out.

    Raises:
        InputError: unknown kind, a fraction outside (0, 1), or too few images or classes to split.
    """
    require_kind(kind)
    require_share("fraction", fraction)
    require_seed(seed)
    all_labels = labels_of(labels)
    pool = np.arange(len(all_labels), dtype=np.int64) if holdout is None else holdout.train_rows
    by_class = kind in ("extended-class", "open-class")
    chosen = (_draw_classes if by_class else _draw_images)(all_labels[pool], fraction, seed)
    old = pool[chosen]
    new = {"extended": pool, "open": pool[~chosen], "identical": old}[kind.split("-")[0]]
    return _allocation(kind, seed, fraction, all_labels, np.sort(old), np.sort(new), holdout)


def class_map(new_classes: Sequence[Any] | npt.NDArray[Any], old_classes: Sequence[Any] | npt.NDArray[Any]) -> IntArray:
    """Position of each new class among the old ones, -1 where it is not there, `(len(new_classes),)` int64.

    Example:
        >>> class_map(["ant", "bee", "cat"], ["cat", "ant"])
        array([ 1, -1,  0])
    """
    position = {name: index for index, name in enumerate(old_classes)}
    return np.array([position.get(name, -1) for name in new_classes], dtype=np.int64)


def part(source: ImageSource, allocation: Allocation, name: Part) -> ImageSource:
    """View one part of an allocation: `old`, `new`, `queries` or `gallery`.

    Raises:
        InputError: no such part, or it is empty.
    """
    rows = allocation.rows(name)
    if not len(rows):
        raise InputError(f"the allocation of {source.name} has no {name}; make it with a held-out share")
    return subset(source, rows)


def require_kind(kind: str) -> None:
    """Refuse what is not one of the five kinds, by an InputError."""
    if kind not in KINDS:
        raise InputError(f"unknown allocation {kind!r}; {suggest(str(kind), KINDS)}")


def _allocation(
    kind: Kind,
    seed: int,
    fraction: float,
    labels: npt.NDArray[Any],
    old: IntArray,
    new: IntArray,
    check: Holdout | None,
) -> Allocation:
    old_classes, new_classes = np.unique(labels[old]), np.unique(labels[new])
    return Allocation(
        kind=kind,
        seed=seed,
        fraction=fraction,
        old_rows=old,
        new_rows=new,
        old_classes=old_classes,
        new_classes=new_classes,
        new_to_old=class_map(new_classes.tolist(), old_classes.tolist()),
        query_rows=_none() if check is None else check.query_rows,
        gallery_rows=_none() if check is None else check.gallery_rows,
    )


def _draw_images(labels: npt.NDArray[Any], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """Mark the old images: the first in a random order, moved only to keep every class on both sides."""
    count = count_of(len(labels), fraction, "images")
    order = np.random.default_rng(np.random.SeedSequence([seed, 0])).permutation(len(labels))
    shuffled = labels[order]
    _, first = np.unique(shuffled, return_index=True)
    _, last = np.unique(shuffled[::-1], return_index=True)
    turn = np.ones(len(labels), dtype=np.int64)
    turn[len(labels) - 1 - last] = 2
    turn[first] = 0
    chosen = np.zeros(len(labels), dtype=np.bool_)
    chosen[order[np.argsort(turn, kind="stable")[:count]]] = True
    return chosen


def _draw_classes(labels: npt.NDArray[Any], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    classes = np.unique(labels)
    count = count_of(len(classes), fraction, "classes")
    random = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    return np.isin(labels, random.permutation(classes)[:count])


def _rows(ids: list[str], source: ImageSource, order: npt.NDArray[np.int64], what: str) -> IntArray:
    """Rows of `source` with these ids, sorted; `order` sorts the source by id."""
    rows = find_ids(source.ids, order, ids)
    absent = rows < 0
    if absent.any():
        first = ids[int(absent.argmax())]
        raise InputError(f"{int(absent.sum())} ids of {what} are not in {source.name}, such as {first!r}")
    if len(np.unique(rows)) != len(rows):
        raise InputError(f"an id of {what} is named twice")
    return np.sort(rows)
