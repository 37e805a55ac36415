"""The terms of method `matched`: matching, instance contrast and tail, in one module."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import check_batch, check_old, full_precision, old_part, widen
from samespace.losses.contrast_and_tail import contrast_and_tail
from samespace.losses.matching import MatchingLoss
from samespace.losses.memory import OldMemory
from samespace.losses.memory_contrast import check_temperature
from samespace.losses.tail import check_operating_point
from samespace.prototypes import mean
from samespace.prototypes.rows import Vectors


class MatchedLoss(nn.Module):
    """The compatibility term of method `matched`; samespace's own.

    matching_weight · (`MatchingLoss` + mixed_weight · `MatchingLoss` on mixed images)
    + contrast_weight · `MemoryContrastLoss` + tail_weight · `TailLoss`. Contrast and tail share one draw from the
    memory and one matrix product. It stands beside the new model's own, untouched classification loss, from
    the first steps on: held back at first, it gained less in short trainings and no more in long ones.

    Cost: an old forward pass without gradient for the views, the product (B, old_dim) × (old_dim, K), and for mixed
    images a forward and backward pass of the new model more. On a CPU the gradient itself has no gradient.
    Gains little in short trainings.

    The defaults were fixed on made-up glyphs: with a head of scale 32 matching weights 10, 20, 30 and 50, β 0, 0.2
    and 0.35, mixed shares 0, a quarter and a half, contrast weights 0.5 and 1.5, with and without warm-up; with a
    head of scale 16 matching weights 5, 10 and 30. Larger weights cost the new model on its own gallery and gain
    nothing across, so 10 goes with scale 32, and recipes scale it with the head. Mixed images cost time and gained
    nothing there; β = 0 brings new queries closer still to the old gallery and gives up the gain of the new model
    on its own.

    Args:
        vectors: (N, old_dim) the old model's stored vectors of the new training set, see `OldMemory`.
        labels: (N,) their classes, as the new model's labels number them.
        num_classes: C; the classes' centres are the means of their stored vectors.
        beta: share of the centre in the matching target, see `MatchingLoss`.
        matching_weight: of both matching terms.
        mixed_weight: of mixed images, relative to the plain ones.
        mixed_share: how many images of a batch a training also passes mixed, as a share of it; see `mixed`.
        contrast_weight: 0 leaves the contrast out.
        tail_weight: 0 leaves the tail out.
        temperature: of the contrast.
        far: the false accept rate that the tail aims at.
        sharpness: of the tail.
        size: K, memory vectors in a draw.
        seed: of the draws.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).

    Raises:
        InputError: a weight below zero or no weight above it, or what the three losses refuse.

    Example:
        >>> stored, labels = torch.randn(20, 8), torch.arange(20) % 5
        >>> loss = MatchedLoss(stored, labels, num_classes=5)
        >>> new, old = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
        >>> loss(new, labels[:4], old).shape
        torch.Size([])
        >>> sorted(loss.terms(new, labels[:4], old, mixed=(new, old)))
        ['contrast', 'matching', 'mixed', 'tail']
    """

    needs_old_embeddings = True
    needs_old_views = True

    def __init__(
        self,
        vectors: Vectors,
        labels: Vectors,
        num_classes: int,
        *,
        beta: float = 0.2,
        matching_weight: float = 10.0,
        mixed_weight: float = 0.5,
        mixed_share: float = 0.0,
        contrast_weight: float = 0.5,
        tail_weight: float = 10.0,
        temperature: float = 0.05,
        far: float = 1e-3,
        sharpness: float = 16.0,
        size: int = 4096,
        seed: int = 0,
        prefix: bool = False,
    ) -> None:
        super().__init__()
        self.weights = {
            "matching": matching_weight,
            "mixed": matching_weight * mixed_weight,
            "contrast": contrast_weight,
            "tail": tail_weight,
        }
        if not all(weight >= 0 and math.isfinite(weight) for weight in self.weights.values()):
            raise InputError(f"weights are {self.weights}; expected finite numbers of at least 0")
        if not (matching_weight or contrast_weight or tail_weight):
            raise InputError("matching_weight, contrast_weight and tail_weight are all 0; give at least one above 0")
        if not 0 <= mixed_share <= 1:
            raise InputError(f"mixed_share is {mixed_share}; expected a share of at least 0 and at most 1")
        self.mixed_share = mixed_share
        self.temperature = check_temperature(temperature)
        self.far, self.sharpness = check_operating_point(far, sharpness)
        self.prefix = prefix
        self.memory = OldMemory(vectors, labels, size=size, seed=seed)
        self.matching = MatchingLoss(mean(vectors, labels, num_classes), beta=beta, prefix=prefix)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        old_views: Tensor,
        *,
        old_embeddings: Tensor | None = None,
        mixed: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The weighted sum of the terms of a batch.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers below `num_classes`.
            old_views: (B, old_dim) old vectors of the same augmented views; no gradient goes there.
            old_embeddings: (B, old_dim) stored old vectors of the same images, the tail's own genuine pairs; None
                takes `old_views`.
            mixed: new (M, new_dim) and old (M, old_dim) embeddings of the same mixed images, where there are any.

        Raises:
            InputError: shapes do not fit, a label is outside, or dimensions differ without `prefix`.
        """
        terms = self.terms(embeddings, labels, old_views, old_embeddings=old_embeddings, mixed=mixed)
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()

    def terms(
        self,
        embeddings: Tensor,
        labels: Tensor,
        old_views: Tensor,
        *,
        old_embeddings: Tensor | None = None,
        mixed: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The terms before weighting, by name; arguments as `forward`. A term of weight zero is left out."""
        check_batch(embeddings, labels)
        stored = old_views if old_embeddings is None else old_embeddings
        old_sides = [old_views] if stored is old_views else [old_views, stored]
        for vectors in old_sides:
            check_old(embeddings, vectors)
            self.memory.check_dim(vectors)
        terms: dict[str, Tensor] = {}
        with full_precision(embeddings):
            new = functional.normalize(widen(old_part(embeddings, self.memory.dim, self.prefix)))
            units = [functional.normalize(widen(vectors.detach())).to(new.dtype) for vectors in old_sides]
            if self.weights["matching"]:
                terms["matching"] = self.matching.of_unit(new, labels, units[0])
            if self.weights["contrast"] or self.weights["tail"]:
                at = {"temperature": self.temperature, "far": self.far, "sharpness": self.sharpness}
                both = contrast_and_tail(new, labels, units[0], units[-1], self.memory.draw(), **at)
                values = dict(zip(("contrast", "tail"), both, strict=True))
                terms.update({name: value for name, value in values.items() if self.weights[name]})
        if mixed is not None and self.weights["mixed"]:
            terms["mixed"] = self.matching(mixed[0], None, mixed[1])
        return terms
