from __future__ import annotations

import math

import pytest
import torch

from samespace.errors import InputError
from samespace.losses import MARGINS, Margin, MarginHead, apply_margin
from samespace.losses.margins import check_margin


def slow_margin(cosine: float, margin: str, value: float) -> float:
    """What the definitions say, by angle."""
    angle = math.acos(cosine)
    if margin == "cosface":
        return cosine - value
    if margin == "sphereface":
        k = math.floor(value * angle / math.pi)
        return (-1) ** k * math.cos(value * angle) - 2 * k
    if margin == "arcface" and angle >= math.pi - value:
        return cosine - value * math.sin(value)
    if margin.startswith("arcface"):
        return math.cos(angle + value)
    return cosine


@pytest.mark.parametrize("margin", MARGINS)
def test_margins_follow_their_definitions(margin: Margin) -> None:
    value = MARGINS[margin].default
    cosines = torch.linspace(-0.9999, 0.9999, 401, dtype=torch.float64)
    expected = [slow_margin(cosine, margin, value) for cosine in cosines.tolist()]
    torch.testing.assert_close(
        apply_margin(cosines, margin, value), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_sphereface_with_the_papers_factor_four() -> None:
    cosines = torch.linspace(-0.999, 0.999, 101, dtype=torch.float64)
    expected = [slow_margin(cosine, "sphereface", 4.0) for cosine in cosines.tolist()]
    torch.testing.assert_close(
        apply_margin(cosines, "sphereface", 4.0), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10
    )
    assert expected == sorted(expected)


@pytest.mark.parametrize("margin", ["sphereface", "cosface", "arcface", "arcface-unguarded"])
def test_gradients_are_the_derivatives(margin: Margin) -> None:
    cosines = torch.tensor([-0.97, -0.9, -0.5, -0.1, 0.0, 0.3, 0.7, 0.95], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: apply_margin(x, margin, MARGINS[margin].default), (cosines,))


def test_straight_through_leaves_the_gradient_alone() -> None:
    cosines = torch.linspace(-1, 1, 9, dtype=torch.float64, requires_grad=True)
    apply_margin(cosines, "arcface-straight-through", 0.5).sum().backward()
    torch.testing.assert_close(cosines.grad, torch.ones(9, dtype=torch.float64))


def test_only_the_guarded_margin_never_rises_with_the_angle() -> None:
    cosines = torch.linspace(0.999, -0.999, 2001, dtype=torch.float64)
    assert (apply_margin(cosines, "arcface", 0.5).diff() < 0).all()
    assert not (apply_margin(cosines, "arcface-unguarded", 0.5).diff() < 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", MARGINS)
def test_ends_of_the_cosine_are_finite_with_finite_gradients(margin: Margin, dtype: torch.dtype) -> None:
    cosines = torch.tensor([1.0, -1.0, 1.0000001, -1.0000001], dtype=dtype, requires_grad=True)
    lowered = apply_margin(cosines, margin, MARGINS[margin].default)
    lowered.sum().backward()
    assert lowered.isfinite().all()
    assert cosines.grad is not None
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [name for name in MARGINS if MARGINS[name].slope is not None])
def test_slopes_are_the_derivatives_of_their_margins_to_the_bit(margin: Margin, dtype: torch.dtype) -> None:
    inside = torch.linspace(-1, 1, 20_001, dtype=dtype)
    cosines = torch.cat([inside, torch.tensor([1.0000001, -1.0000001], dtype=dtype)]).requires_grad_()
    slope = MARGINS[margin].slope
    assert slope is not None
    for value in (MARGINS[margin].default, 0.0, 1.3):
        (expected,) = torch.autograd.grad(apply_margin(cosines, margin, value).sum(), cosines)
        assert torch.equal(slope(cosines.detach(), value), expected)


@pytest.mark.parametrize("margin", MARGINS)
def test_head_is_finite_where_embeddings_lie_on_their_class_or_opposite(margin: Margin) -> None:
    head = MarginHead(3, 4, margin=margin)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3, 4))
    embeddings = torch.stack([head.weight[0] * 7, -head.weight[1] * 3]).detach().requires_grad_()
    loss = head(embeddings, torch.tensor([0, 1]))
    loss.backward()
    assert loss.isfinite()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert head.weight.grad is not None
    assert head.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    ("margin", "value", "message"),
    [
        ("arcfce", None, "did you mean 'arcface'"),
        ("softmax", 0.1, "has no margin value"),
        ("norm-softmax", 0.1, "has no margin value"),
        ("arcface", 4.0, "below 3.14"),
        ("arcface", -0.1, "at least 0"),
        ("cosface", 2.0, "below 2"),
        ("sphereface", 0.9, "at least 1"),
        ("sphereface", math.nan, "at least 1"),
    ],
)
def test_unusable_margins_are_refused(margin, value: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_margin(margin, value)


@pytest.mark.parametrize(
    ("margin", "lowest", "highest"), [("sphereface", 1.0, 100.0), ("cosface", 0.0, 1.99), ("arcface", 0.0, 3.14)]
)
def test_margin_values_up_to_the_bounds_are_taken_and_none_is_the_default(
    margin: Margin, lowest: float, highest: float
) -> None:
    assert [check_margin(margin, value) for value in (lowest, highest, None)] == [
        lowest,
        highest,
        MARGINS[margin].default,
    ]
    assert check_margin("softmax", None) == 0.0


def test_margins_default_to_the_values_of_their_papers() -> None:
    defaults = {name: check_margin(name, None) for name in MARGINS if MARGINS[name].lower is not None}
    angles = {"arcface": 0.5, "arcface-unguarded": 0.5, "arcface-straight-through": 0.5}
    assert defaults == {"sphereface": 1.7, "cosface": 0.4, **angles}
