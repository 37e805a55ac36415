"""A small network beside a linear map, for what no affine map can express; learnt by matching and contrast."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samespace.bridge.linear import LinearMap
from samespace.errors import TrainingError
from samespace.progress import Advance, silent

HIDDEN = 1024


class ResidualMap(nn.Module):
    """`normalize(linear(x) + network(x))`, the network with two hidden layers.

    The last layer begins at zero, so an untrained map is its linear part.

    Args:
        source_dim: dimensions of what comes in.
        target_dim: dimensions of what goes out.
        hidden: width of both hidden layers.
    """

    def __init__(self, source_dim: int, target_dim: int, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.linear = nn.Linear(source_dim, target_dim)
        self.network = nn.Sequential(
            nn.Linear(source_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, target_dim),
        )
        nn.init.zeros_(self.network[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.network[-1].bias)  # type: ignore[arg-type]

    @classmethod
    def around(cls, start: LinearMap, hidden: int, seed: int) -> ResidualMap:
        """An untrained map that equals `start`; the seed decides the hidden layers, and no global state changes."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = cls(start.weight.shape[0], start.weight.shape[1], hidden)
        with torch.no_grad():
            made.linear.weight.copy_(start.weight.T)
            made.linear.bias.copy_(start.bias)
        return made

    def forward(self, vectors: Tensor) -> Tensor:
        """Map unit vectors (B, source_dim) to unit vectors (B, target_dim)."""
        return F.normalize(self.linear(vectors) + self.network(vectors), dim=1)


def bridge_loss(
    mapped: Tensor, target: Tensor, classes: Tensor | None = None, *, contrast: float = 0.2, temperature: float = 0.05
) -> Tensor:
    """`1 − cos` to the own target, plus `contrast` times the cross-entropy of finding it among those of the batch.

    Args:
        mapped: (B, D) unit vectors.
        target: (B, D) unit vectors of the same items.
        classes: (B,) integers; targets of other items of an item's own class are left out of its contrast.
        contrast: weight of the second term.
        temperature: of the cosines in the cross-entropy.
    """
    matching = 1 - (mapped * target).sum(dim=1).mean()
    scores = mapped @ target.T / temperature
    if classes is not None:
        kin = (classes[:, None] == classes[None, :]).fill_diagonal_(False)
        scores = scores.masked_fill(kin, -math.inf)
    return matching + contrast * F.cross_entropy(scores, torch.arange(len(mapped), device=mapped.device))


def fit_residual(
    source: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    start: LinearMap,
    *,
    classes: npt.NDArray[np.int64] | None = None,
    hidden: int = HIDDEN,
    steps: int = 1050,
    batch_size: int = 512,
    lr: float = 1e-3,
    contrast: float = 0.2,
    temperature: float = 0.05,
    seed: int = 0,
    device: torch.device | str = "cpu",
    advance: Advance = silent,
) -> ResidualMap:
    """Train a residual map by `bridge_loss` with AdamW and a cosine schedule; the seed decides everything.

    Args:
        source: (N, D) unit vectors.
        target: (N, E) unit vectors of the same items.
        start: the affine map to begin with.
        classes: (N,) class of each item, see `bridge_loss`.
        hidden: width of both hidden layers.
        steps: of the optimiser.
        batch_size: pairs a step, at most N.
        lr: at the first step; it falls to zero along half a cosine.
        contrast: see `bridge_loss`.
        temperature: see `bridge_loss`.
        seed: of the hidden layers and of the order of the pairs.
        device: to train on.
        advance: called with 1 after each step.

    Returns:
        The trained map, on the CPU, in evaluation mode.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    made = ResidualMap.around(start, hidden, seed).to(device)
    optimizer = torch.optim.AdamW(made.parameters(), lr=lr)
    batches = _Batches(len(source), min(batch_size, len(source)), seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * step / steps)) / 2
        rows = batches.next()
        known = None if classes is None else torch.from_numpy(classes[rows]).to(device)
        mapped = made(torch.from_numpy(source[rows]).to(device))
        wanted = torch.from_numpy(target[rows]).to(device)
        loss = bridge_loss(mapped, wanted, known, contrast=contrast, temperature=temperature)
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss of the residual map is {loss.item()} at step {step}; lower lr={lr}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance(1)
    return made.cpu().eval()


class _Batches:
    """Rows of one batch after the other, each row once before any comes again."""

    def __init__(self, count: int, size: int, seed: int) -> None:
        self._count, self._size = count, size
        self._generator = np.random.default_rng(seed)
        self._order = self._generator.permutation(count)
        self._place = 0

    def next(self) -> npt.NDArray[np.int64]:
        if self._place + self._size > self._count:
            self._order, self._place = self._generator.permutation(self._count), 0
        rows = self._order[self._place : self._place + self._size]
        self._place += self._size
        return rows
