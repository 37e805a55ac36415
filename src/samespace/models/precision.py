"""An embedder's vectors by bfloat16 products, where they say what those of float32 say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from samespace.errors import InputError, SpaceError
from samespace.models.embedder import Embedder
from samespace.models.folding import folded
from samespace.models.image_model import ImageModel
from samespace.models.preprocessing import Preprocessing
from samespace.space import Precision, Space

LEAST_COSINE = 0.999
"""How low the cosine of an image's two vectors may be: the same as of canaries."""
MOST_LOST = 0.01
"""How much less near, by float32, the image may be that bfloat16 finds nearest."""
COMPARED = 64


@dataclass(frozen=True)
class Parity:
    """How far the vectors of some images by two arithmetics agree.

    Attributes:
        cosine: the lowest of an image's vector by one with its vector by the other.
        lost: the most, over the images, by which the nearest other image by bfloat16 is less similar than the nearest
            by float32, in cosines of float32: 0 where all nearest images stay.
    """

    cosine: float
    lost: float

    @classmethod
    def of(cls, exact: Tensor, other: Tensor) -> Parity:
        """Of unit vectors (N, D) by float32 and by the other arithmetic, of at least one image."""
        cosine = float(F.cosine_similarity(exact, other).min())
        if len(exact) == 1:
            return cls(cosine, 0.0)
        by_exact, by_other = (
            (vectors @ vectors.T).fill_diagonal_(-torch.inf) for vectors in (exact.float(), other.float())
        )
        found = by_exact.gather(1, by_other.argmax(1, keepdim=True))[:, 0]
        return cls(cosine, float((by_exact.amax(1) - found).max()))

    @property
    def holds(self) -> bool:
        """Whether one may stand for the other."""
        return self.cosine >= LEAST_COSINE and self.lost <= MOST_LOST

    def __str__(self) -> str:
        return f"lowest cosine with float32 {self.cosine:.5f}, nearest images lose up to {self.lost:.4f}"


class InBfloat16:
    """An embedder whose convolutions and products are computed in bfloat16 (autocast), batch norms folded into them.

    An `ImageModel` of the embedder's own space, whose record says `bf16`. The first images it embeds are embedded in
    float32 too: where the two do not agree, it is refused.

    Args:
        embedder: left as it is; a frozen copy is made.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._exact, self._fast = embedder, folded(embedder)
        self._space = replace(embedder.space, precision="bf16")
        self._parity: Parity | None = None

    @property
    def name(self) -> str:
        """What people call the model."""
        return self._exact.name

    @property
    def space(self) -> Space:
        """The embedder's, with the precision."""
        return self._space

    @property
    def embedding_dim(self) -> int:
        """Dimensions of the vectors."""
        return self._exact.embedding_dim

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to an image before the network sees it."""
        return self._exact.preprocessing

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._exact.device

    def parity(self, images: Tensor) -> Parity:
        """How far the vectors of the first of these images (B, C, H, W) uint8 agree with those in float32."""
        some = images[:COMPARED]
        self._parity = Parity.of(self._exact.embed(some), self._fast_vectors(some))
        return self._parity

    def embed(self, images: Tensor) -> Tensor:
        """Unit vectors (B, embedding_dim) float32 on the model's device of images (B, C, H, W) uint8.

        Raises:
            SpaceError: they do not agree with float32.
        """
        if len(images):
            self._require(self._parity or self.parity(images))
        return self._fast_vectors(images)

    def embed_unit(self, unit: Tensor) -> Tensor:
        """Unit vectors (B, embedding_dim) float32 of images (B, C, H, W) in [0, 1], such as augmented ones."""
        with torch.autocast(self.device.type, torch.bfloat16):
            return self._fast.embed_unit(unit)

    def _fast_vectors(self, images: Tensor) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self._fast.embed(images)

    def _require(self, parity: Parity) -> None:
        if not parity.holds:
            raise SpaceError(
                f"{self.name or 'the model'} is not the same in bf16: {parity} (at least {LEAST_COSINE}, at most "
                f"{MOST_LOST}); embed in fp32"
            )


def in_precision(
    model: ImageModel, precision: Precision | Literal["auto"], sample: Callable[[], Tensor]
) -> tuple[ImageModel, str]:
    """A model that computes in the precision asked for, and why `auto` did not take bf16; empty where it did.

    `auto` is bf16 where the device has fast products of it (a GPU of the Ampere kind or later, a CPU with AMX) and the
    vectors of the sample agree, else fp32; models of other libraries compute as they do there.

    Args:
        model: an `Embedder`, or for fp32 and auto any other.
        precision: `fp32`, `bf16` or `auto`.
        sample: gives some images (B, C, H, W) uint8, for `auto`.

    Raises:
        InputError: bf16 of a model of another library.
    """
    if precision == "fp32":
        return model, ""
    if not isinstance(model, Embedder):
        if precision == "bf16":
            raise InputError(
                f"--precision bf16 is for models that 'samespace train' made, and {model.name} is none; leave it out"
            )
        return model, "models of other libraries compute as they do there"
    if precision == "bf16":
        return InBfloat16(model), ""
    if not has_fast_bf16(model.device):
        return model, "the device has no fast products of bf16"
    fast = InBfloat16(model)
    parity = fast.parity(sample())
    return (fast, "") if parity.holds else (model, f"bf16 does not agree: {parity}")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster than those of float32 by far: tensor cores, or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    has_amx: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return device.type == "cpu" and has_amx()
