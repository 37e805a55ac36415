"""Encoders that are networks of torch: frozen, hashed, moved to a device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from samespace.encoders.batched import BatchedEncoder
from samespace.errors import InputError
from samespace.models.devices import pick_device
from samespace.models.tensors import hash_tensors
from samespace.space import Space

if TYPE_CHECKING:
    from samespace.models import Preprocessing

M = TypeVar("M", bound=nn.Module)


def frozen(network: M, device: str | None) -> M:
    """The network in evaluation mode, without gradients, on a device; None leaves it where it is."""
    if device is not None:
        network.to(pick_device(device))
    return network.eval().requires_grad_(False)


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next((tensor.device for tensor in network.parameters()), torch.device("cpu"))


def weights_of(network: nn.Module, facts: Mapping[str, Any]) -> str:
    """The sha256 of all weights and of what else decides a vector, such as the pooling or a revision."""
    return hash_tensors(json.dumps(facts, sort_keys=True, default=str), network.state_dict())


def pixel_encoder(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    preprocessing: Preprocessing,
    *,
    facts: Mapping[str, Any],
    name: str,
    normalized: bool,
    described: str | None = None,
) -> BatchedEncoder:
    """An encoder of images: `forward` gives (B, D) of prepared images (B, C, H, W) float.

    `described` stands for the preprocessing in the space's identity, by default its canonical text.

    Raises:
        InputError: the network does not take such images, or gives anything but (B, D).
    """

    @torch.inference_mode()
    def function(pixels: Any, device: str | None) -> Tensor:
        frozen(network, device)
        vectors = forward(preprocessing(pixels.to(device_of(network))))
        if not isinstance(vectors, Tensor) or vectors.ndim != 2:
            raise InputError(f"{name} should give one tensor (batch, dimensions); pool or flatten its output")
        return vectors.float()

    blank = torch.zeros((1, preprocessing.channels, *preprocessing.fit.size), dtype=torch.uint8)
    try:
        dim = function(blank, None).shape[1]
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{name} cannot take images of shape {tuple(blank.shape[1:])}: {line}") from error
    space = Space(weights_of(network, facts), described or preprocessing.describe(), int(dim), normalized, name)
    return BatchedEncoder(space, "image", function, preprocessing)
