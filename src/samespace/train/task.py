"""`CompatibleTask`: the new model, its head and the compatibility term, as one module that gives the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.models import Embedder


class CompatibleTask(nn.Module):
    """The new model trained to classify and, after a warm-up, to stay comparable with the old one (BCT Eq. 8).

    The old model is no part of it: it enters as prototypes inside the influence loss, or as one old embedding per
    image.

    Args:
        embedder: the new model.
        head: its classification loss, `head(embeddings, labels)`.
        influence: the compatibility term, called with `(embeddings, labels)` and with what it declares by class
            attributes: `old_embeddings=` where `needs_old_embeddings`, `old_views=` where `needs_old_views`. A loss
            that is a mean over some samples of a batch says over how many by a method `counts(labels)`. None trains
            an independent model.
        influence_weight: λ of BCT Eq. 8, η of UniBCT Eq. 2.
        warmup_epochs: first epochs without the term.
        ramp_epochs: epochs, or a part of one, over which its weight then rises from zero.
        refresh: builds prototypes from the new model's present vectors (N, D) of the training images, for a term with
            `set_prototypes`, such as `InfluenceLoss`; called at the start of each of `refresh_epochs`.
        refresh_epochs: see `refresh`.

    Raises:
        InputError: `refresh` without a term that takes prototypes.
    """

    def __init__(
        self,
        embedder: Embedder,
        head: nn.Module,
        *,
        influence: nn.Module | None = None,
        influence_weight: float = 1.0,
        warmup_epochs: int = 0,
        ramp_epochs: float = 0.0,
        refresh: Callable[[Tensor], Tensor] | None = None,
        refresh_epochs: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if refresh is not None and not hasattr(influence, "set_prototypes"):
            raise InputError("refresh builds prototypes for an InfluenceLoss; give one as influence")
        self.embedder = embedder
        self.head = head
        self.influence = influence
        self.influence_weight = influence_weight
        self.warmup_epochs = warmup_epochs
        self.ramp_epochs = ramp_epochs
        self.refresh = refresh
        self.refresh_epochs = tuple(refresh_epochs)

    @property
    def needs_old_embeddings(self) -> bool:
        """Whether `forward` wants the old model's vector of each image."""
        return bool(getattr(self.influence, "needs_old_embeddings", False))

    @property
    def needs_old_views(self) -> bool:
        """Whether `forward` wants the old model's embedding of each augmented view."""
        return bool(getattr(self.influence, "needs_old_views", False))

    @property
    def mixed_share(self) -> float:
        """Share of each batch that the term also takes mixed, see `forward`; the term declares it."""
        return float(getattr(self.influence, "mixed_share", 0.0))

    def weight_at(self, epoch: float) -> float:
        """Weight of the compatibility term at a point of the training: zero during the warm-up, then rising."""
        if self.influence is None or epoch < self.warmup_epochs:
            return 0.0
        risen = 1.0 if self.ramp_epochs == 0 else min(1.0, (epoch - self.warmup_epochs) / self.ramp_epochs)
        return self.influence_weight * risen

    def acts(self, weight: float) -> bool:
        """Whether the term is computed at this weight; one with parameters always is, so that they have gradients."""
        return self.influence is not None and (weight > 0 or any(True for _ in self.influence.parameters()))

    def refresh_due(self, epoch: int) -> bool:
        """Whether prototypes are to be rebuilt at the start of an epoch."""
        return self.refresh is not None and epoch in self.refresh_epochs

    def _share(self, labels: Tensor) -> Tensor | float:
        """How much this process's mean over the samples that count weighs among those of all processes."""
        counts: Callable[[Tensor], Tensor] | None = getattr(self.influence, "counts", None)
        if counts is None or not (dist.is_available() and dist.is_initialized()):
            return 1.0
        mine = counts(labels)
        total = mine.clone()
        dist.all_reduce(total)
        return mine * dist.get_world_size() / total.clamp(min=1)

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        old_embeddings: Tensor | Sequence[Tensor] | None = None,
        *,
        old_views: Tensor | Sequence[Tensor] | None = None,
        mixed: tuple[Tensor, Tensor] | None = None,
        weight: float = 1.0,
    ) -> dict[str, Tensor]:
        """The loss and its parts for prepared images.

        Args:
            images: (B, C, H, W) float, prepared and augmented.
            labels: (B,) int64.
            old_embeddings: (B, D_old) float, where `needs_old_embeddings`; with several old models one of each.
            old_views: (B, D_old) float, where `needs_old_views`; likewise.
            mixed: mixed images (M, C, H, W), prepared, and the old model's embeddings (M, D_old) of them.
            weight: of the compatibility term, from `weight_at`.

        Returns:
            Scalars `loss`, `classification` and `influence`.
        """
        count = len(images)
        embeddings = self.embedder(images if mixed is None else torch.cat([images, mixed[0]]))
        embeddings, of_mixed = embeddings[:count], embeddings[count:]
        classification = self.head(embeddings, labels)
        influence = torch.zeros_like(classification)
        if self.influence is not None and self.acts(weight):
            given = {"old_embeddings": old_embeddings, "old_views": old_views}
            wanted: dict[str, Any] = {name: value for name, value in given.items() if getattr(self, f"needs_{name}")}
            if mixed is not None:
                wanted["mixed"] = (of_mixed, mixed[1])
            influence = self.influence(embeddings, labels, **wanted) * self._share(labels)
        return {
            "loss": classification + weight * influence,
            "classification": classification.detach(),
            "influence": influence.detach(),
        }
