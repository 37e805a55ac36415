"""The trainable classification head of a new model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import check_batch, check_range, full_precision, widen
from samespace.losses.chunked import Softmax, classification_loss
from samespace.losses.margins import Margin, check_margin, check_scale


class MarginHead(nn.Module):
    """Classifier with a margin: BCT Eq. 4, UniBCT Eq. 3-4.

    `head(embeddings, labels)` is the training loss; `head.weight` (num_classes, embedding_dim) is what a successor of
    this model needs as its old classifier. The head is a module: give its parameters to the optimiser too. A batch of
    many classes is computed in chunks, and can then be differentiated once only; see `losses.chunked`.

    Args:
        num_classes: classes of the training set.
        embedding_dim: dimension of the embeddings.
        margin: form of the loss, see `MARGINS`.
        scale: factor on the cosines; plain `softmax` has none and ignores it.
        margin_value: radians (ArcFace), cosine (CosFace) or factor (SphereFace); None = .5, .4, 1.7.
        bias: add a bias to the logits; only for plain `softmax`.

    Raises:
        InputError: a size below 1, a margin value or scale out of range, or a bias on a cosine head.

    Example:
        >>> head = MarginHead(num_classes=3, embedding_dim=8, margin="cosface", scale=32.0)
        >>> head(torch.randn(4, 8), torch.tensor([0, 1, 2, 0])).shape
        torch.Size([])
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        margin: Margin = "arcface",
        scale: float = 64.0,
        margin_value: float | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1 or embedding_dim < 1:
            raise InputError(
                f"a head of {num_classes} classes and {embedding_dim} dimensions; expected at least 1 of each"
            )
        self.margin_value = check_margin(margin, margin_value)
        self.margin: Margin = margin
        self.scale = check_scale(scale)
        if bias and margin != "softmax":
            raise InputError(f"bias=True with margin {margin!r}; only margin 'softmax' has a bias")
        self.weight = nn.Parameter(torch.empty(num_classes, embedding_dim).normal_(std=0.01))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch: embeddings (B, embedding_dim) of any floating type, labels (B,) whole numbers.

        Raises:
            InputError: shapes do not fit, or a label is outside the head.
        """
        check_batch(embeddings, labels)
        check_range(labels, len(self.weight), "the head")
        with full_precision(embeddings):
            vectors = self._vectors(embeddings)
            weight, bias = self._widened(vectors.dtype)
            kind = Softmax(self.margin, self.scale, self.margin_value, normalized=self.margin != "softmax")
            return classification_loss(vectors, weight, bias, labels.long(), kind)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Responses without a margin, (B, num_classes): scaled cosines, or W x + b for plain `softmax`.

        Raises:
            InputError: the embeddings are not of the head's dimension.
        """
        with full_precision(embeddings):
            vectors = self._vectors(embeddings)
            weight, bias = self._widened(vectors.dtype)
            return functional.linear(
                vectors, weight if self.margin == "softmax" else functional.normalize(weight), bias
            )

    def _vectors(self, embeddings: Tensor) -> Tensor:
        """What is multiplied by the weight: scaled unit vectors, or the embeddings for plain `softmax`."""
        if embeddings.ndim != 2 or embeddings.shape[1] != self.weight.shape[1]:
            raise InputError(
                f"embeddings have shape {tuple(embeddings.shape)}; the head takes (batch, {self.weight.shape[1]})"
            )
        vectors = widen(embeddings)
        return vectors if self.margin == "softmax" else self.scale * functional.normalize(vectors)

    def _widened(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        return self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)

    def extra_repr(self) -> str:
        """Sizes and settings, for print."""
        classes, dim = self.weight.shape
        return f"{classes}, {dim}, margin={self.margin!r}, scale={self.scale}, margin_value={self.margin_value}"
