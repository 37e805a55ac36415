"""Models of open_clip as encoders, of images or of texts in one space (extra `open-clip`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from samespace.encoders.batched import BatchedEncoder
from samespace.encoders.networks import device_of, frozen, pixel_encoder
from samespace.errors import InputError
from samespace.models import Preprocessing

_RESIZE: dict[str, dict[str, str]] = {
    "shortest": {"resize_mode": "shorter", "crop_mode": "centre"},
    "squash": {"resize_mode": "exact"},
    "longest": {"resize_mode": "letterbox"},
}


def from_open_clip(
    name: str,
    *,
    weights: str,
    part: Literal["image", "text"] = "image",
    revision: str = "",
    device: str = "auto",
) -> BatchedEncoder:
    """An encoder of images or texts made of one side of a CLIP model; both sides give vectors of one space.

    The space is told by the weights of both sides, the images' preprocessing, the tokeniser's name and the revision.

    Args:
        name: as open_clip names models, such as `ViT-B-32`.
        weights: a tag of open_clip, such as `laion2b_s34b_b79k`, downloaded where it is not kept on this machine; or a
            file.
        part: which side.
        revision: anything else that tells this model from another.
        device: where to compute.

    Raises:
        InputError: open_clip is not installed or knows no such model, or a preprocessing that has no equal here.
    """
    if part not in ("image", "text"):
        raise InputError(f"part is {part!r}; legal: image, text")
    try:
        import open_clip
    except (ImportError, RuntimeError) as error:
        raise InputError(f"'{name}' needs open_clip: pip install 'samespace[open-clip]'") from error
    try:
        network, _, _ = open_clip.create_model_and_transforms(name, pretrained=weights)
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(
            f"open_clip cannot make '{name}' with weights '{weights}': {str(error).splitlines()[0]}"
        ) from None
    frozen(network, device)
    prepared = preprocessing_of(dict(network.visual.preprocess_cfg), name)
    described = json.dumps({"images": json.loads(prepared.describe()), "texts": f"open_clip tokenizer of {name}"})
    facts = {"family": "open_clip", "name": name, "revision": revision}
    images = pixel_encoder(
        network, network.encode_image, prepared, facts=facts, name=name, normalized=True, described=described
    )
    if part == "image":
        return images
    tokenizer = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def function(texts: Sequence[Any], device: str | None) -> torch.Tensor:
        frozen(network, device)
        tokens = tokenizer(list(texts)).to(device_of(network))
        return network.encode_text(tokens).float()  # type: ignore[no-any-return]

    return BatchedEncoder(images.space, "text", function)


def preprocessing_of(config: Mapping[str, Any], name: str) -> Preprocessing:
    """The preprocessing of open_clip's `preprocess_cfg`.

    Raises:
        InputError: a value that has no equal here.
    """
    interpolation: Any
    mode, interpolation = config.get("resize_mode") or "shortest", config.get("interpolation") or "bicubic"
    if mode not in _RESIZE or interpolation not in ("bilinear", "bicubic"):
        raise InputError(f"{name} resizes by {mode}, {interpolation}, which has no equal here; use from_callable")
    size = config["size"]
    fill = config.get("fill_color") or 0
    more: dict[str, Any] = dict(_RESIZE[mode])
    if mode == "longest":
        more["fill"] = (fill if isinstance(fill, int | float) else fill[0]) / 255
    return Preprocessing(
        tuple(size) if not isinstance(size, int) else size,
        3,
        tuple(config["mean"]),
        tuple(config["std"]),
        interpolation=interpolation,
        **more,
    )
