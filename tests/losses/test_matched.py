from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from samespace import prototypes
from samespace.errors import InputError
from samespace.losses import MatchedLoss, MatchingLoss, MemoryContrastLoss, OldMemory, TailLoss


def batch(new_dim: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    new = torch.randn(6, new_dim, dtype=torch.float64, requires_grad=True)
    views, stored = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    return new, torch.tensor([0, 1, 2, 2, 1, 3]), views, stored


def memory() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 4, generator=generator, dtype=torch.float64), torch.arange(40) % 5


@pytest.mark.parametrize("size", [11, 4096])
@pytest.mark.parametrize("new_dim", [4, 7])
def test_it_is_the_weighted_sum_of_the_three_losses(size: int, new_dim: int) -> None:
    new, labels, views, stored = batch(new_dim)
    mixed = torch.randn(3, new_dim, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    vectors, classes = memory()
    options = {"size": size, "seed": 5, "prefix": True}
    matched = MatchedLoss(
        vectors, classes, 5, beta=0.3, temperature=0.1, far=0.02, matching_weight=3, mixed_weight=0.5,
        contrast_weight=0.7, tail_weight=4, **options,
    ).eval()  # fmt: skip
    matching = MatchingLoss(prototypes.mean(vectors, classes, 5), beta=0.3, prefix=True)
    contrast = MemoryContrastLoss(vectors, classes, temperature=0.1, **options).eval()
    tail = TailLoss(vectors, classes, far=0.02, **options).eval()
    expected = (
        3 * matching(new, labels, views)
        + 1.5 * matching(mixed[0], None, mixed[1])
        + 0.7 * contrast(new, labels, views)
        + 4 * tail(new, labels, stored)
    )
    loss = matched(new, labels, views, old_embeddings=stored, mixed=mixed)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, new), torch.autograd.grad(expected, new))


def test_without_stored_vectors_the_tail_takes_the_views() -> None:
    new, labels, views, stored = batch()
    loss = MatchedLoss(*memory(), 5).eval()
    torch.testing.assert_close(loss(new, labels, views), loss(new, labels, views, old_embeddings=views))
    assert not torch.allclose(loss(new, labels, views), loss(new, labels, views, old_embeddings=stored))


def test_defaults_are_those_of_the_method() -> None:
    loss = MatchedLoss(*memory(), 5)
    assert loss.weights == {"matching": 10.0, "mixed": 5.0, "contrast": 0.5, "tail": 10.0}
    assert (loss.matching.beta, loss.temperature, loss.far, loss.sharpness) == (0.2, 0.05, 1e-3, 16.0)
    assert loss.needs_old_embeddings
    assert loss.needs_old_views


def test_each_loss_by_itself_has_the_defaults_that_it_has_in_the_method() -> None:
    together, stored = MatchedLoss(*memory(), 5), memory()
    contrast, tail = MemoryContrastLoss(*stored), TailLoss(*stored)
    assert MatchingLoss().beta == together.matching.beta
    assert contrast.temperature == together.temperature
    assert (tail.far, tail.sharpness) == (together.far, together.sharpness)
    many = torch.ones(4097, 2), torch.zeros(4097, dtype=torch.int64)
    memories = [kind.memory for kind in (MemoryContrastLoss(*many), TailLoss(*many), MatchedLoss(*many, 1))]
    memories.append(OldMemory(*many))
    assert [(kept.size, kept.seed) for kept in memories] == [(4096, 0)] * 4


def test_a_term_of_weight_zero_is_left_out_and_draws_nothing() -> None:
    new, labels, views, _ = batch()
    loss = MatchedLoss(*memory(), 5, contrast_weight=0, tail_weight=0, size=3)
    assert list(loss.terms(new, labels, views)) == ["matching"]
    assert loss.memory.step == 0
    only_tail = MatchedLoss(*memory(), 5, contrast_weight=0, matching_weight=0, size=3)
    assert list(only_tail.terms(new, labels, views, mixed=(new, views))) == ["tail"]
    assert only_tail.memory.step == 1


def test_one_step_is_one_draw_and_the_seed_decides_it() -> None:
    new, labels, views, _ = batch()
    loss, again = MatchedLoss(*memory(), 5, size=3), MatchedLoss(*memory(), 5, size=3)
    values = [float(loss(new, labels, views).detach()) for _ in range(3)]
    assert loss.memory.step == 3
    assert [float(again(new, labels, views).detach()) for _ in range(3)] == values
    assert len(set(values)) == 3
    resumed = MatchedLoss(*memory(), 5, size=3)
    resumed.load_state_dict(loss.state_dict())
    assert float(resumed(new, labels, views).detach()) == float(loss(new, labels, views).detach())


def test_no_input_gives_nan() -> None:
    for classes in (torch.zeros(40, dtype=torch.int64), torch.arange(40) % 5):
        for scale in (0.0, 1e-30, 1e30):
            new = (scale * torch.ones(6, 4)).requires_grad_()
            loss = MatchedLoss(memory()[0].float(), classes, 6)(new, torch.full((6,), 5), torch.zeros(6, 4))
            loss.backward()
            assert loss.isfinite()
            assert new.grad is not None
            assert new.grad.isfinite().all()


def test_full_precision_under_autocast() -> None:
    new, labels, views, stored = (tensor.detach() for tensor in batch())
    new, views, stored = new.bfloat16(), views.bfloat16(), stored.bfloat16()
    loss_of = MatchedLoss(memory()[0].float(), memory()[1], 5).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(new, labels, views, old_embeddings=stored, mixed=(new, views))
    expected = loss_of(
        new.float(), labels, views.float(), old_embeddings=stored.float(), mixed=(new.float(), views.float())
    )
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_training_by_it_is_as_good_as_taking_the_old_vectors_over() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 12
    stored = functional.normalize(torch.randn(12, 8)[labels] + 0.3 * torch.randn(60, 8), dim=1)
    new = torch.randn(60, 8, requires_grad=True)
    loss_of, optimizer = MatchedLoss(stored, labels, 12, far=0.05, matching_weight=10.0), torch.optim.SGD([new], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss_of(new, labels, stored).backward()
        optimizer.step()
    with torch.no_grad():
        assert loss_of(new, labels, stored) <= loss_of(stored, labels, stored)
        assert torch.equal(labels[(functional.normalize(new) @ stored.T).argmax(dim=1)], labels)
        assert float(functional.cosine_similarity(new, stored).mean()) > 0.9


def test_what_does_not_fit_is_refused() -> None:
    vectors, classes = memory()
    with pytest.raises(InputError, match="all 0"):
        MatchedLoss(vectors, classes, 5, matching_weight=0, contrast_weight=0, tail_weight=0)
    with pytest.raises(InputError, match="finite numbers of at least 0"):
        MatchedLoss(vectors, classes, 5, tail_weight=-1)
    with pytest.raises(InputError, match="far is 2"):
        MatchedLoss(vectors, classes, 5, far=2)
    with pytest.raises(InputError, match="temperature is 0"):
        MatchedLoss(vectors, classes, 5, temperature=0)
    with pytest.raises(InputError, match=r"outside 0\.\.2"):
        MatchedLoss(vectors, classes, 3)
    loss = MatchedLoss(vectors, classes, 5)
    new, labels, views, _ = batch()
    with pytest.raises(InputError, match="label 5 is outside"):
        loss(new, labels + 2, views)
    with pytest.raises(InputError, match="and the memory 4"):
        loss(new, labels, views[:, :3])
    with pytest.raises(InputError, match="of the same images"):
        loss(new, labels, views, old_embeddings=views[:2])
    with pytest.raises(InputError, match="of the same images"):
        loss(new, labels, views, mixed=(new, views[:2]))
    with pytest.raises(InputError, match="prefix=True"):
        loss(torch.randn(6, 9), labels, views)


def test_a_low_temperature_does_not_overflow_where_one_impostor_is_near_and_another_far() -> None:
    stored, labels = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1, 2])
    only = {"matching_weight": 0.0, "tail_weight": 0.0, "contrast_weight": 1.0}
    loss = MatchedLoss(stored, labels, 3, temperature=0.005, **only)
    new = torch.tensor([[1.0, 0.0]], requires_grad=True)
    value = loss(new, torch.tensor([2]), torch.tensor([[-1.0, 0.0]]))
    value.backward()
    assert value.item() == pytest.approx(2 / 0.005)
    assert new.grad is not None
    assert new.grad.isfinite().all()
