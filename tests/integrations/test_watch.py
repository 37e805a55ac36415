"""What the callbacks measure, against a slow reading; and that measuring leaves a training as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import distributed, nn
from torch.utils.data import DataLoader

from samespace.errors import InputError
from samespace.integrations.watch import CompatibilityWatch

LABELS = np.arange(24) // 3
OLD = np.random.default_rng(0).standard_normal((24, 5)).astype(np.float32)
ITEMS = torch.randn(24, 7, generator=torch.Generator().manual_seed(1))


def nearest_has_label(queries, gallery) -> float:
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (queries, gallery)]
    scores = unit[0] @ unit[1].T
    np.fill_diagonal(scores, -2)
    return float((LABELS[scores.argmax(axis=1)] == LABELS).mean())


def test_the_values_are_those_of_a_slow_reading():
    model = nn.Linear(7, 5)
    watch = CompatibilityWatch(ITEMS.split(10), [f"c{label}" for label in LABELS], torch.from_numpy(OLD))
    new = model(ITEMS).detach().numpy()
    expected = {"new": (new, new), "cross": (new, OLD), "old": (OLD, OLD)}
    assert watch.measure(model) == {
        f"rank@1/{test}": pytest.approx(nearest_has_label(*sides), abs=1e-6) for test, sides in expected.items()
    }
    wide = CompatibilityWatch([ITEMS], LABELS, OLD, metrics=["rank@1"], prefix=True).measure(nn.Identity())
    assert wide["rank@1/cross"] == pytest.approx(nearest_has_label(ITEMS[:, :5].numpy(), OLD), abs=1e-6)
    lost = CompatibilityWatch([torch.zeros(24, 5)], LABELS, OLD).measure(nn.Identity())
    assert lost == {"vectors_without_direction": 24}


def test_measuring_leaves_modes_and_random_numbers_as_they_were():
    model = nn.Sequential(nn.Linear(7, 5), nn.Dropout(0.5), nn.BatchNorm1d(5))
    model[2].eval()  # frozen, as in fine-tuning
    noisy = CompatibilityWatch(
        DataLoader(ITEMS, batch_size=7), LABELS, OLD, embed=lambda net, batch: net(batch) + torch.randn(len(batch), 5)
    )
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = noisy.measure(model)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert noisy.measure(model) == first
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert all(parameter.grad is None for parameter in model.parameters())
    failing = CompatibilityWatch([ITEMS], LABELS, OLD)
    with pytest.raises(InputError, match="7 dimensions"):
        failing.measure(nn.Sequential(nn.Identity()))
    assert model.training


def test_batches_by_name_reach_the_model_by_name():
    class Tokens(nn.Module):
        def forward(self, ids, mask):
            return ids * mask

    batch = {"ids": torch.from_numpy(OLD), "mask": torch.ones(24, 1)}
    values = CompatibilityWatch([batch], LABELS, OLD).measure(Tokens())
    assert values["rank@1/cross"] == values["rank@1/old"] == pytest.approx(nearest_has_label(OLD, OLD), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CompatibilityWatch(DataLoader(ITEMS, shuffle=True), LABELS, OLD), "the loader shuffles"),
        (lambda: CompatibilityWatch([ITEMS], LABELS[:5], OLD), r"labels have shape \(5,\) for 24 old vectors"),
        (lambda: CompatibilityWatch([ITEMS], LABELS, OLD, metrics=["rank"]), "rank"),
        (lambda: CompatibilityWatch(ITEMS[:5, None], LABELS, OLD).measure(nn.Linear(7, 5)), "5 vectors for 24 labels"),
        (lambda: CompatibilityWatch([ITEMS], LABELS, OLD).measure(nn.Flatten(0)), r"a Tensor of shape \(168,\)"),
        (lambda: CompatibilityWatch([ITEMS], LABELS, OLD).measure(nn.Linear(7, 4)), "4 dimensions and the old ones"),
        (lambda: CompatibilityWatch([ITEMS], LABELS, OLD).measure(nn.Linear(7, 9)), "prefix=True"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_of_several_processes_the_first_measures_and_all_have_its_values(monkeypatch):
    """Two processes, one after the other: what the first sends is what the second receives."""
    sent: list[object] = []

    def broadcast(values, src):
        assert src == 0
        if distributed.get_rank() == 0:
            sent[:] = values
        else:
            values[:] = sent

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "broadcast_object_list", broadcast)
    seen: list[int] = []

    def embed(model, batch):
        seen.append(distributed.get_rank())
        return model(batch)

    watch, results = CompatibilityWatch([ITEMS], LABELS, OLD, embed=embed), []
    for model in (nn.Linear(7, 5), nn.Linear(7, 3)):
        for rank in (0, 1):
            monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
            try:
                results.append(watch.measure(model))
            except InputError as error:
                results.append(str(error))
    assert seen == [0, 0]
    assert results[0] == results[1]
    assert results[2] == results[3]
    assert "3 dimensions" in results[2]
