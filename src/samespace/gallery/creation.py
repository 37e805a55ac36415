"""What a new gallery begins with: its first space, its settings, and an empty ledger that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from samespace.errors import InputError, SpaceError
from samespace.gallery.index.open import require_index
from samespace.gallery.ledger.ledger import Ledger, require_new
from samespace.gallery.models import absolute
from samespace.metrics.calibration import Scale
from samespace.space import Score, Space


def new_ledger(
    location: str | Path,
    space: Space | None,
    *,
    model: str | Path | None,
    images: str | None,
    scale: Scale,
    index: str | None,
    index_key: str | None,
    score: Score,
) -> Ledger:
    """The ledger of an empty gallery. Arguments and errors as of `Gallery.create`."""
    if scale not in ("logistic", "fmr"):
        raise InputError(f"there is no scale '{scale}'; legal: logistic, fmr")
    if score not in get_args(Score):
        raise InputError(f"there is no score '{score}'; legal: {', '.join(get_args(Score))}")
    folder = None
    if model is not None:
        from samespace.encoders import open_encoder
        from samespace.models import resolve_model

        folder = resolve_model(model)
        given = open_encoder(folder, device="cpu").space
        if space is not None and space != given:
            raise SpaceError(f"the model is of space {given}, not of {space}")
        space = space or given
    if space is None:
        raise InputError("a gallery needs its first space; give a model folder or vectors that declare their space")
    require_new(str(location))
    if index is not None:
        require_index(index, index_key)
    settings = {"scale": scale, "images": None if images is None else absolute(images), "index": index}
    return Ledger.create(location, space, model=absolute(folder), settings=settings, score=score)
