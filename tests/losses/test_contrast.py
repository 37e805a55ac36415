from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.losses import ContrastiveLoss


def slow_contrast(new: Tensor, old: Tensor, labels: list[int], temperature: float) -> Tensor:
    """UniBCT Eq. 12 term by term."""
    total = new.new_zeros(())
    for i, label in enumerate(labels):
        own, terms = new.new_zeros(()), []
        for k in range(len(labels)):
            term = (new[i] @ old[k] / (new[i].norm() * old[k].norm()) / temperature).exp()
            if k == i:
                own = term
            if k == i or labels[k] != label:
                terms.append(term)
        total = total - (own / torch.stack(terms).sum()).log()
    return total / len(labels)


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_loss_and_gradient_equal_the_equation(temperature: float) -> None:
    torch.manual_seed(0)
    new = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    old = torch.randn(7, 4, dtype=torch.float64)
    labels = [0, 1, 0, 2, 1, 1, 3]
    loss = ContrastiveLoss(temperature=temperature)(new, torch.tensor(labels), old)
    expected = slow_contrast(new, old, labels, temperature)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(expected, new))
    assert torch.autograd.gradcheck(
        lambda x: ContrastiveLoss(temperature=temperature)(x, torch.tensor(labels), old), (new,), rtol=1e-2
    )


def test_old_embeddings_of_the_same_class_are_no_negatives() -> None:
    torch.manual_seed(1)
    new, old, labels = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0, 0, 1, 2])
    loss = ContrastiveLoss()
    first = loss(new, labels, old)
    swapped = old.clone()
    swapped[1] = -old[0]
    only_first = ContrastiveLoss()(new[[0, 2, 3]], labels[[0, 2, 3]], old[[0, 2, 3]])
    assert not torch.allclose(first, loss(new, labels, swapped))
    torch.testing.assert_close(only_first, ContrastiveLoss()(new[[0, 2, 3]], labels[[0, 2, 3]], swapped[[0, 2, 3]]))


def test_a_batch_of_one_class_is_zero_with_a_graph() -> None:
    new = torch.randn(3, 4, requires_grad=True)
    loss = ContrastiveLoss()(new, torch.tensor([5, 5, 5]), torch.randn(3, 4))
    loss.backward()
    assert float(loss.detach()) == 0
    assert new.grad is not None
    assert (new.grad == 0).all()


def test_labels_above_the_range_of_float32_are_told_apart() -> None:
    new, old = torch.randn(2, 4), torch.randn(2, 4)
    loss = ContrastiveLoss()
    apart = loss(new, torch.tensor([2**24, 2**24 + 1]), old)
    torch.testing.assert_close(apart, loss(new, torch.tensor([0, 1]), old))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_input_stays_finite(dtype: torch.dtype) -> None:
    new, old, labels = torch.randn(6, 4).to(dtype), torch.randn(6, 4).to(dtype), torch.tensor([0, 0, 1, 1, 2, 2])
    expected = ContrastiveLoss(temperature=0.01)(new.float(), labels, old.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ContrastiveLoss(temperature=0.01)(new, labels, old)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_prefix_and_frozen_old_side() -> None:
    new, old = torch.randn(4, 6, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    labels = torch.arange(4)
    loss = ContrastiveLoss(prefix=True)(new, labels, old)
    torch.testing.assert_close(loss, ContrastiveLoss()(new[:, :3], labels, old))
    loss.backward()
    assert old.grad is None


def test_what_does_not_fit_is_refused() -> None:
    for temperature in (0.0, math.inf, math.nan):
        with pytest.raises(InputError, match=f"temperature is {temperature}"):
            ContrastiveLoss(temperature=temperature)
    with pytest.raises(InputError, match="prefix=True"):
        ContrastiveLoss()(torch.ones(2, 4), torch.tensor([0, 1]), torch.ones(2, 3))
    with pytest.raises(InputError, match="one per embedding"):
        ContrastiveLoss()(torch.ones(2, 4), torch.tensor([0]), torch.ones(2, 4))
