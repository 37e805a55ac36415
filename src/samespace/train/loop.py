"""The training loop: flat, exact on resuming, and safe to interrupt at any moment."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from samespace.data import Batch, ImageSource, batches, steps_per_epoch
from samespace.errors import InputError, TrainingError
from samespace.losses import EveryGalleryLoss
from samespace.losses.checks import note_range
from samespace.models import Embedder
from samespace.models.extract import embed_rows
from samespace.models.folding import folded
from samespace.models.image_model import ImageModel
from samespace.progress import Bar, bar, silent
from samespace.train.checkpoint import Position, load_checkpoint, save_checkpoint
from samespace.train.distributed import Processes, check_batch, synchronize_batch_norm
from samespace.train.interruption import Interrupted, interruptions
from samespace.train.logs import Log, MetricsFile, open_logger
from samespace.train.memory import keep_freed_memory
from samespace.train.methods.method import OldSide
from samespace.train.old_views import OldViews
from samespace.train.optim import learning_rate, optimizer_of
from samespace.train.recipe import Recipe
from samespace.train.recipe_file import dump_recipe
from samespace.train.task import CompatibleTask
from samespace.train.unreadable import UNREADABLE, UnreadableNotes
from samespace.train.validation import Validation
from samespace.vectors import VectorSet

_STEPS_BETWEEN_LINES = 50
_AUGMENTATION, _MIXTURES = -1, 1 << 40
_PARTS = ("loss", "classification", "influence")


def train(
    task: CompatibleTask,
    source: ImageSource,
    recipe: Recipe,
    *,
    out: str | Path,
    old: VectorSet | None = None,
    old_model: ImageModel | None = None,
    old_views: OldViews | None = None,
    earlier: Sequence[OldSide] = (),
    validation: Validation | None = None,
    device: torch.device | None = None,
    processes: Processes | None = None,
    quiet: bool = False,
) -> Position:
    """Train a task, or carry on where a killed or interrupted call for the same `out` stopped.

    Everything random (order, augmentation, dropout) follows from the seed, the epoch and the step, so on a CPU the
    weights after a resumed training equal those of an uninterrupted one to the bit. A checkpoint is written at the
    end of each epoch, every `recipe.run.checkpoint_minutes`, and on Ctrl-C.

    Args:
        task: the model, its head and its compatibility term; trained in place.
        source: labelled images; labels index the head's classes.
        recipe: `optim`, `augment`, `run` and `seed` are used.
        out: folder of `checkpoint.safetensors` and `metrics.jsonl`.
        old: the old model's vectors of the same images in the same order, where the task needs old embeddings.
        old_model: the old model, where the task needs its embeddings of the augmented views; never trained.
        old_views: its embeddings of fixed views instead; without both, `old` stands for the views.
        earlier: the same of earlier old models, for a term that takes several, such as `EveryGalleryLoss`.
        validation: measures the model while it trains, where the recipe asks for it.
        device: where to compute.
        processes: this process among those of torchrun.
        quiet: show no progress.

    Returns:
        The position after the last step, with the time spent.

    Raises:
        TrainingError: the loss is no longer finite; the cause is named and the last checkpoint stays.
        Interrupted: Ctrl-C or SIGTERM; the checkpoint is written.
        InputError: old embeddings are needed and missing, or do not fit the images.
    """
    side = OldSide(old, model=old_model, views=old_views, earlier=tuple(earlier))
    return Training(task, source, recipe.resolved(), Path(out), side, validation, device, processes, quiet).run()


class Training:
    """All that `train` works with; `batches` and `step` are also what a dry run tries."""

    def __init__(
        self,
        task: CompatibleTask,
        source: ImageSource,
        recipe: Recipe,
        out: Path,
        old: OldSide,
        validation: Validation | None,
        device: torch.device | None,
        processes: Processes | None,
        quiet: bool,
    ) -> None:
        for side in old.each:
            given = 0 if side.vectors is None else len(side.vectors)
            stands_in = task.needs_old_views and side.model is None and side.views is None
            if (task.needs_old_embeddings or stands_in) and given != len(source):
                raise InputError(
                    f"this compatibility term needs one old vector per image ({len(source):,}), got {given or 'none'}"
                )
        self.processes = processes or Processes()
        check_batch(recipe.optim.batch_size, self.processes.count)
        self.source, self.recipe, self.out, self.quiet = source, recipe, out, quiet
        self.device = device or torch.device("cpu")
        self.task = task.to(self.device)
        self.validation = validation
        self.old = tuple(replace(side, model=self._ready(side.model)) for side in old.each)
        self.fixed_views = next((side.views for side in self.old if side.views is not None), None)
        self.module: nn.Module = self.task
        if recipe.run.compile != "none":
            self.task.embedder.compile(mode=recipe.run.compile)
        if self.processes.count > 1:
            synchronize_batch_norm(self.task, self.device)
            ids = [self.device.index] if self.device.type == "cuda" else None
            if getattr(self.task.head, "share", None) is not None:
                own = [f"head.{name}" for name, _ in self.task.head.named_parameters()]
                ignore: Any = DistributedDataParallel._set_params_and_buffers_to_ignore_for_model
                ignore(self.task, own)
            self.module = DistributedDataParallel(self.task, device_ids=ids, broadcast_buffers=False)
        self.optimizer = optimizer_of(self.task, recipe.optim)
        self.steps = steps_per_epoch(len(source), recipe.optim.batch_size)
        precision = recipe.run.precision
        self.bf16 = precision == "bf16" or (precision == "auto" and self.device.type == "cuda")
        self.checkpoint = out / "checkpoint.safetensors"
        self.unreadable = UnreadableNotes(out / UNREADABLE, quiet=quiet or not self.processes.first)

    def _ready(self, model: ImageModel | None) -> ImageModel | None:
        return folded(model).to(self.device) if isinstance(model, Embedder) else model

    def run(self) -> Position:
        """Train to the end, from the checkpoint where there is one."""
        if self.device.type == "cpu":
            keep_freed_memory()
        position = Position()
        if self.checkpoint.exists():
            position = load_checkpoint(self.checkpoint, self.task, self.optimizer, self.source.fingerprint())
        if self.validation is not None and self.processes.first:
            self.validation.take_up(resumed=self.checkpoint.exists())
        done_before = position.epoch >= self.recipe.optim.epochs
        loggers = self._open_loggers(position)
        batch = min(self.recipe.optim.batch_size, len(self.source))
        total, done = (n * batch for n in (self.steps * self.recipe.optim.epochs, self._global_step(position)))
        with interruptions() as interruption, self._bar(total, done) as show:
            while position.epoch < self.recipe.optim.epochs:
                self._epoch(position, loggers, interruption, show)
        if self.validation is not None and done_before:
            self._measure(self.validation)
        return position

    def _epoch(self, position: Position, loggers: list[Log], interruption: threading.Event, show: Bar) -> None:
        task, optim, epoch = self.task, self.recipe.optim, position.epoch
        if position.step == 0:
            position.sums = dict.fromkeys(_PARTS, 0.0)
            if task.refresh_due(epoch):
                self._refresh_prototypes(position, loggers)
        task.train()
        weight = task.weight_at(epoch)
        began = saved = time.monotonic()
        before, mean = position.seconds, math.nan
        pending = torch.zeros(len(_PARTS), device=self.device)
        for batch in self.batches(epoch, position.step):
            self.unreadable(self.source, batch)
            rate = learning_rate(optim, epoch, batch.step, self.steps)
            weight = task.weight_at(epoch + batch.step / self.steps)
            pending += self.step(batch, epoch, weight, rate)
            position.step = batch.step + 1
            position.seconds = before + time.monotonic() - began
            settle = self.device.type == "cpu" or batch.step % _STEPS_BETWEEN_LINES == _STEPS_BETWEEN_LINES - 1
            if settle or position.step == self.steps:
                self._settle(position, pending, rate)
                self._line(loggers, "step", position, weight, rate)
                mean = position.sums["loss"] / position.step
            note = f"epoch {epoch + 1}/{optim.epochs}, loss {mean:.3f}"
            if self.validation is not None:
                self._validate(self.validation, position, loggers)
                note = ", ".join(filter(None, (note, self.validation.note())))
            show(len(batch.rows) * self.processes.count, note)
            due = time.monotonic() - saved > 60 * self.recipe.run.checkpoint_minutes
            if position.step < self.steps and self.processes.any(due or interruption.is_set(), self.device):
                self._settle(position, pending, rate)
                self._save(position)
                saved = time.monotonic()
                if self.processes.any(interruption.is_set(), self.device):
                    raise Interrupted
        self._line(loggers, "epoch", position, weight, rate)
        position.epoch, position.step = epoch + 1, 0
        self._save(position)
        if self.processes.any(interruption.is_set(), self.device) and position.epoch < optim.epochs:
            raise Interrupted

    def step(self, batch: Batch, epoch: int, weight: float, rate: float) -> Tensor:
        """Train on one batch; the loss and its parts, (3,), left on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        torch.manual_seed(_stream(self.recipe.seed, epoch, batch.step, self.processes.rank))
        unit = self._augmented(batch, epoch)
        images = self.task.embedder.preprocessing.normalize(unit)
        labels = note_range(batch.labels, self.device)
        old = self._old_side(batch, epoch, unit) if self.task.acts(weight) else {}
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            parts = self.module(images, labels, **old, weight=weight)
        parts["loss"].backward()
        if self.recipe.optim.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.task.parameters(), self.recipe.optim.clip_norm)
        self.optimizer.step()
        return torch.stack([parts[name].detach().float() for name in _PARTS])

    def _old_side(self, batch: Batch, epoch: int, unit: Tensor) -> dict[str, Any]:
        """What the compatibility term takes of the old models for a batch, by the names that `CompatibleTask` takes."""
        each = [self._of_one(side, batch, epoch, unit) for side in self.old]
        alone = len(each) == 1 and not isinstance(self.task.influence, EveryGalleryLoss)
        return each[0] if alone else {name: [one[name] for one in each] for name in each[0]}

    def _of_one(self, side: OldSide, batch: Batch, epoch: int, unit: Tensor) -> dict[str, Any]:
        task = self.task
        old: dict[str, Any] = {}
        stand_in = task.needs_old_views and side.model is None and side.views is None
        if side.vectors is not None and (task.needs_old_embeddings or stand_in):
            old["old_embeddings"] = torch.from_numpy(side.vectors.take(batch.rows)).to(self.device)
        if not task.needs_old_views:
            return old
        if side.views is not None:
            views = side.views.views.chosen(side.views.numbers[batch.rows], epoch)
            old["old_views"] = torch.from_numpy(side.views.take(batch.rows, views)).to(self.device)
        elif stand_in:
            old["old_views"] = old["old_embeddings"]
        elif side.model is not None:
            mixtures = self._mixtures(unit, batch, epoch)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                embedded = side.model.embed_unit(torch.cat([unit, mixtures]))
            old["old_views"] = embedded[: len(unit)]
            if len(mixtures):
                old["mixed"] = (task.embedder.preprocessing.normalize(mixtures), embedded[len(unit) :])
        return old

    def _mixtures(self, unit: Tensor, batch: Batch, epoch: int) -> Tensor:
        """The first images of the batch, each mixed with the next one in a random proportion (mixup)."""
        size = len(batch.rows)
        count = round(self.task.mixed_share * size)
        generator = torch.Generator().manual_seed(_stream(self.recipe.seed, epoch, batch.step, _MIXTURES))
        drawn = torch.rand(size * self.processes.count, generator=generator)
        mine = drawn[self.processes.rank * size :][:count, None, None, None].to(unit)
        following = unit[torch.arange(1, count + 1, device=unit.device) % size]
        return mine * unit[:count] + (1 - mine) * following

    def _augmented(self, batch: Batch, epoch: int) -> Tensor:
        """Augmented images in [0, 1]; what is drawn depends on the place in the global batch, not on the process."""
        unit = self.task.embedder.preprocessing.to_unit(batch.images.to(self.device, non_blocking=True))
        if (fixed := self.fixed_views) is not None:
            numbers = fixed.numbers[batch.rows]
            return fixed.views.apply(unit, numbers, fixed.views.chosen(numbers, epoch))
        generator = torch.Generator().manual_seed(_stream(self.recipe.seed, epoch, batch.step, _AUGMENTATION))
        size = len(batch.rows)
        drawn = self.recipe.augment.draw(size * self.processes.count, generator)
        mine = drawn[self.processes.rank * size : (self.processes.rank + 1) * size]
        return self.recipe.augment.apply(unit, mine)

    def _refresh_prototypes(self, position: Position, loggers: list[Log]) -> None:
        """Rebuild prototypes with the new model's present vectors as the guide (UniBCT Algorithm 1)."""
        task = self.task
        assert task.refresh is not None
        loss: Any = task.influence
        start, stop = self.processes.share(len(self.source))
        part = embed_rows(task.embedder, self.source, start=start, stop=stop, told=self.unreadable)
        with self.processes.gathered(part, start, len(self.source), self.out / "guide.npy") as guide:
            centres = task.refresh(torch.from_numpy(guide)) if self.processes.first else None
        loss.set_prototypes(self.processes.from_first(centres, loss.weight))
        report = getattr(task.refresh, "report", {})
        line = {"kind": "prototypes", "epoch": position.epoch, "step": 0, "global_step": self._global_step(position)}
        for log in loggers:
            log({**line, **report})

    def _validate(self, validation: Validation, position: Position, loggers: list[Log]) -> None:
        """Measure the model where this step asks for it, before any checkpoint of the step."""
        last = position.epoch + 1 == self.recipe.optim.epochs
        if not validation.due(position.step, self.steps, self._global_step(position), last):
            return
        began = time.monotonic()
        values = self._measure(validation)
        if self.processes.first:
            validation.keep(self.task, values, position.epoch, position.step)
        at = {"epoch": position.epoch, "step": position.step, "global_step": self._global_step(position)}
        for log in loggers:
            log({"kind": "validation", **at, **values, "validation_seconds": round(time.monotonic() - began, 3)})

    def _measure(self, validation: Validation) -> dict[str, float]:
        """The metrics of the present model on the validation slice; empty but for the first process."""
        images = validation.slice.images
        start, stop = self.processes.share(len(images))
        part = embed_rows(self.task.embedder, images, start=start, stop=stop, told=self.unreadable)
        with self.processes.gathered(part, start, len(images), self.out / "validation.npy") as vectors:
            return validation.measure(vectors) if self.processes.first else {}

    def batches(self, epoch: int, step: int) -> Iterator[Batch]:
        """This process's batches of an epoch from a step on."""
        return batches(
            self.source,
            batch_size=self.recipe.optim.batch_size,
            seed=self.recipe.seed,
            epoch=epoch,
            start_step=step,
            rank=self.processes.rank,
            world_size=self.processes.count,
            workers=self.recipe.data.workers,
            pin_memory=self.device.type == "cuda",
        )

    def _settle(self, position: Position, pending: Tensor, rate: float) -> None:
        """Add up the losses since the last call, refusing any that is not finite."""
        values = dict(zip(_PARTS, pending.tolist(), strict=True))
        pending.zero_()
        broken = not all(math.isfinite(value) for value in values.values())
        if self.processes.any(broken, self.device):
            raise TrainingError(self._why(values, position, rate))
        for name, value in values.items():
            position.sums[name] += value

    def _why(self, values: dict[str, float], position: Position, rate: float) -> str:
        culprit = "the compatibility term" if math.isfinite(values["classification"]) else "the classification loss"
        broken = [name for name, value in self.task.named_parameters() if not torch.isfinite(value).all()]
        weights = f", weights of {broken[0]} with it" if broken else ""
        kept = f"the checkpoint in {self.out} is whole" if self.checkpoint.exists() else "no checkpoint exists yet"
        return (
            f"{culprit} is no longer finite at epoch {position.epoch + 1}, step {position.step}{weights}; "
            f"lower optim.lr (here {rate:g}), add optim.warmup_steps or set optim.clip_norm; {kept}"
        )

    def _save(self, position: Position) -> None:
        broken = not all(bool(value.isfinite().all()) for value in self.task.parameters())
        if self.processes.any(broken, self.device):
            group = self.optimizer.param_groups[0]
            raise TrainingError(self._why(dict.fromkeys(_PARTS, math.nan), position, group["lr"] / group["share"]))
        texts = {"recipe": dump_recipe(self.recipe), "source": self.source.fingerprint()}
        first = self.processes.first
        save_checkpoint(self.checkpoint, self.task, self.optimizer, position, texts, first=first)
        self.processes.wait()

    def _open_loggers(self, position: Position) -> list[Log]:
        if not self.processes.first:
            return []
        recipe = asdict(self.recipe)
        metrics = MetricsFile(self.out / "metrics.jsonl", epoch=position.epoch, step=position.step)
        return [metrics, *(open_logger(kind, self.out, recipe) for kind in self.recipe.run.loggers)]

    def _line(self, loggers: list[Log], kind: str, position: Position, weight: float, rate: float) -> None:
        if kind == "step" and position.step % _STEPS_BETWEEN_LINES:
            return
        batch = min(self.recipe.optim.batch_size, len(self.source))
        line: dict[str, Any] = {
            "kind": kind,
            "epoch": position.epoch,
            "step": position.step,
            "global_step": self._global_step(position),
            **{name: total / position.step for name, total in position.sums.items()},
            "influence_weight": weight,
            "lr": rate,
            "seconds": round(position.seconds, 3),
            "images_per_second": round(self._global_step(position) * batch / max(position.seconds, 1e-9), 1),
        }
        for log in loggers:
            log(line)

    def _global_step(self, position: Position) -> int:
        return position.epoch * self.steps + position.step

    @contextmanager
    def _bar(self, total: int, done: int) -> Iterator[Bar]:
        if self.quiet or not self.processes.first:
            yield silent
            return
        with bar(f"training {self.task.embedder.name or 'model'}", total, start=done) as show:
            yield show


def _stream(seed: int, epoch: int, step: int, purpose: int) -> int:
    """A seed of its own for every (seed, epoch, step, purpose)."""
    return int(np.random.SeedSequence([seed, epoch, step, purpose + 1]).generate_state(1, np.uint64)[0] >> 1)
