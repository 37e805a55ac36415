"""The old side of a project: a model, or stored vectors matched with the images by their ids."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.data import ImageSource
from samespace.data.source import digest
from samespace.data.sources.folder import FolderSource
from samespace.encoders import open_image_model
from samespace.errors import InputError
from samespace.models import Classifier, resolve_model
from samespace.models.image_model import ImageModel
from samespace.models.preprocessing import Preprocessing
from samespace.space import Space
from samespace.vectors import VectorSet, find_ids

Ints = npt.NDArray[np.int64]
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class OldModel:
    """An old model that is at hand.

    Attributes:
        place: its folder, or the name of another encoder of images, as `samespace.encoders.open_encoder` takes it.
        embedder: the model.
        classes: names of the classes it was trained on; None where it does not say.
    """

    place: Path
    embedder: ImageModel
    classes: tuple[str, ...] | None

    @property
    def dim(self) -> int:
        """Dimensions of its vectors."""
        return self.embedder.embedding_dim

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How it prepares images; None where it takes any."""
        return self.embedder.preprocessing


@dataclass(frozen=True, eq=False)
class OldVectors:
    """Stored vectors of an old model.

    Attributes:
        vectors: of the images, one row for each that has one, under the images' ids, of unit length, with a space.
        rows: rows of the source that have a vector, sorted.
        foreign: the vectors that belong to no image, under their own ids; None where there are none.
        notes: what was found and done, a sentence each.
    """

    vectors: VectorSet
    rows: Ints
    foreign: VectorSet | None
    notes: tuple[str, ...]

    @property
    def dim(self) -> int:
        """Dimensions of the vectors."""
        return self.vectors.dim


def read_old_model(named: str | Path) -> OldModel:
    """Open an old model, and the names of its classes where its classifier is beside it.

    Raises:
        InputError: there is no such encoder, it is damaged, or it takes something else than images.
    """
    place = resolve_model(named)
    classifier = place / "classifier.safetensors"
    classes = Classifier.load(classifier).classes if classifier.is_file() else None
    return OldModel(place, open_image_model(place, device="cpu"), None if classes is None else tuple(map(str, classes)))


def match_old_vectors(path: str | Path, source: ImageSource) -> OldVectors:
    """Read stored vectors and find the image of each.

    An id may be the image's own id, its path with other folders before it, or the sha256 of its file.

    Raises:
        InputError: the file cannot be read, the vectors have no ids, or too few ids are images of the source.
    """
    given = VectorSet.load(path)
    if not given.has_ids:
        raise InputError(
            f"{path} has no ids, so nothing says which image a vector is of; add 'ids', such as '{source.ids[0]}'"
        )
    notes: list[str] = []
    rows, how = _matched(given, source)
    found = rows >= 0
    missing = len(source) - len(np.unique(rows[found]))
    if not found.any():
        raise InputError(
            f"none of the {len(given):,} ids in {path}, such as '{given.ids[0]}', names an image of {source.name}, "
            f"such as '{source.ids[0]}'; ids should be paths relative to the folder of images"
        )
    if len(np.unique(rows[found])) < int(found.sum()):
        twice = rows[found][np.argmax(np.bincount(rows[found])[rows[found]] > 1)]
        raise InputError(f"two ids in {path} name one image, '{source.ids[twice]}'; keep one vector for each image")
    if how:
        notes.append(f"The ids of {path} name the images by {how}, such as '{given.ids[np.argmax(found)]}'.")
    if missing:
        notes.append(f"{missing:,} of {len(source):,} images have no vector in {path} and are left out.")
    if not found.all():
        notes.append(
            f"{int((~found).sum()):,} of {len(given):,} vectors in {path} belong to no image, such as "
            f"'{given.ids[np.argmin(found)]}'; they go into the gallery, but nothing can be trained on them."
        )
    given, rescaled = _unit(given)
    if rescaled:
        notes.append(f"The vectors in {path} differ in length; they are stored with length 1, as scores are cosines.")
    order = np.argsort(rows[found], kind="stable")
    mine = given.subset(np.flatnonzero(found)[order])
    taken = np.sort(rows[found])
    labels = np.asarray(source.classes)[source.labels[taken]]
    vectors = replace(mine, ids=source.ids[taken], labels=labels, templates=None)
    foreign = given.subset(np.flatnonzero(~found)) if not found.all() else None
    return OldVectors(vectors, taken, foreign, tuple(notes))


def _matched(given: VectorSet, source: ImageSource) -> tuple[Ints, str]:
    """For each vector the row of its image, −1 where it has none; and by what ids were matched, if not as they are."""
    order = np.argsort(source.ids, kind="stable")
    best, how = find_ids(source.ids, order, given.ids), ""
    ways: list[tuple[str, Callable[[], Ints]]] = [
        ("their path's end", lambda: find_ids(source.ids, order, _tails(given.ids, source.ids))),
    ]
    if isinstance(source, FolderSource) and all(_DIGEST.fullmatch(name) for name in given.ids[:16].tolist()):
        ways.append(("the sha256 of the file", lambda: _by_content(given, source)))
    for name, find in ways:
        if (best >= 0).all():
            break
        rows = find()
        if (rows >= 0).sum() > (best >= 0).sum():
            best, how = rows, name
    return best, how


def _tails(names: npt.NDArray[np.str_], ids: npt.NDArray[np.str_]) -> list[str]:
    """The last parts of each path, as many as the images' ids have."""
    depth = str(ids[0]).count("/") + 1
    return ["/".join(name.replace("\\", "/").split("/")[-depth:]) for name in names.tolist()]


def _by_content(given: VectorSet, source: FolderSource) -> Ints:
    digests = [hashlib.sha256((source.root / name).read_bytes()).hexdigest() for name in source.ids.tolist()]
    row_of = {value: row for row, value in enumerate(digests)}
    return np.array([row_of.get(name.removeprefix("sha256:"), -1) for name in given.ids.tolist()], dtype=np.int64)


def _unit(given: VectorSet) -> tuple[VectorSet, bool]:
    """The vectors with length 1 and a space, and whether their lengths had differed from it."""
    values = given.take(np.arange(len(given)))
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not lengths.all():
        raise InputError(f"{given.name}: the vector of '{given.ids[int(np.argmin(lengths))]}' is zero")
    differ = bool((np.abs(lengths - 1) > 1e-3).any())
    space = given.space or Space(
        weights=digest([np.ascontiguousarray(given.vectors).tobytes(), "\n".join(given.ids.tolist()).encode()]),
        preprocessing="not known: vectors that were stored",
        dim=given.dim,
        normalized=True,
        name=Path(given.name).stem,
    )
    return replace(given, vectors=np.asarray(values / lengths, dtype=np.float32), space=space), differ
