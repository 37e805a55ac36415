"""What every loss does with its input first: full precision, matching shapes, the leading slice."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.prototypes.rows import Vectors

_RANGE = "range_of_labels"


def full_precision(embeddings: Tensor) -> AbstractContextManager[object]:
    """Turn autocast off for the maths of a loss."""
    kind = embeddings.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def as_tensor(vectors: Vectors) -> Tensor:
    """A copy of an array, or a tensor without its graph."""
    return torch.tensor(vectors) if isinstance(vectors, np.ndarray) else vectors.detach()


def check_finite_bias(bias: Vectors, count: int, owner: str) -> Tensor:
    """The bias of an old head as float32 of shape (count,), or an InputError; `owner` names what has one each."""
    copy = as_tensor(bias)
    if copy.shape != (count,) or not bool(copy.isfinite().all()):
        raise InputError(f"bias has shape {tuple(copy.shape)}; expected {count} finite numbers, one per {owner}")
    return copy.float()


def widen(vectors: Tensor) -> Tensor:
    """At least float32; float64 stays."""
    return vectors if vectors.dtype == torch.float64 else vectors.float()


def check_batch(embeddings: Tensor, labels: Tensor) -> None:
    """Refuse embeddings and labels that do not form one batch, by an InputError."""
    if embeddings.ndim != 2:
        raise InputError(f"embeddings have shape {tuple(embeddings.shape)}; expected (batch, embedding_dim)")
    if labels.shape != embeddings.shape[:1]:
        raise InputError(f"labels have shape {tuple(labels.shape)}; expected ({len(embeddings)},), one per embedding")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels have type {labels.dtype}; expected whole numbers (int64)")


def note_range(labels: Tensor, device: torch.device) -> Tensor:
    """Labels from the CPU on a device, their range kept with them: `check_range` then need not wait for the device."""
    moved = labels.to(device, non_blocking=True)
    if len(labels):
        moved.__dict__[_RANGE] = tuple(int(bound) for bound in torch.aminmax(labels))
    return moved


def check_range(labels: Tensor, num_classes: int, what: str, *, least: int = 0) -> None:
    """Refuse labels outside least..num_classes - 1; `what` names who has these classes, by an InputError."""
    if len(labels) == 0 or torch.compiler.is_compiling():
        return
    low, high = labels.__dict__.get(_RANGE) or (int(bound) for bound in torch.aminmax(labels))
    if low < least or high >= num_classes:
        raise InputError(f"label {low if low < least else high} is outside 0..{num_classes - 1}, the classes of {what}")


def old_part(embeddings: Tensor, old_dim: int, prefix: bool) -> Tensor:
    """The part of new embeddings that is compared with old vectors: all of it, or its leading `old_dim` columns.

    Raises:
        InputError: dimensions differ and `prefix` is off, or the embeddings are narrower than the old ones.
    """
    dim = embeddings.shape[1]
    if dim == old_dim:
        return embeddings
    if dim < old_dim:
        raise InputError(
            f"embeddings have {dim} dimensions and the old space has {old_dim}; "
            "expected at least as many in the new model as in the old"
        )
    if not prefix:
        raise InputError(
            f"embeddings have {dim} dimensions and the old space has {old_dim}; "
            f"prefix=True compares the leading {old_dim} of them (BCT section 3.6)"
        )
    return embeddings[:, :old_dim]


def check_old(embeddings: Tensor, old_embeddings: Tensor, old_dim: int | None = None) -> None:
    """Refuse old embeddings that are not of the same images as `embeddings`, by an InputError."""
    if old_embeddings.ndim != 2 or len(old_embeddings) != len(embeddings):
        raise InputError(
            f"old embeddings have shape {tuple(old_embeddings.shape)} for {len(embeddings)} embeddings; "
            "expected the old vectors of the same images, (batch, old_dim)"
        )
    if old_dim is not None and old_embeddings.shape[1] != old_dim:
        raise InputError(
            f"old embeddings have {old_embeddings.shape[1]} dimensions; the old classifier takes {old_dim}"
        )


def selected_mean(values: Tensor, selected: Tensor | None) -> Tensor:
    """Mean of the selected values; zero, still with a graph, where none is selected."""
    if selected is None:
        return values.mean()
    return torch.where(selected, values, 0).sum() / selected.sum().clamp(min=1)
