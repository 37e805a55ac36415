"""Losses in the calling form of pytorch-metric-learning: same values, its trainers, its miners."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from samespace.errors import InputError
from samespace.integrations.metric_learning import MetricLearningLoss
from samespace.losses import ContrastiveLoss, InfluenceLoss, MarginHead, MatchedLoss, MatchingLoss, RegressionLoss

REASON = "pytorch-metric-learning is not installed: pip install 'samespace[metric-learning]'"


@pytest.fixture
def batch():
    random = torch.Generator().manual_seed(0)
    new, old = torch.randn(12, 8, generator=random), torch.randn(12, 8, generator=random)
    return new.requires_grad_(), old, torch.arange(12) % 4


@pytest.mark.parametrize("made", [RegressionLoss, ContrastiveLoss, MatchingLoss])
def test_old_vectors_as_ref_emb_give_the_value_of_the_loss(batch, made):
    new, old, labels = batch
    value = MetricLearningLoss(made())(new, labels, ref_emb=old, ref_labels=labels)
    torch.testing.assert_close(value, made()(new, labels, old))
    value.backward()
    assert new.grad is not None


def test_the_loss_of_the_default_method_takes_ref_emb(batch):
    new, old, labels = batch
    value, expected = (MatchedLoss(old, labels, num_classes=4, seed=5) for _ in range(2))
    torch.testing.assert_close(
        MetricLearningLoss(value)(new, labels, ref_emb=old), expected(new, labels, old, old_embeddings=old)
    )


def test_losses_without_old_vectors_of_the_batch_ignore_ref_emb(batch):
    new, old, labels = batch
    loss = InfluenceLoss(torch.eye(8)[:4], margin="norm-softmax", scale=8.0)
    torch.testing.assert_close(MetricLearningLoss(loss)(new, labels, None, old, labels), loss(new, labels))
    head = MetricLearningLoss(MarginHead(num_classes=4, embedding_dim=8))
    assert head(new, labels) > 0
    assert len(list(head.parameters())) == 1


@pytest.mark.parametrize("indices", [((0, 0, 5), (1, 2, 9), (3, 3, 4)), ((0, 5), (4, 9), (5, 0, 0), (1, 2, 3))])
def test_a_miner_chooses_the_samples_that_count(batch, indices):
    new, old, labels = batch
    given = tuple(torch.tensor(part) for part in indices)
    rows = [0, 5]
    torch.testing.assert_close(
        MetricLearningLoss(RegressionLoss())(new, labels, given, ref_emb=old),
        RegressionLoss()(new[rows], labels[rows], old[rows]),
    )


def test_a_miner_that_chooses_nothing_gives_zero_with_a_graph(batch):
    new, old, labels = batch
    value = MetricLearningLoss(RegressionLoss())(new, labels, (torch.tensor([], dtype=torch.long),) * 3, old)
    value.backward()
    assert value.item() == 0
    assert not new.grad.any()


def test_what_cannot_be_of_the_same_images_is_refused(batch):
    new, old, labels = batch
    loss = MetricLearningLoss(RegressionLoss())
    with pytest.raises(InputError, match="needs the old model's vectors of the batch: give ref_emb"):
        loss(new, labels)
    with pytest.raises(InputError, match="ref_emb has 11 rows for 12 embeddings"):
        loss(new, labels, ref_emb=old[1:])
    with pytest.raises(InputError, match="ref_labels are not the labels of the batch"):
        loss(new, labels, ref_emb=old, ref_labels=labels.flip(0))
    with pytest.raises(InputError, match="indices_tuple has 2 parts"):
        loss(new, labels, (labels, labels), ref_emb=old)
    with pytest.raises(InputError, match="the batch is 2 parts"):
        loss.data_and_label((new, labels))


def test_old_vectors_of_a_batch_serve_one_call(batch):
    new, old, labels = batch
    loss = MetricLearningLoss(RegressionLoss())
    loss.data_and_label((new, labels, old))
    loss(new, labels)
    with pytest.raises(InputError, match="needs the old model's vectors"):
        loss(new, labels)


def test_a_trainer_and_other_losses_of_the_library(batch):
    library = pytest.importorskip("pytorch_metric_learning", reason=REASON)
    from pytorch_metric_learning import losses, miners, trainers

    assert library.__version__
    new, old, labels = batch
    both = losses.MultipleLosses([losses.TripletMarginLoss(), MetricLearningLoss(RegressionLoss())], weights=[1, 2])
    alone = losses.TripletMarginLoss()(new, labels)
    both.losses[1].data_and_label((new, labels, old))
    torch.testing.assert_close(both(new, labels), alone + 2 * RegressionLoss()(new, labels, old))

    random = np.random.default_rng(0)
    images, names = torch.from_numpy(random.normal(size=(64, 16)).astype(np.float32)), torch.arange(64) % 8
    towards = functional.normalize(images @ torch.from_numpy(random.normal(size=(16, 8)).astype(np.float32)))
    trunk = nn.Linear(16, 8)
    loss = MetricLearningLoss(RegressionLoss())

    def cosine() -> float:
        return functional.cosine_similarity(trunk(images), towards).mean().item()

    before = cosine()
    trainers.MetricLossOnly(
        models={"trunk": trunk},
        optimizers={"trunk_optimizer": torch.optim.Adam(trunk.parameters(), lr=0.05)},
        batch_size=16,
        loss_funcs={"metric_loss": loss},
        mining_funcs={"tuple_miner": miners.BatchHardMiner()},
        dataset=TensorDataset(images, names, towards),
        dataloader_num_workers=0,
        data_and_label_getter=loss.data_and_label,
    ).train(num_epochs=8)
    assert before < 0.5 < 0.9 < cosine()
