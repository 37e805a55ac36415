"""One compatibility term for each old space whose gallery still serves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samespace.errors import InputError


class EveryGalleryLoss(nn.Module):
    """The weighted mean of a term for each of several old models; samespace's own.

    A successor trained against the model before it alone drifts away from the galleries of earlier ones, though each
    link of the chain is tied. Where these still serve items, tie it to all of them.

    Cost: that of every term, and an old forward pass a step for each old model whose views are embedded live. On
    glyphs (three models, two seeds; see `docs/results/candidates.md`) it gained 5 to 14 points of rank@1 on the oldest
    gallery against tying to the last model alone, and lost nothing beyond noise on the middle gallery or on its own.

    Args:
        terms: one for each old model, such as `MatchedLoss`, called as `term(embeddings, labels, old_views,
            old_embeddings=...)`; the spaces may differ in dimension, with `prefix` in the terms of narrower ones.
        weights: of the terms, such as how many items each gallery still serves; all alike by default. They are scaled
            to the sum 1, so that the whole weighs as one term.

    Raises:
        InputError: no term, or weights that are not one finite number above zero for each.

    Example:
        >>> from samespace.losses import MatchedLoss
        >>> labels = torch.arange(20) % 5
        >>> first, second = torch.randn(20, 8), torch.randn(20, 8)
        >>> loss = EveryGalleryLoss([MatchedLoss(old, labels, num_classes=5) for old in (first, second)])
        >>> loss(torch.randn(4, 8), labels[:4], [first[:4], second[:4]]).shape
        torch.Size([])
    """

    needs_old_embeddings = True
    needs_old_views = True

    def __init__(self, terms: Sequence[nn.Module], *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not terms:
            raise InputError("no terms; give one compatibility term for each old model")
        given = [1.0] * len(terms) if weights is None else [float(weight) for weight in weights]
        if len(given) != len(terms) or not all(weight > 0 and math.isfinite(weight) for weight in given):
            raise InputError(f"weights are {given}; expected {len(terms)} finite numbers above 0, one for each term")
        self.terms = nn.ModuleList(terms)
        self.weights = tuple(weight / sum(given) for weight in given)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        old_views: Sequence[Tensor],
        *,
        old_embeddings: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The weighted mean over the old models.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers.
            old_views: for each old model (B, its dim) old vectors of the same augmented views.
            old_embeddings: for each old model (B, its dim) stored vectors of the same images; None takes the views.

        Raises:
            InputError: not one of each for every term, or what a term refuses.
        """
        stored: Sequence[Tensor | None] = [None] * len(self.terms) if old_embeddings is None else old_embeddings
        for name, vectors in (("old_views", old_views), ("old_embeddings", stored)):
            if len(vectors) != len(self.terms):
                raise InputError(
                    f"{name} holds vectors of {len(vectors)} models; expected {len(self.terms)}, one a term"
                )
        values = [
            weight * term(embeddings, labels, views, old_embeddings=own)
            for term, weight, views, own in zip(self.terms, self.weights, old_views, stored, strict=True)
        ]
        return torch.stack(values).sum()

    def extra_repr(self) -> str:
        """The weights, for print."""
        return f"weights={tuple(round(weight, 4) for weight in self.weights)}"
