from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from samespace import losses
from samespace.errors import InputError
from samespace.losses.checks import check_batch, check_old, check_range, selected_mean

LOSSES = [
    kind
    for name in losses.__all__
    if inspect.isclass(kind := getattr(losses, name)) and issubclass(kind, nn.Module) and name.endswith("Loss")
]


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_declares_the_old_vectors_that_its_forward_takes(kind: type[nn.Module]) -> None:
    taken = inspect.signature(kind.forward).parameters
    if kind is losses.PairsLoss:
        taken = {}  # old vectors of texts, which no recipe gives: nothing to declare
    for what in ("old_embeddings", "old_views"):
        assert getattr(kind, f"needs_{what}", False) is (what in taken)


@pytest.mark.parametrize("shape", [(3,), (2, 4), (3, 4, 1)])
def test_old_embeddings_are_one_row_per_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"for 3 embeddings; expected the old vectors of the same images"):
        check_old(torch.ones(3, 4), torch.ones(shape))


def test_old_embeddings_have_the_dimension_of_the_old_classifier() -> None:
    check_old(torch.ones(3, 9), torch.ones(3, 4), 4)
    with pytest.raises(InputError, match="have 5 dimensions; the old classifier takes 4"):
        check_old(torch.ones(3, 9), torch.ones(3, 5), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64, torch.bool])
def test_labels_are_whole_numbers(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match="expected whole numbers"):
        check_batch(torch.ones(2, 3), torch.ones(2, dtype=dtype))


def test_labels_lie_within_the_classes_and_an_empty_batch_has_none_outside() -> None:
    check_range(torch.tensor([0, 4]), 5, "the head")
    check_range(torch.tensor([], dtype=torch.int64), 5, "the head")
    for label in (-1, 5):
        with pytest.raises(InputError, match=rf"label {label} is outside 0\.\.4, the classes of the head"):
            check_range(torch.tensor([0, label]), 5, "the head")


def test_the_mean_of_what_is_selected_is_zero_with_a_graph_where_nothing_is() -> None:
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    assert selected_mean(values, None).item() == 3
    assert selected_mean(values, torch.tensor([True, False, True])).item() == 3.5
    nothing = selected_mean(values, torch.zeros(3, dtype=torch.bool))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert values.grad is not None
    assert (values.grad == 0).all()


STORED = torch.eye(4), torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(
    "loss",
    [
        losses.ContrastiveLoss(),
        losses.DistillationLoss(torch.eye(4)),
        losses.MatchingLoss(torch.eye(4)),
        losses.RegressionLoss(),
        losses.MemoryContrastLoss(*STORED),
        losses.TailLoss(*STORED),
        losses.MatchedLoss(*STORED, 4),
    ],
)
def test_the_new_side_alone_decides_the_type_and_gets_the_gradient(loss: nn.Module) -> None:
    new = torch.eye(4)[[1, 0]].requires_grad_()
    old = torch.eye(4, dtype=torch.float64)[:2].requires_grad_()
    value = loss(new, torch.tensor([0, 1]), old)
    value.backward()
    assert value.dtype == torch.float32
    assert new.grad is not None
    assert old.grad is None
