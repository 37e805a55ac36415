"""A Lightning callback that logs how the model stands beside the old one."""

from __future__ import annotations

from typing import Any

from samespace.errors import InputError
from samespace.integrations.watch import CompatibilityWatch

try:
    from lightning.pytorch import Callback
except ImportError:
    try:  # the same under its other name
        from pytorch_lightning import Callback
    except ImportError:  # the callback then says what is missing
        Callback = object


class CompatibilityCallback(Callback):  # type: ignore[misc]
    """Logs `rank@1/cross`, `rank@1/new` and `rank@1/old`, or whatever is watched, while a `Trainer` trains.

    The module logs them, so every logger has them, and `ModelCheckpoint(monitor="rank@1/cross", mode="max")` and early
    stopping choose by them. Of several processes the first measures, and all log its values.

    Args:
        watch: the items and the old model's vectors.
        every_n_epochs: measure after every so many epochs, and after the last.
        every_n_train_steps: measure after every so many optimiser steps, instead.
        prefix: put before each name, such as `val/`.

    Raises:
        InputError: Lightning is not installed, or an interval is below 1.
    """

    def __init__(
        self,
        watch: CompatibilityWatch,
        *,
        every_n_epochs: int = 1,
        every_n_train_steps: int | None = None,
        prefix: str = "",
    ) -> None:
        if Callback is object:
            raise InputError("Lightning is missing: pip install 'samespace[lightning]'")
        super().__init__()
        for name, value in (("every_n_epochs", every_n_epochs), ("every_n_train_steps", every_n_train_steps)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; expected at least 1")
        self.watch, self.prefix = watch, prefix
        self.every_n_epochs, self.every_n_train_steps = every_n_epochs, every_n_train_steps
        self._measured_at = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Measure and log, where it is due after this step."""
        step = trainer.global_step
        if self.every_n_train_steps and step % self.every_n_train_steps == 0 and step != self._measured_at:
            self._measured_at = step  # batches whose gradients are only accumulated leave the step as it is
            self._log(pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure and log, where it is due after this epoch."""
        epoch = trainer.current_epoch + 1
        if not self.every_n_train_steps and (epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs):
            self._log(pl_module)

    def _log(self, module: Any) -> None:
        module.log_dict({f"{self.prefix}{name}": float(value) for name, value in self.watch.measure(module).items()})
