"""From what the images look like to a project, with the reason for each line."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import yaml

from samespace.data import Augment
from samespace.errors import InputError
from samespace.project.old import OldModel, OldVectors
from samespace.project.settings import Budget, Network, Project, Split
from samespace.project.split import FEW, STAND_IN, Shares
from samespace.project.start.look import Look

_STEPS = 1_000
_EPOCHS = (10, 40)
_BATCH = 128
_TRAINED = (1 - Split().check) * (1 - Split().validation)
_MOST_PIXELS = {"cpu": 64, "cuda": 112}
_SMALL = 40
_WIDTH = 110


@dataclass(frozen=True)
class Proposal:
    """A project and why: a reason by key."""

    project: Project
    reasons: dict[str, str]


def propose(
    images: str, look: Look, *, old: OldModel | OldVectors | None, given: dict[str, str], device: str, seed: int = 0
) -> Proposal:
    """Choose size, network, budget, augmentation and split.

    Args:
        images: the source, as the user named it.
        look: what it looks like.
        old: the old side, where there is one.
        given: `old` or `old_vectors`, as the user named it.
        device: `cpu` or `cuda`, which decides how large a network is bearable.
        seed: of the project.
    """
    size, why_size = _size(look, old, device)
    network, why_network = _network(look, old, size if isinstance(size, int) else max(size), device)
    budget, why_budget = _budget(len(look.source))
    augment, why_augment = _augment(look)
    project = Project(
        images=images,
        size=size,
        old=given.get("old"),
        old_vectors=given.get("old_vectors"),
        network=network,
        budget=budget,
        augment=augment,
        broken="skip" if getattr(look.source, "skipped", ()) else "refuse",
        seed=seed,
    )
    counts = look.per_class
    spread = (
        f"{counts.min():,} to {counts.max():,} of each" if counts.min() < counts.max() else f"{counts.max():,} of each"
    )
    reasons = {
        "images": f"{len(look.source):,} images of {len(counts):,} classes, {spread}; {look.pixels}, {look.kind}",
        "old": _why_old(old),
        "size": why_size,
        "network": why_network,
        "budget": why_budget,
        "augment": why_augment,
        "broken": _why_skip(look),
    }
    return Proposal(project, reasons)


def explain_split(shares: Shares) -> str:
    """The reason for the line `split`."""
    validation = f", {shares.validation_classes:,} to choose by" if shares.validation_classes else ""
    few = "; few, so that intervals will be wide" if shares.check_classes < FEW else ""
    return (
        f"classes: {shares.check_classes:,} for the certificate alone{few}{validation}, {shares.trained_classes:,} to "
        f"train on ({shares.trained_images:,} images)"
    )


def project_text(proposal: Proposal, shares: Shares, command: str) -> str:
    """The project file: a line for each choice, its reason above it."""
    project = proposal.project
    reasons = {**proposal.reasons, "split": explain_split(shares)}
    old = {"old_vectors": project.old_vectors} if project.old_vectors else {"old": project.old}
    plain = Augment()
    changed = {name: value for name, value in vars(project.augment).items() if value != getattr(plain, name)}
    network = {"backbone": project.network.backbone, "dim": project.network.dim, "channels": project.network.channels}
    values = {
        "images": project.images,
        **old,
        "split": {"check": project.split.check, "validation": project.split.validation},
        "size": project.size,
        "network": network,
        "budget": {"epochs": project.budget.epochs, "batch_size": project.budget.batch_size},
        "augment": changed,
    }
    if project.broken != "refuse":
        values["broken"] = project.broken
    if project.seed:
        values["seed"] = project.seed
    lines = [f"# written by '{command}'; change any line, what it affects is made again"]
    for key, value in values.items():
        if reason := reasons.get("old" if key == "old_vectors" else key):
            lines += textwrap.wrap(reason, _WIDTH, initial_indent="# ", subsequent_indent="# ")
        lines.append(_line(key, value))
    return "\n".join(lines) + "\n"


def _line(key: str, value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1_000_000)
    return f"{key}: {text.removesuffix('...' + chr(10)).strip()}"


def _why_skip(look: Look) -> str:
    skipped = getattr(look.source, "skipped", ())
    if not skipped:
        return ""
    name, reason = skipped[0]
    more = f", and {len(skipped) - 1:,} more" if len(skipped) > 1 else ""
    return f"left out, because they cannot be read: {name} ({reason}){more}; 'samespace data describe' names all"


def _why_old(old: OldModel | OldVectors | None) -> str:
    if old is None:
        return (
            f"no old model given: a stand-in is trained first, on {100 * STAND_IN:.0f} % of the training classes. That "
            "is a rehearsal; for your upgrade name its folder here, or its vectors as old_vectors:"
        )
    if isinstance(old, OldVectors):
        return f"{len(old.vectors):,} images have a stored vector of {old.dim} dimensions; the old model is not needed"
    name = old.embedder.name or "the old model"
    known = "" if old.classes is None else f", trained on {len(old.classes):,} classes"
    pixels = "" if old.preprocessing is None else f", {old.preprocessing.size} pixels"
    return f"{name}: {old.dim} dimensions{pixels}{known}"


def _size(look: Look, old: OldModel | OldVectors | None, device: str) -> tuple[int | tuple[int, int], str]:
    if isinstance(old, OldModel) and old.preprocessing is not None:
        size = old.preprocessing.size
        return size, f"{size} pixels: what the old model sees"
    most = _MOST_PIXELS[device]
    if look.drawn and look.side > _SMALL:
        return 32, f"32 pixels: line drawings keep their shape at it ({look.side} in the files)"
    size = max(min(look.side // 8 * 8, most), 16)
    if size < look.side:
        bound = "as much as a processor trains in bearable time; with a GPU take 112" if device == "cpu" else "enough"
        reason = bound if look.side > most else "the next multiple of 8, which networks like"
        return size, f"{size} pixels: {reason} ({look.side} in the files)"
    return size, f"{size} pixels: as in the files"


def _network(look: Look, old: OldModel | OldVectors | None, size: int, device: str) -> tuple[Network, str]:
    if size < 8:
        raise InputError(f"networks need at least 8 pixels, and the old model sees {size}")
    channels = 1 if look.grey else 3
    if isinstance(old, OldModel) and old.preprocessing is not None:
        channels = 1 if old.preprocessing.channels == 1 else 3
    large = size >= 96 and device == "cuda"
    backbone = (
        "iresnet50" if large else "convnet32" if size <= _SMALL else "iresnet18" if device == "cuda" else "convnet32"
    )
    dim = old.dim if old is not None else 512 if large else 128
    as_old = "; dimensions as the old vectors have" if old is not None else ""
    fits = "for small images, minutes on a processor" if backbone.startswith("convnet") else "for photographs, on a GPU"
    colour = "grey" if channels == 1 else "colour"
    return Network(backbone, dim, channels), f"{fits}; {colour}{as_old}"  # type: ignore[arg-type]


def _budget(images: int) -> tuple[Budget, str]:
    steps = max(round(_TRAINED * images) // _BATCH, 1)
    epochs = min(max(round(_STEPS / steps), _EPOCHS[0]), _EPOCHS[1])
    return Budget(
        epochs, _BATCH
    ), f"about {steps * epochs:,} steps for each model; give more where the paragon is not ahead"


def _augment(look: Look) -> tuple[Augment, str]:
    padding = "zeros" if look.drawn and look.dark else "border"
    if look.drawn:
        return (
            Augment(rotate=10.0, translate=0.08, scale=0.1, padding=padding),  # type: ignore[arg-type]
            "small turns and shifts; never mirrored, which makes other characters",
        )
    return (
        Augment(rotate=8.0, translate=0.08, scale=0.15, flip=True, brightness=0.2, contrast=0.2),
        "small turns, shifts and changes of light, mirrored; set flip to false where left and right differ, as in text",
    )
