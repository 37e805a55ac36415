"""The L2 baseline: each new embedding is pulled to the old embedding of the same image."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError, suggest
from samespace.losses.checks import check_old, full_precision, old_part, selected_mean, widen

RegressionForm = Literal["bct", "unibct"]
"""`bct`: half the squared distance (Eq. 3); `unibct`: the squared distance (Eq. 11)."""


class RegressionLoss(nn.Module):
    """Squared distance between new and old embeddings of the same images: BCT Eq. 3 and UniBCT Eq. 11.

    BCT prints ½ ‖φ(x) - φ_old(x)‖², summed over T_old; here it is the mean over the batch. UniBCT prints a minus sign,
    which would drive the embeddings apart and is a slip; its text equates the loss with asymmetric metric learning's,
    whose negative cosine is the squared distance of unit vectors up to constants, so the norm is squared here too.

    Both papers find that this alone does not make models compatible: it is a baseline.

    Args:
        form: which paper's constant.
        normalize: compare unit vectors, as search by cosine does; False compares embeddings as they are, which
            requires that the old ones were stored so too.
        prefix: compare the leading old_dim entries of wider embeddings (BCT section 3.6).

    Raises:
        InputError: unknown form.

    Example:
        >>> loss = RegressionLoss(form="bct")
        >>> float(loss(torch.tensor([[3.0, 0.0]]), None, torch.tensor([[0.0, 5.0]])))
        1.0
    """

    needs_old_embeddings = True

    def __init__(self, *, form: RegressionForm = "bct", normalize: bool = True, prefix: bool = False) -> None:
        super().__init__()
        if form not in get_args(RegressionForm):
            raise InputError(f"unknown form {form!r}; {suggest(str(form), get_args(RegressionForm))}")
        self.form: RegressionForm = form
        self.normalize = normalize
        self.prefix = prefix

    def forward(
        self, embeddings: Tensor, labels: Tensor | None, old_embeddings: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: not used; taken so that all losses are called alike.
            old_embeddings: (B, old_dim) of the same images; no gradient goes there.
            mask: (B,) bool, the samples that count, such as those of T_old; None = all.

        Raises:
            InputError: shapes do not fit, or dimensions differ without `prefix`.
        """
        if embeddings.ndim != 2:
            raise InputError(f"embeddings have shape {tuple(embeddings.shape)}; expected (batch, embedding_dim)")
        check_old(embeddings, old_embeddings)
        if mask is not None and (mask.dtype != torch.bool or mask.shape != embeddings.shape[:1]):
            raise InputError(f"mask is {mask.dtype} of shape {tuple(mask.shape)}; expected one bool per sample")
        with full_precision(embeddings):
            new = widen(old_part(embeddings, old_embeddings.shape[1], self.prefix))
            old = widen(old_embeddings.detach()).to(new.dtype)
            if self.normalize:
                new, old = functional.normalize(new), functional.normalize(old)
            squared = (new - old).square().sum(dim=1)
            return selected_mean(0.5 * squared if self.form == "bct" else squared, mask)
