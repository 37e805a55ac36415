"""The classifier that a model was trained with, kept beside it: the source of old prototypes (BCT Eq. 8)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from samespace.errors import InputError
from samespace.files import replacing
from samespace.models.tensors import load_tensors, save_tensors


@dataclass(frozen=True)
class Classifier:
    """A frozen classification layer and the classes it knows.

    Attributes:
        weight: (C, D) float32, one row per class.
        classes: C class names, in row order.
        margin: the margin it was trained with, as a recipe names it.
        scale: the scale of its cosines.
        margin_value: of that margin, None for its default.
        bias: (C,) float32 where the layer is a plain softmax with one.
    """

    weight: Tensor
    classes: tuple[str, ...]
    margin: str
    scale: float
    margin_value: float | None = None
    bias: Tensor | None = None

    def save(self, path: Path) -> None:
        """Write one `.safetensors` file, whole or not at all."""
        tensors = {"weight": self.weight} | ({} if self.bias is None else {"bias": self.bias})
        about = {"classes": list(self.classes), "margin": self.margin, "scale": self.scale}
        about["margin_value"] = self.margin_value
        with replacing(path) as temporary:
            save_tensors(tensors, temporary, {"classifier": json.dumps(about)})

    @classmethod
    def load(cls, path: Path) -> Classifier:
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, truncated or no classifier.
        """
        tensors, metadata = load_tensors(path, "a classifier saved beside a model")
        if "classifier" not in metadata or "weight" not in tensors:
            raise InputError(f"{path} is not a classifier: it should hold 'weight' (classes, dims) and its classes")
        try:
            about = json.loads(metadata["classifier"])
            classes = tuple(str(name) for name in about["classes"])
            margin, scale, value = str(about["margin"]), float(about["scale"]), about.get("margin_value")
            margin_value = None if value is None else float(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} is not a classifier: its metadata should hold classes, margin and scale"
            ) from error
        weight = tensors["weight"].float()
        if weight.ndim != 2 or len(classes) != len(weight):
            raise InputError(f"{path}: {len(classes)} classes but weights of shape {tuple(weight.shape)}")
        bias = tensors["bias"].float() if "bias" in tensors else None
        return cls(weight, classes, margin, scale, margin_value, bias)
