"""The trainable classification head of a new model."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import check_batch, check_range, full_precision, widen
from samespace.losses.chunked import Softmax, classification_loss
from samespace.losses.class_share import ClassShare
from samespace.losses.kernels import KernelChoice, check_kernel, kernel_for
from samespace.losses.margins import Margin, check_margin, check_scale

_DRAWN_ROWS = 4096


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
        sample: share of the classes that a step of training compares with: those of the batch and others drawn anew
            each time from torch's global generator (PartialFC; An et al., 2022); None = all of them.
        share: the part of the classes that this process holds, where several processes hold them together. Every
            process then calls the head with its own part of the batch and gets the loss of the whole batch; `weight`
            has this process's rows, with their gradients in full, while gradients of embeddings are to be averaged
            over the processes, as `DistributedDataParallel` does.
        kernel: how a batch of many classes is computed: `float32`; `bf16`, its products in bf16 and summed in float32;
            `triton`, so too with kernels of its own; auto = bf16 under autocast on a GPU, float32 otherwise.

    Raises:
        InputError: a size below 1, a margin value, scale or sample out of range, a bias on a cosine head, or an
            unknown kernel.

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
        sample: float | None = None,
        share: ClassShare | None = None,
        kernel: KernelChoice = "auto",
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
        if sample is not None and not 0 < sample <= 1:
            raise InputError(f"sample is {sample}; expected a share of the classes above 0 and at most 1")
        self.num_classes, self.sample, self.share = num_classes, sample, share
        self.kernel: KernelChoice = check_kernel(kernel)
        self.weight = nn.Parameter(_initial(num_classes, embedding_dim, share))
        self.bias = nn.Parameter(torch.zeros(len(self.weight))) if bias else None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch: embeddings (B, embedding_dim) of any floating type, labels (B,) whole numbers.

        Raises:
            InputError: shapes do not fit, or a label is outside the head.
        """
        check_batch(embeddings, labels)
        check_range(labels, self.num_classes, "the head")
        kernel = kernel_for(self.kernel, embeddings)
        with full_precision(embeddings):
            vectors, targets = self._vectors(embeddings), labels.long()
            if self.share is not None:
                vectors, targets = self.share.gathered(vectors), self.share.labels_here(self.share.gathered(targets))
            weight, bias = self._widened(vectors.dtype)
            if self.sample is not None and self.training:
                chosen = sampled_classes(targets, len(weight), self.sample)
                targets = torch.where(targets < 0, targets, torch.searchsorted(chosen, targets))
                weight, bias = weight[chosen], None if bias is None else bias[chosen]
            normalized = self.margin != "softmax"
            kind = Softmax(self.margin, self.scale, self.margin_value, normalized, self.share, kernel)
            return classification_loss(vectors, weight, bias, targets, kind)

    def logits(self, embeddings: Tensor) -> Tensor:
        """Responses without a margin, (B, num_classes): scaled cosines, or W x + b for plain `softmax`.

        A head that processes share gives those of its own classes.

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
        dim = self.weight.shape[1]
        return (
            f"{self.num_classes}, {dim}, margin={self.margin!r}, scale={self.scale}, margin_value={self.margin_value}"
        )


def sampled_classes(targets: Tensor, num_classes: int, sample: float) -> Tensor:
    """Ascending class numbers: all of `targets` (B,), where -1 is none, and others drawn up to a share of them all."""
    count = min(num_classes, max(round(sample * num_classes), len(targets)))
    # one place more takes the targets that are none, so that no step waits for the device
    order = torch.rand(num_classes + 1, device=targets.device)
    order[targets] = 2.0
    return order[:-1].topk(count).indices.sort().values


def _initial(num_classes: int, dim: int, share: ClassShare | None) -> Tensor:
    """The weight that a training starts from; a process's part of it is the same however many hold it together."""
    if share is None:
        return torch.empty(num_classes, dim).normal_(std=0.01)
    weight = torch.empty(share.stop - share.start, dim)
    for start in range(0, num_classes, _DRAWN_ROWS):
        rows = torch.empty(min(_DRAWN_ROWS, num_classes - start), dim).normal_(std=0.01)
        first, last = max(start, share.start), min(start + len(rows), share.stop)
        if first < last:
            weight[first - share.start : last - share.start] = rows[first - start : last - start]
    return weight
