"""`Embedder`: a backbone and a projection with their preprocessing; images in, vectors of one space out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.files import read_json, replacing_folder, write_json
from samespace.models.backbones import build_backbone, feature_dim
from samespace.models.classifier import Classifier
from samespace.models.devices import pick_device
from samespace.models.items import pixels_of
from samespace.models.preprocessing import Preprocessing
from samespace.models.tensors import hash_tensors, load_tensors, misfit, save_tensors
from samespace.space import Space

_FORMAT = "samespace.embedder/1"


@dataclass(frozen=True)
class EmbedderConfig:
    """What it takes to build an embedder, without its weights.

    Attributes:
        backbone: a name that `build_backbone` knows.
        embedding_dim: dimensions of the vectors.
        preprocessing: what happens to an image first.
        batch_norm: whether a batch norm follows the projection.
        relu: whether a ReLU follows the projection (BCT Table 3 shows that this breaks compatibility).
    """

    backbone: str
    embedding_dim: int
    preprocessing: Preprocessing
    batch_norm: bool = False
    relu: bool = False

    def __post_init__(self) -> None:
        if self.embedding_dim < 2:
            raise InputError(f"embedding_dim should be at least 2, got {self.embedding_dim}")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-ready values."""
        return {**asdict(self), "preprocessing": self.preprocessing.to_dict()}


class Embedder(nn.Module):
    """Backbone + linear projection (optional batch norm) to `embedding_dim`, with its preprocessing.

    Args:
        config: the architecture and the preprocessing.
        name: what people call the model.

    Example:
        >>> model = Embedder(EmbedderConfig("convnet16", 64, Preprocessing(size=32, channels=1)))
        >>> model.embed(torch.zeros(3, 1, 32, 32, dtype=torch.uint8)).shape
        torch.Size([3, 64])
    """

    def __init__(self, config: EmbedderConfig, name: str = "") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.backbone = build_backbone(config.backbone, config.preprocessing.channels)
        features = feature_dim(self.backbone, config.preprocessing.channels, config.preprocessing.fit.size)
        layers: list[nn.Module] = [nn.Linear(features, config.embedding_dim, bias=not config.batch_norm)]
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(config.embedding_dim))
        if config.relu:
            layers.append(nn.ReLU())
        self.projection = nn.Sequential(*layers)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    modality: Literal["image"] = "image"

    @property
    def embedding_dim(self) -> int:
        """Dimensions of the vectors."""
        return self.config.embedding_dim

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to an image before the network sees it."""
        return self.config.preprocessing

    @property
    def space(self) -> Space:
        """The space of this model's vectors, from its present weights."""
        architecture = self.config.to_dict()
        del architecture["preprocessing"]
        return Space(
            weights=hash_tensors(json.dumps(architecture, sort_keys=True), self.state_dict()),
            preprocessing=self.preprocessing.describe(),
            dim=self.embedding_dim,
            normalized=True,
            name=self.name,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, embedding_dim), not normalised, of images the preprocessing has prepared (float)."""
        images = images.contiguous(memory_format=torch.channels_last)
        return self.projection(self.backbone(images))  # type: ignore[no-any-return]

    @torch.no_grad()
    def embed_unit(self, unit: Tensor) -> Tensor:
        """Unit vectors (B, embedding_dim) float32 of images (B, C, H, W) in [0, 1], such as augmented ones.

        The mode, training or evaluation, is left as it is.
        """
        prepared = self.preprocessing.normalize(self.preprocessing.resize(unit))
        return F.normalize(self(prepared).float(), dim=1)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors of the model's space for raw images, deterministically: no augmentation, evaluation mode.

        Images of another size are resized here. A folder's images are resized by its reader instead, as they are
        decoded, which rounds otherwise: for identical vectors give images of the model's size.

        Args:
            images: (B, C, H, W) uint8.

        Returns:
            (B, embedding_dim) float32 on the model's device, L2-normalised.

        Raises:
            InputError: the images are not uint8 or have another number of channels.
        """
        device = next(self.parameters()).device
        training = self.training
        self.eval()
        try:
            return F.normalize(self(self.preprocessing(images.to(device))).float(), dim=1)
        finally:
            self.train(training)

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 256, device: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Unit vectors (N, embedding_dim) float32 of images of any size, in their order, as `embed_rows` gives them.

        Args:
            items: paths, PIL images, or (C, H, W) uint8 arrays or tensors; brought to the model's size as the images
                of a folder are.
            batch_size: images at once.
            device: to compute on, and where the model then stays; None leaves it where it is.

        Raises:
            InputError: an item is no image or cannot be read, or there is no such device.
        """
        if device is not None:
            self.to(pick_device(device))
        vectors = np.empty((len(items), self.embedding_dim), dtype=np.float32)
        for start in range(0, len(items), batch_size):
            images = pixels_of(items[start : start + batch_size], self.preprocessing)
            vectors[start : start + len(images)] = self.embed(images).cpu().numpy()
        return vectors

    def save(self, folder: str | Path, classifier: Classifier | None = None) -> None:
        """Write a folder (`config.json`, `model.safetensors`, perhaps `classifier.safetensors`), whole or not at all.

        Raises:
            InputError: `folder` exists and is not a model.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / "config.json").exists():
            raise InputError(f"{folder} exists and is not a model folder; choose another place")
        with replacing_folder(folder) as temporary:
            save_tensors(self.state_dict(), temporary / "model.safetensors")
            if classifier is not None:
                classifier.save(temporary / "classifier.safetensors")
            config = {"format": _FORMAT, "name": self.name, "space": self.space.to_dict(), **self.config.to_dict()}
            write_json(temporary / "config.json", config)

    @classmethod
    def load(cls, folder: str | Path) -> Embedder:
        """Load a model folder, on the CPU, in evaluation mode.

        Raises:
            InputError: a file is missing, truncated or does not fit the others.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder} is not a model folder; expected config.json and model.safetensors in it")
        config = read_json(folder / "config.json", "the configuration of a model")
        tensors, _ = load_tensors(folder / "model.safetensors", "the weights of a model")
        model = cls(_parse_config(config, folder), name=str(config.get("name", "")))
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise InputError(f"{folder}: the weights do not fit the configuration: {misfit(model, tensors)}") from error
        recorded = config.get("space")
        if recorded is not None and Space.from_dict(recorded, f"{folder}/config.json") != model.space:
            raise InputError(f"{folder}: the weights are not those the configuration was written for; copy both again")
        return model.eval()


def resolve_model(folder: str | Path) -> Path:
    """The model folder a user meant: itself, or `model/` inside a training's folder."""
    folder = Path(folder)
    inner = folder / "model"
    return inner if not (folder / "config.json").exists() and (inner / "config.json").exists() else folder


def _parse_config(config: dict[str, Any], folder: Path) -> EmbedderConfig:
    if config.get("format") != _FORMAT:
        raise InputError(f"{folder}/config.json has format {config.get('format')!r}; expected '{_FORMAT}'")
    try:
        return EmbedderConfig(
            backbone=str(config["backbone"]),
            embedding_dim=int(config["embedding_dim"]),
            preprocessing=Preprocessing(**config["preprocessing"]),
            batch_norm=bool(config["batch_norm"]),
            relu=bool(config["relu"]),
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else "a value is of the wrong kind"
        raise InputError(f"{folder}/config.json is not a whole configuration: {reason}") from error
