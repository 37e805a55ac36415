from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.losses import MemoryContrastLoss, OldMemory


def slow_contrast(new: Tensor, labels: list[int], old: Tensor, memory: OldMemory, temperature: float) -> Tensor:
    """UniBCT Eq. 12 term by term, the negatives from the memory's present draw."""
    rows = memory.rows_of(memory.step).tolist()
    total = new.new_zeros(())
    for f, label, o in zip(new, labels, old, strict=True):
        f = f / f.norm()
        own = (f @ o / o.norm() / temperature).exp()
        below = own
        for row in rows:
            if int(memory.labels[row]) != label:
                assert memory.vectors is not None
                stored = memory.vectors[row].to(new.dtype)
                below = below + (f @ stored / stored.norm() / temperature).exp()
        total = total - (own / below).log()
    return total / len(new)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("size", [5, 4096])
def test_loss_and_gradient_equal_the_equation(temperature: float, size: int) -> None:
    torch.manual_seed(0)
    new = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    old, stored = torch.randn(4, 3, dtype=torch.float64), torch.randn(12, 3, dtype=torch.float64)
    labels, classes = [0, 1, 1, 5], torch.arange(12) % 3
    loss_of = MemoryContrastLoss(stored, classes, temperature=temperature, size=size).eval()
    loss = loss_of(new, torch.tensor(labels), old)
    expected = slow_contrast(new, labels, old, loss_of.memory, temperature)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(expected, new))
    assert torch.autograd.gradcheck(lambda x: loss_of(x, torch.tensor(labels), old), (new,), rtol=1e-2)


def test_by_hand_on_three_points() -> None:
    stored = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    loss_of = MemoryContrastLoss(stored, torch.arange(3), temperature=1.0)
    loss = loss_of(torch.tensor([[3.0, 0.0]]), torch.tensor([0]), torch.tensor([[1.0, 0.0]]))
    assert float(loss) == pytest.approx(np.log((np.e + 1 + 1 / np.e) / np.e), rel=1e-6)


def test_one_class_has_no_negatives_and_is_zero_with_a_graph() -> None:
    new = torch.randn(3, 4, requires_grad=True)
    loss = MemoryContrastLoss(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64))(
        new, torch.zeros(3, dtype=torch.int64), torch.randn(3, 4)
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert new.grad is not None
    assert (new.grad == 0).all()


def test_order_of_batch_and_memory_changes_nothing() -> None:
    torch.manual_seed(1)
    new, old, stored = torch.randn(4, 3), torch.randn(4, 3), torch.randn(7, 3)
    labels, classes = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    loss = MemoryContrastLoss(stored, classes)(new, labels, old)
    order, shuffled = torch.tensor([2, 0, 3, 1]), torch.randperm(7)
    again = MemoryContrastLoss(stored[shuffled], classes[shuffled])(new[order], labels[order], old[order])
    torch.testing.assert_close(again, loss)


def test_draws_depend_on_seed_and_step_alone_and_repeat_nothing() -> None:
    stored, classes = torch.randn(500, 3), torch.arange(500)
    memory = OldMemory(stored, classes, size=50, seed=3)
    torch.rand(7)  # the global random numbers do not matter
    draws = [memory.draw().labels for _ in range(3)]
    assert all(len(set(labels.tolist())) == 50 for labels in draws)
    assert not torch.equal(draws[0], draws[1])
    again = OldMemory(stored, classes, size=50, seed=3)
    again.step = 2
    assert torch.equal(again.draw().labels, draws[2])
    assert not torch.equal(OldMemory(stored, classes, size=50, seed=4).draw().labels, draws[0])


def test_draws_reach_every_stored_vector() -> None:
    memory = OldMemory(torch.randn(60, 3), torch.arange(60), size=20)
    seen = torch.cat([memory.draw().labels for _ in range(60)]).bincount(minlength=60)
    assert seen.min() > 0
    assert seen.float().mean() == 20


def test_a_resumed_training_draws_what_an_uninterrupted_one_would() -> None:
    stored, classes = torch.randn(100, 3), torch.arange(100)
    memory = OldMemory(stored, classes, size=10)
    memory.draw()
    state = memory.state_dict()
    assert all(value.numel() == 1 for value in state.values()), "stored vectors are not part of the state"
    expected = memory.draw().labels
    resumed = OldMemory(stored, classes, size=10)
    resumed.load_state_dict(state)
    assert torch.equal(resumed.draw().labels, expected)


def test_evaluation_draws_the_same_again() -> None:
    memory = OldMemory(torch.randn(100, 3), torch.arange(100), size=10).eval()
    assert torch.equal(memory.draw().labels, memory.draw().labels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_memory_map_gives_the_same_draws_as_a_tensor(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(0).standard_normal((80, 4)).astype(dtype)
    np.save(tmp_path / "old.npy", values)
    mapped = OldMemory(np.load(tmp_path / "old.npy", mmap_mode="r"), np.arange(80), size=16)
    held = OldMemory(torch.from_numpy(values), torch.arange(80), size=16)
    for _ in range(3):
        here, there = mapped.draw(), held.draw()
        torch.testing.assert_close(here.vectors, there.vectors, rtol=0, atol=0)
        assert torch.equal(here.labels, there.labels)
        torch.testing.assert_close(here.vectors.norm(dim=1), torch.ones(16))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_full_precision_under_autocast(dtype: torch.dtype) -> None:
    new, old, labels = torch.randn(4, 3).to(dtype), torch.randn(4, 3).to(dtype), torch.tensor([0, 1, 2, 0])
    loss_of = MemoryContrastLoss(torch.randn(9, 3).to(dtype), torch.arange(9) % 3, temperature=0.01)
    expected = loss_of(new.float(), labels, old.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(new, labels, old)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_prefix_and_frozen_old_side() -> None:
    new, old = torch.randn(4, 6, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    stored, labels = torch.randn(5, 3), torch.arange(4)
    loss = MemoryContrastLoss(stored, torch.arange(5), prefix=True)(new, labels, old)
    torch.testing.assert_close(loss, MemoryContrastLoss(stored, torch.arange(5))(new[:, :3], labels, old))
    loss.backward()
    assert old.grad is None


def test_what_does_not_fit_is_refused() -> None:
    for temperature in (0.0, math.inf, math.nan):
        with pytest.raises(InputError, match=f"temperature is {temperature}"):
            MemoryContrastLoss(torch.eye(3), torch.arange(3), temperature=temperature)
    with pytest.raises(InputError, match="2 labels for 3 memory vectors"):
        OldMemory(torch.eye(3), torch.arange(2))
    with pytest.raises(InputError, match="at least one"):
        OldMemory(torch.empty(0, 3), torch.empty(0, dtype=torch.int64))
    with pytest.raises(InputError, match="row 1 of memory vectors is all zero"):
        OldMemory(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.arange(2))
    with pytest.raises(InputError, match="holds NaN"):
        OldMemory(torch.full((2, 2), torch.nan), torch.arange(2))
    with pytest.raises(InputError, match="size 0"):
        OldMemory(torch.eye(3), torch.arange(3), size=0)
    loss = MemoryContrastLoss(torch.eye(3), torch.arange(3))
    with pytest.raises(InputError, match="and the memory 3"):
        loss(torch.ones(2, 4), torch.tensor([0, 1]), torch.ones(2, 4))
    with pytest.raises(InputError, match="prefix=True"):
        loss(torch.ones(2, 4), torch.tensor([0, 1]), torch.ones(2, 3))
    with pytest.raises(InputError, match="one per embedding"):
        loss(torch.ones(2, 3), torch.tensor([0]), torch.ones(2, 3))
    with pytest.raises(InputError, match="of the same images"):
        loss(torch.ones(2, 3), torch.tensor([0, 1]), torch.ones(1, 3))
