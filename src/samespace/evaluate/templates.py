"""Templates: the images of one person pooled into one vector, video frames first (IJB-B, IJB-C).

An image's vector is brought to length one and multiplied by its weight; a medium's vector is the mean of its images'
(all frames of a video are one medium), a template's the mean of its media's, brought to length one. Means divide by
how many there are, not by the sum of weights, as the benchmarks' published scripts do. All of it is one sparse
product, taken over blocks of images, which torch shares out over threads: it is imported where templates are pooled.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints, Mask, encode
from samespace.threads import in_order
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    import torch

# fixed, so that sums are made in one order whatever else happens
_READ_ROWS = 4096
_LARGEST_MEDIUM = 1 << 40
_CANCELLED = 1e-6


@dataclass(frozen=True, eq=False)
class Pooled:
    """Vectors of templates.

    Attributes:
        vectors: (T, D) float32 of length one; zero for a template that has no direction.
        templates: (T,) id of each, ascending.
        empty: (T,) whether the template has no direction: no usable image, or vectors that cancel.
        unusable: (n,) rows of `vectors` as given that are zero or not finite and were left out.
    """

    vectors: npt.NDArray[np.float32]
    templates: npt.NDArray[Any]
    empty: Mask
    unusable: Ints


def pool(
    vectors: npt.NDArray[Any],
    templates: Any,
    media: Any,
    *,
    images: Ints | None = None,
    weights: Any = None,
    normalize: bool = True,
) -> Pooled:
    """Pool image vectors into templates: mean per medium, then per template, then length one.

    An image may belong to several templates, and counts as often as it is listed. A zero or not finite vector is left
    out as if it had not been listed; a medium or template left without images is empty and never NaN.

    Args:
        vectors: (N, D) floats, perhaps a memory map: read once, in blocks.
        templates: (E,) template of each entry, integers or strings.
        media: (E,) medium of each entry; the same medium in two templates is two media.
        images: (E,) row of `vectors` of each entry; by default entry i is row i.
        weights: (E,) weight of each entry, at least 0, such as the face detector's score; 1 by default.
        normalize: bring each image vector to length one first; otherwise its length weighs, too.

    Raises:
        InputError: counts that do not fit, a row out of range, or a weight that is negative or not finite.

    Example:
        >>> frames = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
        >>> pool(frames, [7, 7, 7], [1, 1, 2]).vectors.round(3).tolist()
        [[0.7070000171661377, 0.7070000171661377]]
    """
    import torch

    names = np.asarray(templates)
    entries = _entries(vectors, len(names), media, images, weights)
    listed, code = np.unique(names, return_inverse=True)
    code = code.astype(np.int64)
    sums, scale, bad = _sums(vectors, entries, code, len(listed), normalize)
    if bad.size:
        usable = ~np.isin(entries.image, bad)
        sums, scale, _ = _sums(vectors, entries.subset(usable), code[usable], len(listed), normalize)
    lengths = torch.linalg.vector_norm(sums, dim=1, dtype=torch.float64)
    empty = lengths <= _CANCELLED * torch.from_numpy(scale)
    lengths[empty] = torch.inf
    pooled = sums.div_(lengths.float()[:, None])
    return Pooled(vectors=np.asarray(pooled.numpy()), templates=listed, empty=np.asarray(empty.numpy()), unusable=bad)


def pool_sides(
    queries: Mapping[str, VectorSet | None], gallery: Mapping[str, VectorSet | None]
) -> tuple[dict[str, VectorSet], list[str]]:
    """Pool the sets of each side that has templates; the others stay what they are.

    Each side is given as its sets by their role, None where there is none.

    Returns:
        All sets that there are by role, and a note for each side that was pooled.

    Raises:
        InputError: some sets of a side have templates and others none, or a template cannot be pooled.
    """
    sets: dict[str, VectorSet] = {}
    notes = []
    for what, given in (("Queries", queries), ("Gallery", gallery)):
        side = {role: source for role, source in given.items() if source is not None}
        with_templates = [role for role, source in side.items() if source.templates is not None]
        without = [role for role in side if role not in with_templates]
        if with_templates and without:
            first, other = with_templates[0], without[0]
            raise InputError(
                f"{first} ({side[first].name}) has templates and {other} ({side[other].name}) has none; "
                "give all sets of a side the same templates, or none"
            )
        sets |= {role: pooled(source) if with_templates else source for role, source in side.items()}
        if with_templates:
            role = with_templates[0]
            notes.append(
                f"{what}: {len(side[role]):,} vectors were pooled into {len(sets[role]):,} templates, each the mean "
                "of its unit vectors, and each template is one item."
            )
    return sets, notes


def pooled(source: VectorSet) -> VectorSet:
    """One unit vector per template: the mean of its items' unit vectors, with the template as id and their label.

    Raises:
        InputError: a template's items have unlike labels, or its vectors are zero or cancel each other.
    """
    assert source.templates is not None
    result = pool(source.vectors, source.templates, np.arange(len(source)))
    if result.empty.any():
        template = result.templates[int(np.argmax(result.empty))]
        raise InputError(f"{source.name}: template '{template}' has no direction: its vectors are zero or cancel")
    return VectorSet.from_arrays(
        result.vectors,
        labels=None if source.labels is None else _labels(source, result.templates),
        ids=result.templates,
        space=source.space,
        name=source.name,
    )


def _labels(source: VectorSet, templates: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The label of each template."""
    assert source.labels is not None
    assert source.templates is not None
    which = np.searchsorted(templates, source.templates)
    first = np.full(len(templates), -1, dtype=np.int64)
    rows = np.arange(len(source))[::-1]
    first[which[rows]] = rows
    codes = encode(source.labels)[0]
    differ = codes != codes[first[which]]
    if differ.any():
        row = int(np.argmax(differ))
        raise InputError(
            f"{source.name}: template '{templates[which[row]]}' holds items of two labels, "
            f"'{source.labels[first[which[row]]]}' and '{source.labels[row]}'; a template is of one identity"
        )
    return np.asarray(source.labels[first])


@dataclass(frozen=True, eq=False)
class _Entries:
    """Which image stands in which medium, and how much it weighs."""

    image: Ints
    medium: Ints
    weight: Floats

    def subset(self, keep: Mask) -> _Entries:
        return _Entries(self.image[keep], self.medium[keep], self.weight[keep])


def _entries(vectors: npt.NDArray[Any], count: int, media: Any, images: Ints | None, weights: Any) -> _Entries:
    if vectors.ndim != 2 or vectors.dtype.kind != "f":
        raise InputError(f"vectors should be (images, dims) of floats, got {vectors.dtype} of shape {vectors.shape}")
    if images is None and count != len(vectors):
        raise InputError(f"templates should be one per vector ({len(vectors)}), got {count}")
    image = np.arange(count) if images is None else np.asarray(images, dtype=np.int64)
    weight = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    medium = _numbered(media)
    for what, column in (("media", medium), ("images", image), ("weights", weight)):
        if column.shape != (count,):
            raise InputError(f"{what} should be one per entry ({count}), got shape {column.shape}")
    if count and not 0 <= image.min() <= image.max() < len(vectors):
        raise InputError(f"images should be rows of {len(vectors)} vectors, got {image.min()} to {image.max()}")
    legal = np.isfinite(weight) & (weight >= 0)
    if not legal.all():
        raise InputError(f"weights should be finite and at least 0, got {weight[~legal][0]}")
    return _Entries(image=image, medium=medium, weight=weight)


def _sums(
    vectors: npt.NDArray[Any], entries: _Entries, code: Ints, count: int, normalize: bool
) -> tuple[torch.Tensor, Floats, Ints]:
    """Sums per template, (count, D) float32; the sum of lengths that went into each; images without a direction."""
    import torch

    share = entries.weight / _medium_sizes(code, entries.medium)
    order = np.argsort(entries.image, kind="stable") if (np.diff(entries.image) < 0).any() else slice(None)
    image, code, share = entries.image[order], code[order], share[order]
    sums = torch.zeros((count, vectors.shape[1]))
    scale = np.zeros(count)
    bad: list[Ints] = []
    ends = np.searchsorted(image, np.arange(0, len(vectors) + _READ_ROWS, _READ_ROWS))

    def work(place: int) -> _Part:
        some = slice(ends[place], ends[place + 1])
        return _product(vectors, place * _READ_ROWS, image[some], code[some], share[some], normalize)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for part in in_order(work, np.flatnonzero(np.diff(ends)).tolist(), pool, 2 * threads):
            bad.append(part.unusable)
            if part.sums is not None:
                sums.index_add_(0, torch.from_numpy(part.code), part.sums)
                scale[part.code] += part.scale
    return sums, scale, np.concatenate(bad) if bad else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class _Part:
    """What one block of images adds to the templates `code`; nothing where some of its images are unusable."""

    unusable: Ints
    code: Ints
    sums: torch.Tensor | None
    scale: Floats


def _product(vectors: npt.NDArray[Any], start: int, image: Ints, code: Ints, share: Floats, normalize: bool) -> _Part:
    """A sparse matrix of shares, templates × images, times the block of images that starts at row `start`."""
    import torch

    values = np.asarray(vectors[start : start + _READ_ROWS], dtype=np.float32)
    # torch warns of arrays that it must not write to, such as a memory map
    block = torch.from_numpy(values if values.flags.writeable else values.copy())
    rows = image - start
    length = torch.linalg.vector_norm(block, dim=1).numpy()[rows]
    usable = np.isfinite(length) & (length > 0)
    if not usable.all():
        return _Part(np.unique(image[~usable]), code[:0], None, share[:0])
    factor = share / length if normalize else share
    if (np.diff(code) < 0).any():
        order = np.argsort(code, kind="stable")
        rows, code, factor, length = rows[order], code[order], factor[order], length[order]
    first = np.flatnonzero(np.diff(code, prepend=-1))
    product = torch.nn.functional.embedding_bag(
        torch.from_numpy(rows),
        block,
        torch.from_numpy(first),
        mode="sum",
        per_sample_weights=torch.from_numpy(factor.astype(np.float32)),
    )
    return _Part(image[:0], code[first], product, np.add.reduceat(factor * length, first))


def _numbered(media: Any) -> Ints:
    """Media as numbers of at least 0 that leave room for a template's number beside them."""
    medium = np.asarray(media)
    if medium.dtype.kind in "iu" and medium.size and int(medium.min()) >= 0 and int(medium.max()) < _LARGEST_MEDIUM:
        return medium.astype(np.int64)
    return encode(medium)[0] if medium.ndim == 1 else np.zeros(medium.shape, dtype=np.int64)


def _medium_sizes(code: Ints, medium: Ints) -> Ints:
    """How many entries each entry's medium has within its template, (E,)."""
    keys = code * (int(medium.max(initial=0)) + 1) + medium
    if (np.diff(keys) < 0).any():
        _, which, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        return np.asarray(sizes[which])
    ends = np.flatnonzero(np.diff(keys, append=-1)) + 1
    sizes = np.diff(ends, prepend=0)
    return np.repeat(sizes, sizes)
