"""Checkpoints: one safetensors file per training, whole or absent, from which it carries on exactly."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.files import replacing
from samespace.losses.class_share import ClassShare
from samespace.models.tensors import load_tensors, misfit, save_tensors
from samespace.train.task import CompatibleTask

# what an optimiser keeps for a parameter, and what stands before the parameter's name in a checkpoint
_SGD = {"momentum_buffer": "momentum."}
_ADAMW = {"exp_avg": "adamw.exp_avg.", "exp_avg_sq": "adamw.exp_avg_sq.", "step": "adamw.step."}
_TASK = "task."


@dataclass
class Position:
    """Where a training stands: the next step to take, the time spent so far, and the losses summed over this epoch."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Best:
    """The best model of a training so far, by one metric on its validation classes.

    Attributes:
        metric: the metric, such as `rank@1`.
        test: `cross`, new queries on the old gallery, or `new`, both by the new model.
        value: of the metric, in [0, 1].
        epoch: from 0.
        step: how many steps of that epoch were done.
    """

    metric: str
    test: str
    value: float
    epoch: int
    step: int


def save_best(path: Path, task: CompatibleTask, best: Best) -> None:
    """Write the present embedder and head as one file, whole or not."""
    with replacing(path) as temporary:
        save_tensors(_of_model(task), temporary, {"best": json.dumps(asdict(best))})


def best_of(path: Path) -> Best:
    """What `save_best` wrote. Raises InputError: the file is damaged or something else."""
    return _best(path)[1]


def load_best(path: Path, task: CompatibleTask) -> None:
    """Put embedder and head back to what `save_best` wrote. Raises InputError: as `best_of`."""
    task.load_state_dict(_best(path)[0], strict=False)


def _best(path: Path) -> tuple[dict[str, Tensor], Best]:
    tensors, metadata = load_tensors(path, "the best model of a training")
    if "best" not in metadata:
        raise InputError(f"{path} is not the best model of a training; remove it")
    return tensors, Best(**json.loads(metadata["best"]))


def _of_model(task: CompatibleTask) -> dict[str, Tensor]:
    return {name: value for name, value in task.state_dict().items() if name.startswith(("embedder.", "head."))}


def save_checkpoint(
    path: Path,
    task: nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    texts: dict[str, str],
    *,
    first: bool = True,
) -> None:
    """Write weights, buffers, the state of SGD or AdamW over the task's parameters, and position as one file, or none.

    `texts` are `recipe`, the resolved recipe, and `source`, the fingerprint of the images. Where processes share the
    head's classes all call it, and the `first` writes the rows of all.
    """
    tensors = {_TASK + key: _whole(task, key, value) for key, value in task.state_dict().items()}
    for name, parameter in task.named_parameters():
        for kind, prefix in _kept(optimizer).items():
            if (value := optimizer.state[parameter].get(kind)) is not None:
                tensors[prefix + name] = value if kind == "step" else _whole(task, name, value)
    if not first:
        return
    with replacing(path) as temporary:
        save_tensors(tensors, temporary, {"position": json.dumps(asdict(position)), **texts})


def load_checkpoint(path: Path, task: nn.Module, optimizer: torch.optim.Optimizer, source: str) -> Position:
    """Put a training back to where `save_checkpoint` left it; `source` is the fingerprint of the images at hand.

    Raises:
        InputError: the file is damaged, or belongs to another model, another optimiser or to other images.
    """
    tensors, metadata = _read(path)
    if metadata["source"] != source:
        raise InputError(f"{path} was written while training on other images than are there now; choose another --out")
    _refuse_other_optimizer(path, tensors, optimizer)
    stored = {key.removeprefix(_TASK): value for key, value in tensors.items() if key.startswith(_TASK)}
    held = {key: _own(task, key, value) for key, value in stored.items()}
    try:
        task.load_state_dict(held)
    except RuntimeError as error:
        raise InputError(f"{path} does not fit this model: {misfit(task, held)}") from error
    for name, parameter in task.named_parameters():
        for kind, prefix in _kept(optimizer).items():
            if (value := tensors.get(prefix + name)) is not None:
                # the layout in memory decides the order of sums in a convolution, and so the last bit
                like = torch.empty_like(parameter).copy_(_own(task, name, value)) if kind != "step" else value
                if kind == "step" and optimizer.defaults.get("fused"):
                    # a fused step reads it where the parameters lie
                    like = value.to(parameter.device)
                optimizer.state[parameter][kind] = like
    return Position(**json.loads(metadata["position"]))


def _share(task: nn.Module, name: str) -> ClassShare | None:
    """Which rows of a tensor of the task this process holds, where it is one of a head that processes share."""
    return getattr(getattr(task, "head", None), "share", None) if name.startswith("head.") else None


def _whole(task: nn.Module, name: str, value: Tensor) -> Tensor:
    share = _share(task, name)
    return value if share is None else share.whole(value)


def _own(task: nn.Module, name: str, value: Tensor) -> Tensor:
    share = _share(task, name)
    return value if share is None else share.own(value)


def _kept(optimizer: torch.optim.Optimizer) -> dict[str, str]:
    return _ADAMW if isinstance(optimizer, torch.optim.AdamW) else _SGD


def _refuse_other_optimizer(path: Path, tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    was, is_now = any(key.startswith(_ADAMW["step"]) for key in tensors), _kept(optimizer) is _ADAMW
    if was != is_now:
        names = {True: "adamw", False: "sgd"}
        raise InputError(
            f"{path} was written with optim.name={names[was]}, and this training has {names[is_now]}; "
            f"set optim.name: {names[was]} or choose another --out"
        )


def checkpoint_position(path: Path) -> Position:
    """Where the training stood that wrote a checkpoint."""
    return Position(**json.loads(_read(path)[1]["position"]))


def checkpoint_recipe(path: Path) -> str:
    """The resolved recipe a checkpoint was written under."""
    return _read(path)[1]["recipe"]


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = load_tensors(path, "a checkpoint")
    if missing := {"position", "recipe", "source"} - metadata.keys():
        raise InputError(f"{path} is not a checkpoint of a training: it lacks {', '.join(sorted(missing))}")
    return tensors, metadata
