"""Models of transformers as encoders of texts or images (extra `transformers`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from samespace.encoders.batched import BatchedEncoder
from samespace.encoders.networks import device_of, frozen, pixel_encoder, weights_of
from samespace.encoders.sentence_transformers import tokenizer_digest
from samespace.errors import InputError
from samespace.models import Preprocessing
from samespace.space import Space

Pooling = Literal["mean", "cls", "pooler"]
_RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}


def from_transformers(
    model: str | Path,
    *,
    modality: Literal["text", "image"] = "text",
    pooling: Pooling = "mean",
    max_length: int | None = None,
    revision: str | None = None,
    normalized: bool = True,
    device: str = "auto",
) -> BatchedEncoder:
    """An encoder of texts or images made of a model of transformers and its tokeniser or image processor.

    The space is told by all weights, the configuration's architecture, the pooling, and the tokeniser or preprocessing.

    Args:
        model: folder with the model, or a name on the Hugging Face Hub. Only a name that is no folder uses the network.
        modality: what an item is.
        pooling: a text's or image's vector is the mean of its last hidden states, the first of them, or the model's own
            `pooler_output`.
        max_length: tokens of a text that are looked at; None takes the tokeniser's.
        revision: of a name on the Hub.
        normalized: bring vectors to unit length.
        device: where to compute.

    Raises:
        InputError: the library is not installed, there is no such model, or a preprocessing that has no equal here.
    """
    for what, value, legal in (("modality", modality, ("text", "image")), ("pooling", pooling, get_args(Pooling))):
        if value not in legal:
            raise InputError(f"{what} is {value!r}; legal: {', '.join(legal)}")
    place, name = str(model), Path(str(model)).name
    network = frozen(_loaded("AutoModel", place, revision), device)
    facts: dict[str, Any] = {
        "family": "transformers",
        "architecture": type(network).__name__,
        "pooling": pooling,
        "revision": "" if Path(place).exists() else revision or "",
    }
    if modality == "image":
        prepared = preprocessing_of(_loaded("AutoImageProcessor", place, revision).to_dict(), name)

        def forward(images: Tensor) -> Tensor:
            return _pooled(network(pixel_values=images), None, pooling, name)

        return pixel_encoder(network, forward, prepared, facts=facts, name=name, normalized=normalized)
    tokenizer = _loaded("AutoTokenizer", place, revision)
    limit = max_length or _longest(tokenizer, network)

    @torch.inference_mode()
    def function(texts: Sequence[Any], device: str | None) -> Tensor:
        frozen(network, device)
        given = tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        given = given.to(device_of(network))
        return _pooled(network(**given), given["attention_mask"], pooling, name).float()

    dim = int(function(["a"], None).shape[1])
    described = f"text, tokenizer {tokenizer_digest(tokenizer)}, at most {limit} tokens"
    return BatchedEncoder(Space(weights_of(network, facts), described, dim, normalized, name), "text", function)


def preprocessing_of(config: Mapping[str, Any], name: str) -> Preprocessing:
    """The preprocessing of an image processor's configuration.

    Raises:
        InputError: a value that has no equal here.
    """
    size, crop = dict(config.get("size") or {}), config.get("crop_size") if config.get("do_center_crop") else None
    interpolation = _RESAMPLE.get(int(config.get("resample", 2)))
    scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    if interpolation is None or abs(scale * 255 - 1) > 1e-6 or not config.get("do_resize", True):
        raise InputError(f"the image processor of {name} has settings that have no equal here; use from_callable")
    more: dict[str, Any] = {"interpolation": interpolation}
    if "shortest_edge" in size:
        edge = int(size["shortest_edge"])
        target = (int(crop["height"]), int(crop["width"])) if crop else (edge, edge)
        if target[0] != target[1] or target[0] > edge:
            raise InputError(f"the image processor of {name} crops {target} out of {edge}; use from_callable")
        more |= {"resize_mode": "shorter", "crop_mode": "centre", "crop_share": target[0] / edge}
    elif {"height", "width"} <= size.keys():
        target = (int(size["height"]), int(size["width"]))
        if crop and (int(crop["height"]), int(crop["width"])) != target:
            raise InputError(
                f"the image processor of {name} resizes to {target} and crops {dict(crop)}; use from_callable"
            )
    else:
        raise InputError(f"the image processor of {name} resizes to {size}, which has no equal here; use from_callable")
    normalize = config.get("do_normalize", True)
    mean = tuple(config["image_mean"]) if normalize else 0.0
    std = tuple(config["image_std"]) if normalize else 1.0
    return Preprocessing(target, 3, mean, std, **more)


def _pooled(output: Any, mask: Tensor | None, pooling: Pooling, name: str) -> Tensor:
    if pooling == "pooler":
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            raise InputError(f"{name} has no pooler_output; use pooling mean or cls")
        return pooled.flatten(1)  # type: ignore[no-any-return]
    hidden: Tensor = output.last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    if mask is None:
        return hidden.flatten(2).mean(2) if hidden.ndim == 4 else hidden.mean(1)
    weights = mask[:, :, None].to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _longest(tokenizer: Any, network: Any) -> int:
    """Tokens a text may have: the least of what tokeniser and positions allow."""
    known = [int(tokenizer.model_max_length), int(getattr(network.config, "max_position_embeddings", 0) or 10**9)]
    return min(min(known), 512) if min(known) >= 10**9 else min(known)


def _loaded(kind: str, place: str, revision: str | None) -> Any:
    try:
        import transformers
    except (ImportError, RuntimeError) as error:
        raise InputError(f"'{place}' needs transformers: pip install 'samespace[transformers]'") from error
    local = Path(place).exists()
    try:
        return getattr(transformers, kind).from_pretrained(
            place, local_files_only=local, **({} if local or revision is None else {"revision": revision})
        )
    except Exception as error:  # what is missing of a folder or of the Hub raises nearly anything
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"transformers cannot load '{place}' as {kind}: {line}") from error
