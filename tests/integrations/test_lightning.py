"""The callback in a real Lightning training."""

from __future__ import annotations

import csv

import pytest
import torch

from samespace.errors import InputError
from samespace.integrations.watch import CompatibilityWatch
from samespace.losses import MatchedLoss

lightning = pytest.importorskip(
    "lightning.pytorch", reason="Lightning is not installed: pip install 'samespace[lightning]'"
)
pytestmark = pytest.mark.filterwarnings("ignore")
LABELS = torch.arange(64) % 8
RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.randn(8, 16, generator=RANDOM)[LABELS] + 0.3 * torch.randn(64, 16, generator=RANDOM)
OLD = IMAGES @ torch.randn(16, 6, generator=RANDOM) + torch.randn(64, 6, generator=RANDOM)
TRAIN, KEPT = LABELS < 5, LABELS >= 5


def trained(callbacks, folder, **options):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(16, 6), torch.nn.Dropout(0.1))
            self.loss = MatchedLoss(OLD[TRAIN], LABELS[TRAIN], num_classes=5)

        def forward(self, images):
            return self.net(images)

        def training_step(self, batch):
            images, labels, old = batch
            return self.loss(self(images), labels, old_views=old)

        def configure_optimizers(self):
            return torch.optim.Adam(self.net.parameters(), lr=0.05)

    torch.manual_seed(0)
    module = Module()
    data = torch.utils.data.TensorDataset(IMAGES[TRAIN], LABELS[TRAIN], OLD[TRAIN])
    trainer = lightning.Trainer(
        accelerator="cpu", logger=lightning.loggers.CSVLogger(folder, flush_logs_every_n_steps=1), callbacks=callbacks,
        log_every_n_steps=1, enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=20, shuffle=True))
    return trainer, module


class Counting(CompatibilityWatch):
    def __init__(self):
        super().__init__([IMAGES[KEPT]], LABELS[KEPT], OLD[KEPT], metrics=["rank@1", "mAP"])
        self.values: list[dict[str, float]] = []

    def measure(self, model):
        assert model.training
        self.values.append(super().measure(model))
        assert model.training
        return self.values[-1]


def test_a_training_logs_compatibility_chooses_by_it_and_is_otherwise_the_same(tmp_path):
    from samespace.integrations.lightning import CompatibilityCallback

    watch = Counting()
    kept = lightning.callbacks.ModelCheckpoint(monitor="val/mAP/cross", mode="max", dirpath=tmp_path / "best")
    callback = CompatibilityCallback(watch, every_n_epochs=2, prefix="val/")
    trainer, module = trained([callback, kept], tmp_path, max_epochs=5)
    assert len(watch.values) == 3  # after epochs 2, 4 and the last
    assert {f"{metric}/{test}" for metric in ("rank@1", "mAP") for test in ("old", "new", "cross")} == set(
        watch.values[0]
    )
    assert float(trainer.callback_metrics["val/mAP/cross"]) == pytest.approx(watch.values[-1]["mAP/cross"])
    assert float(kept.best_model_score) == pytest.approx(max(values["mAP/cross"] for values in watch.values))
    with (tmp_path / "lightning_logs/version_0/metrics.csv").open(newline="") as file:
        written = [row["val/mAP/cross"] for row in csv.DictReader(file)]
    assert [float(value) for value in written if value] == pytest.approx([one["mAP/cross"] for one in watch.values])
    _, alone = trained([lightning.callbacks.ModelCheckpoint(dirpath=tmp_path / "alone")], tmp_path, max_epochs=5)
    assert all(map(torch.equal, module.parameters(), alone.parameters()))


def test_every_so_many_steps(tmp_path):
    from samespace.integrations.lightning import CompatibilityCallback

    watch = Counting()
    callback = CompatibilityCallback(watch, every_n_train_steps=2)
    trained([callback], tmp_path, max_epochs=4, accumulate_grad_batches=2, enable_checkpointing=False)
    assert len(watch.values) == 2  # 40 images, two batches an epoch, which make one step: after steps 2 and 4
    for wrong in ({"every_n_epochs": 0}, {"every_n_train_steps": 0}):
        with pytest.raises(InputError, match="expected at least 1"):
            CompatibilityCallback(watch, **wrong)
