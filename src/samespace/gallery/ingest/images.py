"""Images of a gallery's items, found by id, and the model that embeds them; unreadable images are named one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SamespaceError
from samespace.gallery.ingest.checks import require_vectors
from samespace.metrics._arrays import as_numpy
from samespace.space import Space
from samespace.vectors import find_ids

if TYPE_CHECKING:
    import torch

    from samespace.data import ImageSource
    from samespace.data.listing import Listing
    from samespace.encoders import Encoder

_PIXELS = "pixels:"


class Model(Protocol):
    """What turns images into vectors of one space: a `samespace.Embedder`, or the user's own."""

    @property
    def space(self) -> Space:
        """The space of the vectors."""
        ...

    def embed(self, images: torch.Tensor) -> Any:
        """Vectors (B, D) of images (B, C, H, W) uint8; a tensor or an array."""
        ...


ModelLike: TypeAlias = "Model | Encoder | str | Path"
ImagesLike: TypeAlias = "ImageSource | Listing | str | Path"


def load_embedder(model: ModelLike, device: str = "auto") -> Model:
    """The model a user gave, or opened by what they wrote, such as a model's folder, onto a device.

    Raises:
        InputError: there is no such model or device, or it takes something else than images.
    """
    from samespace.encoders import as_image_model, open_image_model

    if isinstance(model, str | Path):
        return open_image_model(model, device=device)
    return cast(Model, model) if hasattr(model, "embed") else as_image_model(model)


@dataclass(frozen=True, eq=False)
class Loaded:
    """Images that could be read, and why the others could not.

    Attributes:
        places: positions in the ids asked for, of the images below.
        pixels: (n, C, H, W) uint8.
        contents: the ledger's content of each image.
        missing: reason by position.
    """

    places: list[int]
    pixels: torch.Tensor
    contents: list[str]
    missing: dict[int, str]


class Images:
    """The images of a source, whose ids are the items' ids, by id."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self._order = np.argsort(source.ids, kind="stable")
        self.skipped: dict[str, str] = dict(getattr(source, "skipped", ()))

    @classmethod
    def open(cls, images: ImagesLike, model: Model) -> Images:
        """Open images, at the size and with the channels that a model takes."""
        from samespace.data import open_for_model
        from samespace.data.listed import ListedSource
        from samespace.data.listing import Listing

        preprocessing = getattr(model, "preprocessing", None)
        size, channels = getattr(preprocessing, "image_size", None), getattr(preprocessing, "channels", None)
        if isinstance(images, Listing):
            return cls(ListedSource(images, image_size=size, channels=channels, broken="skip"))
        if not isinstance(images, (str, Path)):
            return cls(images)
        return cls(open_for_model(images, size, channels=channels, broken="skip"))

    def load(self, ids: Sequence[str], contents: Sequence[str] | None = None) -> Loaded:
        """Read the images of these ids; one that cannot be read, or is not the one recorded, spoils no other.

        `contents`: what the ledger has recorded for each; images are compared with it where it is given.
        """
        rows = find_ids(self.source.ids, self._order, ids)
        missing = {place: self._absent(ids[place]) for place in np.flatnonzero(rows < 0).tolist()}
        places = np.flatnonzero(rows >= 0).tolist()
        pixels = self._read(places, rows, missing)
        places = [place for place in places if place not in missing]
        read = [content_of(image) for image in pixels]
        if contents is not None:
            kept = [slot for slot, place in enumerate(places) if not another_image(contents[place], read[slot])]
            if len(kept) < len(places):
                for place in set(places) - {places[slot] for slot in kept}:
                    missing[place] = "the image is not the one that was added; add the item again with update"
                places, pixels, read = [places[slot] for slot in kept], pixels[kept], [read[slot] for slot in kept]
        return Loaded(places, pixels, read, missing)

    def _absent(self, name: str) -> str:
        reason = self.skipped.get(name)
        return f"no image of this id in {self.source.name}" if reason is None else f"the image cannot be read: {reason}"

    def _read(self, places: list[int], rows: npt.NDArray[np.int64], missing: dict[int, str]) -> torch.Tensor:
        import torch

        read = [torch.empty((0, *self.source.image_shape), dtype=torch.uint8)]
        try:
            return self.source.load(rows[places]) if places else read[0]
        except (SamespaceError, OSError):
            # one of them is at fault; read them singly to learn which
            for place in places:
                try:
                    read.append(self.source.load(rows[[place]]))
                except (SamespaceError, OSError) as error:
                    missing[place] = f"the image cannot be read: {_reason(error)}"
            return torch.cat(read)


class ItemEmbedder:
    """A model with the images of the items, as it takes them: item ids in, vectors of one space out."""

    def __init__(self, model: Model, images: Images) -> None:
        self.model, self.images = model, images
        # an Embedder hashes its weights to tell its space
        self.space = model.space

    def vectors(self, images: torch.Tensor) -> npt.NDArray[np.float32]:
        """Vectors (B, D) float32 of images (B, C, H, W) uint8.

        Raises:
            InputError: the model gives another shape, or vectors that its space does not allow.
        """
        vectors = as_numpy(self.model.embed(images)).astype(np.float32, copy=False)
        if vectors.shape != (len(images), self.space.dim):
            raise InputError(
                f"the model of space {self.space} gave vectors of shape {vectors.shape} for {len(images)} images"
            )
        require_vectors(vectors, self.space, "the model's output", [f"image {row}" for row in range(len(images))])
        return vectors


def content_of(image: torch.Tensor) -> str:
    """What the ledger records of an image: its size and the sha256 of its pixels."""
    shape = "x".join(str(side) for side in image.shape)
    return f"{_PIXELS}{shape}:{hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:32]}"


def content_of_vector(vector: npt.NDArray[np.float32]) -> str:
    """What the ledger records of an item that was added by its vector."""
    return f"vector:{hashlib.sha256(vector.data).hexdigest()[:32]}"


def same_content(recorded: str, found: str) -> bool | None:
    """Whether an item still is what was recorded; None where a vector was recorded and an image is given, or so.

    Images brought to unlike sizes, for unlike models, cannot be told apart and count as the same.
    """
    if recorded == found:
        return True
    if recorded.startswith(_PIXELS) and found.startswith(_PIXELS):
        return recorded.split(":")[1] != found.split(":")[1]
    return None


def another_image(recorded: str, found: str) -> bool:
    """Whether an image is provably not the one recorded."""
    return same_content(recorded, found) is False


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file'}: {error.strerror}"
    return " ".join(str(error).split())
