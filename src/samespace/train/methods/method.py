"""`Method`: what a compatibility method needs of the old model, and how its loss is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from samespace.data import ImageSource
from samespace.models import Classifier
from samespace.models.image_model import ImageModel
from samespace.train.old_views import OldViews
from samespace.train.sections import CompatibilitySection, HeadSection
from samespace.vectors import VectorSet

Need = Literal["vectors", "classifier", "model", "views"]
"""What a method takes of the old model: its vectors of the training images, its classifier, the model itself, or its
vectors of views, from the model, made before, or in their place those of the plain images."""


@dataclass(frozen=True)
class OldSide:
    """All that training needs of an old model; what the method does not need is None.

    Attributes:
        vectors: its vectors of the training images, in the images' order.
        classifier: its classifier, with class names.
        model: the old model, where it embeds each augmented view as the training goes.
        views: its vectors of fixed views, made before; without either, the plain images' vectors stand for views.
        earlier: the same of earlier old models to which the new one is tied as well.
    """

    vectors: VectorSet | None = None
    classifier: Classifier | None = None
    model: ImageModel | None = None
    views: OldViews | None = None
    earlier: tuple[OldSide, ...] = ()

    @property
    def each(self) -> tuple[OldSide, ...]:
        """This old model and the earlier ones."""
        return (self, *self.earlier)


class Term(NamedTuple):
    """The compatibility term of a training.

    Attributes:
        loss: the loss, see `CompatibleTask`; None trains an independent model.
        refresh: from the new model's present vectors (N, D) of the training images to the argument of
            `loss.set_prototypes`, called at the recipe's refresh epochs.
    """

    loss: nn.Module | None
    refresh: Callable[[Tensor], Tensor] | None = None


Build = Callable[[CompatibilitySection, HeadSection, ImageSource, OldSide], Term]


@dataclass(frozen=True)
class Method:
    """A compatibility method of the recipe.

    Attributes:
        build: makes the term from `recipe.compatibility`, `recipe.head`, the training images and the old side.
        needs: what it takes of the old model.
        options: keys of `CompatibilitySection` that not every method uses and this one does.
        check_classes: refuses, before anything is embedded, a class map (C,) (see `shared_classes`) with which the
            method would do nothing.
        warmup: share of the epochs before the term acts, where the recipe says nothing.
        ramp: share of the epochs over which its weight then rises.
    """

    build: Build
    needs: tuple[Need, ...] = ()
    options: tuple[str, ...] = ()
    check_classes: Callable[[Tensor], None] | None = None
    warmup: float = 10 / 35
    ramp: float = 0.0

    @property
    def refreshes(self) -> bool:
        """Whether the method rebuilds prototypes while it trains."""
        return "refresh_epochs" in self.options


MARGIN_OPTIONS = ("margin", "scale", "margin_value")


def margin_options(section: CompatibilitySection, default: HeadSection | Classifier) -> dict[str, Any]:
    """Arguments of an `InfluenceLoss`: margin and scale as the recipe says, otherwise as the given head has them."""
    margin = section.margin or default.margin
    inherited = default.margin_value if margin == default.margin else None
    return {
        "margin": margin,
        "scale": section.scale or default.scale,
        "margin_value": inherited if section.margin_value is None else section.margin_value,
        "prefix": section.prefix,
    }


def shared_classes(source: ImageSource, classifier: Classifier) -> Tensor:
    """For each training class the old classifier's row of the same name, −1 where it has none; (C,) int64."""
    row_of = {name: row for row, name in enumerate(classifier.classes)}
    return torch.tensor([row_of.get(name, -1) for name in source.classes], dtype=torch.int64)
