"""The margin softmax in chunks is the one of `margin_loss`, and keeps little memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from samespace.losses import MARGINS, InfluenceLoss, Margin, MarginHead, chunked, softmax
from samespace.losses.chunked import Softmax, chunked_margin_loss
from samespace.losses.margins import margin_loss


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in chunks, of 5 rows and of blocks of 3."""
    monkeypatch.setattr(chunked, "LEAST", 0)
    monkeypatch.setattr(chunked, "ROWS", 5)
    for module in (chunked, softmax):
        monkeypatch.setattr(module, "BLOCK", 40)


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "LEAST", math.inf)


def gradients(loss: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, of, retain_graph=True))


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("margin", MARGINS)
def test_loss_and_gradients_equal_those_of_the_whole_matrix(margin: Margin, normalized: bool) -> None:
    torch.manual_seed(0)
    linear = margin == "softmax"
    x, w = (torch.randn(n, 6, dtype=torch.float64, requires_grad=True) for n in (17, 13))
    offset = torch.randn(13, dtype=torch.float64).index_fill(0, torch.tensor([0, 3]), -torch.inf).requires_grad_()
    targets = torch.randint(4, 13, (17,)).index_fill(0, torch.tensor([2, 9]), -1)
    scale, value = 1.0 if linear else 8.0, MARGINS[margin].default
    vectors = x if linear else scale * functional.normalize(x)
    unit = w if linear else functional.normalize(w)
    kind = Softmax(margin, scale, value, normalized and not linear)
    expected = margin_loss(functional.linear(vectors, unit, offset), targets, margin=margin, scale=scale, value=value)
    loss = chunked_margin_loss(vectors, w if kind.normalized else unit, offset, targets, kind)
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    for ours, theirs in zip(gradients(loss, x, w, offset), gradients(expected, x, w, offset), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("margin", sorted(set(MARGINS) - {"arcface-straight-through"}))
def test_gradients_pass_the_numeric_check(margin: Margin) -> None:
    torch.manual_seed(1)
    head = MarginHead(4, 3, margin=margin, scale=8.0, bias=margin == "softmax").double()
    names = [name for name, _ in head.named_parameters()]
    embeddings, labels = torch.randn(7, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 3, 0, 0, 1])

    def loss(embeddings: Tensor, *values: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(head, dict(zip(names, values, strict=True)), (embeddings, labels))
        return result

    assert torch.autograd.gradcheck(loss, (embeddings, *head.parameters()))


@pytest.mark.parametrize("scale", [16.0, 64.0])
def test_in_float32_it_is_as_near_the_truth_as_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    torch.manual_seed(2)
    head, exact = MarginHead(300, 32, scale=scale), MarginHead(300, 32, scale=scale).double()
    exact.load_state_dict(head.state_dict())
    embeddings, labels = torch.randn(40, 32), torch.randint(0, 300, (40,))

    def error(head: MarginHead) -> list[float]:
        x, true = embeddings.clone().requires_grad_(), embeddings.double().requires_grad_()
        ours, theirs = head(x, labels), exact(true, labels)
        pairs = zip(
            [ours, *gradients(ours, x, head.weight)], [theirs, *gradients(theirs, true, exact.weight)], strict=True
        )
        return [float(((a.double() - b).norm() / b.norm()).detach()) for a, b in pairs]

    chunks = error(head)
    whole(monkeypatch)
    for mine, theirs in zip(chunks, error(head), strict=True):
        assert mine <= 3 * theirs + 1e-6


@pytest.mark.parametrize("scale", [32.0, 64.0, 100.0])
def test_the_loss_of_samples_that_are_sure_of_their_class_keeps_its_digits(scale: float) -> None:
    torch.manual_seed(9)
    head = MarginHead(50, 32, scale=scale, margin_value=0.1)
    labels = torch.arange(40)
    embeddings = functional.normalize(head.weight.detach()[labels]) + 0.06 * torch.randn(40, 32)
    with torch.no_grad():
        loss, exact = head(embeddings, labels), head.double()(embeddings.double(), labels)
    assert 0 < exact < 0.05
    torch.testing.assert_close(loss.double(), exact, rtol=2e-5, atol=1e-7)


def test_a_second_backward_pass_and_a_factor_on_the_loss() -> None:
    torch.manual_seed(3)
    head, x, labels = MarginHead(9, 4), torch.randn(6, 4, requires_grad=True), torch.arange(6)
    once = gradients(head(x, labels), x, head.weight)
    loss = 3 * head(x, labels)
    for _ in range(2):
        again = torch.autograd.grad(loss, (x, head.weight), retain_graph=True)
        torch.testing.assert_close([one / 3 for one in again], once)


def test_a_row_of_no_length_gets_the_gradient_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    head, x, labels = MarginHead(9, 4, scale=4.0).double(), torch.randn(6, 4).double(), torch.arange(6)
    with torch.no_grad():
        head.weight[2], head.weight[3] = 0.0, 1e-14
        x[1] = 0.0
    ours = gradients(head(x, labels), head.weight)[0]
    whole(monkeypatch)
    torch.testing.assert_close(ours, gradients(head(x, labels), head.weight)[0])


@pytest.mark.parametrize("prefix", [False, True])
def test_the_influence_loss_with_missing_prototypes(monkeypatch: pytest.MonkeyPatch, prefix: bool) -> None:
    torch.manual_seed(5)
    prototypes = torch.randn(20, 6).index_fill(0, torch.tensor([0, 7]), torch.nan)
    loss = InfluenceLoss(prototypes, prefix=prefix, scale=16.0)
    x = torch.randn(12, 8 if prefix else 6, requires_grad=True)
    for labels in (torch.arange(12), torch.tensor([0, 7] * 6)):
        monkeypatch.setattr(chunked, "LEAST", 0)
        value = loss(x, labels)
        (ours,) = gradients(value, x)
        whole(monkeypatch)
        expected = loss(x, labels)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(ours, gradients(expected, x)[0])


@pytest.mark.parametrize("scale", [16.0, 64.0, 200.0])
@pytest.mark.parametrize(("margin", "value"), [("arcface", 0.5), ("cosface", 1.9), ("sphereface", 4.0)])
@pytest.mark.parametrize("classes", [1, 2, 9])
def test_the_farthest_cosines_neither_overflow_nor_vanish(
    monkeypatch: pytest.MonkeyPatch, margin: Margin, value: float, scale: float, classes: int
) -> None:
    """Vectors on their own class, on the opposite of it and of all classes, in float32."""
    torch.manual_seed(7)
    weight = functional.normalize(torch.randn(1, 4)).repeat(classes, 1)
    loss = InfluenceLoss(weight, margin=margin, scale=scale, margin_value=value)
    x = torch.cat([weight[:1], -weight[:1], weight[:1] + 1e-3]).requires_grad_()
    value_of = loss(x, torch.zeros(3).long())
    ours = gradients(value_of, x)[0]
    whole(monkeypatch)
    expected = loss(x, torch.zeros(3).long())
    torch.testing.assert_close(value_of, expected)
    torch.testing.assert_close(ours, gradients(expected, x)[0], atol=1e-3, rtol=1e-2)


def test_without_gradients_none_are_computed() -> None:
    head, x, labels = MarginHead(9, 4), torch.randn(6, 4), torch.arange(6)
    with torch.no_grad():
        loss = head(x, labels)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, head(x, labels).detach())
    assert head(torch.empty(0, 4, requires_grad=True), labels[:0]).item() == 0


def test_repeated_steps_are_equal_bit_by_bit() -> None:
    torch.manual_seed(6)
    head, x, labels = MarginHead(50, 16), torch.randn(12, 16, requires_grad=True), torch.arange(12)
    first, second = (gradients(head(x, labels), x, head.weight) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_matrix_of_all_logits_is_kept_for_the_backward_pass() -> None:
    head, x, labels = MarginHead(50, 16), torch.randn(12, 16, requires_grad=True), torch.arange(12)
    sizes: list[torch.Size] = []

    def keep(saved: Tensor) -> Tensor:
        sizes.append(saved.shape)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, keep):
        head(x, labels)
    assert sizes
    assert (12, 50) not in sizes


@pytest.fixture
def bf16_products() -> Iterator[None]:
    """PyTorch's own switch: oneDNN multiplies float32 matrices as bf16 and adds up in float32."""
    settings = getattr(torch.backends.mkldnn, "matmul", None)
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported() or settings is None:
        pytest.skip("this torch or this CPU multiplies no bf16")
    settings.fp32_precision, before = "bf16", settings.fp32_precision
    yield
    settings.fp32_precision = before


@pytest.mark.parametrize("scale", [16.0, 64.0])
def test_products_in_bf16_keep_to_their_error_budget(bf16_products: None, scale: float) -> None:
    """The mean loss is off by 5e-5 of the scale at most, gradients by 1 %; they are off, or the switch did nothing."""
    torch.manual_seed(8)
    head, exact = (MarginHead(3000, 64, scale=scale) for _ in range(2))
    exact = exact.double()
    exact.load_state_dict(head.state_dict())
    influence = InfluenceLoss(head.weight.detach(), scale=scale)
    labels = torch.randint(0, 3000, (128,))
    embeddings = head.weight.detach()[labels] + 0.02 * torch.randn(128, 64)
    true = embeddings.double().requires_grad_()
    expected = exact(true, labels)
    by_true, by_weight = gradients(expected, true, exact.weight)
    for loss in (head, influence):
        x = embeddings.clone().requires_grad_()
        value = loss(x, labels)
        assert 1e-6 * scale < abs(value - expected) < 5e-5 * scale
        of = gradients(value, x, *loss.parameters())
        for ours, theirs in zip(of, (by_true, by_weight), strict=False):
            assert (ours - theirs).norm() < 0.01 * theirs.norm()
