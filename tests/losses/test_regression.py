from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.losses import RegressionLoss


def slow_regression(new: Tensor, old: Tensor, factor: float, normalize: bool) -> Tensor:
    total = new.new_zeros(())
    for a, b in zip(new, old, strict=True):
        if normalize:
            a, b = a / a.norm(), b / b.norm()
        total = total + factor * sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    return total / len(new)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("form", "factor"), [("bct", 0.5), ("unibct", 1.0)])
def test_loss_and_gradient_equal_the_equations(form, factor: float, normalize: bool) -> None:
    torch.manual_seed(0)
    new = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    old = torch.randn(5, 4, dtype=torch.float64)
    loss = RegressionLoss(form=form, normalize=normalize)(new, torch.zeros(5, dtype=torch.int64), old)
    expected = slow_regression(new, old, factor, normalize)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(expected, new))


def test_unibct_form_is_the_negative_cosine_up_to_constants() -> None:
    new, old = torch.randn(5, 4), torch.randn(5, 4)
    cosine = torch.nn.functional.cosine_similarity(new, old).mean()
    torch.testing.assert_close(RegressionLoss(form="unibct")(new, None, old), 2 - 2 * cosine)


def test_only_masked_samples_count_and_none_is_zero() -> None:
    new, old = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3)
    mask = torch.tensor([True, False, False, True])
    loss_of = RegressionLoss()
    torch.testing.assert_close(loss_of(new, None, old, mask=mask), loss_of(new[[0, 3]], None, old[[0, 3]]))
    nothing = loss_of(new, None, old, mask=torch.zeros(4, dtype=torch.bool))
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert new.grad is not None


def test_prefix_autocast_and_no_gradient_to_the_old_side() -> None:
    new, old = torch.randn(4, 6, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = RegressionLoss(prefix=True)(new, None, old)
    torch.testing.assert_close(loss, RegressionLoss()(new[:, :3], None, old))
    loss.backward()
    assert old.grad is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = RegressionLoss(prefix=True)(new.bfloat16(), None, old)
    assert low.dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'unibct'"):
        RegressionLoss(form="unibtc")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prefix=True"):
        RegressionLoss()(torch.ones(2, 4), None, torch.ones(2, 3))
    with pytest.raises(InputError, match="of the same images"):
        RegressionLoss()(torch.ones(2, 4), None, torch.ones(3, 4))
    with pytest.raises(InputError, match="one bool per sample"):
        RegressionLoss()(torch.ones(2, 4), None, torch.ones(2, 4), mask=torch.tensor([True]))
    with pytest.raises(InputError, match="one bool per sample"):
        RegressionLoss()(torch.ones(2, 4), None, torch.ones(2, 4), mask=torch.tensor([1, 0]))
    with pytest.raises(InputError, match=r"expected \(batch, embedding_dim\)"):
        RegressionLoss()(torch.ones(4), None, torch.ones(4, 4))
