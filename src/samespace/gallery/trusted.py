"""Models compared with the vectors that a gallery has of them, by its canaries."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from samespace.errors import SamespaceError
from samespace.gallery.ingest.images import ImagesLike, ItemEmbedder, ModelLike
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State
from samespace.gallery.models import embedder_of
from samespace.gallery.upgrade.model_check import canary_drift, require_same_model

LOG = logging.getLogger("samespace.gallery")


class TrustedModel:
    """The model that was used last, loaded and compared with its canaries once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._asked: tuple[object, ...] = ()
        self._embedder: ItemEmbedder | None = None

    def embedder(
        self, state: State, generation: int, model: ModelLike | None, images: ImagesLike | None, device: str
    ) -> ItemEmbedder:
        """The model of a space with the items' images. Arguments and errors as of `models.embedder_of`.

        Raises:
            SpaceError: the model is not the one that made the stored vectors.
        """
        asked = (generation, model, images, device)
        same = all(one is other for one, other in zip(asked, self._asked, strict=False))
        if self._embedder is None or not same:
            embedder = embedder_of(state, generation, model, images, device)
            require_same_model(self._ledger, generation, embedder)
            self._asked, self._embedder = asked, embedder
        return self._embedder


def canary_drifts(ledger: Ledger, loaded: Mapping[str, ModelLike]) -> dict[str, float]:
    """How far models in memory are from those of the stored vectors. Arguments as of `Gallery.canary_drift`."""
    state, found = ledger.state(), {}
    for generation, kept in state.spaces.items():
        if kept.space.id in loaded:
            try:
                embedder = embedder_of(state, generation, loaded[kept.space.id], None, "auto")
                if (drift := canary_drift(ledger, generation, embedder)) is not None:
                    found[kept.space.id] = drift
            except SamespaceError as error:
                LOG.info("the canaries of %s were not looked at: %s", kept.space, error)
    return found


def remembered_embedders(state: State, device: str) -> dict[int, ItemEmbedder]:
    """The remembered models of all spaces that may serve, with the remembered images, by generation."""
    return {
        generation: embedder_of(state, generation, None, None, device)
        for generation, kept in state.spaces.items()
        if kept.model is not None and not kept.retired
    }
