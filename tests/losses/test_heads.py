from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.losses import MARGINS, Margin, MarginHead, apply_margin
from samespace.losses.heads import sampled_classes


def slow_loss(
    embeddings: Tensor, weight: Tensor, labels: list[int], margin: Margin, scale: float, bias: Tensor | None = None
) -> Tensor:
    """UniBCT Eq. 4 sample by sample and class by class, in the type of its input."""
    total = embeddings.new_zeros(())
    for vector, label in zip(embeddings, labels, strict=True):
        logits = []
        for j, row in enumerate(weight):
            if margin == "softmax":
                logits.append(vector @ row + (0 if bias is None else bias[j]))
                continue
            cosine = vector @ row / (vector.norm() * row.norm())
            logits.append(scale * (apply_margin(cosine, margin, MARGINS[margin].default) if j == label else cosine))
        total = total - logits[label] + torch.stack(logits).logsumexp(0)
    return total / len(labels)


@pytest.mark.parametrize(("margin", "value"), [("arcface", 0.3), ("cosface", 0.1), ("sphereface", 1.2)])
def test_a_given_margin_value_is_the_one_that_is_used(margin: Margin, value: float) -> None:
    head = MarginHead(2, 2, margin=margin, scale=4.0, margin_value=value).double()
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    cosine = torch.tensor([0.6], dtype=torch.float64)
    own, other = 4 * float(apply_margin(cosine, margin, value)), 4 * 0.8
    loss = head(torch.tensor([[0.6, 0.8]], dtype=torch.float64), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(other - own)))
    assert head.margin_value == value


@pytest.mark.parametrize("margin", MARGINS)
def test_loss_and_gradients_equal_the_definition(margin: Margin) -> None:
    torch.manual_seed(0)
    head = MarginHead(6, 5, margin=margin, scale=16.0, bias=margin == "softmax").double()
    with torch.no_grad():
        head.weight.normal_()
        if head.bias is not None:
            head.bias.normal_()
    embeddings = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    labels = [0, 5, 2, 2, 3, 1, 4]
    inputs = [embeddings, head.weight] + ([] if head.bias is None else [head.bias])
    loss = head(embeddings, torch.tensor(labels))
    expected = slow_loss(embeddings, head.weight, labels, margin, 16.0, head.bias)
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_gradients_pass_the_numeric_check() -> None:
    torch.manual_seed(1)
    head = MarginHead(4, 3, scale=8.0).double()
    embeddings = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 3, 0])
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(head, {"weight": w}, (x, labels)), (embeddings, head.weight)
    )


def test_length_of_embeddings_does_not_matter_to_cosine_heads() -> None:
    torch.manual_seed(2)
    head, embeddings, labels = MarginHead(4, 3), torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(head(embeddings, labels), head(embeddings * 1000, labels))


def test_plain_softmax_ignores_the_scale() -> None:
    torch.manual_seed(3)
    one, other = MarginHead(4, 3, margin="softmax", scale=1.0), MarginHead(4, 3, margin="softmax", scale=64.0)
    other.load_state_dict(one.state_dict())
    embeddings, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(one(embeddings, labels), other(embeddings, labels))


def test_logits_are_scaled_cosines_without_a_margin() -> None:
    head = MarginHead(3, 2, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, -1.0]]))
    expected = torch.tensor([[0.0, 10.0, -10 / math.sqrt(2)]])
    torch.testing.assert_close(head.logits(torch.tensor([[0.0, 0.5]])), expected)


@pytest.mark.parametrize("margin", MARGINS)
def test_autocast_does_not_touch_the_maths(margin: Margin) -> None:
    torch.manual_seed(4)
    head = MarginHead(50, 32, margin=margin)
    embeddings, labels = torch.randn(8, 32).bfloat16(), torch.randint(0, 50, (8,))
    expected = head(embeddings.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(embeddings, labels)
        assert head.logits(embeddings).dtype == torch.float32
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_a_few_steps_separate_the_classes() -> None:
    torch.manual_seed(5)
    head, embeddings = MarginHead(4, 8, scale=16.0), torch.nn.Parameter(torch.randn(16, 8))
    labels = torch.arange(16) % 4
    optimiser = torch.optim.SGD([*head.parameters(), embeddings], lr=0.5)
    for _ in range(60):
        optimiser.zero_grad()
        head(embeddings, labels).backward()
        optimiser.step()
    assert (head.logits(embeddings).argmax(dim=1) == labels).all()


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (torch.ones(2, 3), torch.tensor([0, 4]), "label 4 is outside 0..3, the classes of the head"),
        (torch.ones(2, 3), torch.tensor([-1, 0]), "label -1 is outside"),
        (torch.ones(2, 5), torch.tensor([0, 1]), r"the head takes \(batch, 3\)"),
        (torch.ones(2, 3), torch.tensor([0]), "one per embedding"),
        (torch.ones(2, 3), torch.tensor([0.0, 1.0]), "whole numbers"),
        (torch.ones(3), torch.tensor([0, 1, 2]), "expected .batch, embedding_dim."),
    ],
)
def test_batches_that_do_not_fit_are_refused(embeddings: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MarginHead(4, 3)(embeddings, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": math.inf}, "scale is inf"),
        ({"bias": True}, "only margin 'softmax'"),
        ({"num_classes": 0}, "0 classes"),
        ({"embedding_dim": 0}, "0 dimensions"),
    ],
)
def test_impossible_heads_are_refused(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MarginHead(**{"num_classes": 3, "embedding_dim": 4, **options})


def test_a_sample_of_all_classes_is_the_whole_loss() -> None:
    torch.manual_seed(0)
    whole = MarginHead(20, 8)
    sampled = MarginHead(20, 8, sample=1.0)
    sampled.load_state_dict(whole.state_dict())
    labels = torch.randint(0, 20, (12,))
    found = []
    for head in (whole, sampled):
        embeddings = torch.randn(12, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        loss = head(embeddings, labels)
        found.append([loss, *torch.autograd.grad(loss, (embeddings, head.weight))])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_a_sample_holds_the_classes_of_the_batch_and_others() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([3, 90, 3, -1])
    chosen = [sampled_classes(labels, 100, 0.2) for _ in range(20)]
    assert all(len(set(some.tolist())) == 20 and {3, 90} <= set(some.tolist()) for some in chosen)
    assert all(bool((some.diff() > 0).all()) for some in chosen)
    assert len(torch.cat(chosen).unique()) > 90
    assert len(sampled_classes(torch.arange(50), 100, 0.01)) == 50
    assert sampled_classes(torch.arange(3), 3, 0.5).tolist() == [0, 1, 2]


def test_a_sample_leaves_the_other_classes_without_gradient_and_ends_with_the_training() -> None:
    torch.manual_seed(0)
    head, whole = MarginHead(100, 8, sample=0.2), MarginHead(100, 8)
    head.load_state_dict(whole.state_dict())
    embeddings, labels = torch.randn(4, 8), torch.tensor([3, 90, 3, 7])
    (gradient,) = torch.autograd.grad(head(embeddings, labels), head.weight)
    touched = gradient.abs().sum(dim=1).nonzero()[:, 0].tolist()
    assert len(touched) == 20
    assert {3, 90, 7} <= set(touched)
    assert torch.equal(head.eval()(embeddings, labels), whole(embeddings, labels))


@pytest.mark.parametrize("sample", [0.0, -0.1, 1.5])
def test_a_sample_out_of_range_is_refused(sample: float) -> None:
    with pytest.raises(InputError, match="expected a share of the classes above 0 and at most 1"):
        MarginHead(10, 4, sample=sample)
