"""The influence loss: new embeddings classified by frozen prototypes of the old space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import (
    as_tensor,
    check_batch,
    check_finite_bias,
    check_range,
    full_precision,
    old_part,
    widen,
)
from samespace.losses.chunked import Softmax, classification_loss
from samespace.losses.kernels import KernelChoice, check_kernel, kernel_for
from samespace.losses.margins import Margin, check_margin, check_scale
from samespace.prototypes.rows import Vectors, check_class_map, check_vectors


class InfluenceLoss(nn.Module):
    """Margin softmax of new embeddings against frozen old prototypes: BCT Eq. 8 (second term), UniBCT Eq. 5.

    - BCT on the old training set's classes: the old classifier's weight, and a `class_map` where the label sets differ.
    - BCT with synthesised weights: the weight and, as `class_map`, the rows of `prototypes.extend_classifier(...)`.
    - UniBCT: `prototypes.refined(...)`, or `mean`, `trimmed`.

    Prototypes are buffers: saved with the module, moved with it, never trained. A class whose prototype is NaN (it had
    no samples) is neither target nor negative. Samples whose class has no prototype contribute nothing: the loss is
    the mean over the others, and zero, still with a graph, where a batch has none.

    Args:
        prototypes: (num_prototypes, old_dim) floating, rows of any length; NaN rows = no prototype.
        margin: form of the loss, see `MARGINS`; `softmax` uses the rows as they are, as an old plain softmax head does.
        scale: factor on the cosines; plain `softmax` has none and ignores it.
        margin_value: radians (ArcFace), cosine (CosFace) or factor (SphereFace); None = .5, .4, 1.7.
        class_map: (num_new_classes,) whole numbers, the prototype row of each new label, -1 = none; None = labels are
            rows.
        bias: (num_prototypes,) bias of an old plain softmax head; only with margin `softmax`.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).
        kernel: how a batch of many prototypes is computed, see `MarginHead`.

    Raises:
        InputError: no usable prototype, a zero or partly NaN row, a class map that points nowhere, options that
            exclude each other, or a margin value or scale out of range.

    Example:
        >>> loss = InfluenceLoss(torch.eye(3), margin="norm-softmax", scale=10.0)
        >>> float(loss(torch.eye(3), torch.tensor([0, 1, 2]))) < 1e-3
        True
    """

    needs_old_embeddings = False

    weight: Tensor
    offset: Tensor
    rows: Tensor

    def __init__(
        self,
        prototypes: Vectors,
        *,
        margin: Margin = "arcface",
        scale: float = 64.0,
        margin_value: float | None = None,
        class_map: Vectors | None = None,
        bias: Vectors | None = None,
        prefix: bool = False,
        kernel: KernelChoice = "auto",
    ) -> None:
        super().__init__()
        self.margin_value = check_margin(margin, margin_value)
        self.margin: Margin = margin
        self.scale = check_scale(scale)
        self.prefix = prefix
        self.kernel: KernelChoice = check_kernel(kernel)
        if bias is not None and margin != "softmax":
            raise InputError(f"a bias with margin {margin!r}; only margin 'softmax' takes the old head's bias")
        check_vectors(prototypes, "prototypes")
        count, dim = prototypes.shape
        rows = torch.arange(count) if class_map is None else check_class_map(class_map, count).clone()
        self.register_buffer("weight", torch.zeros(count, dim))
        self.register_buffer("offset", torch.zeros(count))
        self.register_buffer("rows", rows.cpu())
        self.set_prototypes(prototypes, bias=bias)

    @torch.no_grad()
    def set_prototypes(self, prototypes: Vectors, *, bias: Vectors | None = None) -> None:
        """Replace the prototypes by others of the same shape, as UniBCT does at its refresh epochs.

        Args:
            prototypes: (num_prototypes, old_dim), as at construction.
            bias: as at construction; None = no bias, whatever it was before.

        Raises:
            InputError: another shape, no usable prototype, a zero or partly NaN row, or a bias that does not fit.
        """
        check_vectors(prototypes, "prototypes")
        if tuple(prototypes.shape) != tuple(self.weight.shape):
            raise InputError(
                f"prototypes have shape {tuple(prototypes.shape)}; expected {tuple(self.weight.shape)} as before"
            )
        if bias is not None and self.margin != "softmax":
            raise InputError(f"a bias with margin {self.margin!r}; only margin 'softmax' takes the old head's bias")
        weight = as_tensor(prototypes).to(self.weight.device, torch.float32)
        missing = weight.isnan().all(dim=1)
        self._check_rows(weight, missing)
        offset = (
            torch.zeros_like(self.offset)
            if bias is None
            else check_finite_bias(bias, len(weight), "prototype").to(self.offset)
        )
        if self.margin != "softmax":
            weight = functional.normalize(weight)
        self.weight.copy_(weight.masked_fill(missing[:, None], 0))
        self.offset.copy_(offset.masked_fill(missing, -torch.inf))

    def _check_rows(self, weight: Tensor, missing: Tensor) -> None:
        broken = ~missing & ~weight.isfinite().all(dim=1)
        if bool(broken.any()):
            row = int(broken.nonzero()[0])
            raise InputError(
                f"prototype {row} holds NaN or infinity in part; expected finite, or all NaN for no prototype"
            )
        zero = ~missing & (weight == 0).all(dim=1)
        if bool(zero.any()) and self.margin != "softmax":
            raise InputError(f"prototype {int(zero.nonzero()[0])} is all zero and has no direction")
        if not bool((self._targets(self.rows, missing) >= 0).any()):
            raise InputError("no class has a prototype: every row in use is NaN or the class map holds only -1")

    @staticmethod
    def _targets(rows: Tensor, missing: Tensor) -> Tensor:
        """Prototype rows with -1 where there is no prototype."""
        return torch.where((rows >= 0) & ~missing[rows.clamp(min=0)], rows, -1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of a batch: embeddings (B, new_dim) of any floating type, labels (B,) whole numbers.

        Raises:
            InputError: shapes do not fit, a label is outside, or dimensions differ without `prefix`.
        """
        check_batch(embeddings, labels)
        offset = self._offset()
        targets = self._targets_of(labels, offset)
        kernel = kernel_for(self.kernel, embeddings)
        with full_precision(embeddings):
            vectors = widen(old_part(embeddings, self.weight.shape[1], self.prefix))
            if self.margin != "softmax":
                vectors = self.scale * functional.normalize(vectors)
            weight = self.weight.to(vectors.dtype)
            offset = None if offset is None else offset.to(vectors.dtype)
            kind = Softmax(self.margin, self.scale, self.margin_value, normalized=False, kernel=kernel)
            return classification_loss(vectors, weight, offset, targets, kind)

    def counts(self, labels: Tensor) -> Tensor:
        """How many samples of a batch have a target: scalar float32 tensor on the device of labels (B,).

        `forward` is the mean over these, so means of several batches or processes combine with these weights.

        Raises:
            InputError: a label is outside.
        """
        return (self._targets_of(labels, self._offset()) >= 0).sum().float()

    def _offset(self) -> Tensor | None:
        """What is added to the logits. None for zero, seen on a CPU alone: a GPU would have to be waited for."""
        seen = self.offset.device.type == "cpu" and not torch.compiler.is_compiling()
        return None if seen and not self.offset.any() else self.offset

    def _targets_of(self, labels: Tensor, offset: Tensor | None) -> Tensor:
        check_range(labels, len(self.rows), "the influence loss")
        rows = self.rows[labels.long()]
        return rows if offset is None else self._targets(rows, offset.isneginf())

    def extra_repr(self) -> str:
        """Sizes and settings, for print."""
        count, dim = self.weight.shape
        return f"{count}, {dim}, margin={self.margin!r}, scale={self.scale}, margin_value={self.margin_value}"
