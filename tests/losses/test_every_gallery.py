from __future__ import annotations

import pytest
import torch

from samespace.errors import InputError
from samespace.losses import EveryGalleryLoss, MatchedLoss


def made(weights=None):
    torch.manual_seed(0)
    labels = torch.arange(40) % 8
    stored = [torch.randn(40, dim) for dim in (6, 10)]
    terms = [
        MatchedLoss(old, labels, num_classes=8, far=0.05, size=16, seed=number, prefix=True)
        for number, old in enumerate(stored)
    ]
    views = [old[:12] + 0.1 * torch.randn(12, old.shape[1]) for old in stored]
    return EveryGalleryLoss(terms, weights=weights).eval(), terms, labels[:12], views, [old[:12] for old in stored]


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ((3, 1), (0.75, 0.25))])
@pytest.mark.parametrize("with_stored", [False, True])
def test_it_is_the_weighted_mean_of_its_terms_for_value_and_gradient(weights, shares, with_stored):
    loss, terms, labels, views, stored = made(weights)
    new = torch.randn(12, 10, requires_grad=True)
    value = loss(new, labels, views, old_embeddings=stored if with_stored else None)
    parts = [
        term(new, labels, view, old_embeddings=own if with_stored else None)
        for term, view, own in zip(terms, views, stored, strict=True)
    ]
    wanted = shares[0] * parts[0] + shares[1] * parts[1]
    assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
    gradients = [torch.autograd.grad(one, new, retain_graph=True)[0] for one in (value, wanted)]
    assert torch.allclose(*gradients, atol=1e-6)


def test_training_draws_are_in_the_state_dict():
    loss, _, labels, views, _ = made()
    loss.train()(torch.randn(12, 10), labels, views)
    state = loss.state_dict()
    assert [int(value) for name, value in state.items() if name.endswith("_extra_state")] == [1, 1]


def test_what_does_not_fit_is_refused():
    loss, terms, labels, views, stored = made()
    with pytest.raises(InputError, match="no terms"):
        EveryGalleryLoss([])
    for weights in ((1,), (1, 0), (1, float("nan"))):
        with pytest.raises(InputError, match="weights are"):
            EveryGalleryLoss(terms, weights=weights)
    with pytest.raises(InputError, match="old_views holds vectors of 1 models"):
        loss(torch.randn(12, 10), labels, views[:1])
    with pytest.raises(InputError, match="old_embeddings holds vectors of 1 models"):
        loss(torch.randn(12, 10), labels, views, old_embeddings=stored[:1])
