from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samespace.errors import InputError
from samespace.losses import BctDistillationLoss, DistillationLoss, InfluenceLoss, LwFLoss
from samespace.losses.distillation import Form


def slow_probabilities(vector: Tensor, weight: Tensor, form: Form, temperature: float, bias: Tensor | None) -> Tensor:
    responses = []
    for j, row in enumerate(weight.to(vector.dtype)):
        response = vector @ row
        if form == "cosine":
            response = response / (vector.norm() * row.norm())
        elif bias is not None:
            response = response + bias[j]
        responses.append((temperature * response).exp())
    return torch.stack(responses) / sum(responses)


def slow_divergence(old: Tensor, new: Tensor) -> Tensor:
    return sum((p * (p.log() - q.log()) for p, q in zip(old, new, strict=True)), start=old.new_zeros(()))


def batch(seed: int = 0, new_dim: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    new = torch.randn(6, new_dim, dtype=torch.float64, generator=generator).requires_grad_()
    old = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    return new, torch.tensor([0, 1, 2, 3, 1, 2]), old, torch.randn(5, 4, generator=generator)


@pytest.mark.parametrize(("form", "temperature"), [("cosine", 32.0), ("cosine", 4.0), ("linear", 1.0), ("linear", 0.5)])
def test_divergence_and_gradient_equal_the_definition(form: Form, temperature: float) -> None:
    new, labels, old, weight = batch()
    bias = torch.linspace(-1, 1, 5) if form == "linear" else None
    loss = DistillationLoss(weight, form=form, temperature=temperature, bias=bias)(new, labels, old)
    pairs = [
        slow_divergence(*(slow_probabilities(v, weight, form, temperature, bias) for v in (a, b)))
        for a, b in zip(old, new, strict=True)
    ]
    expected = torch.stack(pairs).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(expected, new), rtol=1e-6, atol=1e-9)


def test_gradient_is_that_of_the_cross_entropy() -> None:
    new, labels, old, weight = batch()
    loss = DistillationLoss(weight)(new, labels, old)
    crosses = []
    for a, b in zip(old, new, strict=True):
        p, q = (slow_probabilities(v, weight, "cosine", 32.0, None) for v in (a, b))
        crosses.append(-(p * q.log()).sum())
    cross = torch.stack(crosses).mean()
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(cross, new), rtol=1e-6, atol=1e-9)


def test_temperature_defaults_to_the_papers_scale_and_multiplies() -> None:
    assert DistillationLoss(torch.eye(3)).temperature == 32.0
    assert DistillationLoss(torch.eye(3), form="linear").temperature == 1.0
    old, new = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    labels = torch.tensor([0])
    soft = DistillationLoss(torch.eye(2), temperature=1.0)(new, labels, old)
    sharp = DistillationLoss(torch.eye(2), temperature=32.0)(new, labels, old)
    assert float(sharp) == pytest.approx(32.0, abs=1e-4)
    assert float(soft) == pytest.approx(math.tanh(0.5), abs=1e-5)


def test_equal_embeddings_give_zero() -> None:
    _, labels, old, weight = batch()
    assert float(DistillationLoss(weight)(old * 3, labels, old)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", [DistillationLoss, LwFLoss])
def test_only_classes_the_old_classifier_lacks_are_distilled(kind) -> None:
    new, labels, old, weight = batch()
    loss = kind(weight, class_map=torch.tensor([0, -1, 4, -1]))(new, labels, old)
    chosen = torch.tensor([1, 3, 4])
    torch.testing.assert_close(loss, kind(weight)(new[chosen], labels[chosen], old[chosen]))
    masked = kind(weight, class_map=torch.tensor([0, -1, 4, -1]))(
        new, labels, old, mask=torch.tensor([True, True, True, False, False, True])
    )
    torch.testing.assert_close(masked, kind(weight)(new[1:2], labels[1:2], old[1:2]))


def test_a_batch_with_nothing_to_distil_is_zero_and_has_a_graph() -> None:
    new, labels, old, weight = batch()
    loss = DistillationLoss(weight, class_map=torch.tensor([0, 1, 2, 3]))(new, labels, old)
    loss.backward()
    assert float(loss.detach()) == 0
    assert new.grad is not None
    assert (new.grad == 0).all()


def test_only_the_new_embedding_gets_a_gradient() -> None:
    new, labels, old, weight = batch()
    weight.requires_grad_()
    old.requires_grad_()
    loss_of = DistillationLoss(weight)
    loss_of(new, labels, old).backward()
    assert new.grad is not None
    assert old.grad is None
    assert weight.grad is None
    assert list(loss_of.parameters()) == []


def test_prefix_and_autocast() -> None:
    new, labels, old, weight = batch(new_dim=7)
    narrow = DistillationLoss(weight)(new[:, :4], labels, old)
    torch.testing.assert_close(DistillationLoss(weight, prefix=True)(new, labels, old), narrow)
    low = new[:, :4].detach().bfloat16()
    expected = DistillationLoss(weight)(low.float(), labels, old.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(DistillationLoss(weight)(low, labels, old.float()), expected, rtol=0, atol=0)


def test_lwf_starts_as_distillation_and_trains_its_copy_only() -> None:
    new, labels, old, weight = batch()
    loss_of = LwFLoss(weight)
    torch.testing.assert_close(loss_of(new, labels, old), DistillationLoss(weight)(new, labels, old))
    assert [name for name, _ in loss_of.named_parameters()] == ["student_weight"]
    optimiser = torch.optim.SGD(loss_of.parameters(), lr=0.1)
    before = loss_of(new, labels, old).item()
    for _ in range(5):
        optimiser.zero_grad()
        loss_of(new, labels, old).backward()
        optimiser.step()
    assert loss_of(new, labels, old).item() < before
    torch.testing.assert_close(loss_of.weight, weight)
    assert not torch.equal(loss_of.student_weight, weight)


def test_lwf_with_the_fixed_classifier_trains_nothing() -> None:
    new, labels, old, weight = batch()
    loss_of = LwFLoss(weight, trainable=False, form="linear", bias=torch.ones(5))
    loss_of(new, labels, old).backward()
    assert all(not parameter.requires_grad for parameter in loss_of.parameters())
    assert new.grad is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "cosin"}, "did you mean 'cosine'"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"bias": torch.zeros(5)}, "only form 'linear'"),
        ({"form": "linear", "bias": torch.zeros(4)}, "expected 5 finite numbers"),
        ({"class_map": torch.tensor([0, 5])}, "sends class 1 to 5"),
        ({"classifier_weight": torch.tensor([[1.0, math.nan]])}, "row 0 of classifier_weight"),
    ],
)
def test_unusable_options_are_refused(options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DistillationLoss(**{"classifier_weight": batch()[3], **options})


def test_batches_that_do_not_fit_are_refused() -> None:
    new, labels, old, weight = batch()
    loss_of = DistillationLoss(weight, class_map=torch.tensor([0, -1]))
    with pytest.raises(InputError, match="label 3 is outside"):
        loss_of(new, labels, old)
    with pytest.raises(InputError, match="have 3 dimensions"):
        loss_of(new, labels, old[:, :3])
    with pytest.raises(InputError, match="of the same images"):
        loss_of(new, labels, old[:3])
    with pytest.raises(InputError, match="prefix=True"):
        DistillationLoss(weight)(torch.ones(6, 9), labels, old)
    with pytest.raises(InputError, match="one bool per sample"):
        DistillationLoss(weight)(new, labels, old, mask=torch.ones(6))


@pytest.mark.parametrize("kind", [DistillationLoss, LwFLoss])
def test_counts_are_the_samples_that_are_distilled(kind) -> None:
    _, labels, _, weight = batch()
    mask = torch.arange(len(labels)) < 2
    mapped = kind(weight, class_map=torch.tensor([0, -1, 4, -1]))
    unknown = (labels == 1) | (labels == 3)
    assert float(kind(weight).counts(labels)) == len(labels)
    assert float(kind(weight).counts(labels, mask=mask)) == 2
    assert float(mapped.counts(labels)) == int(unknown.sum())
    assert float(mapped.counts(labels, mask=mask)) == int((unknown & mask).sum())
    assert mapped.counts(labels).dtype == torch.float32


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 1, 2], [0, 0, 2, 2, 0, 2], [1, 3, 3, 1, 1, 3], [0, 1, 1, 1, 1, 1]])
def test_bct_with_distillation_is_the_mean_over_samples_each_by_its_own_loss(labels: list[int]) -> None:
    new, _, old, weight = batch()
    class_map = torch.tensor([0, -1, 4, -1])
    influence = InfluenceLoss(weight, margin="cosface", scale=8.0, class_map=class_map)
    distillation = DistillationLoss(weight, class_map=class_map)
    alone = [influence if class_map[label] >= 0 else DistillationLoss(weight) for label in labels]
    single = [
        one(new[[row]], torch.tensor([label]), *([] if one is influence else [old[[row]]]))
        for row, (one, label) in enumerate(zip(alone, labels, strict=True))
    ]
    loss = BctDistillationLoss(influence, distillation, class_map)(new, torch.tensor(labels), old)
    torch.testing.assert_close(loss, torch.stack(single).mean())
