"""The callback in a real training by the Hugging Face `Trainer`."""

from __future__ import annotations

import pytest
import torch

from samespace.errors import InputError
from samespace.integrations.watch import CompatibilityWatch
from samespace.losses import MatchedLoss

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'samespace[transformers]'"
)
pytest.importorskip("accelerate", reason="accelerate, which the trainer needs, is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")
LABELS = torch.arange(64) % 8
RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.randn(8, 16, generator=RANDOM)[LABELS] + 0.3 * torch.randn(64, 16, generator=RANDOM)
OLD = IMAGES @ torch.randn(16, 6, generator=RANDOM) + torch.randn(64, 6, generator=RANDOM)
TRAIN, KEPT = LABELS < 5, LABELS >= 5


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(16, 6), torch.nn.Dropout(0.1))
        self.loss = MatchedLoss(OLD[TRAIN], LABELS[TRAIN], num_classes=5)

    def forward(self, images, labels=None, old=None):
        vectors = self.net(images)
        return {"loss": self.loss(vectors, labels, old_views=old), "vectors": vectors}


def trainer_of(folder, **options):
    rows = [
        {"images": image, "labels": label, "old": old}
        for image, label, old in zip(IMAGES[TRAIN], LABELS[TRAIN], OLD[TRAIN], strict=True)
    ]
    torch.manual_seed(0)
    settings = {"num_train_epochs": 4, "logging_strategy": "no", "eval_strategy": "no", "save_strategy": "no"}
    return transformers.Trainer(
        model=Model(),
        args=transformers.TrainingArguments(
            str(folder), per_device_train_batch_size=20, learning_rate=0.05, report_to=[], disable_tqdm=True,
            use_cpu=True, remove_unused_columns=False, label_names=["labels"], seed=0, **(settings | options),
        ),
        train_dataset=rows,
        eval_dataset=rows[:20],
    )  # fmt: skip


def watch():
    return CompatibilityWatch(
        [IMAGES[KEPT]], LABELS[KEPT], OLD[KEPT], embed=lambda model, images: model.net(images), metrics=["mAP"]
    )


def logged(trainer):
    return [line for line in trainer.state.log_history if "eval_mAP/cross" in line]


def test_without_evaluations_it_measures_after_epochs_or_steps_and_changes_nothing(tmp_path):
    from samespace.integrations.transformers import CompatibilityCallback

    weights = []
    for options, steps in (
        (None, []),
        ({}, [2, 4, 6, 8]),
        ({"every_n_epochs": 3}, [6, 8]),
        ({"every_n_steps": 3}, [3, 6]),
    ):
        trainer = trainer_of(tmp_path)
        if options is not None:
            trainer.add_callback(CompatibilityCallback(watch(), log=trainer.log, **options))
        trainer.train()
        assert [line["step"] for line in logged(trainer)] == steps
        weights.append(trainer.model.net[0].weight)
    assert all(torch.equal(weights[0], other) for other in weights[1:])
    assert set(logged(trainer)[0]) >= {"eval_mAP/old", "eval_mAP/new", "eval_mAP/cross", "epoch", "step"}
    for wrong in ({"every_n_epochs": 0}, {"every_n_steps": 0}):
        with pytest.raises(InputError, match="expected at least 1"):
            CompatibilityCallback(watch(), log=trainer.log, **wrong)


def test_at_evaluations_the_best_model_is_chosen_by_it(tmp_path):
    from samespace.integrations.transformers import CompatibilityCallback

    trainer = trainer_of(
        tmp_path, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="mAP/cross", greater_is_better=True,
    )  # fmt: skip
    trainer.add_callback(CompatibilityCallback(watch(), log=trainer.log))
    trainer.train()
    values = [line["eval_mAP/cross"] for line in logged(trainer)]
    assert len(values) == 4
    assert trainer.state.best_metric == max(values)
    assert watch().measure(trainer.model)["mAP/cross"] == max(values)
