"""A copy of a model for inference, its batch norms folded into the layers before them."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from samespace.models.embedder import Embedder


def folded(embedder: Embedder) -> Embedder:
    """A frozen copy in evaluation mode whose vectors are the same but for rounding, made in less time.

    A batch norm that follows a convolution or linear layer in an `nn.Sequential` becomes part of that layer's weights;
    others stay as they are. The weights are not those of the space any more: use the copy's vectors, not its `space`.
    """
    model = copy.deepcopy(embedder).eval().requires_grad_(False)
    for module in list(model.modules()):
        if type(module) is nn.Sequential:
            _fold(module)
    return model


def _fold(layers: nn.Sequential) -> None:
    for index in range(len(layers) - 1):
        layer, norm = layers[index], layers[index + 1]
        if _hooked(layer) or _hooked(norm) or getattr(norm, "running_mean", None) is None:
            continue
        if type(layer) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
            layers[index] = fuse_conv_bn_eval(layer, norm)
        elif type(layer) is nn.Linear and type(norm) is nn.BatchNorm1d:
            layers[index] = fuse_linear_bn_eval(layer, norm)
        else:
            continue
        layers[index + 1] = nn.Identity()


def _hooked(module: nn.Module) -> bool:
    """Whether something outside watches or changes what goes through the layer."""
    return bool(module._forward_hooks or module._forward_pre_hooks)
