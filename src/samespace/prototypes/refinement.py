"""Structural prototype refinement (UniBCT Eq. 6-10) as one linear solve per class.

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

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.prototypes.rows import (
    Vectors,
    blocks,
    check_labels,
    check_vectors,
    class_counts,
    device_of,
    fitting,
    refuse_unusable,
    take,
    weighted_sums,
)

DIRECT_LIMIT = 2048
"""Largest class solved in batches and, if need be, by elimination; beyond it, iteration alone is faster."""

BATCH_STEPS = 24
"""Steps after which elimination is cheaper for small classes that have not settled, near duplicates mostly."""

STORE_BYTES = 2**30
"""Largest similarity matrix kept in memory for iteration; beyond it, its blocks are made anew in every step."""

TOLERANCE = 1e-7
"""Bound on what iteration leaves out of the weights of a class, in the 1-norm."""


@torch.no_grad()
def refined(
    features: Vectors,
    labels: Vectors,
    num_classes: int,
    *,
    guide: Vectors,
    damping: float = 0.9,
    temperature: float = 0.05,
    similarity_cap: float | None = None,
) -> Tensor:
    """Refine class means by propagation over a similarity graph (UniBCT Eq. 6-10, normalised by rows).

    Samples that resemble many others of their class by the *new* model weigh more, outliers less. A class of one
    sample gives that sample, a class of two their mean.

    Near duplicates capture a prototype: two copies visit only each other and take up to half of the weight. Where the
    data may hold duplicates, look at `effective_sample_size` and cap the similarities. A cap helps only if it lies near
    the usual cosine of two images of a class: 0.9 does little where most lie at 0.5, and 0.6 cures it.

    Args:
        features: (N, D) old features, floating; normalised inside.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of rows of the result.
        guide: (N, any dimension) new features of the same images; normalised inside.
        damping: λ of Eq. 8, 0 <= damping < 1; 0 is the plain mean.
        temperature: τ of Eq. 6, above 0; lower is sharper.
        similarity_cap: guide cosines above it count as this much, in (-1, 1]; None leaves them.

    Returns:
        (num_classes, D) float32, not re-normalised; a class without samples is a row of NaN.

    Raises:
        InputError: a parameter out of range; labels out of range or not one per row;
            a row that is zero, NaN or infinite.
    """
    check_vectors(features, "features")
    check_vectors(guide, "guide")
    if len(features) != len(guide):
        raise InputError(f"{len(features)} features and {len(guide)} guide rows; expected the same samples in both")
    checked = check_labels(labels, num_classes, len(features))
    weights = refined_weights(
        checked,
        num_classes,
        guide=guide,
        damping=damping,
        temperature=temperature,
        similarity_cap=similarity_cap,
    )
    return weighted_sums(features, checked, num_classes, weights, "features")


@torch.no_grad()
def weighted(features: Vectors, labels: Vectors, num_classes: int, *, weights: Tensor) -> Tensor:
    """Class centres from a weight for each sample, such as `refined_weights` gives: `refined` in two steps.

    Args:
        features: (N, D) old features, floating; normalised inside.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of rows of the result.
        weights: (N,) floating, summing to one in each class.

    Returns:
        (num_classes, D) float32, not re-normalised; a class without samples is a row of NaN.

    Raises:
        InputError: as `refined`, or not one weight per sample.
    """
    check_vectors(features, "features")
    if tuple(weights.shape) != (len(features),):
        raise InputError(
            f"weights have shape {tuple(weights.shape)}; expected one for each of {len(features)} features"
        )
    checked = check_labels(labels, num_classes, len(features))
    return weighted_sums(features, checked, num_classes, weights, "features")


@torch.no_grad()
def refined_weights(
    labels: Vectors,
    num_classes: int,
    *,
    guide: Vectors,
    damping: float = 0.9,
    temperature: float = 0.05,
    similarity_cap: float | None = None,
) -> Tensor:
    """Weight of each sample in its class's refined prototype; the weights of a class sum to one.

    Args:
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of classes.
        guide: (N, any dimension) new features; normalised inside.
        damping: see `refined`.
        temperature: see `refined`.
        similarity_cap: see `refined`.

    Returns:
        (N,) float32, positive, on the device of `guide`.

    Raises:
        InputError: as `refined`.
    """
    settings = _Settings(damping, temperature, similarity_cap)
    check_vectors(guide, "guide")
    device = device_of(guide)
    checked = check_labels(labels, num_classes, len(guide)).to(device)
    weights, lengths = (torch.ones(len(guide), device=device) for _ in range(2))
    with torch.autocast(device.type, enabled=False):
        for rows, size in _batches(checked, num_classes, guide.shape[1]):
            block = take(guide, rows)
            if size > DIRECT_LIMIT:
                solved = _solve_large(block, settings, rows)[None]
            elif device.type == "cpu":
                solved = _solve_batch(block.view(-1, size, block.shape[1]), settings, rows)
            else:
                solved, of_rows = _solve_at_once(block.view(-1, size, block.shape[1]), settings)
                lengths[rows] = of_rows.flatten().float()
            # what the iteration left out or rounded away is shared out: weights sum to one exactly
            weights[rows] = (solved / solved.sum(1, keepdim=True)).flatten().float()
    refuse_unusable(lengths, slice(0, len(guide)), "guide")
    return weights


@torch.no_grad()
def effective_sample_size(weights: Tensor, labels: Vectors, num_classes: int) -> Tensor:
    """Effective number of samples behind each prototype: 1 / Σ w², between 1 and the class's size.

    A value far below the class's size says that few samples make the prototype, near duplicates most likely.

    Args:
        weights: (N,) weights that sum to one per class, as `refined_weights` returns.
        labels: (N,) whole numbers in 0..num_classes - 1.
        num_classes: number of classes.

    Returns:
        (num_classes,) float32; 0 for a class without samples.

    Raises:
        InputError: weights are not one per label, or labels are out of range.
    """
    if weights.ndim != 1:
        raise InputError(f"weights have shape {tuple(weights.shape)}; expected (N,), one weight per sample")
    checked = check_labels(labels, num_classes, len(weights)).to(weights.device)
    squares = torch.zeros(num_classes, dtype=torch.float64, device=weights.device)
    squares.index_add_(0, checked, weights.double().square())
    return torch.where(squares > 0, squares.reciprocal(), 0).float()


@dataclass(frozen=True)
class _Settings:
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


def _batches(labels: Tensor, num_classes: int, dim: int) -> Iterator[tuple[slice | Tensor, int]]:
    """Yield the samples of classes of one size, class after class, as many as fit the work space, and that size.

    Exact sizes need no padding, and N samples hold at most sqrt(2N) distinct sizes. Samples that lie in place already
    are a slice, which is read without a copy.
    """
    counts = class_counts(labels, num_classes)
    by_size = counts.sort(stable=True).indices
    starts = (counts.cumsum(0) - counts)[by_size]
    sizes, classes = (found.tolist() for found in torch.unique_consecutive(counts[by_size], return_counts=True))
    in_place = bool((labels[1:] >= labels[:-1]).all())
    order = None if in_place else labels.sort(stable=True).indices
    # on the host, so that between here and the last batch nothing is asked of a device
    begins = starts.cpu()
    done = 0
    for size, count in zip(sizes, classes, strict=True):
        part, done = range(done, done + count), done + count
        if size == 0:
            continue
        step = 1 if size > DIRECT_LIMIT else fitting(4 * size * dim + 24 * size**2)
        for first in part[::step]:
            last = min(first + step, done)
            begin, end = int(begins[first]), int(begins[last - 1]) + size
            if in_place and end - begin == (last - first) * size:
                yield slice(begin, end), size
            else:
                positions = (starts[first:last, None] + torch.arange(size, device=labels.device)).flatten()
                yield positions if order is None else order[positions], size


def _transitions(scores: Tensor, settings: _Settings, first: int = 0) -> Tensor:
    """Row-normalise cosines over temperature (Eq. 6), reusing `scores` (..., r, m); row r is sample first + r."""
    if settings.cap is not None:
        scores.clamp_(max=settings.cap / settings.temperature)
    scores.diagonal(offset=first, dim1=-2, dim2=-1).fill_(-torch.inf)
    return scores.softmax(-1)


def _solve_batch(guide: Tensor, settings: _Settings, rows: slice | Tensor) -> Tensor:
    """Weights of n classes of m samples each: (n, m, D) to (n, m) float64.

    Most classes mix within a few steps of w ← λE'w + (1 - λ)/m; those that do not are solved by elimination.
    """
    gram, lengths = _gram(guide, settings)
    refuse_unusable(lengths, rows, "guide")
    size = guide.shape[1]
    if size == 1:
        return torch.ones_like(lengths, dtype=torch.float64)
    transitions = _of_gram(gram, lengths, settings)
    start = transitions.new_full((len(transitions), 1, size), 1 / size)
    change = settings.damping * (start @ transitions - start)
    weights = start.double() + change
    for _ in range(BATCH_STEPS):
        unfinished = settings.remainder(change) > TOLERANCE
        if not bool(unfinished.any()):
            return weights[:, 0]
        change = settings.damping * (change @ transitions)
        weights += change
    slow = unfinished[:, 0]
    weights[slow, 0] = _eliminate(transitions[slow], settings.damping)
    return weights[:, 0]


def _solve_at_once(guide: Tensor, settings: _Settings) -> tuple[Tensor, Tensor]:
    """Weights of n classes of m samples each, by one elimination: (n, m, D) to (n, m) float64, and lengths (n, m).

    Nothing here waits for the device, which a look at how far an iteration is would; lengths are for a check later.
    """
    gram, lengths = _gram(guide, settings)
    if guide.shape[1] == 1:
        return torch.ones_like(lengths, dtype=torch.float64), lengths
    return _eliminate(_of_gram(gram, lengths, settings), settings.damping), lengths


def _gram(guide: Tensor, settings: _Settings) -> tuple[Tensor, Tensor]:
    """Products of the samples of each class (n, m, m), and their lengths (n, m)."""
    guide = guide.to(settings.dtype)
    gram = guide @ guide.mT
    return gram, gram.diagonal(dim1=-2, dim2=-1).sqrt()


def _of_gram(gram: Tensor, lengths: Tensor, settings: _Settings) -> Tensor:
    """The transitions of each class, from its products, which are overwritten."""
    inverse = lengths.reciprocal()
    scores = gram.mul_((inverse / settings.temperature)[:, :, None]).mul_(inverse[:, None, :])
    return _transitions(scores, settings)


def _eliminate(transitions: Tensor, damping: float) -> Tensor:
    """Solve (I - λE') w = (1 - λ)/m · 1 for n classes: (n, m, m) to (n, m) float64."""
    size = transitions.shape[1]
    system = transitions.mT.double().mul_(-damping)
    system.diagonal(dim1=-2, dim2=-1).add_(1)
    right = system.new_full((len(system), size, 1), (1 - damping) / size)
    # the system is regular whatever the samples; `solve` would wait for the device to tell
    weights: Tensor = torch.linalg.solve_ex(system, right).result[:, :, 0]
    return weights


def _solve_large(guide: Tensor, settings: _Settings, rows: slice | Tensor) -> Tensor:
    """Weights of one large class (m, D) by power iteration in row blocks: (m,) float64."""
    lengths = torch.linalg.vector_norm(guide, dim=1, dtype=settings.dtype)
    refuse_unusable(lengths, rows, "guide")
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
    return weights
