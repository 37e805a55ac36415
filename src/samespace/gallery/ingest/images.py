"""Images of a gallery's items: found by id, looked at again before they are embedded, broken ones named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SamespaceError
from samespace.gallery.ingest.checks import require_vectors
from samespace.metrics._arrays import as_numpy
from samespace.space import Space

if TYPE_CHECKING:
    import torch

    from samespace.data import ImageSource

CONTENT = "pixels"


class Model(Protocol):
    """What turns images into vectors of one space."""

    @property
    def space(self) -> Space:
        """The space of the vectors."""
        ...

    def embed(self, images: torch.Tensor) -> Any:
        """Vectors (B, D) of images (B, C, H, W) uint8; a tensor or an array."""
        ...


class Encoder:
    """A model whose space is worked out once.

    Args:
        model: a `samespace.Embedder`, or anything with `space` and `embed`.
        folder: where the model lies, if it does.
    """

    def __init__(self, model: Model, folder: str | None = None) -> None:
        self.model = model
        self.folder = folder
        self.space = model.space

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Encoder:
        """Load a model folder.

        Raises:
            InputError: it is no whole model folder.
        """
        from samespace.models import Embedder, resolve_model
        from samespace.models.extract import pick_device

        place = resolve_model(folder)
        return cls(Embedder.load(place).to(pick_device(device)), str(place))

    def vectors(self, images: torch.Tensor) -> npt.NDArray[np.float32]:
        """Vectors (B, D) float32 of images (B, C, H, W) uint8.

        Raises:
            InputError: the model gives another shape, or vectors that its space cannot hold.
        """
        vectors = as_numpy(self.model.embed(images)).astype(np.float32, copy=False)
        if vectors.shape != (len(images), self.space.dim):
            raise InputError(
                f"the model of space {self.space} gave vectors of shape {vectors.shape} for {len(images)} images"
            )
        require_vectors(vectors, self.space, "the model's output", [f"image {row}" for row in range(len(images))])
        return vectors

    def images(self, spec: str | Path | ImageSource) -> Images:
        """Open images as this model takes them."""
        from samespace.data import open_for_model

        if not isinstance(spec, (str, Path)):
            return Images(spec)
        preprocessing = getattr(self.model, "preprocessing", None)
        size, channels = getattr(preprocessing, "size", None), getattr(preprocessing, "channels", None)
        return Images(open_for_model(spec, size, channels=channels, broken="skip"))


@dataclass(frozen=True, eq=False)
class Loaded:
    """Images that could be read, and why the others could not.

    Attributes:
        places: positions in the ids asked for, of the images below.
        pixels: (n, C, H, W) uint8.
        contents: what stands for each image in the ledger.
        missing: reason by position.
    """

    places: list[int]
    pixels: torch.Tensor
    contents: list[str]
    missing: dict[int, str]


class Images:
    """The images of a source by id.

    Args:
        source: images whose ids are the items' ids.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self._order = np.argsort(source.ids, kind="stable")
        self._sorted = source.ids[self._order]
        self._skipped = dict(getattr(source, "skipped", ()))

    def rows(self, ids: Sequence[str]) -> npt.NDArray[np.int64]:
        """The row of each id, -1 where the source lacks it."""
        if not len(ids):
            return np.empty(0, dtype=np.int64)
        wanted = np.asarray(ids, dtype=np.str_)
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        found = self._sorted[place] == wanted
        return np.where(found, self._order[place], -1).astype(np.int64)

    def load(self, ids: Sequence[str]) -> Loaded:
        """Read the images of these ids; one that cannot be read spoils no other."""
        rows = self.rows(ids)
        missing = {place: self._absent(ids[place]) for place in np.flatnonzero(rows < 0).tolist()}
        places = np.flatnonzero(rows >= 0).tolist()
        pixels = self._read(places, rows, missing)
        places = [place for place in places if place not in missing]
        return Loaded(places, pixels, [content_of(image) for image in pixels], missing)

    def _absent(self, name: str) -> str:
        reason = self._skipped.get(name)
        return f"no image of this id in {self.source.name}" if reason is None else f"the image cannot be read: {reason}"

    def _read(self, places: list[int], rows: npt.NDArray[np.int64], missing: dict[int, str]) -> torch.Tensor:
        import torch

        if not places:
            return torch.empty((0, *self.source.image_shape), dtype=torch.uint8)
        try:
            return self.source.load(rows[places])
        except (SamespaceError, OSError):
            # one of them is at fault; read them singly to learn which
            read = []
            for place in places:
                try:
                    read.append(self.source.load(rows[[place]]))
                except (SamespaceError, OSError) as error:
                    missing[place] = f"the image cannot be read: {_reason(error)}"
            return torch.cat(read) if read else torch.empty((0, *self.source.image_shape), dtype=torch.uint8)


def content_of(image: torch.Tensor) -> str:
    """What stands for an image in the ledger: its size and the sha256 of its pixels."""
    shape = "x".join(str(side) for side in image.shape)
    digest = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:32]
    return f"{CONTENT}:{shape}:{digest}"


def another_image(recorded: str, found: str) -> bool:
    """Whether an image is provably not the one recorded; images brought to unlike sizes cannot be told apart."""
    kind, _, rest = recorded.partition(":")
    return kind == CONTENT and rest.partition(":")[0] == found.split(":")[1] and recorded != found


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file'}: {error.strerror}"
    return " ".join(str(error).split())
