"""Any function of a batch as an encoder, such as a vendor's service."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from samespace.encoders.batched import BatchedEncoder, checked
from samespace.encoders.canaries import check_canaries, default_canaries
from samespace.encoders.encoder import Modality
from samespace.errors import InputError
from samespace.metrics._arrays import as_numpy
from samespace.space import Space

if TYPE_CHECKING:
    from samespace.models import Preprocessing


def from_callable(
    function: Callable[[list[Any]], Any],
    *,
    name: str,
    revision: str,
    modality: Modality = "text",
    dim: int | None = None,
    normalized: bool = True,
    preprocessing: Preprocessing | None = None,
    canaries: str | Path | None = None,
    canary_items: Sequence[Any] | None = None,
) -> BatchedEncoder:
    """An encoder that calls `function` with a list of items and takes one vector for each.

    Its weights are not at hand, so the space is told by `name` and `revision`: change the revision whenever the model
    behind the function changes. With `canaries` that is noticed: the vectors of a few fixed items are kept in that
    file the first time, and compared each time the encoder is made.

    Args:
        function: list of B items to vectors (B, D), an array, a tensor or lists. Texts arrive as strings, rows as
            dicts, images as (C, H, W) uint8 arrays of the size that `preprocessing` says, else as they were given.
        name: of the model, such as `text-embedding-3-small`.
        revision: of the model, such as a date or a version.
        modality: what an item is.
        dim: dimensions of a vector; None asks the function for one.
        normalized: bring vectors to unit length; False leaves them as they are.
        preprocessing: for images: the size they are brought to before `function` sees them. Its mean and std are
            `function`'s own business.
        canaries: file for the vectors of the canaries.
        canary_items: the items to use as canaries; texts and images have some by default.

    Raises:
        InputError: the name or revision is empty, or the function fails or does not give one vector for each item.
        SpaceError: the canaries' vectors are not those kept.

    Example:
        >>> def letters(texts):
        ...     return [[text.count("a"), text.count("e"), 1.0] for text in texts]
        >>> encoder = from_callable(letters, name="letters", revision="1", dim=3, normalized=False)
        >>> encoder.encode(["banana", "tree"]).tolist()
        [[3.0, 0.0, 1.0], [0.0, 2.0, 1.0]]
    """
    for what, value in (("name", name), ("revision", revision)):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"an encoder made of a function needs a {what}, which tells its space, got {value!r}")
    if modality not in get_args(Modality):
        raise InputError(f"there is no modality {modality!r}; legal: {', '.join(get_args(Modality))}")
    if preprocessing is not None and modality != "image":
        raise InputError(f"preprocessing is of images; this encoder's items are of modality {modality!r}")

    from samespace.models.user_code import called

    def call(items: Sequence[Any], device: str | None = None) -> Any:
        return called(function, _handed_over(items, modality, preprocessing), what=f"the function of {name} {revision}")

    probes = list(canary_items) if canary_items is not None else []
    if not probes and (dim is None or canaries is not None):
        probes = default_canaries(modality)
    if dim is None:
        dim = _dim_of(call(probes[:1]), name)
    space = Space(
        weights=hashlib.sha256(json.dumps(["callable", name, revision, modality]).encode()).hexdigest(),
        preprocessing="the function's own" if preprocessing is None else preprocessing.describe(),
        dim=dim,
        normalized=normalized,
        name=f"{name} {revision}",
    )
    if canaries is not None:
        check_canaries(Path(canaries), probes, lambda items: checked(call(items), len(items), space), space.name)
    return BatchedEncoder(space, modality, call, preprocessing)


def _handed_over(items: Any, modality: Modality, preprocessing: Preprocessing | None) -> list[Any]:
    """The items as a function takes them."""
    if preprocessing is None:
        return list(items)
    if not hasattr(items, "numpy"):
        from samespace.models.items import pixels_of

        items = pixels_of(items, preprocessing)
    return list(items.numpy())


def _dim_of(given: Any, name: str) -> int:
    vectors = np.asarray(as_numpy(given))
    if vectors.ndim != 2 or vectors.shape[0] != 1:
        raise InputError(f"{name} gave {vectors.shape} for one item; expected one vector for each, (1, dimensions)")
    return int(vectors.shape[1])
