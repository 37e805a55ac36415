"""The optimiser of a training: its section of a recipe, which weights learn how fast, and the rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from samespace.errors import InputError
from samespace.train.sections import above_zero, at_least
from samespace.train.task import CompatibleTask

_OWN: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    "adamw": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
}


@dataclass(frozen=True)
class OptimSection:
    """The optimiser and its schedule; the defaults are UniBCT's, of AdamW torch's.

    Attributes:
        epochs: passes over the data.
        batch_size: images per step, over all processes together.
        lr: learning rate at the start; null takes 0.1 for sgd, 0.001 for adamw.
        momentum: of sgd; null takes 0.9.
        weight_decay: of sgd on all weights, of adamw on all but biases and the weights of norms; null takes 0.0001 for
            sgd, 0.01 for adamw.
        schedule: `step` divides at the milestones, `cosine` falls to zero.
        milestones: epochs at which `step` multiplies the rate by gamma; null takes UniBCT's 20, 26 and 32 of 35, in
            proportion to `epochs`.
        gamma: factor at a milestone.
        warmup_steps: steps over which the rate rises from zero.
        clip_norm: largest norm of the gradient; null does not clip.
        name: sgd, stochastic gradient descent with momentum, or adamw (Loshchilov and Hutter, 2019).
        betas: of adamw; null takes [0.9, 0.999].
        eps: of adamw; null takes 1e-8.
        layer_decay: rates by layer, a number up to 1: the head and the projection learn at the rate, each stage of the
            backbone at this share of the next one's; null gives all the same rate.
        fused: update all weights by one kernel; other roundings than without.
    """

    epochs: int = 35
    batch_size: int = 256
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] | None = None
    gamma: float = 0.1
    warmup_steps: int = 0
    clip_norm: float | None = None
    name: Literal["sgd", "adamw"] = "sgd"
    betas: tuple[float, ...] | None = None
    eps: float | None = None
    layer_decay: float | None = None
    fused: bool = False

    def __post_init__(self) -> None:
        for key, value in _OWN[self.name].items():
            if getattr(self, key) is None:
                object.__setattr__(self, key, value)
        at_least("optim.epochs", self.epochs, 1)
        at_least("optim.batch_size", self.batch_size, 2)
        above_zero("optim.lr", self.start_rate)
        above_zero("optim.gamma", self.gamma)
        at_least("optim.warmup_steps", self.warmup_steps, 0)
        if self.clip_norm is not None:
            above_zero("optim.clip_norm", self.clip_norm)
        if self.schedule == "cosine" and self.milestones:
            raise InputError("optim.schedule=cosine and optim.milestones exclude each other: remove the milestones")
        self._check_own()

    def _check_own(self) -> None:
        """Refuse values of the optimiser's own keys that are out of range, and keys of the other one."""
        if not (self.weight_decay or 0) >= 0:
            raise InputError(f"optim.weight_decay should be at least 0, got {self.weight_decay}")
        for other, keys in _OWN.items():
            for key in keys.keys() - _OWN[self.name].keys():
                if getattr(self, key) is not None:
                    raise InputError(
                        f"optim.{key} belongs to {other}, and optim.name is {self.name}: remove it or set name: {other}"
                    )
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise InputError(f"optim.momentum should be in [0, 1), got {self.momentum}")
        if self.betas is not None and (len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas)):
            raise InputError(f"optim.betas should be two numbers in [0, 1), got {list(self.betas)}")
        if self.eps is not None:
            above_zero("optim.eps", self.eps)
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise InputError(f"optim.layer_decay should be above 0 and at most 1, got {self.layer_decay}")

    @property
    def start_rate(self) -> float:
        """`lr`, which is always filled in."""
        assert self.lr is not None
        return self.lr

    @property
    def values_kept(self) -> int:
        """How many numbers the optimiser keeps for each trained weight, besides its gradient."""
        return 2 if self.name == "adamw" else int(bool(self.momentum))


def learning_rate(optim: OptimSection, epoch: int, step: int, steps_per_epoch: int) -> float:
    """The rate for step `step` of epoch `epoch`, both counted from zero.

    Example:
        >>> optim = OptimSection(epochs=35, milestones=(20, 26, 32), lr=0.1)
        >>> [round(learning_rate(optim, epoch, 0, 10), 6) for epoch in (0, 19, 20, 26, 34)]
        [0.1, 0.1, 0.01, 0.001, 0.0001]
    """
    done = epoch * steps_per_epoch + step
    if done < optim.warmup_steps:
        return optim.start_rate * (done + 1) / optim.warmup_steps
    if optim.schedule == "cosine":
        return optim.start_rate * 0.5 * (1 + math.cos(math.pi * done / (optim.epochs * steps_per_epoch)))
    return optim.start_rate * optim.gamma ** sum(epoch >= milestone for milestone in optim.milestones or ())


def stages(network: nn.Module) -> list[list[nn.Parameter]]:
    """The weights of a network by stage, from the input on: one stage for each of its children, in their order.

    A child that has vectors alone, as a norm or a PReLU, belongs to the stage before it; weights that lie in no child,
    as a class token, to the first. A network that is one child in a wrapper has the stages of that child.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
        >>> [len(stage) for stage in stages(network)]
        [4, 2]
    """
    bare = list(network.parameters(recurse=False))
    held = [list(child.parameters()) for child in network.children()]
    if sum(map(bool, held)) == 1 and not bare:
        return stages(next(child for child, inside in zip(network.children(), held, strict=True) if inside))
    found: list[list[nn.Parameter]] = []
    for inside in filter(None, held):
        if found and all(value.ndim <= 1 for value in inside):
            found[-1].extend(inside)
        else:
            found.append(inside)
    return [bare + found[0], *found[1:]] if found else [bare]


def optimizer_of(task: CompatibleTask, optim: OptimSection) -> torch.optim.Optimizer:
    """The optimiser of the weights of a task that are not frozen.

    Each group of weights has a `share`, by which the rate of a step is multiplied (`optim.layer_decay`; Clark et al.,
    2020). AdamW decays no vectors, which are biases and the weights of norms.
    """
    shares: dict[nn.Parameter, float] = {}
    if optim.layer_decay is not None:
        for distance, stage in enumerate(reversed(stages(task.embedder.backbone)), start=1):
            shares.update(dict.fromkeys(stage, optim.layer_decay**distance))
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for value in task.parameters():
        if value.requires_grad:
            decays = optim.name == "sgd" or value.ndim > 1
            groups.setdefault((shares.get(value, 1.0), decays), []).append(value)
    given = [
        {"params": values, "share": share, "weight_decay": optim.weight_decay if decays else 0.0}
        for (share, decays), values in groups.items()
    ]
    own = {key: getattr(optim, key) for key in _OWN[optim.name]}
    if optim.fused:
        own["fused"] = True
    return torch.optim.AdamW(given, **own) if optim.name == "adamw" else torch.optim.SGD(given, **own)
