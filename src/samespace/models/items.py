"""Images that a caller hands over one by one, as a batch of pixels of a model's size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from samespace.data.decoding.pixels import conform, decode, prepare_pillow, to_planes
from samespace.data.listed import reason_of
from samespace.errors import InputError
from samespace.models.preprocessing import Preprocessing


def pixels_of(items: Sequence[Any], preprocessing: Preprocessing) -> Tensor:
    """Images (B, C, H, W) uint8 with the channels and of the size that a model takes, as a folder's reader makes them.

    `items`: paths, PIL images, or (C, H, W) uint8 arrays or tensors; or all of them as one (B, C, H, W) tensor.

    Raises:
        InputError: an item is no image, or cannot be read; it is named by its place or path.
    """
    out = np.empty((len(items), preprocessing.channels, *preprocessing.fit.size), dtype=np.uint8)
    prepare_pillow()
    for place, item in enumerate(items):
        out[place] = _planes(item, place, preprocessing)
    return torch.from_numpy(out)


def _planes(item: Any, place: int, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    channels, fit = preprocessing.channels, preprocessing.fit
    if isinstance(item, str | Path):
        try:
            return decode(Path(item), channels, fit)
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
            raise InputError(f"{item} cannot be read as an image: {reason_of(error)}") from None
    if isinstance(item, Image.Image):
        return to_planes(conform(item, channels, fit))
    array = item.detach().cpu().numpy() if isinstance(item, Tensor) else np.asarray(item)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[0] not in (1, 3):
        raise InputError(
            f"image {place} should be a path, a PIL image or a uint8 array (channels, height, width), "
            f"got {type(item).__name__}{'' if array.dtype == object else f' of {array.dtype}, shape {array.shape}'}"
        )
    if len(array) == channels and fit.keeps(array.shape[1:]):
        return array
    image = Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
    return to_planes(conform(image, channels, fit))
