"""Models of timm (PyTorch Image Models) as encoders (extra `timm`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from samespace.encoders.batched import BatchedEncoder
from samespace.encoders.networks import frozen, pixel_encoder
from samespace.errors import InputError
from samespace.models import Preprocessing
from samespace.models.weights import read_weights

_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


def from_timm(
    model: str | nn.Module,
    *,
    weights: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    revision: str = "",
    normalized: bool = True,
    device: str = "auto",
) -> BatchedEncoder:
    """An encoder of images made of a timm model without its classifier.

    The preprocessing is the one that timm keeps with the model (`resolve_model_data_config`). The space is told by all
    weights, the architecture's name, the preprocessing and the revision.

    Args:
        model: a name, such as `resnet50.a1_in1k`, or a model that `timm.create_model(..., num_classes=0)` made, or any
            module from images (B, C, H, W) to (B, D).
        weights: file of a state dict for a name; without it timm's pretrained weights, downloaded where they are not
            kept on this machine.
        preprocessing: instead of timm's.
        revision: anything else that tells this model from another.
        normalized: bring vectors to unit length.
        device: where to compute.

    Raises:
        InputError: timm is not installed or knows no such model, weights that do not fit, or a preprocessing that
            has no equal here.
    """
    if isinstance(model, str):
        name, network = model, _created(model, weights)
    elif weights is not None:
        raise InputError("weights are for a model given by its name; load them into the model given")
    else:
        network, name = model, _architecture(model)
    prepared = preprocessing or preprocessing_of(_data_config(network), name)
    # a name such as resnet50.a1_in1k names weights too: the model by this name and as a module are of one space
    facts = {
        "family": "timm",
        "name": _architecture(network),
        "module": type(network).__name__,
        "revision": revision,
    }
    return pixel_encoder(frozen(network, device), network, prepared, facts=facts, name=name, normalized=normalized)


def preprocessing_of(config: Mapping[str, Any], name: str) -> Preprocessing:
    """The preprocessing of a data configuration as timm writes it.

    Raises:
        InputError: a value that has no equal here.
    """
    channels, height, width = config["input_size"]
    mode, share = config.get("crop_mode") or "center", float(config.get("crop_pct") or 1.0)
    interpolation: Any = config.get("interpolation") or "bicubic"
    if interpolation not in _INTERPOLATIONS:
        raise InputError(
            f"{name} resizes by {interpolation}; legal: {', '.join(_INTERPOLATIONS)}; give a preprocessing"
        )
    if mode not in ("center", "squash"):
        raise InputError(f"{name} crops by {mode}; legal: center, squash; give a preprocessing")
    if share > 1:
        raise InputError(f"{name} crops {share:g} of the side, more than there is; give a preprocessing")
    return Preprocessing(
        (height, width),
        channels,
        tuple(config["mean"]),
        tuple(config["std"]),
        resize_mode="shorter" if mode == "center" else "exact",
        crop_mode="centre",
        crop_share=share,
        interpolation=interpolation,
    )


def _created(name: str, weights: str | Path | None) -> nn.Module:
    timm = _timm(name)
    try:
        network: nn.Module = timm.create_model(name, pretrained=weights is None, num_classes=0)
    except (RuntimeError, OSError) as error:
        raise InputError(f"timm cannot make '{name}': {str(error).splitlines()[0]}") from None
    if weights is not None:
        tensors = read_weights(weights)
        own = network.state_dict()
        if lacking := [key for key in own if key not in tensors or tensors[key].shape != own[key].shape]:
            raise InputError(
                f"{weights} does not fit '{name}': {len(lacking)} of {len(own)} layers, such as '{lacking[0]}'"
            )
        network.load_state_dict({key: tensors[key] for key in own})
    return network


def _data_config(network: nn.Module) -> dict[str, Any]:
    if not _configured(network):
        raise InputError(
            f"{type(network).__name__} keeps no configuration of its data, as timm's models do; give a preprocessing"
        )
    return dict(_timm(type(network).__name__).data.resolve_model_data_config(network))


def _configured(network: nn.Module) -> dict[str, Any]:
    return dict(getattr(network, "pretrained_cfg", None) or {})


def _architecture(network: nn.Module) -> str:
    return str(_configured(network).get("architecture") or type(network).__name__)


def _timm(name: str) -> Any:
    try:
        import timm
        import timm.data
    except (ImportError, RuntimeError) as error:
        raise InputError(f"'{name}' needs timm and torchvision: pip install 'samespace[timm]'") from error
    return timm
