from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from samespace.losses import OldMemory
from samespace.losses.contrast_and_tail import contrast_and_tail
from samespace.losses.memory import Draw, compare
from samespace.losses.memory_contrast import contrast
from samespace.losses.tail import largest, tail

At = dict[str, float]


def unit(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return functional.normalize(torch.randn(*shape, dtype=dtype), dim=1)


def eager(new: Tensor, labels: Tensor, views: Tensor, stored: Tensor, draw: Draw, at: At) -> tuple[Tensor, Tensor]:
    against = compare(new, labels, draw)
    return (
        contrast((new * views).sum(dim=1), against.impostor, at["temperature"]),
        tail((new * stored).sum(dim=1), against, far=at["far"], sharpness=at["sharpness"]),
    )


@pytest.mark.parametrize("far", [1e-3, 0.02, 0.6, 0.999])
@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("classes", [1, 3, 50])
def test_values_and_gradients_are_those_of_the_two_losses(far: float, temperature: float, classes: int) -> None:
    torch.manual_seed(0)
    new = unit(9, 6).requires_grad_()
    draw = Draw(unit(333, 6), torch.randint(0, classes, (333,)))
    given = (torch.tensor([0, 1, 2, 2, 1, 0, 0, 7, 99]), unit(9, 6), unit(9, 6), draw)
    if classes == 1:
        given = (torch.zeros(9, dtype=torch.int64), *given[1:])
    at = {"temperature": temperature, "far": far, "sharpness": 16.0}
    for mine, theirs in zip(contrast_and_tail(new, *given, **at), eager(new, *given, at), strict=True):
        torch.testing.assert_close(mine, theirs)
        (a,), (b,) = (torch.autograd.grad(value, new, retain_graph=True) for value in (mine, theirs))
        torch.testing.assert_close(a, b)


def test_the_gradient_of_the_contrast_is_the_slope_of_its_value() -> None:
    torch.manual_seed(1)
    new, draw = unit(4, 3).requires_grad_(), Draw(unit(20, 3), torch.arange(20) % 5)
    given = (torch.arange(4), unit(4, 3), unit(4, 3), draw)
    assert torch.autograd.gradcheck(
        lambda x: contrast_and_tail(x, *given, temperature=0.2, far=0.1, sharpness=9)[0], new
    )


def test_as_large_as_in_a_training_and_in_float32() -> None:
    torch.manual_seed(2)
    new = unit(128, 64, dtype=torch.float32).requires_grad_()
    draw = Draw(unit(4096, 64, dtype=torch.float32), torch.randint(0, 700, (4096,)))
    views = functional.normalize(new.detach() + 0.1 * torch.randn(128, 64))
    given = (torch.randint(0, 700, (128,)), views, views, draw)
    at = {"temperature": 0.05, "far": 1e-3, "sharpness": 16.0}
    for mine, theirs in zip(contrast_and_tail(new, *given, **at), eager(new, *given, at), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        (a,), (b,) = (torch.autograd.grad(value, new, retain_graph=True) for value in (mine, theirs))
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_each_gradient_has_its_own_weight_and_none_is_needed() -> None:
    torch.manual_seed(3)
    new = unit(5, 4).requires_grad_()
    given = (torch.arange(5), unit(5, 4), unit(5, 4), Draw(unit(30, 4), torch.arange(30) % 6))
    at = {"temperature": 0.1, "far": 0.1, "sharpness": 16.0}
    one, other = contrast_and_tail(new, *given, **at)
    (both,) = torch.autograd.grad(0.3 * one + 7 * other, new, retain_graph=True)
    (first,), (second,) = torch.autograd.grad(one, new, retain_graph=True), torch.autograd.grad(other, new)
    torch.testing.assert_close(both, 0.3 * first + 7 * second)
    assert not any(value.requires_grad for value in contrast_and_tail(new.detach(), *given, **at))


def test_an_empty_batch_gives_zeros_with_a_graph() -> None:
    new, draw = torch.empty(0, 4, requires_grad=True), Draw(unit(6, 4).float(), torch.arange(6))
    nothing = torch.empty(0, 4)
    given = (torch.empty(0, dtype=torch.int64), nothing, nothing, draw)
    values = contrast_and_tail(new, *given, temperature=0.1, far=0.1, sharpness=16.0)
    assert [float(value.detach()) for value in values] == [0, 0]
    sum(values).backward()  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [1, 7, 200, 5000])
@pytest.mark.parametrize("size", [5000, 64 * 900, 64 * 900 + 37])
@pytest.mark.parametrize("kind", ["random", "ties", "ascending", "mostly -inf", "all -inf"])
def test_the_largest_are_found_whatever_the_values(count: int, size: int, kind: str) -> None:
    torch.manual_seed(count)
    values = torch.randn(size)
    if kind == "ties":
        values = values.round()
    elif kind == "ascending":
        values = values.sort().values
    elif kind != "random":
        values[torch.rand(size) < (0.999 if kind == "mostly -inf" else 2)] = -torch.inf
    positions = largest(values, count)
    assert len(positions.unique()) == count
    assert torch.equal(values[positions].sort().values, values.sort().values[size - count :])


def test_vectors_of_length_one_are_drawn_as_they_are() -> None:
    vectors = unit(50, 8, dtype=torch.float32)
    drawn = OldMemory(vectors, torch.arange(50), size=50).draw().vectors
    torch.testing.assert_close(drawn, vectors, rtol=0, atol=0)
    longer = OldMemory(vectors * 1.001, torch.arange(50), size=50).draw().vectors
    torch.testing.assert_close(longer, vectors)
