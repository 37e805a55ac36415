"""Models that the service has at hand: those that its galleries remember, and those named at its start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.encoders import Encoder, as_image_model, open_encoder
from samespace.errors import GalleryError, InputError, SamespaceError, suggest
from samespace.gallery.ledger.state import StoredSpace
from samespace.space import Space


class Loaded:
    """An encoder in memory, used by one thread at a time; its space, which takes long to tell, is told once."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        self.space: Space = encoder.space
        self.modality = encoder.modality
        self._encoder = encoder
        self._images = as_image_model(encoder, name) if encoder.modality == "image" else None
        self.preprocessing = getattr(self._images, "preprocessing", None)
        self._using = threading.Lock()

    @cached_property
    def in_bfloat16(self) -> Any:
        """The same by products of bfloat16, made once; None where it is no model of samespace."""
        from samespace.models import Embedder
        from samespace.models.precision import InBfloat16

        return InBfloat16(self._images) if isinstance(self._images, Embedder) else None

    def embed(self, images: Any) -> Any:
        """Vectors (B, D) of images (B, C, H, W) uint8."""
        assert self._images is not None
        with self._using:
            return self._images.embed(images)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Vectors (N, D) of texts."""
        with self._using:
            return self._encoder.encode(texts)


class Encoders:
    """Encoders by the space of their vectors, each loaded once.

    Args:
        named: where each lies, as `samespace.encoders.open_encoder` takes it, by the name that requests give it.
        device: to put them on.
    """

    def __init__(self, named: Mapping[str, str], device: str = "auto") -> None:
        self.named = dict(named)
        self._device = device
        self._loaded: dict[str, Loaded] = {}
        self._guard = threading.Lock()

    def place(self, name: str) -> str:
        """Where the model of a name lies.

        Raises:
            InputError: the service was started without it.
        """
        if name not in self.named:
            legal = suggest(name, self.named) if self.named else "it has none"
            raise InputError(f"the service has no model '{name}'; start it with --model {name}=PLACE; {legal}")
        return self.named[name]

    def load(self, place: str) -> Loaded:
        """The encoder at a place.

        Raises:
            InputError: there is none, or it cannot be used.
        """
        with self._guard:
            if place not in self._loaded:
                self._loaded[place] = Loaded(open_encoder(place, device=self._device), place)
            return self._loaded[place]

    def load_named(self) -> None:
        """Load those that were named at the start, so that a wrong place is found out then.

        Raises:
            InputError: one cannot be used.
        """
        self._each_named(self.load)

    def require_named(self) -> None:
        """Look whether their folders are there, without loading any; other encoders are found by loading them alone.

        Raises:
            InputError: one is not.
        """
        self._each_named(_require_folder)

    def _each_named(self, call: Callable[[str], object]) -> None:
        for name, place in self.named.items():
            try:
                call(place)
            except SamespaceError as error:
                raise InputError(f"the model '{name}' cannot be used: {error}") from None

    def of(self, kept: StoredSpace, modality: str) -> Loaded:
        """The encoder of images or texts whose vectors are of a space.

        Raises:
            GalleryError: none is at hand.
        """
        reason = ""
        for place in dict.fromkeys([*([kept.model] if kept.model is not None else []), *self.named.values()]):
            try:
                loaded = self.load(place)
            except SamespaceError as error:
                reason = f" ({error})"
                continue
            if loaded.space == kept.space and loaded.modality == modality:
                return loaded
        raise GalleryError(
            f"the service has no encoder of {modality}s for space {kept.space}{reason}; embed them yourself and send "
            "vectors, or start it with --model NAME=PLACE"
        )

    def images_by_space(self, spaces: Mapping[int, StoredSpace]) -> dict[str, Loaded]:
        """The encoders of images at hand, by the id of their space."""
        found = {}
        for kept in spaces.values():
            if not kept.retired:
                try:
                    found[kept.space.id] = self.of(kept, "image")
                except GalleryError:
                    continue
        return found


def _require_folder(place: str) -> None:
    if ":" not in place and not Path(place).exists():
        raise InputError(f"{place} does not exist")
