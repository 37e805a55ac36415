"""The weights that structural refinement gives the samples of a class (UniBCT Eq. 6-9): one linear solve each.

With E the row-normalised guide similarities of a class (Eq. 6), the refined prototype, the mean row of
(1 - λ)(I - λE)^-1 V (Eq. 9-10), is the weighted mean w'V whose weights solve

    (I - λE') w = (1 - λ)/m · 1.

So no inverse and no propagated features are needed: one m × m system with one right-hand side. The columns of E' sum to
one, so the system is strictly diagonally dominant by columns (elimination is stable at every temperature) and the
iteration w ← λE'w + (1 - λ)/m contracts by λ or better in the 1-norm. It is written below for the change of w from step
to step, so that rounding shrinks with it.

The printed pseudo-code normalises columns instead; then w = 1/m exactly, and refinement is the plain mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.prototypes import buckets
from samespace.prototypes.rows import blocks

BATCH_STEPS = 24
"""Steps after which elimination is cheaper for small classes that have not settled, near duplicates mostly."""

STEPS_BETWEEN_LOOKS = 4
"""A look at how far the iteration is takes as long as a step or two."""

STORE_BYTES = 2**30
"""Largest similarity matrix kept in memory for iteration; beyond it, its blocks are made anew in every step."""

TOLERANCE = 1e-7
"""Bound on what iteration leaves out of the weights of a class, in the 1-norm."""


@dataclass(frozen=True)
class Settings:
    """The parameters of Eq. 6 and 8, checked."""

    damping: float
    temperature: float
    cap: float | None

    def __post_init__(self) -> None:
        if not 0 <= self.damping < 1:
            raise InputError(f"damping is {self.damping}; expected at least 0 and below 1")
        if not 1e-300 < self.temperature < 1e300:
            raise InputError(f"temperature is {self.temperature}; expected a finite number above 0")
        if self.cap is not None and not -1 < self.cap <= 1:
            raise InputError(f"similarity_cap is {self.cap}; expected a cosine above -1 and at most 1, or None")

    @property
    def dtype(self) -> torch.dtype:
        """Type of the cosines, whose rounding comes out in the weights about 1 / (τ (1 - λ)) times larger."""
        return torch.float32 if self.temperature * (1 - self.damping) >= 0.002 else torch.float64

    def remainder(self, change: Tensor) -> Tensor:
        """Bound on the 1-norm of all further changes of w after the last `change`: a step shrinks them by λ or more."""
        left: Tensor = change.abs().sum(-1) * (self.damping / (1 - self.damping))
        return left


def sample_weights(guide: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Weights of the samples of n classes, m each: guide (n, m, D) to (n, m) float32, and the guide's lengths (n, m).

    A guide row that is zero or not finite has such a length; the weights of its class then mean nothing. On a GPU
    classes of up to `DIRECT_LIMIT` samples are eliminated at once: to see how far an iteration is would be to wait.
    """
    if guide.shape[1] > buckets.DIRECT_LIMIT:
        pairs = [_solve_large(one, settings) for one in guide]
        weights, lengths = (torch.stack(each) for each in zip(*pairs, strict=True))
    else:
        gram = guide.to(settings.dtype) @ guide.to(settings.dtype).mT
        lengths = gram.diagonal(dim1=-2, dim2=-1).sqrt()
        if guide.shape[1] == 1:
            return torch.ones_like(lengths, dtype=torch.float32), lengths.float()
        transitions = _of_gram(gram, lengths, settings)
        weights = _iterate(transitions, settings) if guide.device.type == "cpu" else _eliminate(transitions, settings)
    # what the iteration left out or rounded away is shared out: weights sum to one exactly
    return (weights / weights.sum(1, keepdim=True)).float(), lengths.float()


def _transitions(scores: Tensor, settings: Settings, first: int = 0) -> Tensor:
    """Row-normalise cosines over temperature (Eq. 6), reusing `scores` (..., r, m); row r is sample first + r."""
    if settings.cap is not None:
        scores.clamp_(max=settings.cap / settings.temperature)
    scores.diagonal(offset=first, dim1=-2, dim2=-1).fill_(-torch.inf)
    return scores.softmax(-1)


def _iterate(transitions: Tensor, settings: Settings) -> Tensor:
    """Weights of n classes from their transitions (n, m, m): (n, m) float64.

    Most classes mix within a few steps of w ← λE'w + (1 - λ)/m; those that do not are solved by elimination.
    """
    size = transitions.shape[1]
    start = transitions.new_full((len(transitions), 1, size), 1 / size)
    change = torch.baddbmm(start, start, transitions, beta=-settings.damping, alpha=settings.damping)
    weights = start.double() + change
    for step in range(BATCH_STEPS):
        if step % STEPS_BETWEEN_LOOKS == 0:
            unfinished = settings.remainder(change) > TOLERANCE
            if not bool(unfinished.any()):
                return weights[:, 0]
        change = torch.baddbmm(change, change, transitions, beta=0, alpha=settings.damping)
        weights += change
    slow = unfinished[:, 0]
    weights[slow, 0] = _eliminate(transitions[slow], settings)
    return weights[:, 0]


def _of_gram(gram: Tensor, lengths: Tensor, settings: Settings) -> Tensor:
    """The transitions of each class, from its products, which are overwritten."""
    inverse = lengths.reciprocal()
    scores = gram.mul_((inverse / settings.temperature)[:, :, None]).mul_(inverse[:, None, :])
    return _transitions(scores, settings)


def _eliminate(transitions: Tensor, settings: Settings) -> Tensor:
    """Solve (I - λE') w = (1 - λ)/m · 1 for n classes: (n, m, m) to (n, m) float64."""
    size = transitions.shape[1]
    system = transitions.mT.double().mul_(-settings.damping)
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    right = system.new_full((len(system), size, 1), (1 - settings.damping) / size)
    # the system is regular whatever the samples; `solve` would wait for the device to tell
    weights: Tensor = torch.linalg.solve_ex(system, right).result[:, :, 0]
    return weights


def _solve_large(guide: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """Weights of one large class (m, D) by power iteration in row blocks, (m,) float64, and its lengths (m,)."""
    lengths = torch.linalg.vector_norm(guide, dim=1, dtype=settings.dtype)
    unit = guide.to(settings.dtype) / lengths[:, None]
    size = len(unit)
    cuts = list(blocks(size, unit.element_size() * size))

    def part(cut: slice) -> Tensor:
        return _transitions(unit[cut] @ unit.mT / settings.temperature, settings, cut.start)

    stored = [part(cut) for cut in cuts] if unit.element_size() * size**2 <= STORE_BYTES else None

    def propagate(mass: Tensor) -> Tensor:
        spread = torch.zeros_like(mass)
        for index, cut in enumerate(cuts):
            spread += mass[cut] @ (part(cut) if stored is None else stored[index])
        return settings.damping * spread

    start = unit.new_full((size,), 1 / size)
    change = propagate(start) - settings.damping * start
    weights: Tensor = start.double() + change
    while settings.remainder(change) > TOLERANCE:
        change = propagate(change)
        weights += change
    return weights, lengths
