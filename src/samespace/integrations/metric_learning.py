"""Losses called as pytorch-metric-learning calls its own: in its trainers, beside its losses and miners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from samespace.errors import InputError


class MetricLearningLoss(nn.Module):
    """A loss of `samespace.losses`, called as `loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)`.

    `ref_emb` are the old model's vectors of the same images in the same order, one row for each embedding. A loss with
    an old side of its own (`InfluenceLoss`) or none (`MarginHead`) ignores them, so that all are called alike.
    pytorch-metric-learning itself is not imported.

    Its trainers and `MultipleLosses` pass no `ref_emb`. Give the trainer `data_and_label_getter=loss.data_and_label`
    and a data set of (image, label, old vector), best the old model's vector of the very view.

    A miner's `indices_tuple` chooses samples, not pairs, for these losses choose their own pairs: the mean is over the
    samples that the miner chose as anchors, each once.

    Args:
        loss: called as `loss(embeddings, labels)`, with `old_embeddings=` and `old_views=` where it declares that it
            needs them; its parameters, such as a head's weight, are this module's.

    Example:
        >>> from samespace.losses import ContrastiveLoss
        >>> loss = MetricLearningLoss(ContrastiveLoss())
        >>> labels = torch.tensor([0, 1, 2])
        >>> float(loss(torch.eye(3), labels, ref_emb=torch.eye(3), ref_labels=labels)) < 1e-6
        True
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self._of_batch: Tensor | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The keywords under which the loss takes old vectors; none where it takes none."""
        return tuple(name for name in ("old_embeddings", "old_views") if getattr(self.loss, f"needs_{name}", False))

    def data_and_label(self, batch: Sequence[Any]) -> tuple[Any, Any]:
        """Data and labels of a batch (data, labels, old vectors), whose old vectors the next call of the loss takes.

        Raises:
            InputError: the batch has not these three parts.
        """
        if not isinstance(batch, list | tuple) or len(batch) != 3:
            parts = f"{len(batch)} parts" if isinstance(batch, list | tuple) else f"a {type(batch).__name__}"
            raise InputError(f"the batch is {parts}; expected (data, labels, old vectors) from the data set")
        data, labels, self._of_batch = batch
        return data, labels

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Sequence[Tensor] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch, a scalar.

        Args:
            embeddings: (B, new_dim) of any floating type.
            labels: (B,) whole numbers.
            indices_tuple: of a miner: anchors, positives, negatives; or anchors, positives, anchors, negatives.
            ref_emb: (B, old_dim) old vectors of the same images; None takes those of `data_and_label`.
            ref_labels: (B,) as `labels`; taken to make sure that both are of the same images.

        Raises:
            InputError: no old vectors where the loss needs them, other labels on their side, or what the loss refuses.
        """
        if ref_emb is None:
            ref_emb, self._of_batch = self._of_batch, None
        labels = labels.to(embeddings.device)
        old = self._old(embeddings, labels, ref_emb, ref_labels) if self.wanted else None
        if indices_tuple is not None:
            rows = _anchors(indices_tuple).to(embeddings.device)
            if len(rows) == 0:
                return embeddings[rows].sum()
            embeddings, labels, old = embeddings[rows], labels[rows], None if old is None else old[rows]
        value: Tensor = self.loss(embeddings, labels, **dict.fromkeys(self.wanted, old))
        return value

    def _old(self, embeddings: Tensor, labels: Tensor, ref_emb: Tensor | None, ref_labels: Tensor | None) -> Tensor:
        name = type(self.loss).__name__
        if ref_emb is None:
            raise InputError(
                f"{name} needs the old model's vectors of the batch: give ref_emb, or in a trainer "
                "data_and_label_getter=loss.data_and_label"
            )
        if len(ref_emb) != len(embeddings):
            raise InputError(
                f"ref_emb has {len(ref_emb)} rows for {len(embeddings)} embeddings; {name} takes the old vectors of "
                "the same images, in their order"
            )
        if ref_labels is not None and not torch.equal(ref_labels.to(labels), labels):
            raise InputError(
                f"ref_labels are not the labels of the batch; {name} takes the old vectors of the same images, in "
                "their order"
            )
        return ref_emb.to(embeddings.device)


def _anchors(indices: Sequence[Tensor]) -> Tensor:
    """The rows that a miner chose as anchors, each once, ascending."""
    if len(indices) not in (3, 4):
        raise InputError(f"indices_tuple has {len(indices)} parts; expected the 3 of triplets or the 4 of pairs")
    rows: Tensor = torch.unique(torch.cat([indices[0], indices[2]] if len(indices) == 4 else [indices[0]]))
    return rows
