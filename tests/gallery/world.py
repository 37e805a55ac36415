"""A small world with images: items of made-up characters, two models whose spaces are compatible by construction."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from samespace.data import ArraySource
from samespace.evaluate import Certificate, check
from samespace.space import Space
from samespace.vectors import VectorSet

SIDE = 8
CLASSES, EACH = 40, 5
OLD = Space(weights="old", preprocessing=f"{SIDE} pixels", dim=12, normalized=True, name="v1")
NEW = Space(weights="new", preprocessing=f"{SIDE} pixels", dim=20, normalized=True, name="v2")
THIRD = Space(weights="third", preprocessing=f"{SIDE} pixels", dim=20, normalized=True, name="v3")


class Projection:
    """A model that multiplies pixels with a matrix; a wider one begins with what a narrower one gives."""

    def __init__(self, space: Space, seed: int = 0) -> None:
        self.space = space
        whole = np.random.default_rng(seed).normal(size=(SIDE * SIDE, 20))
        self.matrix = torch.from_numpy(whole[:, : space.dim].copy())
        self.calls = 0

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Unit vectors of images (B, 1, H, W) uint8."""
        self.calls += len(images)
        flat = images.double().flatten(1) / 255 - 0.5
        return torch.nn.functional.normalize(flat @ self.matrix, dim=1).float()


def pixels(seed: int = 0, each: int = EACH, noise: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, H, W) uint8 around one pattern per class, and their classes."""
    patterns = np.random.default_rng(99).integers(0, 256, (CLASSES, SIDE, SIDE))
    draw = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), each)
    values = patterns[labels] + noise * draw.normal(size=(len(labels), SIDE, SIDE))
    return np.clip(values, 0, 255).astype(np.uint8), labels


@cache
def source(seed: int = 0, prefix: str = "item") -> ArraySource:
    """Images with ids."""
    images, labels = pixels(seed)
    ids = [f"{prefix}-{number:03d}" for number in range(len(labels))]
    return ArraySource(images, labels, ids=ids, name=f"{prefix}s")


def vectors(model: Projection, images: ArraySource) -> VectorSet:
    """Vectors of a source by a model."""
    values = model.embed(images.load(np.arange(len(images)))).numpy()
    labels = np.asarray(images.classes)[images.labels]
    return VectorSet.from_arrays(values, ids=images.ids, labels=labels, space=model.space, name=images.name)


@cache
def items(space: Space) -> VectorSet:
    """The gallery's items in a space."""
    return vectors(Projection(space), source())


@cache
def queries(space: Space) -> VectorSet:
    """Queries in a space."""
    return vectors(Projection(space), source(1, "query")).subset(np.arange(0, CLASSES * EACH, 7))


@cache
def certificate(new: Space = NEW, old: Space = OLD) -> Certificate:
    """That `new` may search `old`, with calibrations and a sweep; the verdict is set, whatever the check found."""
    found = check(
        queries=vectors(Projection(new), source(1, "query")),
        gallery=items(old),
        baseline=vectors(Projection(old), source(1, "query")),
        new_gallery=items(new),
        metrics=["rank@1", "mAP"],
        prefix=new.dim != old.dim,
        replicates=100,
    )
    return replace(found, compatible=True)
