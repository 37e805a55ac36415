"""Compatibility terms that were tried beside `matched` and are not part of the library; see `beyond_candidates.py`.

Each is a function or a module of unit new vectors (B, D) and what it takes of the old model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from samespace.losses.memory import OldMemory
from samespace.prototypes import mean


class BoundaryInfluence(nn.Module):
    """The new vector is to lie within its class's old boundary, and otherwise only to be told from other classes.

    `relu(q_y − cos(f, c_y)) + ½ ρ_y CE(32 cos(f, c))`: c_y is the old centre of the class, q_y the 10th percentile of
    cos(o, c_y) over its old vectors (a robust form of the radius in LCE), ρ_y its mean, cut to [0, 1].
    """

    def __init__(self, old: Tensor, labels: Tensor, classes: int) -> None:
        super().__init__()
        self.centres = functional.normalize(mean(old, labels, classes))
        cosine = (functional.normalize(old) * self.centres[labels]).sum(dim=1)
        of_class = [cosine[labels == label] for label in range(classes)]
        self.bound = torch.stack([values.quantile(0.1) for values in of_class])
        self.quality = torch.stack([values.mean() for values in of_class]).clamp(0, 1)

    def boundary(self, new: Tensor, labels: Tensor) -> Tensor:
        """How far new vectors (B, D) lie outside of their classes' boundaries."""
        return (self.bound[labels] - (new * self.centres[labels]).sum(dim=1)).relu().mean()

    def forward(self, new: Tensor, labels: Tensor) -> Tensor:
        """Loss of unit vectors (B, D) with labels (B,)."""
        told_apart = functional.cross_entropy(32 * new @ self.centres.T, labels, reduction="none")
        return self.boundary(new, labels) + 0.5 * (self.quality[labels] * told_apart).mean()


class FeatureMixing(nn.Module):
    """MixBCT: before the head, a random 30 % of the batch's vectors become the stored old vectors of the same images.

    Of each class only the 90 % of old vectors nearest to its centre are used.
    """

    def __init__(self, old: Tensor, labels: Tensor, classes: int, *, share: float = 0.3, keep: float = 0.9) -> None:
        super().__init__()
        self.share, self.centres = share, functional.normalize(mean(old, labels, classes))
        cosine = (functional.normalize(old) * self.centres[labels]).sum(dim=1)
        self.bound = torch.stack([cosine[labels == label].quantile(1 - keep) for label in range(classes)])

    def forward(self, new: Tensor, labels: Tensor, stored: Tensor, generator: torch.Generator) -> Tensor:
        """What the head is to see: `new` (B, D) with some rows of `stored` (B, D) in their place."""
        near = (stored * self.centres[labels]).sum(dim=1) >= self.bound[labels]
        taken = near & (torch.rand(len(new), generator=generator) < self.share)
        return torch.where(taken[:, None], stored, new)


def inverted_pairs(new: Tensor, old: Tensor, memory: Tensor, *, neighbours: int = 16) -> Tensor:
    """D3still's ranking term: the new vector orders the old vector's nearest stored vectors as that one does.

    For two neighbours i, j: R = (Δf − Δo) / (0.1 + |Δo|), Δ the difference of their cosines by new and by old; the mean
    of R², pairs that new orders the other way round weighing 5, the others 1.

    Args:
        new: (B, D) unit vectors.
        old: (B, D) of the same views.
        memory: (K, D) stored old unit vectors.
        neighbours: how many of the nearest are ordered.
    """
    scores, nearest = (old @ memory.T).topk(neighbours, dim=1)
    mine = (new[:, None] * memory[nearest]).sum(dim=2)
    first, second = torch.triu_indices(neighbours, neighbours, offset=1)
    wanted, found = scores[:, first] - scores[:, second], mine[:, first] - mine[:, second]
    weight = torch.where(wanted * found < 0, 5.0, 1.0)
    return (weight * ((found - wanted) / (0.1 + wanted.abs())).square()).mean()


def lambda_orthogonal(
    source: Tensor, target: Tensor, labels: Tensor, *, bound: float, steps: int = 400, seed: int = 0
) -> Tensor:
    """A matrix (D, D) from a free model's vectors to the old space, orthogonal up to a bound; new `x @ W`.

    `‖xW − o‖² + contrast of xW against stored old vectors + σ(‖WWᵀ − I‖ − λ) ‖WWᵀ − I‖`, from the Procrustes rotation
    on, by Adam (λ-orthogonality regularisation, NeurIPS 2025).
    """
    left, _, right = torch.linalg.svd(source.T @ target)
    weight = (left @ right).clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    generator, one = torch.Generator().manual_seed(seed), torch.eye(len(weight))
    memory = OldMemory(target, labels, size=1024, seed=seed)
    for _ in range(steps):
        rows = torch.randint(len(source), (256,), generator=generator)
        mapped, old = source[rows] @ weight, target[rows]
        unit, draw = functional.normalize(mapped), memory.draw()
        impostor = (unit @ draw.vectors.T).masked_fill(labels[rows][:, None] == draw.labels[None], -torch.inf)
        logits = torch.cat([(unit * old).sum(dim=1, keepdim=True), impostor], dim=1) / 0.05
        off = (weight @ weight.T - one).norm()
        contrast = functional.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.int64))
        loss = (mapped - old).square().sum(dim=1).mean() + contrast + torch.sigmoid(off - bound) * off
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach()
