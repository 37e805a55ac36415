"""Several processes under torchrun: the number of this one, gathering from all, batch norm over all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.losses.class_share import ClassShare
from samespace.vectors import Floats


@dataclass(frozen=True)
class Processes:
    """This process, number `rank`, among all `count`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()

    def share(self, total: int) -> tuple[int, int]:
        """First and one-past-last of `total` rows that are this process's to do."""
        size = -(-total // self.count)
        return min(self.rank * size, total), min((self.rank + 1) * size, total)

    def classes(self, total: int) -> ClassShare | None:
        """The part of `total` classes that is this process's to hold; None where it is alone.

        Raises:
            InputError: there are fewer classes than processes.
        """
        if total < self.count:
            raise InputError(f"head.class_parallel shares {total} classes among {self.count} processes; use fewer")
        return ClassShare(self.rank, self.count, total) if self.count > 1 else None

    @contextmanager
    def gathered(self, part: Floats, start: int, total: int, file: Path) -> Iterator[Floats]:
        """The rows of all processes, (total, D), from each one's `part` that begins at row `start`.

        They meet in a memory map, `file`, which is gone afterwards: no process holds them all.
        """
        if self.count == 1:
            yield part
            return
        if self.first:
            np.lib.format.open_memmap(file, mode="w+", dtype=part.dtype, shape=(total, part.shape[1])).flush()
        self.wait()
        rows = np.lib.format.open_memmap(file, mode="r+")
        rows[start : start + len(part)] = part
        rows.flush()
        self.wait()
        yield rows
        self.wait()
        if self.first:
            file.unlink()

    def from_first(self, value: Tensor | None, like: Tensor) -> Tensor:
        """The first process's value on every process; `like` has its shape, dtype and device."""
        result = torch.empty_like(like) if value is None else value.to(like)
        if self.count > 1:
            dist.broadcast(result, src=0)
        return result

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether the flag is set on any process."""
        if self.count == 1:
            return flag
        value = torch.tensor(float(flag), device=device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item() > 0)


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started; alone where it started none."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    # the first process may be alone at work for long, embedding images by the old model
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=1))
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """The GPU of this process where several were started on one machine."""
    if device.type == "cuda" and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def check_batch(batch_size: int, count: int) -> None:
    """Refuse a batch that does not divide among the processes."""
    if batch_size % count:
        raise InputError(f"optim.batch_size={batch_size} does not divide among {count} processes; choose a multiple")


def synchronize_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Make every batch norm see the whole batch of all processes, on GPUs by torch's own, on CPUs by ours.

    Raises:
        InputError: a batch norm does more than normalise, such as timm's with an activation inside, which conversion
            would lose.
    """
    for name, child in module.named_modules():
        plain = type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, _GlooBatchNorm) and getattr(child, "affine", True)
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not plain:
            kind = type(child).__name__
            raise InputError(f"{name} is a {kind}, which cannot be synchronised over processes; use one process")
    if device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, _GlooBatchNorm.wrap(child))
        else:
            synchronize_batch_norm(child, device)
    return module


class _GlooBatchNorm(nn.BatchNorm2d):
    """Batch norm over all processes on CPUs, which torch's SyncBatchNorm does not offer."""

    @classmethod
    def wrap(cls, plain: nn.BatchNorm1d | nn.BatchNorm2d) -> _GlooBatchNorm:
        synced = cls(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        synced.load_state_dict(plain.state_dict())
        for own, given in zip(synced.parameters(), plain.parameters(), strict=True):
            own.requires_grad_(given.requires_grad)
        return synced.train(plain.training)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 4):
            raise ValueError(f"expected (B, C) or (B, C, H, W), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        count = torch.tensor([input.numel() / input.shape[1]])
        sums = torch.cat([input.sum(axes), (input * input).sum(axes), count])
        sums = cast(Tensor, _AllSum.apply(sums))  # type: ignore[no-untyped-call]
        total = sums[-1]
        mean, square = sums[:-1].chunk(2)
        mean, square = mean / total, square / total
        variance = (square - mean * mean).clamp_min(0)
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            momentum = 0.1 if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * total / (total - 1), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        shape = [1, -1] + [1] * (input.ndim - 2)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return input * scale.view(shape) + (self.bias - mean * scale).view(shape)


class _AllSum(torch.autograd.Function):
    """Sum over processes; so is its gradient."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient
