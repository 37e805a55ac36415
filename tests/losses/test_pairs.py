"""`PairsLoss`: matching and contrast without labels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from samespace.errors import InputError
from samespace.losses import PairsLoss


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    new = [torch.randn(6, 5, generator=random, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    return new, torch.randn(6, 2, 5, generator=random, dtype=torch.float64)


def test_it_is_the_sum_of_its_definitions(batch):
    new, old = batch
    units = [functional.normalize(one) for one in new]
    queries, documents = (functional.normalize(old[:, column]) for column in range(2))
    matching = sum((1 - (one * other).sum(1)).mean() for one, other in zip(units, (queries, documents), strict=True))
    contrast = functional.cross_entropy(units[0] @ documents.T / 0.1, torch.arange(6))
    loss = PairsLoss(matching_weight=3.0, contrast_weight=0.7, temperature=0.1)
    torch.testing.assert_close(loss(new, old), 3.0 * matching / 2 + 0.7 * contrast)


def test_equal_documents_are_no_negatives_of_each_other(batch):
    new, old = batch
    old[3, 1] = old[0, 1]
    documents = functional.normalize(old[:, 1])
    logits = functional.normalize(new[0]) @ documents.T / 0.05
    logits = logits.clone()
    logits[0, 3] = logits[3, 0] = -torch.inf
    expected = functional.cross_entropy(logits, torch.arange(6))
    torch.testing.assert_close(PairsLoss(matching_weight=0, contrast_weight=1)(new, old), expected)


def test_gradient_reaches_the_new_vectors_alone_and_wider_ones_by_prefix(batch):
    new, old = batch
    old.requires_grad_()
    wide = [torch.cat([one, torch.ones(6, 2)], dim=1) for one in new]
    loss = PairsLoss(prefix=True)(wide, old)
    torch.testing.assert_close(loss, PairsLoss()(new, old))
    loss.backward()
    assert all(one.grad is not None for one in new)
    assert old.grad is None


def test_what_cannot_be_used_is_refused(batch):
    new, old = batch
    with pytest.raises(InputError, match="one for each of the 2 columns"):
        PairsLoss()(new, old[:, :1])
    with pytest.raises(InputError, match="set contrast_weight to 0"):
        PairsLoss()(new[:1], old[:, :1])
    with pytest.raises(InputError, match="one of them above"):
        PairsLoss(matching_weight=0, contrast_weight=0)
    assert PairsLoss(contrast_weight=0)(new[:1], old[:, :1]).ndim == 0
