from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.losses import MatchingLoss
from samespace.losses.checks import check_range, note_range


def unit(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt()


def slow_matching(new: Tensor, labels: list[int], old: Tensor, centres: Tensor, beta: float) -> Tensor:
    """The formula sample by sample."""
    total = new.new_zeros(())
    for f, label, o in zip(new, labels, old, strict=True):
        target = unit(o)
        if label >= 0 and not centres[label].isnan().any():
            target = unit((1 - beta) * target + beta * unit(centres[label]))
        total = total + 1 - sum(a * b for a, b in zip(unit(f), target, strict=True))
    return total / len(new)


@pytest.mark.parametrize("beta", [0.0, 0.2, 0.7])
def test_loss_and_gradient_equal_the_formula(beta: float) -> None:
    torch.manual_seed(0)
    new = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    old, centres = torch.randn(6, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    centres[1] = torch.nan
    labels = [0, 1, 2, -1, 0, 1]
    loss_of = MatchingLoss(centres, beta=beta)
    loss = loss_of(new, torch.tensor(labels), old)
    expected = slow_matching(new, labels, old, centres, beta)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(expected, new))
    assert torch.autograd.gradcheck(lambda x: loss_of(x, torch.tensor(labels), old), (new,))


def test_by_hand_on_three_points() -> None:
    old = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    new = torch.tensor([[5.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert float(MatchingLoss()(new, None, old)) == pytest.approx((0 + 1 + 2) / 3)
    centres = torch.tensor([[0.0, 7.0]])
    half = MatchingLoss(centres, beta=0.5)(torch.tensor([[1.0, 1.0]]), torch.tensor([0]), torch.tensor([[1.0, 0.0]]))
    assert float(half) == pytest.approx(0, abs=1e-6)


def test_images_without_class_match_the_old_view_alone() -> None:
    torch.manual_seed(1)
    new, old, centres = torch.randn(4, 3), torch.randn(4, 3), torch.randn(2, 3)
    plain = MatchingLoss()(new, None, old)
    with_centres = MatchingLoss(centres, beta=0.5)
    torch.testing.assert_close(with_centres(new, None, old), plain)
    torch.testing.assert_close(with_centres(new, torch.full((4,), -1), old), plain)
    torch.testing.assert_close(MatchingLoss(torch.full((2, 3), torch.nan))(new, torch.tensor([0, 1, 0, 1]), old), plain)
    half = with_centres(new, torch.tensor([0, -1, 1, -1]), old)
    known = with_centres(new[[0, 2]], torch.tensor([0, 1]), old[[0, 2]])
    unknown = MatchingLoss()(new[[1, 3]], None, old[[1, 3]])
    torch.testing.assert_close(half, (known + unknown) / 2)


def test_order_and_lengths_of_vectors_change_nothing() -> None:
    torch.manual_seed(2)
    new, old, centres = torch.randn(5, 3), torch.randn(5, 3), torch.randn(2, 3)
    labels, order = torch.tensor([0, 1, 1, 0, -1]), torch.tensor([3, 1, 4, 0, 2])
    loss = MatchingLoss(centres)(new, labels, old)
    torch.testing.assert_close(MatchingLoss(centres)(new[order], labels[order], old[order]), loss)
    torch.testing.assert_close(MatchingLoss(9 * centres)(2 * new, labels, 5 * old), loss)


def test_wider_embeddings_match_by_their_leading_part_and_the_old_side_is_frozen() -> None:
    new, old = torch.randn(4, 6, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = MatchingLoss(prefix=True)(new, None, old)
    torch.testing.assert_close(loss, MatchingLoss()(new[:, :3], None, old))
    loss.backward()
    assert old.grad is None
    assert new.grad is not None
    assert (new.grad[:, 3:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_full_precision_under_autocast(dtype: torch.dtype) -> None:
    new, old, labels = torch.randn(4, 3).to(dtype), torch.randn(4, 3).to(dtype), torch.tensor([0, 1, 0, 1])
    loss_of = MatchingLoss(torch.randn(2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(new, labels, old)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_of(new.float(), labels, old.float()), rtol=0, atol=0)


def test_zero_vectors_and_opposed_centres_give_no_nan() -> None:
    new = torch.zeros(2, 3, requires_grad=True)
    old = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    loss = MatchingLoss(torch.tensor([[-1.0, 0.0, 0.0]]), beta=0.5)(new, torch.tensor([0, 0]), old)
    loss.backward()
    assert loss.isfinite()
    assert new.grad is not None
    assert new.grad.isfinite().all()


def test_what_does_not_fit_is_refused() -> None:
    new, old, labels = torch.ones(2, 4), torch.ones(2, 4), torch.tensor([0, 1])
    with pytest.raises(InputError, match="beta is 1"):
        MatchingLoss(beta=1.0)
    with pytest.raises(InputError, match="centre 1 holds NaN or infinity in part"):
        MatchingLoss(torch.tensor([[1.0, 0.0], [torch.nan, 1.0]]))
    with pytest.raises(InputError, match=r"expected floating \(classes, old_dim\)"):
        MatchingLoss(torch.ones(4))
    with pytest.raises(InputError, match=r"label 1 is outside 0\.\.0, the classes of the centres"):
        MatchingLoss(torch.ones(1, 4))(new, labels, old)
    with pytest.raises(InputError, match="and the centres 3"):
        MatchingLoss(torch.ones(2, 3))(new, labels, old)
    with pytest.raises(InputError, match="prefix=True"):
        MatchingLoss()(new, labels, torch.ones(2, 3))
    with pytest.raises(InputError, match="of the same images"):
        MatchingLoss()(new, labels, torch.ones(3, 4))
    with pytest.raises(InputError, match="one per embedding"):
        MatchingLoss()(new, torch.tensor([0]), old)
    with pytest.raises(InputError, match=r"expected \(batch, embedding_dim\)"):
        MatchingLoss()(torch.ones(4), None, old)


def test_labels_whose_range_is_noted_are_checked_without_being_read() -> None:
    unreadable = note_range(torch.tensor([3, -1, 4]), torch.device("meta"))
    check_range(unreadable, 5, "the centres", least=-1)
    with pytest.raises(InputError, match=r"label -1 is outside 0\.\.4"):
        check_range(unreadable, 5, "the centres")
    with pytest.raises(InputError, match=r"label 4 is outside 0\.\.3"):
        check_range(unreadable, 4, "the centres", least=-1)
