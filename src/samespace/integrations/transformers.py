"""A Hugging Face `TrainerCallback` that logs how the model stands beside the old one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from samespace.errors import InputError
from samespace.integrations.watch import CompatibilityWatch

try:
    from transformers import TrainerCallback
except ImportError:  # the callback then says what is missing
    TrainerCallback = object


class CompatibilityCallback(TrainerCallback):  # type: ignore[misc]
    """Measures at every evaluation of a `Trainer`, or where it makes none every so many epochs or steps, and logs.

    Names are `eval_rank@1/cross`, `eval_rank@1/new` and `eval_rank@1/old`, or whatever is watched. At an evaluation
    they join its metrics, so `metric_for_best_model="rank@1/cross"` with `greater_is_better=True` chooses by them. Of
    several processes the first measures. A `SentenceTransformerTrainer` is such a trainer: watch with
    `embed=lambda model, texts: model.encode(texts)`.

    Args:
        watch: the items and the old model's vectors.
        log: the trainer's own `trainer.log`, so that the history and every tracker have the values.
        every_n_epochs: without evaluations, measure after every so many epochs, and after the last.
        every_n_steps: without evaluations, measure after every so many optimiser steps, instead.

    Raises:
        InputError: transformers is not installed, or an interval is below 1.
    """

    def __init__(
        self,
        watch: CompatibilityWatch,
        *,
        log: Callable[[dict[str, float]], None],
        every_n_epochs: int = 1,
        every_n_steps: int | None = None,
    ) -> None:
        if TrainerCallback is object:
            raise InputError("transformers is missing: pip install 'samespace[transformers]'")
        for name, value in (("every_n_epochs", every_n_epochs), ("every_n_steps", every_n_steps)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; expected at least 1")
        self.watch, self.log = watch, log
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps

    def on_evaluate(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Measure, log, and join the metrics of the evaluation."""
        given["metrics"].update(self._logged(given["model"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Measure and log, where it is due after this step."""
        if self.every_n_steps and state.global_step % self.every_n_steps == 0 and not _evaluates(args):
            self._logged(given["model"])

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Measure and log, where it is due after this epoch."""
        epoch = round(state.epoch)
        due = epoch % self.every_n_epochs == 0 or state.global_step >= state.max_steps
        if due and not self.every_n_steps and not _evaluates(args):
            self._logged(given["model"])

    def _logged(self, model: Any) -> dict[str, float]:
        values = {f"eval_{name}": float(value) for name, value in self.watch.measure(model).items()}
        self.log(dict(values))
        return values


def _evaluates(args: Any) -> bool:
    return str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no"
