"""Weights that a training leaves as they are: chosen by name or pattern, with the batch norms among them."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from samespace.errors import InputError

_NAMED = 5


@dataclass(frozen=True)
class Frozen:
    """What of a network is frozen.

    Attributes:
        weights: how many numbers, of `total`.
        total: how many numbers all its parameters hold.
        norms: names of the batch norms that keep their statistics.
    """

    weights: int
    total: int
    norms: frozenset[str]

    def describe(self) -> str:
        """What stays as it is, on one line."""
        norms = f", {len(self.norms)} batch norms keep their statistics" if self.norms else ""
        return f"{self.weights:,} of {self.total:,} parameters stay as they are{norms}"


def freeze(network: nn.Module, patterns: Sequence[str]) -> Frozen:
    """Freeze parameters and whole modules of a network, by their names in its `state_dict`.

    Patterns are those of file names (`*`, `?`, `[…]`), where `*` goes over dots too. A batch norm is frozen where a
    pattern matches it or a module around it, or all of its own weights. Its evaluation mode is the network's to keep,
    see `Embedder.frozen_norms`.

    Raises:
        InputError: a pattern matches nothing that has weights, or nothing is left to train.
    """
    parameters = dict(network.named_parameters())
    modules = {name: module for name, module in network.named_modules() if name}
    legal = [name for name, module in modules.items() if any(True for _ in module.parameters())] + [*parameters]
    matched: set[str] = set()
    for pattern in patterns:
        names = fnmatch.filter(legal, pattern)
        if not names:
            raise InputError(f"model.freeze: no module or weight is named '{pattern}'; {_nearest(pattern, legal)}")
        matched.update(names)
    for name, value in parameters.items():
        if _inside(name, matched):
            value.requires_grad_(False)
    norms = {
        name
        for name, module in modules.items()
        if isinstance(module, _BatchNorm) and (_inside(name, matched) or _all_frozen(module))
    }
    held = [(value.numel(), value.requires_grad) for value in parameters.values()]
    if patterns and not any(trained for _, trained in held):
        raise InputError(f"model.freeze={list(patterns)} leaves nothing of the model to train; name less of it")
    total = sum(count for count, _ in held)
    return Frozen(total - sum(count for count, trained in held if trained), total, frozenset(norms))


def _inside(name: str, matched: Iterable[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in matched)


def _all_frozen(module: nn.Module) -> bool:
    flags = [value.requires_grad for value in module.parameters()]
    return bool(flags) and not any(flags)


def _nearest(pattern: str, legal: Sequence[str]) -> str:
    near = difflib.get_close_matches(pattern, legal, n=_NAMED, cutoff=0.5)
    return f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(legal[:_NAMED])} and others"
