"""Distillation through the old classifier: BCT's knowledge distillation, and Learning without Forgetting."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError, suggest
from samespace.losses.checks import (
    as_tensor,
    check_batch,
    check_finite_bias,
    check_old,
    check_range,
    full_precision,
    old_part,
    selected_mean,
    widen,
)
from samespace.losses.influence import InfluenceLoss
from samespace.prototypes.rows import Vectors, check_class_map, check_vectors

Form = Literal["cosine", "linear"]
"""How the old classifier responds: by cosines, or by W v + b as a plain softmax head does."""

DEFAULT_TEMPERATURES: dict[Form, float] = {"cosine": 32.0, "linear": 1.0}
"""What responses are multiplied by; 32 is BCT's, "the same as the one in the cosine margin loss"."""


class DistillationLoss(nn.Module):
    """KL divergence between the old classifier's responses to the old and to the new embedding (BCT 2.5, appendix A).

    Use it for images whose class the old classifier does not know, where `InfluenceLoss` has no target: with a
    `class_map`, the two losses divide a batch between them. Each is the mean over its own samples.

    The paper's temperature is the scale of its cosine softmax, so it *multiplies* the responses:
    p = softmax(temperature · cos). It does so for linear responses too; Hinton's division by T is temperature 1/T.
    The divergence has the gradient of the paper's cross-entropy and is zero where the responses agree; it is not
    rescaled by a squared temperature.

    Args:
        classifier_weight: (num_old_classes, old_dim) weight of the old classifier; frozen.
        form: `cosine` for heads that normalise, `linear` for plain softmax heads.
        temperature: factor on the responses; None = 32 for `cosine`, 1 for `linear`.
        bias: (num_old_classes,) bias of the old classifier; only with form `linear`.
        class_map: (num_new_classes,) old class of each new label, -1 = none; only the latter are distilled. None = all.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).

    Raises:
        InputError: unusable weight or bias, a class map that points nowhere, or a temperature not above zero.

    Example:
        >>> vectors = torch.randn(4, 8)
        >>> loss = DistillationLoss(torch.randn(10, 8))
        >>> float(loss(vectors, torch.zeros(4, dtype=torch.int64), vectors)) < 1e-6
        True
    """

    needs_old_embeddings = True

    weight: Tensor
    bias: Tensor | None
    class_map: Tensor | None

    def __init__(
        self,
        classifier_weight: Vectors,
        *,
        form: Form = "cosine",
        temperature: float | None = None,
        bias: Vectors | None = None,
        class_map: Vectors | None = None,
        prefix: bool = False,
    ) -> None:
        super().__init__()
        if form not in get_args(Form):
            raise InputError(f"unknown form {form!r}; {suggest(str(form), get_args(Form))}")
        self.form: Form = form
        self.temperature = DEFAULT_TEMPERATURES[form] if temperature is None else temperature
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise InputError(f"temperature is {temperature}; expected a finite number above 0")
        if bias is not None and form != "linear":
            raise InputError("a bias with form 'cosine'; only form 'linear' takes the old head's bias")
        weight = _usable_weight(classifier_weight)
        known = None if class_map is None else check_class_map(class_map, len(weight)).cpu().clone()
        self.prefix = prefix
        self.register_buffer("weight", weight)
        self.register_buffer(
            "bias", None if bias is None else check_finite_bias(bias, len(weight), "old class").clone()
        )
        self.register_buffer("class_map", known)

    def forward(
        self, embeddings: Tensor, labels: Tensor, old_embeddings: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers; they matter only with a class map.
            old_embeddings: (B, old_dim) of the same images; no gradient goes there.
            mask: (B,) bool, the samples to distil, on top of the class map's choice; None = all.

        Raises:
            InputError: shapes do not fit, a label is outside the class map, or dimensions differ without `prefix`.
        """
        check_batch(embeddings, labels)
        check_old(embeddings, old_embeddings, self.weight.shape[1])
        selected = self._selected(labels, mask)
        with full_precision(embeddings):
            new = widen(old_part(embeddings, self.weight.shape[1], self.prefix))
            old = widen(old_embeddings.detach()).to(new.dtype)
            target = functional.log_softmax(self._responses(old, self.weight, self.bias), dim=1)
            answer = functional.log_softmax(self._student(new), dim=1)
            divergence = functional.kl_div(answer, target, log_target=True, reduction="none").sum(dim=1)
            return selected_mean(divergence, selected)

    def counts(self, labels: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """How many samples of a batch are distilled: scalar float32 tensor on the device of labels (B,).

        `forward` is the mean over these, so means of several batches or processes combine with these weights.

        Raises:
            InputError: a label is outside the class map, or the mask does not fit.
        """
        selected = self._selected(labels, mask)
        return (torch.ones_like(labels, dtype=torch.bool) if selected is None else selected).sum().float()

    def _student(self, new: Tensor) -> Tensor:
        """Response to the new embeddings."""
        return self._responses(new, self.weight, self.bias)

    def _responses(self, vectors: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = weight.to(vectors.dtype)
        if self.form == "cosine":
            return self.temperature * functional.linear(functional.normalize(vectors), functional.normalize(weight))
        return self.temperature * functional.linear(vectors, weight, None if bias is None else bias.to(vectors.dtype))

    def _selected(self, labels: Tensor, mask: Tensor | None) -> Tensor | None:
        if mask is not None and (mask.dtype != torch.bool or mask.shape != labels.shape):
            raise InputError(f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected one bool per sample")
        if self.class_map is None:
            return mask
        check_range(labels, len(self.class_map), "the class map")
        unknown = self.class_map[labels.long()] < 0
        return unknown if mask is None else unknown & mask


class LwFLoss(DistillationLoss):
    r"""Learning without Forgetting as BCT's baseline (section 3.5): the old model's soft labels for newly added images.

    The teacher is the fixed old model with its fixed classifier. For the student the paper gives one clause ("adapted
    from" Li and Hoiem), and theirs is a copy of the old classifier on top of the *new* network, trained along with
    it; so it is here, and that copy is what sets this baseline apart from `DistillationLoss`. `trainable=False` takes
    the other reading, a student with the fixed classifier.

    The copy is a parameter (`student_weight`): give the parameters of this loss to the optimiser.

    The soft labels are for x in T_new \ T_old only. Say which these are by a `class_map` (classes the old classifier
    does not know), or by a mask per batch where old and new training sets share classes.

    Args:
        classifier_weight: (num_old_classes, old_dim) weight of the old classifier.
        trainable: train the student's copy of it.
        form: as `DistillationLoss`.
        temperature: as `DistillationLoss`; BCT gives none for LwF.
        bias: as `DistillationLoss`.
        class_map: as `DistillationLoss`.
        prefix: as `DistillationLoss`.

    Raises:
        InputError: as `DistillationLoss`.
    """

    def __init__(
        self,
        classifier_weight: Vectors,
        *,
        trainable: bool = True,
        form: Form = "cosine",
        temperature: float | None = None,
        bias: Vectors | None = None,
        class_map: Vectors | None = None,
        prefix: bool = False,
    ) -> None:
        super().__init__(
            classifier_weight, form=form, temperature=temperature, bias=bias, class_map=class_map, prefix=prefix
        )
        copy = None if self.bias is None else nn.Parameter(self.bias.clone(), requires_grad=trainable)
        self.student_weight = nn.Parameter(self.weight.clone(), requires_grad=trainable)
        self.student_bias = copy

    def _student(self, new: Tensor) -> Tensor:
        return self._responses(new, self.student_weight, self.student_bias)


class BctDistillationLoss(nn.Module):
    """BCT with distillation (BCT 2.5): samples of known classes by the influence loss, the others by distillation.

    Args:
        influence: for samples whose class the old classifier knows.
        distillation: for the others.
        class_map: (C,) int64, the old class of each new label, −1 = none.
    """

    needs_old_embeddings = True

    known: Tensor

    def __init__(self, influence: InfluenceLoss, distillation: DistillationLoss, class_map: Tensor) -> None:
        super().__init__()
        self.influence, self.distillation = influence, distillation
        self.register_buffer("known", (class_map >= 0).float())

    def forward(self, embeddings: Tensor, labels: Tensor, old_embeddings: Tensor) -> Tensor:
        """The mean over all samples of the batch; arguments as `DistillationLoss`."""
        share = self.known[labels].mean()
        influence: Tensor = self.influence(embeddings, labels)
        distillation: Tensor = self.distillation(embeddings, labels, old_embeddings)
        return share * influence + (1 - share) * distillation


def _usable_weight(weight: Vectors) -> Tensor:
    check_vectors(weight, "classifier_weight")
    copy = as_tensor(weight).clone()
    usable = copy.isfinite().all(dim=1)
    if not bool(usable.all()):
        raise InputError(f"row {int((~usable).nonzero()[0])} of classifier_weight holds NaN or infinity")
    return copy.float()
