from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from samespace import prototypes
from samespace.errors import InputError
from samespace.losses import MARGINS, InfluenceLoss, Margin, MarginHead, apply_margin

NAN = math.nan


def slow_influence(
    embeddings: Tensor,
    rows: list[list[float] | None],
    targets: list[int],
    margin: Margin,
    scale: float,
    bias: list[float] | None = None,
) -> Tensor:
    """BCT Eq. 8 sample by sample; a row that is None is no class at all, a target of -1 is skipped."""
    losses = []
    for vector, target in zip(embeddings, targets, strict=True):
        if target < 0 or rows[target] is None:
            continue
        logits, at = [], 0
        for j, row in enumerate(rows):
            if row is None:
                continue
            prototype = torch.tensor(row, dtype=vector.dtype)
            if j == target:
                at = len(logits)
            if margin == "softmax":
                logits.append(vector @ prototype + (0 if bias is None else bias[j]))
                continue
            cosine = vector @ prototype / (vector.norm() * prototype.norm())
            logits.append(scale * (apply_margin(cosine, margin, MARGINS[margin].default) if j == target else cosine))
        losses.append(torch.stack(logits).logsumexp(0) - logits[at])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("margin", MARGINS)
def test_loss_and_gradient_equal_the_definition_with_missing_classes(margin: Margin) -> None:
    torch.manual_seed(0)
    rows: list[list[float] | None] = torch.randn(5, 4).tolist()
    rows[3] = None
    bias = [0.5, -1.0, 0.25, 9.0, 0.0] if margin == "softmax" else None
    table = torch.tensor([[NAN] * 4 if row is None else row for row in rows])
    loss_of = InfluenceLoss(table, margin=margin, scale=16.0, bias=None if bias is None else torch.tensor(bias))
    embeddings = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    labels = [0, 3, 4, 1, 3, 2]
    loss = loss_of(embeddings, torch.tensor(labels))
    expected = slow_influence(embeddings, rows, labels, margin, 16.0, bias)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    (ours,) = torch.autograd.grad(loss, embeddings)
    (theirs,) = torch.autograd.grad(expected, embeddings)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert (ours[[1, 4]] == 0).all()
    if margin != "arcface-straight-through":
        assert torch.autograd.gradcheck(lambda x: loss_of(x, torch.tensor(labels)), (embeddings,))


def test_complete_prototypes_give_the_loss_of_a_head_with_these_weights() -> None:
    torch.manual_seed(1)
    head, embeddings, labels = MarginHead(6, 5), torch.randn(7, 5), torch.tensor([0, 5, 2, 2, 3, 1, 4])
    torch.testing.assert_close(InfluenceLoss(head.weight)(embeddings, labels), head(embeddings, labels))


def test_class_map_sends_new_labels_to_old_rows() -> None:
    torch.manual_seed(2)
    rows: list[list[float] | None] = torch.randn(3, 4).tolist()
    loss_of = InfluenceLoss(torch.tensor(rows), class_map=torch.tensor([2, -1, 0, -1, 1]), margin="cosface", scale=8.0)
    embeddings = torch.randn(5, 4, dtype=torch.float64)
    labels = [0, 1, 2, 4, 3]
    expected = slow_influence(embeddings, rows, [2, -1, 0, 1, -1], "cosface", 8.0)
    torch.testing.assert_close(loss_of(embeddings, torch.tensor(labels)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("margin", MARGINS)
def test_a_batch_without_prototypes_is_zero_and_has_a_graph(margin: Margin) -> None:
    table = torch.tensor([[NAN, NAN], [1.0, 0.0], [NAN, NAN]])
    embeddings = torch.randn(3, 2, requires_grad=True)
    loss = InfluenceLoss(table, margin=margin)(embeddings, torch.tensor([0, 2, 0]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert embeddings.grad is not None
    assert (embeddings.grad == 0).all()


def test_prefix_uses_the_leading_part_normalised_by_itself() -> None:
    torch.manual_seed(3)
    table, embeddings, labels = torch.randn(4, 3), torch.randn(5, 7, requires_grad=True), torch.tensor([0, 1, 2, 3, 1])
    loss = InfluenceLoss(table, prefix=True)(embeddings, labels)
    torch.testing.assert_close(loss, InfluenceLoss(table)(embeddings[:, :3], labels))
    loss.backward()
    assert embeddings.grad is not None
    assert (embeddings.grad[:, 3:] == 0).all()
    assert (embeddings.grad[:, :3] != 0).any()


def test_prototypes_are_frozen_saved_and_never_parameters() -> None:
    source = torch.nn.Parameter(torch.randn(4, 3))
    loss_of = InfluenceLoss(source)
    loss_of(torch.randn(2, 3, requires_grad=True), torch.tensor([0, 1])).backward()
    assert source.grad is None
    assert list(loss_of.parameters()) == []
    other = InfluenceLoss(torch.randn(4, 3))
    other.load_state_dict(loss_of.state_dict())
    embeddings, labels = torch.randn(2, 3), torch.tensor([0, 3])
    torch.testing.assert_close(other(embeddings, labels), loss_of(embeddings, labels), rtol=0, atol=0)


def test_refreshed_prototypes_take_over_with_their_gaps() -> None:
    torch.manual_seed(4)
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    first[1], second[2] = NAN, NAN
    embeddings, labels = torch.randn(4, 3), torch.arange(4)
    loss_of = InfluenceLoss(first)
    loss_of.set_prototypes(second)
    torch.testing.assert_close(loss_of(embeddings, labels), InfluenceLoss(second)(embeddings, labels))
    with pytest.raises(InputError, match="as before"):
        loss_of.set_prototypes(torch.randn(5, 3))


def test_class_means_with_an_empty_class_can_be_used_as_they_are() -> None:
    table = prototypes.mean(torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 3, 3]), 4)
    loss = InfluenceLoss(table)(torch.randn(2, 3), torch.tensor([0, 2]))
    assert loss.isfinite()


def test_one_prototype_in_the_first_row_is_enough() -> None:
    loss = InfluenceLoss(torch.tensor([[1.0, 0.0], [NAN, NAN]]))
    assert float(loss.counts(torch.tensor([0, 1]))) == 1
    mapped = InfluenceLoss(torch.eye(2), class_map=torch.tensor([-1, 0]), margin="norm-softmax", scale=1.0)
    expected = math.log1p(math.exp(-1))
    assert float(mapped(torch.eye(2)[[1, 0]], torch.tensor([0, 1]))) == pytest.approx(expected)


def test_numpy_prototypes_are_taken() -> None:
    table = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    table.setflags(write=False)
    embeddings, labels = torch.randn(2, 3), torch.tensor([0, 2])
    expected = InfluenceLoss(torch.tensor(table))(embeddings, labels)
    torch.testing.assert_close(InfluenceLoss(table, class_map=np.arange(4))(embeddings, labels), expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_a_batch_does_not_matter(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table, embeddings = torch.randn(5, 4, generator=generator), torch.randn(9, 4, generator=generator)
    labels, order = torch.randint(0, 5, (9,), generator=generator), torch.randperm(9, generator=generator)
    loss_of = InfluenceLoss(table, scale=16.0)
    torch.testing.assert_close(loss_of(embeddings, labels), loss_of(embeddings[order], labels[order]))


def test_autocast_does_not_touch_the_maths() -> None:
    torch.manual_seed(5)
    loss_of, labels = InfluenceLoss(torch.randn(50, 32)), torch.randint(0, 50, (8,))
    embeddings = torch.randn(8, 32).bfloat16()
    expected = loss_of(embeddings.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(embeddings, labels)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (torch.full((3, 2), NAN), {}, "no class has a prototype"),
        (torch.eye(2), {"class_map": torch.tensor([-1, -1])}, "no class has a prototype"),
        (torch.eye(2), {"class_map": torch.tensor([0, 2])}, "sends class 1 to 2"),
        (torch.tensor([[1.0, NAN], [1.0, 0.0]]), {}, "prototype 0 holds NaN"),
        (torch.tensor([[1.0, 0.0], [0.0, 0.0]]), {}, "prototype 1 is all zero"),
        (torch.eye(2), {"bias": torch.zeros(2)}, "only margin 'softmax'"),
        (torch.eye(2), {"margin": "softmax", "bias": torch.zeros(3)}, "expected 2 finite numbers"),
        (torch.eye(2), {"margin": "softmax", "margin_value": 0.5}, "has no margin value"),
        (torch.eye(2), {"scale": -1.0}, "scale is"),
        (torch.ones(2), {}, "prototypes has shape"),
    ],
)
def test_unusable_prototypes_and_options_are_refused(table: Tensor, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        InfluenceLoss(table, **options)


@pytest.mark.parametrize(
    ("width", "labels", "options", "message"),
    [
        (5, [0, 1], {}, "prefix=True compares the leading 3"),
        (2, [0, 1], {"prefix": True}, "at least as many in the new model"),
        (3, [0, 4], {}, "label 4 is outside 0..3"),
        (3, [0, 2], {"class_map": torch.tensor([3, 1])}, "label 2 is outside 0..1"),
        (3, [0], {}, "one per embedding"),
        (3, [[0, 1]], {}, "one per embedding"),
    ],
)
def test_batches_that_do_not_fit_are_refused(width: int, labels: list, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        InfluenceLoss(torch.randn(4, 3), **options)(torch.ones(2, width), torch.tensor(labels))


def test_counts_are_the_samples_with_a_target_and_weigh_the_means_of_parts() -> None:
    table = torch.tensor([[1.0, 0.0], [NAN, NAN], [0.0, 1.0]])
    loss = InfluenceLoss(table, class_map=torch.tensor([2, 1, -1, 0]), margin="cosface", scale=8.0)
    embeddings = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 3, 2])
    count = loss.counts(labels)
    assert count.dtype == torch.float32
    assert count.shape == ()
    assert float(count) == 3
    parts = [slice(0, 3), slice(3, 6)]
    total = sum(loss.counts(labels[part]) * loss(embeddings[part], labels[part]) for part in parts)
    torch.testing.assert_close(total / count, loss(embeddings, labels))
    with pytest.raises(InputError, match="label 4 is outside"):
        loss.counts(torch.tensor([4]))


def test_a_class_map_changed_afterwards_changes_nothing() -> None:
    class_map = torch.tensor([0, 1])
    loss = InfluenceLoss(torch.eye(2), class_map=class_map)
    class_map[:] = -1
    assert float(loss.counts(torch.tensor([0, 1]))) == 2
