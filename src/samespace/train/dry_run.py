"""`samespace train --dry-run`: everything of a training that can be checked and estimated without training."""

from __future__ import annotations

import os
import shutil
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from samespace.data import ImageSource, ListedSource
from samespace.data.source import Subset
from samespace.encoders import open_image_model
from samespace.errors import InputError, counted
from samespace.models import resolve_model
from samespace.models.extract import pick_device
from samespace.progress import bar, clock, silent_bar
from samespace.train.checkpoint import Position, checkpoint_position
from samespace.train.distributed import Processes
from samespace.train.logs import require_logger
from samespace.train.loop import Training
from samespace.train.methods.method import OldSide
from samespace.train.old_side import missing_vectors, seed_warning
from samespace.train.recipe import Recipe
from samespace.train.run import build_task, finished, open_training_source
from samespace.train.task import CompatibleTask
from samespace.train.trial import Trial, seconds_per_image, try_steps
from samespace.train.validation import ValidationSlice, validation_slice
from samespace.typed import plain

_MADE_FOR = {"convnet": (16, 64), "iresnet": (96, 128)}
_GIGABYTE = 1 << 30


@dataclass(frozen=True)
class DryRun:
    """What a training would do and take.

    Attributes:
        recipe: with every value written out, as JSON-ready values.
        images: `source`, `count`, `classes`, `shape` (channels, height, width).
        network: `backbone`, `embedding_dim`, `parameters`, `frozen` where some are, `head_parameters`, `device`.
        old: `vectors` that have to be made first (images, views counted); empty where no old side is needed.
        validation: `classes` and `images` measured, `times` in all; empty where there are none.
        memory: bytes, as `trial.Memory` with their `estimate`.
        time: seconds, as measured and summed, `steps` tried and to take, and `finish`, local time, if begun now.
        disk: bytes of `checkpoint`, `needed` at most while training, and `free`.
        done: epochs and steps that an interrupted call for the same folder has done; None where it would begin anew.
        warnings: what a user may want to change.
    """

    recipe: dict[str, Any]
    images: dict[str, Any]
    network: dict[str, Any]
    old: dict[str, Any]
    validation: dict[str, Any]
    memory: dict[str, int]
    time: dict[str, Any]
    disk: dict[str, int]
    done: dict[str, int] | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON-ready values."""
        return plain(self)

    def lines(self) -> list[str]:
        """The same for people."""
        images, network, time, disk = self.images, self.network, self.time, self.disk
        shape = "×".join(str(side) for side in (*images["shape"][1:], images["shape"][0]))
        rows = [
            ("images", f"{images['count']:,} of {images['classes']:,} classes, {shape}"),
            ("network", f"{network['backbone']} to {network['embedding_dim']} dimensions: {network['parameters']:,} "
                        f"parameters, {_frozen_words(network)}{network['head_parameters']:,} of the head; "
                        f"on {network['device']}"),
        ]  # fmt: skip
        if self.old:
            rows.append(("old model", _old_words(self.old)))
        if self.validation:
            rows.append(("validation", _validation_words(**self.validation)))
        rows += [("memory", self._memory_words()), ("time", self._time_words())]
        rows.append(("finish", f"{time['finish']} if begun now: {clock(time['total'])} in all"))
        needed = f"{_size(disk['needed'])} while training, checkpoints of {_size(disk['checkpoint'])}"
        rows.append(("disk", f"{needed}; {_size(disk['free'])} are free"))
        if self.done is not None:
            rows.append(("carries on", "after step {step:,} of epoch {epoch:,}".format(**self.done)))
        return [f"{name + ':':<12} {words}" for name, words in (*rows, *(("warning", text) for text in self.warnings))]

    def _memory_words(self) -> str:
        memory = self.memory
        state = memory["weights"] + memory["gradients"] + memory["momentum"]
        rest = memory["old_model"] + memory["read_ahead"]
        kept = "both moments of AdamW" if self.recipe["optim"].get("name") == "adamw" else "momentum"
        parts = f"weights, gradients and {kept} {_size(state)}, activations of one step {_size(memory['activations'])}"
        on_gpu = self.network["device"] != "cpu"
        whose = "on the GPU" if on_gpu else "by the whole process"
        peak = f"; {_size(memory['peak'])} measured {whose}" if memory["peak"] else ""
        return f"about {_size(memory['estimate'])}: {parts}, the rest {_size(rest)}{peak}"

    def _time_words(self) -> str:
        time = self.time
        step = f"{time['tried']} steps took {time['step']:.3g} s each"
        if time["warmup_step"] != time["step"]:
            step += f", {time['warmup_step']:.3g} s during the warm-up"
        epochs = f"{counted(time['epochs'], 'epoch')} of {counted(time['steps_per_epoch'], 'step')}"
        epochs = f"{epochs}: {clock(time['training'])}"
        extra = {
            "to compile": time["compiling"], "before": time["preparation"], "for validation": time["validation"],
        }  # fmt: skip
        return f"{step}; {epochs}" + "".join(f", and {clock(n)} {what}" for what, n in extra.items() if n >= 1)


def dry_run(recipe: Recipe, out: str | Path | None, *, quiet: bool = False) -> DryRun | None:
    """Open and build all that a training needs and try twenty steps of it, writing nothing; None where it is finished.

    Vectors of the old model that are not made yet are stood in for by others of their dimension, so that nothing has
    to be embedded first. Without `out` a folder in the current one is meant that is not there.

    Raises:
        InputError: as `run`; or several processes were started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--dry-run tries one process: leave torchrun out")
    out, recipe = Path(uuid.uuid4().hex if out is None else out), recipe.resolved()
    device = pick_device(recipe.run.device)
    source = open_training_source(recipe.data, recipe.model.sees, quiet=quiet)
    apart = validation_slice(source, recipe.validation)
    source = source if apart is None else apart.training
    if finished(recipe, out, source):
        return None
    if len(source.classes) < 2:
        raise InputError(f"{source.name} holds {len(source.classes)} class; training needs at least 2")
    for kind in recipe.run.loggers:
        require_logger(kind)
    task, old = build_task(recipe, source, out, device, Processes(), quiet, embed=False)
    training = Training(task, source, recipe, out, old, None, device, None, quiet=quiet)
    task.train()
    with (silent_bar if quiet else bar)("trying steps", None, "steps") as show:
        trial = try_steps(training, show)
    missing = missing_vectors(recipe, source, None if apart is None else apart.images, out)
    done = checkpoint_position(training.checkpoint) if training.checkpoint.exists() else None
    time = _time(recipe, training, trial, missing, apart, done)
    disk = _disk(training, missing, out, recipe)
    return DryRun(
        recipe=plain(recipe),
        images={
            "source": source.name,
            "count": len(source),
            "classes": len(source.classes),
            "shape": source.image_shape,
        },
        network={
            "backbone": recipe.model.backbone,
            "embedding_dim": recipe.model.embedding_dim,
            "parameters": sum(value.numel() for value in task.embedder.parameters()),
            **_frozen(task),
            "head_parameters": sum(value.numel() for value in task.head.parameters()),
            "device": str(device),
        },
        old=_old(old, missing),
        validation={} if apart is None else {
            "classes": len(apart.classes), "images": len(apart.images), "times": _measurements(recipe, training.steps)
        },
        memory={**asdict(trial.memory), "estimate": trial.memory.estimate},
        time=time,
        disk=disk,
        done=None if done is None else {"epoch": done.epoch + 1, "step": done.step},
        warnings=tuple(_warnings(recipe, source, trial, disk, device)),
    )  # fmt: skip


def _time(
    recipe: Recipe,
    training: Training,
    trial: Trial,
    missing: dict[str, Counter[str]],
    apart: ValidationSlice | None,
    done: Position | None,
) -> dict[str, Any]:
    epochs, steps = recipe.optim.epochs, training.steps
    taken = 0 if done is None else done.epoch * steps + done.step
    warm = max(0, min(recipe.resolved_warmup, epochs) * steps - taken)
    left = epochs * steps - taken
    seconds = warm * trial.seconds_per_warmup_step + (left - warm) * trial.seconds_per_step
    per_image = seconds_per_image(training.task.embedder, training.source)
    refreshes = [epoch for epoch in recipe.compatibility.refresh_epochs or () if epoch * steps >= taken]
    seconds += len(refreshes) * len(training.source) * per_image
    preparation = 0.0
    for named, counts in missing.items():
        if counts:
            old = open_image_model(resolve_model(named), device=str(training.device))
            preparation += counts.total() * seconds_per_image(old, training.source)
    share = left / (epochs * steps)
    validation = 0.0 if apart is None else _measurements(recipe, steps) * len(apart.images) * per_image * share
    total = seconds + trial.compiling + preparation + validation
    return {
        "tried": trial.steps,
        "step": trial.seconds_per_step,
        "warmup_step": trial.seconds_per_warmup_step,
        "epochs": epochs,
        "steps_per_epoch": steps,
        "steps": left,
        "training": seconds,
        "compiling": trial.compiling,
        "preparation": preparation,
        "validation": validation,
        "total": total,
        "finish": (datetime.now() + timedelta(seconds=total)).strftime("%Y-%m-%d %H:%M"),
    }


def _measurements(recipe: Recipe, steps: int) -> int:
    """How often the validation classes are measured in all."""
    every, epochs = recipe.validation.every, recipe.optim.epochs
    return epochs if every == "epoch" else -(-epochs * steps // every)


def _disk(training: Training, missing: dict[str, Counter[str]], out: Path, recipe: Recipe) -> dict[str, int]:
    task = training.task
    kept = [value for value in task.parameters() if value.requires_grad] * recipe.optim.values_kept
    checkpoint = sum(value.numel() * value.element_size() for value in [*task.state_dict().values(), *kept])
    model = sum(value.numel() * value.element_size() for value in task.embedder.state_dict().values())
    old = max((side.vectors.dim for side in training.old if side.vectors is not None), default=0)
    # a checkpoint is written whole beside the last one, and the model before the checkpoint goes
    best = 2 * model if recipe.validation.keep_best else 0
    needed = 2 * checkpoint + model + best + _together(missing).total() * old * 4
    place = next(folder for folder in (out, *out.absolute().parents) if folder.is_dir())
    return {"checkpoint": checkpoint, "needed": needed, "free": shutil.disk_usage(place).free}


def _frozen(task: CompatibleTask) -> dict[str, int]:
    count = sum(value.numel() for value in task.embedder.parameters() if not value.requires_grad)
    return {"frozen": count} if count else {}


def _frozen_words(network: dict[str, Any]) -> str:
    return f"{network['frozen']:,} of them frozen, " if "frozen" in network else ""


def _old(old: OldSide, missing: dict[str, Counter[str]]) -> dict[str, Any]:
    if old == OldSide():
        return {}
    dim = old.vectors.dim if old.vectors is not None else old.classifier.weight.shape[1] if old.classifier else None
    counts = _together(missing)
    also = {"earlier": len(old.earlier)} if old.earlier else {}
    runs = any(side.model is not None for side in old.each)
    return {"dim": dim, "runs_beside": runs, **also, "to_embed": counts.total(), **counts}


def _together(missing: dict[str, Counter[str]]) -> Counter[str]:
    """What all old models have yet to embed."""
    return sum(missing.values(), Counter[str]())


def _validation_words(classes: int, images: int, times: int) -> str:
    often = "once" if times == 1 else f"{times:,} times in all"
    return f"{images:,} images of {classes:,} classes that are kept out, measured {often}"


def _old_words(old: dict[str, Any]) -> str:
    words = f"{old['dim']} dimensions"
    if earlier := old.get("earlier"):
        words += f", and {earlier} earlier"
    if old["runs_beside"]:
        words += ", embeds each augmented image as the training goes"
    if old["to_embed"]:
        return f"{words}; {old['to_embed']:,} vectors are made first, once"
    return f"{words}; all vectors that are needed are there"


def _warnings(
    recipe: Recipe, source: ImageSource, trial: Trial, disk: dict[str, int], device: torch.device
) -> list[str]:
    found = [seed_warning(recipe), *_size_warnings(recipe, source)]
    if (
        recipe.model.freeze
        and recipe.model.init is None
        and (":" not in recipe.model.backbone or recipe.model.backbone.startswith("timm:"))
    ):
        found.append("model.freeze without model.init keeps weights as they are drawn at random")
    if len(source) < recipe.optim.batch_size:
        found.append(f"optim.batch_size={recipe.optim.batch_size} but only {len(source):,} images: one step an epoch")
    if disk["needed"] > disk["free"]:
        found.append(f"{_size(disk['needed'])} of disk are needed, {_size(disk['free'])} are free")
    if device.type == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if trial.memory.estimate + _GIGABYTE > total:
            found.append(f"this machine has {_size(total)} of memory; lower optim.batch_size")
    return [text for text in found if text]


def _size_warnings(recipe: Recipe, source: ImageSource) -> list[str]:
    fit = recipe.model.fit(*source.image_shape[1:])
    height, width = fit.size
    found = []
    for family, (low, high) in _MADE_FOR.items():
        if recipe.model.backbone.startswith(family) and not low <= min(fit.size) <= max(fit.size) <= high:
            gets = str(height) if height == width else f"{width}×{height}"
            found.append(f"{recipe.model.backbone} is made for images of {low} to {high} pixels, and gets {gets}")
    sizes = _original_sizes(source)
    small = {size: count for size, count in sizes.items() if size[0] < height or size[1] < width}
    if small:
        least = min(small)
        found.append(
            f"{sum(small.values()):,} of {sizes.total():,} images looked at are smaller than the {width}×{height} "
            f"that the network sees, the smallest {least[1]}×{least[0]}: enlarging adds nothing to them"
        )
    if len(sizes) > 1 and fit.resize_mode == "exact":
        found.append(f"images differ in size or shape; each is brought to {width}×{height}, whatever its proportions")
    return found


def _original_sizes(source: ImageSource) -> Counter[tuple[int, int]]:
    """How many images have which height and width as stored, of those looked into when the source was opened."""
    while isinstance(source, Subset):
        source = source.whole
    return source.sizes if isinstance(source, ListedSource) else Counter({source.image_shape[1:]: len(source)})


def _size(count: int) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count / 1000:,.0f} kB"
