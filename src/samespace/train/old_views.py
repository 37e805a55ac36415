"""Old vectors of fixed views, embedded once and kept memory-mapped: matching without the old model in the loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.data import Augment, FixedViews, ImageSource, ViewSource
from samespace.errors import InputError
from samespace.files import read_json, write_json
from samespace.models.extract import embed_to
from samespace.models.image_model import ImageModel
from samespace.progress import Bar
from samespace.strict import build
from samespace.vectors import VectorSet

_FORMAT = 1


@dataclass(frozen=True)
class OldViews:
    """The old model's vectors of fixed views of the training images.

    Attributes:
        views: how the views are made.
        numbers: (N,) what stands for each image in `views`.
        sets: one vector set for each view, its rows in the images' order.
    """

    views: FixedViews
    numbers: npt.NDArray[np.int64]
    sets: tuple[VectorSet, ...]

    @property
    def dim(self) -> int:
        """Dimensions of the old vectors."""
        return self.sets[0].dim

    def take(self, rows: npt.NDArray[np.int64], views: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Old vectors of the given view of each of these images, (B, old_dim)."""
        taken = np.empty((len(rows), self.dim), dtype=np.float32)
        for view in np.unique(views):
            at = np.flatnonzero(views == view)
            taken[at] = self.sets[view].take(rows[at])
        return taken


def embed_views(
    embedder: ImageModel,
    source: ImageSource,
    views: FixedViews,
    folder: str | Path,
    *,
    batch_size: int = 256,
    stand_ins: bool = False,
    progress: Callable[[str, int], AbstractContextManager[Bar]],
) -> None:
    """Embed fixed views into `folder`: a vector set for each, `0` to `K - 1`, and `views.json`.

    Killed, the same call carries on. Disk: K · N · dimensions · 4 bytes. `stand_ins` is that of `embed_to`.

    Raises:
        InputError: `folder` holds views made otherwise, or vectors of something else.
    """
    folder = Path(folder)
    _claim(folder, views)
    for view in range(views.count):
        one = ViewSource(source, views, view)
        with progress(f"old vectors, view {view + 1} of {views.count}", len(one)) as advance:
            embed_to(embedder, one, folder / str(view), batch_size=batch_size, advance=advance, stand_ins=stand_ins)


def load_views(
    folder: str | Path, source: ImageSource, align: Callable[[VectorSet, ImageSource], VectorSet]
) -> OldViews:
    """Open what `embed_views` wrote, for these training images.

    `folder`: of `views.json`. `align`: brings a vector set into the order of the images, refusing one that lacks any.

    Raises:
        InputError: no views there, damaged, incomplete, or without some of the images.
    """
    folder = Path(folder)
    views = _read(folder)
    if views is None:
        raise InputError(
            f"{folder} holds no views; make them with 'samespace embed MODEL IMAGES --views K --recipe FILE'"
        )
    missing = [view for view in range(views.count) if not (folder / str(view)).is_dir()]
    if missing:
        raise InputError(f"{folder} lacks view {missing[0] + 1} of {views.count}; run the same 'samespace embed' again")
    sets = tuple(align(VectorSet.load(folder / str(view)), source) for view in range(views.count))
    return OldViews(views, views.numbers(source.ids), sets)


def _claim(folder: Path, views: FixedViews) -> None:
    there = _read(folder)
    if there is None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{folder} exists and holds no views; choose another folder")
        write_json(folder / "views.json", {"format": _FORMAT, **asdict(views)})
    elif there != views:
        raise InputError(f"{folder} holds {there.count} views made by other settings; choose another folder")


def _read(folder: Path) -> FixedViews | None:
    if not (folder / "views.json").is_file():
        return None
    value: Any = read_json(folder / "views.json", "the settings of views")
    if not isinstance(value, dict) or value.pop("format", None) != _FORMAT:
        raise InputError(f"{folder / 'views.json'} is of another format; this version reads format {_FORMAT}")
    return build(FixedViews, value, "views")


def require_same_augment(views: FixedViews, augment: Augment, where: str) -> None:
    """Refuse a recipe whose augmentation is not that of stored views: new and old would see unlike images."""
    mine, theirs = asdict(augment), asdict(views.augment)
    differing = [f"augment.{name}={value}" for name, value in theirs.items() if mine[name] != value]
    if differing:
        raise InputError(f"the views in {where} were made with {', '.join(differing)}; set the same in the recipe")
