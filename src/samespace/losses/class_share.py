"""The classes of a head shared out among processes, and batches gathered from all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class ClassShare:
    """Which of all classes this process holds: `start` to `stop - 1`, about as many as every other.

    Attributes:
        rank: number of this process.
        count: of processes.
        classes: of all processes together.
    """

    rank: int
    count: int
    classes: int

    @property
    def most(self) -> int:
        """The most classes that a process holds."""
        return -(-self.classes // self.count)

    @property
    def start(self) -> int:
        """The first class of this process."""
        return self.rank * self.classes // self.count

    @property
    def stop(self) -> int:
        """One past the last class of this process."""
        return (self.rank + 1) * self.classes // self.count

    def own(self, values: Tensor) -> Tensor:
        """The rows of this process among those of all classes (C, …)."""
        return values[self.start : self.stop]

    def whole(self, values: Tensor) -> Tensor:
        """The rows of all classes, (C, …), on the CPU, from each process's own; for any but the first process empty."""
        padded = torch.zeros(self.most, *values.shape[1:], dtype=values.dtype, device=values.device)
        padded[: len(values)] = values.detach()
        parts = [torch.empty_like(padded) for _ in range(self.count)] if self.rank == 0 else []
        dist.gather(padded, parts or None)
        shares = [replace(self, rank=rank) for rank in range(len(parts))]
        rows = [part[: share.stop - share.start].cpu() for part, share in zip(parts, shares, strict=True)]
        return torch.cat([padded[:0].cpu(), *rows])

    def labels_here(self, labels: Tensor) -> Tensor:
        """Labels as rows of this process, -1 for classes of others."""
        return torch.where((labels >= self.start) & (labels < self.stop), labels - self.start, -1)

    def maximum(self, values: Tensor) -> None:
        """Replace values of the same shape on every process by their maximum."""
        dist.all_reduce(values, op=dist.ReduceOp.MAX)

    def sum(self, *values: Tensor) -> None:
        """Replace values of one shape by their sums over the processes."""
        together = torch.stack(values)
        dist.all_reduce(together)
        for one, added in zip(values, together, strict=True):
            one.copy_(added)

    def gathered(self, values: Tensor) -> Tensor:
        """The batches of all processes one after another, (count · B, …); all must be of one size.

        The gradient is the sum over the processes, times their number: `DistributedDataParallel` takes the mean of the
        gradients of all, and the loss of a shared head is one for all.
        """
        return cast(Tensor, _Gathered.apply(values, self))  # type: ignore[no-untyped-call]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, share: ClassShare) -> Tensor:
        ctx.share = share
        parts = [torch.empty_like(values) for _ in range(share.count)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        share: ClassShare = ctx.share
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(share.count)[share.rank] * share.count, None
