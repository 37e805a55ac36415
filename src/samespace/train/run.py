"""A whole training from a recipe: open the images, build the task, train, save the model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from samespace.data import Allocation, ImageSource, open_for_model, part
from samespace.data.decoding.pixels import ImageSize
from samespace.errors import InputError
from samespace.files import read_json, sweep, write_json, write_text
from samespace.losses import InfluenceLoss, MarginHead
from samespace.losses.kernels import KernelChoice, kernel_fault, unusable
from samespace.models import Classifier, Embedder, EmbedderConfig
from samespace.models.extract import pick_device
from samespace.models.freezing import freeze
from samespace.models.weights import start_from
from samespace.progress import notice, patience
from samespace.train.checkpoint import checkpoint_recipe, load_best
from samespace.train.compatibility import METHODS, compatibility_term
from samespace.train.distributed import Processes, local_device, processes
from samespace.train.loop import train
from samespace.train.methods.method import OldSide
from samespace.train.old_side import old_side, validation_vectors
from samespace.train.recipe import Recipe
from samespace.train.recipe_file import differences, dump_recipe, parse_recipe
from samespace.train.sections import DataSection
from samespace.train.task import CompatibleTask
from samespace.train.unreadable import UNREADABLE, read_notes
from samespace.train.validation import Validation, ValidationSlice, validation_slice


@dataclass(frozen=True)
class Trained:
    """What a training left behind.

    Attributes:
        model: folder of the trained embedder.
        fresh: False where it was already there and nothing was done.
        seconds: time spent training, over all calls.
        validation: what `training.json` says of the validation classes; None where none were kept apart.
        unreadable: reason by the id of each image that could not be read, in whose place another of its class stood.
    """

    model: Path
    fresh: bool
    seconds: float
    validation: dict[str, Any] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)


def run(recipe: Recipe, out: str | Path, *, source: ImageSource | None = None, quiet: bool = False) -> Trained:
    """Train what a recipe says into the folder `out`, carrying on where an earlier call was cut off.

    `out` receives `recipe.yaml` (every value written out), `metrics.jsonl`, `checkpoint.safetensors` while training,
    and `model/` at the end; where classes are kept apart for validation, `validation.json` names them. Under torchrun
    every process calls this.

    Args:
        recipe: what to train.
        out: the training's folder.
        source: the images, where the caller has them open already; otherwise `recipe.data` is opened.
        quiet: show no progress.

    Raises:
        InputError: the recipe cannot be carried out, or `out` holds a training by another recipe.
    """
    out = Path(out)
    recipe = recipe.resolved()
    device = local_device(pick_device(recipe.run.device))
    if source is None:
        hushed = quiet or os.environ.get("RANK", "0") != "0"
        source = open_training_source(recipe.data, recipe.model.sees, quiet=hushed)
    slice = validation_slice(source, recipe.validation)
    source = source if slice is None else slice.training
    if earlier := finished(recipe, out, source):
        return earlier
    if len(source.classes) < 2:
        raise InputError(f"{source.name} holds {len(source.classes)} class; training needs at least 2")
    with processes(device) as group:
        task, old = build_task(recipe, source, out, device, group, quiet)
        validation = None if slice is None else _validation(recipe, slice, out, device, group, quiet)
        if group.first:
            sweep(out)
            write_text(out / "recipe.yaml", dump_recipe(recipe))
            if slice is not None:
                write_json(out / "validation.json", slice.to_dict())
        position = train(
            task,
            source,
            recipe,
            out=out,
            old=old.vectors,
            old_model=old.model,
            old_views=old.views,
            earlier=old.earlier,
            validation=validation,
            device=device,
            processes=group,
            quiet=quiet,
        )
        _finish(task, source, recipe, out, position.seconds, validation, group)
        group.wait()
    training = read_json(out / "training.json", "a finished training") if group.first else {}
    return Trained(out / "model", True, position.seconds, training.get("validation"), training.get("unreadable", {}))


def open_training_source(data: DataSection, image_size: ImageSize | None = None, *, quiet: bool = True) -> ImageSource:
    """The images a recipe names: a source, or one part of its allocation; `quiet` shows no progress."""
    with patience(f"opening {data.source}", quiet=quiet):
        source = open_for_model(data.source, image_size, channels=data.channels, broken=data.broken)
        if data.allocation is not None and data.part != "all":
            source = part(source, Allocation.load(data.allocation, source), data.part)
        source.fingerprint()
    return source


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Flush denormal numbers on the CPU: plain softmax heads drown in them, an order of magnitude slower.

    Enter it before any work of torch: threads take the setting over when they are made.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def build_task(
    recipe: Recipe,
    source: ImageSource,
    out: Path,
    device: torch.device,
    group: Processes,
    quiet: bool,
    *,
    embed: bool = True,
) -> tuple[CompatibleTask, OldSide]:
    """The new model, its head and its compatibility term, with the old side; `embed` as in `old_side`."""
    model = recipe.model
    _, height, width = source.image_shape
    if model.image_size is None and height != width:
        raise InputError(
            f"{source.name} has {height}×{width} images; say model.image_size, the square the network sees, "
            f"or its [height, width]"
        )
    torch.manual_seed(recipe.seed)
    config = EmbedderConfig(
        backbone=model.backbone,
        embedding_dim=model.embedding_dim,
        preprocessing=model.preprocessing(source.image_shape),
        batch_norm=model.batch_norm,
        relu=model.relu,
    )
    embedder = Embedder(config, name=model.name or out.name)
    if model.init is not None:
        fitted = start_from(embedder, model.init)
        if group.first and not quiet:
            notice(f"starting from {model.init}: {fitted.describe()}")
    if model.freeze:
        frozen = freeze(embedder, model.freeze)
        embedder.frozen_norms = frozen.norms
        if group.first and not quiet:
            notice(f"frozen: {frozen.describe()}")
    head = MarginHead(
        len(source.classes),
        model.embedding_dim,
        margin=recipe.head.margin,
        scale=recipe.head.scale,
        margin_value=recipe.head.margin_value,
        sample=recipe.head.sample,
        share=group.classes(len(source.classes)) if recipe.head.class_parallel else None,
    )
    old = old_side(recipe, source, out, device, group, quiet, embed=embed)
    with patience(f"preparing {recipe.compatibility.method}", quiet=quiet or not group.first):
        term = compatibility_term(recipe.compatibility, recipe.head, source, old)
    ramp = METHODS[recipe.compatibility.method].ramp * recipe.optim.epochs
    kernel = _kernel(recipe, device, group, quiet)
    task = CompatibleTask(
        embedder,
        head,
        influence=term.loss,
        influence_weight=recipe.compatibility.weight,
        warmup_epochs=recipe.resolved_warmup,
        ramp_epochs=ramp,
        refresh=term.refresh,
        refresh_epochs=recipe.compatibility.refresh_epochs or (),
    )
    for module in task.modules():
        if isinstance(module, MarginHead | InfluenceLoss):
            module.kernel = kernel
    return task, old


def _kernel(recipe: Recipe, device: torch.device, group: Processes, quiet: bool) -> KernelChoice:
    """The kernel of the heads, the same in all processes: those that share classes add up what each computes."""
    choice = recipe.head.kernel
    fault = kernel_fault(choice, device)
    if fault is not None and group.first and not quiet:
        notice(fault)
    if recipe.head.class_parallel and device.type == "cuda" and choice == "auto":
        fault = unusable("bf16", device)
    return "float32" if group.any(fault is not None, device) else choice


def _validation(
    recipe: Recipe, slice: ValidationSlice, out: Path, device: torch.device, group: Processes, quiet: bool
) -> Validation:
    if group.first and not quiet:
        every = recipe.validation.every
        when = "after each epoch" if every == "epoch" else f"every {every:,} steps"
        notice(f"validation: {slice.describe()}, {when}")
    old = validation_vectors(recipe, slice.images, out, device, group, quiet)
    return Validation(
        slice,
        recipe.validation,
        out,
        old,
        cross=recipe.compatibility.method != "none",
        dim=old.dim if old is not None and recipe.compatibility.prefix else None,
    )


def finished(recipe: Recipe, out: Path, source: ImageSource) -> Trained | None:
    """The result of an earlier call, None where none finished; refuses a folder of another recipe or other images."""
    import yaml

    checkpoint, saved = out / "checkpoint.safetensors", out / "recipe.yaml"
    done = out / "model" / "config.json"
    if not checkpoint.exists() and not done.exists():
        return None
    text = checkpoint_recipe(checkpoint) if checkpoint.exists() else saved.read_text(encoding="utf-8")
    earlier = parse_recipe(yaml.safe_load(text))
    if changed := differences(earlier, recipe):
        raise InputError(f"{out} holds a training by another recipe ({changed[0]}); choose another --out or remove it")
    if not done.exists():
        return None
    training = read_json(out / "training.json", "a finished training")
    if training.get("source") != source.fingerprint():
        raise InputError(f"{out} was trained on other images than {source.name} holds now; choose another --out")
    return Trained(
        out / "model",
        False,
        float(training["seconds"]),
        training.get("validation"),
        training.get("unreadable", {}),
    )


def _finish(
    task: CompatibleTask,
    source: ImageSource,
    recipe: Recipe,
    out: Path,
    seconds: float,
    validation: Validation | None,
    group: Processes,
) -> None:
    summary: dict[str, Any] = {}
    if validation is not None and validation.best is not None:
        load_best(validation.file, task)
    head = task.head
    assert isinstance(head, MarginHead)
    weight = head.weight.detach() if head.share is None else head.share.whole(head.weight)
    if not group.first:
        return
    if unreadable := read_notes(out / UNREADABLE):
        summary["unreadable"] = unreadable
    if validation is not None:
        summary["validation"] = validation.summary(recipe.compatibility.old_model or recipe.validation.old_model)
    classifier = Classifier(
        weight=weight.cpu().float(),
        classes=source.classes,
        margin=recipe.head.margin,
        scale=recipe.head.scale,
        margin_value=recipe.head.margin_value,
        bias=None if head.bias is None else head.bias.detach().cpu().float(),
    )
    embedder = task.embedder
    write_json(
        out / "training.json",
        {
            "seconds": round(seconds, 3),
            "images": len(source),
            "classes": len(source.classes),
            "source": source.fingerprint(),
            "space": embedder.space.to_dict(),
            **summary,
        },
    )
    embedder.save(out / "model", classifier)
    for name in ("checkpoint.safetensors", "best.safetensors", UNREADABLE):
        (out / name).unlink(missing_ok=True)
