"""Images by id, for showing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from samespace.data.readable import load_readable
from samespace.data.source import ImageSource
from samespace.vectors import find_ids

Picture = npt.NDArray[np.uint8]


def image_lookup(source: ImageSource) -> Callable[[Sequence[str]], list[Picture | None]]:
    """A function from ids to pictures, (H, W) or (H, W, 3) uint8, None for an id the source lacks."""
    order = np.argsort(source.ids, kind="stable")

    def find(ids: Sequence[str]) -> list[Picture | None]:
        rows = find_ids(source.ids, order, ids)
        known = np.unique(rows[rows >= 0]).tolist()
        pictures: dict[int, Picture] = {}
        if known:
            read = load_readable(source, known)
            pictures = {
                row: image[..., 0] if image.shape[-1] == 1 else image
                for row, taken, image in zip(known, read.rows, read.images.numpy().transpose(0, 2, 3, 1), strict=True)
                if row == taken
            }
        return [pictures.get(row) for row in rows.tolist()]

    return find
