from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.losses import OldMemory, TailLoss


def softplus(value: Tensor) -> Tensor:
    return torch.logaddexp(value, torch.zeros_like(value))  # its slope at 0 is one half


def slow_tail(new: Tensor, labels: list[int], old: Tensor, memory: OldMemory, far: float, sharpness: float) -> Tensor:
    """Every pair by itself: sort the impostor scores, read the threshold at its rank, average both sides."""
    rows = memory.rows_of(memory.step).tolist()
    assert memory.vectors is not None
    genuine, impostor = [], []
    for f, label, o in zip(new, labels, old, strict=True):
        genuine.append(f @ o / f.norm() / o.norm())
        for row in rows:
            stored = memory.vectors[row].to(new.dtype)
            score = f @ stored / f.norm() / stored.norm()
            (genuine if int(memory.labels[row]) == label else impostor).append(score)
    if not impostor:
        return new.sum() * 0
    impostor.sort(key=lambda score: float(score.detach()), reverse=True)
    highest = impostor[: max(1, math.floor(far * len(new) * len(rows)))]
    threshold = highest[-1].detach()
    missed = sum(softplus(sharpness * (threshold - score)) for score in genuine) / len(genuine)
    above = sum(softplus(sharpness * (score - threshold)) for score in highest) / len(highest)
    return (missed + above) / sharpness


@pytest.mark.parametrize("far", [1e-3, 0.1, 0.35, 0.99])
@pytest.mark.parametrize("size", [9, 4096])
def test_loss_and_gradient_equal_the_definition(far: float, size: int) -> None:
    torch.manual_seed(0)
    new = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    old, stored = torch.randn(5, 4, dtype=torch.float64), torch.randn(20, 4, dtype=torch.float64)
    labels, classes = [0, 1, 1, 9, 2], torch.arange(20) % 4
    loss_of = TailLoss(stored, classes, far=far, size=size).eval()
    loss = loss_of(new, torch.tensor(labels), old)
    expected = slow_tail(new, labels, old, loss_of.memory, far, 16.0)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(expected, new))


def test_the_threshold_has_no_gradient_and_the_rest_has_the_true_one() -> None:
    torch.manual_seed(3)
    new = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    stored = torch.randn(4, 3, dtype=torch.float64)
    loss_of = TailLoss(stored, torch.arange(4), far=0.4).eval()
    labels, old = torch.tensor([0, 1]), stored[:2]
    scores = (new / new.norm(dim=1, keepdim=True)) @ (stored / stored.norm(dim=1, keepdim=True)).T
    impostor = torch.cat([scores[0, 1:], scores[1, [0, 2, 3]]]).sort(descending=True).values
    threshold = float(impostor[2].detach())
    missed = softplus(16 * (threshold - scores.diagonal())).mean()
    expected = (missed + softplus(16 * (impostor[:3] - threshold)).mean()) / 16
    (given,) = torch.autograd.grad(loss_of(new, labels, old), new)
    (wanted,) = torch.autograd.grad(expected, new)
    torch.testing.assert_close(given, wanted)


def test_by_hand_on_three_points() -> None:
    stored = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    loss_of = TailLoss(stored, torch.arange(3), far=0.5, sharpness=2.0)
    loss = loss_of(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), torch.tensor([[2.0, 0.0]]))
    # three pairs, rank 1: the impostor at cosine 0 is the threshold; both genuine scores are 1
    expected = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_a_rate_that_the_batch_cannot_resolve_takes_the_highest_impostor() -> None:
    torch.manual_seed(1)
    new, stored, labels, classes = torch.randn(3, 4), torch.randn(10, 4), torch.arange(3), torch.arange(10)
    finest = TailLoss(stored, classes, far=1 / 30)(new, labels, stored[:3])
    torch.testing.assert_close(TailLoss(stored, classes, far=1e-9)(new, labels, stored[:3]), finest)


def test_lower_rates_ask_for_more() -> None:
    torch.manual_seed(2)
    new, stored, labels, classes = torch.randn(8, 6), torch.randn(100, 6), torch.arange(8), torch.arange(100)
    missed = [float(TailLoss(stored, classes, far=far, sharpness=200)(new, labels, new * 0.9)) for far in (0.01, 0.5)]
    assert missed[0] >= 0
    own = torch.randn(8, 6)
    strict, lenient = (TailLoss(stored, classes, far=far, sharpness=200)(new, labels, own) for far in (0.001, 0.3))
    assert float(strict) > float(lenient)


def test_one_class_has_no_impostors_and_is_zero_with_a_graph() -> None:
    new = torch.randn(3, 4, requires_grad=True)
    loss = TailLoss(torch.randn(6, 4), torch.zeros(6, dtype=torch.int64))(
        new, torch.zeros(3, dtype=torch.int64), torch.randn(3, 4)
    )
    loss.backward()
    assert float(loss.detach()) == 0
    assert new.grad is not None
    assert (new.grad == 0).all()


def test_a_class_absent_from_the_memory_still_has_its_own_stored_vector() -> None:
    stored, new = torch.eye(4)[:3], torch.eye(4)[3:].requires_grad_()
    loss = TailLoss(stored, torch.arange(3))(new, torch.tensor([7]), torch.eye(4)[2:3])
    loss.backward()
    assert loss.isfinite()
    assert new.grad is not None
    assert new.grad[0, 2] < 0


def test_order_of_batch_and_memory_changes_nothing() -> None:
    torch.manual_seed(4)
    new, old, stored = torch.randn(4, 3), torch.randn(4, 3), torch.randn(7, 3)
    labels, classes = torch.tensor([0, 1, 2, 0]), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    loss = TailLoss(stored, classes, far=0.2)(new, labels, old)
    order, shuffled = torch.tensor([2, 0, 3, 1]), torch.randperm(7)
    again = TailLoss(stored[shuffled], classes[shuffled], far=0.2)(new[order], labels[order], old[order])
    torch.testing.assert_close(again, loss)


def test_equal_scores_and_extreme_sharpness_stay_finite() -> None:
    new = torch.ones(4, 3, requires_grad=True)
    loss = TailLoss(torch.ones(5, 3), torch.arange(5), sharpness=1e4, far=0.9)(new, torch.arange(4), -torch.ones(4, 3))
    loss.backward()
    assert loss.isfinite()
    assert new.grad is not None
    assert new.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_full_precision_under_autocast(dtype: torch.dtype) -> None:
    new, old, labels = torch.randn(4, 3).to(dtype), torch.randn(4, 3).to(dtype), torch.tensor([0, 1, 2, 0])
    loss_of = TailLoss(torch.randn(9, 3), torch.arange(9) % 3, far=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(new, labels, old)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(new.float(), labels, old.float()), rtol=0, atol=0)


def test_prefix_and_frozen_old_side() -> None:
    new, old = torch.randn(4, 6, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    stored, labels = torch.randn(5, 3), torch.arange(4)
    loss = TailLoss(stored, torch.arange(5), prefix=True)(new, labels, old)
    torch.testing.assert_close(loss, TailLoss(stored, torch.arange(5))(new[:, :3], labels, old))
    loss.backward()
    assert old.grad is None


def test_what_does_not_fit_is_refused() -> None:
    for far in (0, 1, -0.1):
        with pytest.raises(InputError, match="expected a false accept rate above 0 and below 1"):
            TailLoss(torch.eye(3), torch.arange(3), far=far)
    for sharpness in (0.0, math.inf, math.nan):
        with pytest.raises(InputError, match=f"sharpness is {sharpness}"):
            TailLoss(torch.eye(3), torch.arange(3), sharpness=sharpness)
    loss = TailLoss(torch.eye(3), torch.arange(3))
    with pytest.raises(InputError, match="and the memory 3"):
        loss(torch.ones(2, 4), torch.tensor([0, 1]), torch.ones(2, 4))
    with pytest.raises(InputError, match="prefix=True"):
        loss(torch.ones(2, 4), torch.tensor([0, 1]), torch.ones(2, 3))
    with pytest.raises(InputError, match="one per embedding"):
        loss(torch.ones(2, 3), torch.tensor([0]), torch.ones(2, 3))
    with pytest.raises(InputError, match="of the same images"):
        loss(torch.ones(2, 3), torch.tensor([0, 1]), torch.ones(1, 3))
