"""Backbones by name: a network from images to flat features, before the projection."""

from __future__ import annotations

import re
from typing import cast

import torch
from torch import nn

from samespace.errors import InputError, suggest
from samespace.models.iresnet import DEPTHS, iresnet
from samespace.models.user_code import import_named


def convnet(width: int, channels: int) -> nn.Sequential:
    """A small network for images of 16 to 64 pixels: four convolutions, 1/8 of the size at the end.

    Returns:
        A network from (B, channels, H, W) to (B, 4 · width · H/8 · W/8).
    """
    plan = ((channels, width, 2), (width, 2 * width, 2), (2 * width, 4 * width, 1), (4 * width, 4 * width, 2))
    layers: list[nn.Module] = []
    for inputs, outputs, stride in plan:
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Flatten())


def build_backbone(name: str, channels: int) -> nn.Module:
    """Build a backbone.

    Args:
        name: `convnetN` with N channels in the first layer, such as `convnet32`; `iresnet18|34|50|100|152`;
            `timm:NAME` (needs the extra `timm`); `package.module:callable`, a function of `channels` that returns an
            `nn.Module`.
        channels: of the input images.

    Raises:
        InputError: the name is unknown, or what it names cannot be imported or is no module.
    """
    if name in DEPTHS:
        return iresnet(name, channels)
    if match := re.fullmatch(r"convnet([1-9]\d*)", name):
        return convnet(int(match[1]), channels)
    if name.startswith("timm:"):
        return _from_timm(name.removeprefix("timm:"), channels)
    if ":" in name:
        return _from_user(name, channels)
    legal = ("convnetN", *DEPTHS, "timm:NAME", "package.module:callable")
    raise InputError(f"unknown backbone '{name}'; {suggest(name, legal)}; convnet32 has 32 channels in its first layer")


def feature_dim(backbone: nn.Module, channels: int, size: int | tuple[int, int]) -> int:
    """How many features a backbone gives for one image of a square side, or of (height, width), in pixels.

    Raises:
        InputError: the backbone cannot take such an image, or gives anything but (B, features).
    """
    size = (size, size) if isinstance(size, int) else size
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            features = backbone(torch.zeros(1, channels, *size))
    except (RuntimeError, AssertionError, ValueError) as error:
        # the network is the user's, or of a library of networks: what its own check says is the reason
        said = f": {' '.join(str(error).split())}" if str(error) else ""
        raise InputError(
            f"the backbone cannot take {channels}×{size[0]}×{size[1]} images{said}; give another image_size "
            "or channels (SAMESPACE_TRACEBACK=1 shows where it fails)"
        ) from error
    finally:
        backbone.train(training)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise InputError("a backbone should return one tensor (batch, features); add pooling or flatten")
    return int(features.shape[1])


def _from_timm(name: str, channels: int) -> nn.Module:
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"the backbone 'timm:{name}' needs timm and torchvision: pip install 'samespace[timm]'"
        ) from error
    try:
        return cast(nn.Module, timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels))
    except RuntimeError as error:
        raise InputError(f"timm has no backbone '{name}'; {suggest(name, timm.list_models()[:2000])[:200]}") from error


def _from_user(name: str, channels: int) -> nn.Module:
    factory = import_named(name, "backbone", "package.module:callable")
    try:
        backbone = factory(channels)
    except TypeError as error:
        raise InputError(
            f"the backbone '{name}' cannot be called with the number of channels; it should take this one argument"
        ) from error
    if not isinstance(backbone, nn.Module):
        raise InputError(f"the backbone '{name}' returned a {type(backbone).__name__}; expected an nn.Module")
    return backbone
