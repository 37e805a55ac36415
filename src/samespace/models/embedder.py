"""`Embedder`: a backbone and a projection with their preprocessing; images in, vectors of one space out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.files import read_json, replacing_folder, write_json, write_text
from samespace.models.backbones import build_backbone, feature_dim
from samespace.models.classifier import Classifier
from samespace.models.devices import pick_device
from samespace.models.hub.card import HasDict, certificate_values, model_card
from samespace.models.hub.transfer import download, is_repo, upload
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

    Attributes:
        frozen_norms: names of the batch norms that stay in evaluation mode while it is trained, see `freeze`.

    Example:
        >>> model = Embedder(EmbedderConfig("convnet16", 64, Preprocessing(size=32, channels=1)))
        >>> model.embed(torch.zeros(3, 1, 32, 32, dtype=torch.uint8)).shape
        torch.Size([3, 64])
    """

    def __init__(self, config: EmbedderConfig, name: str = "") -> None:
        super().__init__()
        self.config = config
        self.name = name
        self.frozen_norms: frozenset[str] = frozenset()
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
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

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

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen_norms:
            self.get_submodule(name).eval()
        return self

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
        training = self.training
        self.eval()
        try:
            return F.normalize(self(self.preprocessing(images.to(self.device))).float(), dim=1)
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
        with self._replacing(folder) as temporary:
            if classifier is not None:
                classifier.save(temporary / "classifier.safetensors")

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        certificate: HasDict | str | Path | None = None,
        license: str | None = None,
        repo: str | None = None,
    ) -> None:
        """Write a model folder with a model card, `README.md`, whole or not at all; a model folder there is replaced.

        Args:
            folder: where to.
            certificate: a `Certificate`, or the file of one, whose queries are this model's; the card shows it and
                `certificate.json` is kept beside it.
            license: for the card, as the Hub names licences, such as `apache-2.0`.
            repo: owner/name on the Hub, for the line of the card that loads the model; None names the folder.

        Raises:
            InputError: `folder` exists and is no model, or the certificate is none or of another model.
        """
        values = None if certificate is None else certificate_values(certificate, self.space)
        size = " × ".join(map(str, self.preprocessing.fit.size))
        colour = "grey" if self.preprocessing.channels == 1 else "RGB"
        facts = {"backbone": f"`{self.config.backbone}`", "images": f"{size} (height × width), {colour}"}
        card = model_card(self.space, facts, repo=repo, certificate=values, license=license)
        with self._replacing(folder) as temporary:
            write_text(temporary / "README.md", card)
            if values is not None:
                write_json(temporary / "certificate.json", values)

    def push_to_hub(
        self,
        repo: str,
        *,
        certificate: HasDict | str | Path | None = None,
        license: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        message: str = "Upload a samespace embedder",
    ) -> str:
        """Put what `save_pretrained` writes into a repository of the Hugging Face Hub; the address of the commit.

        Args:
            repo: owner/name; made where there is none.
            certificate: as `save_pretrained`.
            license: as `save_pretrained`.
            private: whether a new repository is private; None as the owner's account is set.
            revision: the branch; None = the main one.
            token: of the account; None = the one this computer is logged in with.
            message: of the commit.

        Raises:
            InputError: the extra `hub` is not installed, the Hub refuses, or what `save_pretrained` refuses.
        """
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            self.save_pretrained(folder, certificate=certificate, license=license, repo=repo)
            return upload(folder, repo, revision=revision, token=token, private=private, message=message)

    @contextmanager
    def _replacing(self, folder: str | Path) -> Iterator[Path]:
        """Yield a folder with configuration and weights, which then takes the place of `folder`."""
        folder = Path(folder)
        if folder.exists() and not (folder / "config.json").exists():
            raise InputError(f"{folder} exists and is not a model folder; choose another place")
        with replacing_folder(folder) as temporary:
            save_tensors(self.state_dict(), temporary / "model.safetensors")
            config = {"format": _FORMAT, "name": self.name, "space": self.space.to_dict(), **self.config.to_dict()}
            write_json(temporary / "config.json", config)
            yield temporary

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
    ) -> Embedder:
        """Load a model folder, or a model of the Hugging Face Hub by its name owner/name, as `load` does.

        The network is asked only for a name of the Hub: one that is no folder, and whose `owner` is no folder either.

        Args:
            name: a folder, a training's folder, or owner/name.
            revision: branch, tag or commit on the Hub; None = the main branch.
            token: for a private model; None = the one this computer is logged in with.
            cache_dir: where downloads are kept; None = the Hub library's own place.

        Raises:
            InputError: no such folder, the Hub gives no such model, the extra `hub` is not installed, or a file is
                missing, truncated or does not fit the others.
        """
        if not Path(name).exists() and is_repo(str(name)):
            return cls.load(download(str(name), revision=revision, token=token, cache_dir=cache_dir))
        if revision is not None:
            raise InputError(f"{name} is taken for a folder and a local folder has no revision; leave revision out")
        return cls.load(resolve_model(name))

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
