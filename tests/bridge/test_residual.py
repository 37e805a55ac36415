"""The residual map: its loss against a slow transcription, its start, its determinism, what it learns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from samespace.bridge.linear import LinearMap, affine
from samespace.bridge.residual import ResidualMap, bridge_loss, fit_residual
from samespace.errors import TrainingError


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def bent(count: int = 400, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that no affine map explains."""
    generator = np.random.default_rng(0)
    source = unit(generator.standard_normal((count, dim)))
    return source, unit(np.abs(source) @ generator.standard_normal((dim, dim)) + 0.3 * source)


def slow_loss(mapped, target, classes, contrast, temperature) -> float:
    total = 0.0
    for i in range(len(mapped)):
        total += 1 - sum(a * b for a, b in zip(mapped[i], target[i], strict=True))
        seen = [j for j in range(len(target)) if j == i or classes is None or classes[j] != classes[i]]
        scores = {j: sum(a * b for a, b in zip(mapped[i], target[j], strict=True)) / temperature for j in seen}
        total += contrast * (math.log(sum(map(math.exp, scores.values()))) - scores[i])
    return total / len(mapped)


@pytest.mark.parametrize("classes", [None, [0, 1, 0, 2, 2]])
@pytest.mark.parametrize("contrast", [0.0, 0.2])
def test_the_loss_is_its_definition(classes, contrast):
    generator = np.random.default_rng(1)
    mapped, target = unit(generator.standard_normal((5, 3))), unit(generator.standard_normal((5, 3)))
    known = None if classes is None else torch.tensor(classes)
    found = bridge_loss(torch.from_numpy(mapped), torch.from_numpy(target), known, contrast=contrast, temperature=0.1)
    assert found.item() == pytest.approx(slow_loss(mapped.tolist(), target.tolist(), classes, contrast, 0.1), rel=1e-5)


def test_an_untrained_map_is_its_linear_part():
    source, target = bent()
    start = LinearMap.of(*affine(source, target))
    made = ResidualMap.around(start, 16, seed=0)
    assert torch.allclose(made(torch.from_numpy(source)), start(torch.from_numpy(source)), atol=1e-6)


def train(seed: int = 0, **options) -> ResidualMap:
    source, target = bent()
    start = LinearMap.of(*affine(source, target))
    return fit_residual(source, target, start, **{"hidden": 32, "steps": 150, "batch_size": 64, **options}, seed=seed)


def test_it_learns_what_an_affine_map_cannot():
    source, target = bent()
    start = LinearMap.of(*affine(source, target))
    before = (start(torch.from_numpy(source)) * torch.from_numpy(target)).sum(1).mean().item()
    made = train(lr=1e-2)
    with torch.no_grad():
        after = (made(torch.from_numpy(source)) * torch.from_numpy(target)).sum(1).mean().item()
    assert 1 - after < (1 - before) / 2


def test_the_seed_decides_every_weight_and_global_random_state_is_left_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = train().state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    again, other = train().state_dict(), train(seed=1).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_progress_counts_the_steps():
    done: list[int] = []
    train(steps=7, advance=done.append)
    assert sum(done) == 7


def test_a_loss_that_diverges_is_named():
    with pytest.raises(TrainingError, match="lower lr"):
        train(lr=1e30)
