"""A memory of stored old vectors, of which each training step draws some to compare with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses.checks import check_batch, check_old, full_precision, old_part, widen
from samespace.prototypes.rows import Vectors, blocks, check_vectors, device_of, refuse_unusable, take, whole_numbers

_UNIT = 1e-6


class Draw(NamedTuple):
    """Stored old vectors drawn for one step: unit `vectors` (K, old_dim), their `labels` (K,) int64."""

    vectors: Tensor
    labels: Tensor


class Comparison(NamedTuple):
    """New vectors against a draw, all (B, K).

    Attributes:
        scores: cosines.
        genuine: which pairs are of one class.
        impostor: the cosines, with -inf where a pair is of one class.
    """

    scores: Tensor
    genuine: Tensor
    impostor: Tensor


class OldMemory(nn.Module):
    """The old model's stored vectors of a training set; `draw` takes `size` of them, without repetition.

    What is drawn depends on `(seed, step)` alone. `step` counts the draws made in training mode and is part of the
    state dict, so that a resumed training draws what an uninterrupted one would; set it to follow another count. In
    evaluation mode a draw leaves it as it is.

    Args:
        vectors: (N, old_dim) of any floating type; normalised as they are drawn, unless all are of length 1 within
            1e-6. A tensor moves with the module, a
            numpy array, which may be a memory map, stays where it is and only drawn rows are read. Neither is part of
            the state dict.
        labels: (N,) whole numbers, the classes as the new model's labels number them.
        size: K, vectors in a draw; all N where there are fewer.
        seed: of the draws.

    Raises:
        InputError: no vectors, a row that is zero or not finite, labels that do not fit, or a size below 1.

    Example:
        >>> memory = OldMemory(torch.eye(5), torch.arange(5), size=2)
        >>> first, second = memory.draw(), memory.draw()
        >>> memory.step = 0
        >>> torch.equal(memory.draw().labels, first.labels), len(second.labels)
        (True, 2)
    """

    vectors: Tensor | None
    labels: Tensor

    def __init__(self, vectors: Vectors, labels: Vectors, *, size: int = 4096, seed: int = 0) -> None:
        super().__init__()
        check_vectors(vectors, "memory vectors")
        classes = whole_numbers(labels, "memory labels")
        if len(classes) != len(vectors) or not len(vectors):
            raise InputError(
                f"{len(classes)} labels for {len(vectors)} memory vectors; expected one each, at least one"
            )
        if size < 1 or seed < 0:
            raise InputError(f"a memory draw of size {size} and seed {seed}; expected a size from 1 and a seed from 0")
        self._unit = True
        for rows in blocks(len(vectors), 4 * vectors.shape[1]):
            norms = torch.linalg.vector_norm(take(vectors, rows), dim=1)
            refuse_unusable(norms, rows, "memory vectors")
            self._unit &= bool(((norms - 1).abs() < _UNIT).all())
        self.size = min(size, len(vectors))
        self.seed = seed
        self.step = 0
        self.dim = int(vectors.shape[1])
        self._array = None if isinstance(vectors, Tensor) else vectors
        self.register_buffer("vectors", vectors.detach() if isinstance(vectors, Tensor) else None, persistent=False)
        self.register_buffer("labels", classes.to(device_of(vectors)), persistent=False)

    def __len__(self) -> int:
        """Number of stored vectors."""
        return len(self.labels)

    @torch.no_grad()
    def draw(self) -> Draw:
        """The vectors of the present step, on the device of the labels; in training mode the step moves on."""
        rows = self.rows_of(self.step).to(self.labels.device, non_blocking=True)
        if self.training:
            self.step += 1
        if self._array is not None:
            drawn = take(self._array, rows.cpu()).to(rows.device)
        else:
            assert self.vectors is not None
            drawn = widen(self.vectors.index_select(0, rows))
        return Draw(drawn if self._unit else functional.normalize(drawn), self.labels[rows])

    def rows_of(self, step: int) -> Tensor:
        """Rows drawn at a step, (size,) int64 ascending, on the CPU."""
        if self.size == len(self):
            return torch.arange(self.size)
        random = np.random.default_rng(np.random.SeedSequence([self.seed, step]))
        return torch.from_numpy(np.sort(random.choice(len(self), self.size, replace=False, shuffle=False)))

    def check_dim(self, old_embeddings: Tensor) -> None:
        """Refuse old embeddings of another dimension than the stored vectors.

        Raises:
            InputError: they differ.
        """
        if old_embeddings.shape[1] != self.dim:
            raise InputError(
                f"old embeddings have {old_embeddings.shape[1]} dimensions and the memory {self.dim}; "
                "expected both from the old space"
            )

    def get_extra_state(self) -> Tensor:
        """The step, for the state dict."""
        return torch.tensor(self.step)

    def set_extra_state(self, state: Any) -> None:
        """Take the step from a state dict."""
        self.step = int(state)

    def extra_repr(self) -> str:
        """Sizes and settings, for print."""
        return f"{len(self)}, {self.dim}, size={self.size}, seed={self.seed}"


def against_memory(
    memory: OldMemory, embeddings: Tensor, labels: Tensor, old_embeddings: Tensor, prefix: bool
) -> tuple[Tensor, Comparison]:
    """Cosines of new embeddings to the old ones of the same images, (B,), and to a draw of the memory.

    Args:
        memory: of the old vectors.
        embeddings: (B, new_dim) of any floating type.
        labels: (B,) whole numbers, numbered as the memory's.
        old_embeddings: (B, old_dim); no gradient goes there.
        prefix: compare the leading old_dim entries of wider embeddings.

    Raises:
        InputError: shapes do not fit, or dimensions differ without `prefix`.
    """
    check_batch(embeddings, labels)
    check_old(embeddings, old_embeddings)
    memory.check_dim(old_embeddings)
    with full_precision(embeddings):
        new = functional.normalize(widen(old_part(embeddings, memory.dim, prefix)))
        old = functional.normalize(widen(old_embeddings.detach())).to(new.dtype)
        return (new * old).sum(dim=1), compare(new, labels, memory.draw())


def compare(new: Tensor, labels: Tensor, draw: Draw) -> Comparison:
    """Cosines of new unit vectors (B, old_dim) with labels (B,) to a draw, in one matrix product."""
    scores = functional.linear(new, draw.vectors.to(new.dtype))
    genuine = labels[:, None] == draw.labels[None, :]
    return Comparison(scores, genuine, scores.masked_fill(genuine, -torch.inf))
