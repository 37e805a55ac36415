"""From a method's name to the loss that ties the new model to the old one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from samespace import prototypes
from samespace.data import ImageSource
from samespace.errors import InputError
from samespace.losses import ContrastiveLoss, DistillationLoss, InfluenceLoss, LwFLoss, RegressionLoss
from samespace.models import Classifier, Embedder, resolve_model
from samespace.models.extract import embed_to
from samespace.progress import bar, silent
from samespace.train.distributed import Processes
from samespace.train.recipe import NEEDS_CLASSIFIER, NEEDS_VECTORS, CompatibilitySection, HeadSection, Method, Recipe
from samespace.vectors import VectorSet

Refresh = Callable[[Tensor], Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class OldSide:
    """All that training needs of the old model.

    Attributes:
        vectors: its vectors of the training images, in the images' order.
        classifier: its classifier, with class names.
    """

    vectors: VectorSet | None = None
    classifier: Classifier | None = None


def old_side(
    recipe: Recipe,
    source: ImageSource,
    out: Path,
    device: torch.device,
    group: Processes,
    quiet: bool = False,
) -> OldSide:
    """Gather what a method needs of the old model, making its vectors once where only the model is given.

    Vectors made here are kept in `old-vectors/` beside `out`, under the old space and the images they belong to, so
    that other trainings against the same model find them.

    Raises:
        InputError: a model, vector set or classifier is missing or does not fit the images, dimensions do not fit, or
            the classes leave the method nothing to do. All that is cheap to see is seen before images are embedded.
    """
    section = recipe.compatibility
    vectors = classifier = None
    model = None if section.old_model is None else resolve_model(section.old_model)
    if section.method in NEEDS_CLASSIFIER:
        file = model / "classifier.safetensors" if section.old_classifier is None and model else section.old_classifier
        classifier = Classifier.load(Path(str(file)))
        _check_dims(recipe, classifier.weight.shape[1])
        _check_classes(section.method, shared_classes(source, classifier))
    if section.method in NEEDS_VECTORS:
        if model is None:
            vectors = align(VectorSet.load(str(section.old_vectors)), source)
            _check_dims(recipe, vectors.dim)
        else:
            embedder = Embedder.load(model)
            _check_dims(recipe, embedder.embedding_dim)
            vectors = _embed_once(embedder.to(device), source, out, group, quiet)
    return OldSide(vectors, classifier)


def align(vectors: VectorSet, source: ImageSource) -> VectorSet:
    """Old vectors in the order of the training images.

    Raises:
        InputError: an image has no vector, or the counts differ where the vectors have no ids.
    """
    if not vectors.has_ids:
        if len(vectors) != len(source):
            counts = f"{len(vectors):,} vectors and no ids for {len(source):,} training images"
            raise InputError(f"{vectors.name} has {counts}; give ids, or one vector for each image")
        numbers = np.arange(len(vectors)).astype(str)
        if not np.array_equal(vectors.ids, source.ids) and not np.array_equal(vectors.ids, numbers):
            raise InputError(
                f"{vectors.name} was made from other rows than the training images; embed the same part again"
            )
        if vectors.labels is not None and len(np.unique(_pairs(vectors, source))) != len(source.classes):
            raise InputError(f"{vectors.name} has no ids, and its labels are not those of the images in their order")
        return vectors
    row_of = {name: row for row, name in enumerate(vectors.ids.tolist())}
    rows = [row_of.get(name, -1) for name in source.ids.tolist()]
    if -1 in rows:
        missing = rows.count(-1)
        example = source.ids[rows.index(-1)]
        raise InputError(f"{vectors.name} lacks {missing:,} of {len(source):,} training images, such as '{example}'")
    if rows == list(range(len(vectors))):
        return vectors
    return vectors.subset(np.asarray(rows))


def _pairs(vectors: VectorSet, source: ImageSource) -> npt.NDArray[np.str_]:
    """Label of the vector and class of the image, row by row: as many distinct pairs as classes where they agree."""
    return np.char.add(np.char.add(np.asarray(vectors.labels).astype(str), "\n"), source.labels.astype(str))


def tie(recipe: Recipe, source: ImageSource, old: OldSide) -> tuple[nn.Module | None, Refresh | None]:
    """The compatibility term of a recipe, and how its prototypes are rebuilt where they are.

    Returns:
        The term for `CompatibleTask(influence=…)` and the function for its `refresh`; None where there is none.

    Raises:
        InputError: prototypes are all missing.
    """
    section = recipe.compatibility
    if section.method == "none":
        return None, None
    if section.method == "l2":
        return RegressionLoss(prefix=section.prefix), None
    if section.method == "contrastive":
        return ContrastiveLoss(temperature=section.temperature or 0.05, prefix=section.prefix), None
    if section.method in NEEDS_CLASSIFIER:
        return _from_classifier(recipe, source, old), None
    return _from_vectors(recipe, source, old)


def _from_vectors(recipe: Recipe, source: ImageSource, old: OldSide) -> tuple[nn.Module, Refresh | None]:
    """UniBCT (Eq. 5): prototypes of every new class from old vectors."""
    assert old.vectors is not None
    section, features, labels = recipe.compatibility, old.vectors.vectors, torch.from_numpy(source.labels)
    count = len(source.classes)
    refresh: Refinement | None = None
    if section.method == "unibct-trimmed":
        centres = prototypes.trimmed(features, labels, count, drop=section.drop)
    else:
        centres = prototypes.mean(features, labels, count)
    if section.method == "unibct-refined":
        refresh = Refinement(old.vectors, source, section)
    return InfluenceLoss(centres, **_options(section, recipe.head)), refresh


class Refinement:
    """Rebuilds refined prototypes (UniBCT Eq. 6-10) from the new model's present vectors.

    Attributes:
        report: of the last call, how many samples a prototype rests on in effect, as a share of its class: the median
            and the smallest over classes. A small share says that a few near duplicates have captured a prototype.
    """

    def __init__(self, vectors: VectorSet, source: ImageSource, section: CompatibilitySection) -> None:
        self._features = vectors.vectors
        self._labels = torch.from_numpy(source.labels)
        self._count = len(source.classes)
        self._options: dict[str, Any] = {
            "damping": section.damping,
            "temperature": section.refine_temperature,
            "similarity_cap": section.similarity_cap,
        }
        self.report: dict[str, float] = {}

    def __call__(self, guide: Tensor) -> Tensor:
        """Prototypes (C, D) float32 for a guide (N, D) in the images' order."""
        weights = prototypes.refined_weights(self._labels, self._count, guide=guide, **self._options)
        effective = prototypes.effective_sample_size(weights, self._labels, self._count)
        share = effective / torch.bincount(self._labels, minlength=self._count)
        self.report = {"effective_share_median": float(share.median()), "effective_share_min": float(share.min())}
        return prototypes.weighted(self._features, self._labels, self._count, weights=weights.cpu())


def _from_classifier(recipe: Recipe, source: ImageSource, old: OldSide) -> nn.Module:
    """BCT (Eq. 8) and its variants: the old classifier, alone, extended or distilled."""
    section, classifier = recipe.compatibility, _known(old.classifier)
    class_map = shared_classes(source, classifier)
    shared = int((class_map >= 0).sum())
    options = _options(section, classifier)
    if section.method == "bct-synth":
        labels = torch.from_numpy(source.labels)
        weight, rows = prototypes.extend_classifier(classifier.weight, class_map, _known(old.vectors).vectors, labels)
        bias = classifier.bias if options["margin"] == "softmax" else None
        if bias is not None:  # a synthesised class is as likely beforehand as an average old one
            bias = torch.cat([bias, bias.mean().expand(len(weight) - len(bias))])
        return InfluenceLoss(weight, class_map=rows, bias=bias, **options)
    distil: dict[str, Any] = {"class_map": class_map, "temperature": section.temperature, "prefix": section.prefix}
    if section.method == "lwf":
        return LwFLoss(classifier.weight, **distil)
    if section.method == "bct-kd" and shared == 0:
        return DistillationLoss(classifier.weight, **distil)
    influence = InfluenceLoss(classifier.weight, class_map=class_map, bias=classifier.bias, **options)
    if section.method == "bct" or shared == len(class_map):
        return influence
    return BctDistillation(influence, DistillationLoss(classifier.weight, **distil), class_map)


class BctDistillation(nn.Module):
    """BCT with distillation (BCT 2.5): samples of known classes by the influence loss, the others by distillation.

    Args:
        influence: for samples whose class the old classifier knows.
        distillation: for the others.
        class_map: (C,) int64, the old class of each new label, −1 = none.
    """

    known: Tensor

    def __init__(self, influence: InfluenceLoss, distillation: DistillationLoss, class_map: Tensor) -> None:
        super().__init__()
        self.influence, self.distillation = influence, distillation
        self.register_buffer("known", (class_map >= 0).float())

    def forward(self, embeddings: Tensor, labels: Tensor, old_embeddings: Tensor) -> Tensor:
        """The mean over all samples of the batch; arguments as `DistillationLoss`."""
        share = self.known[labels].mean()
        influence: Tensor = self.influence(embeddings, labels)
        distillation: Tensor = self.distillation(embeddings, labels, old_embeddings)
        return share * influence + (1 - share) * distillation


def _options(section: CompatibilitySection, default: HeadSection | Classifier) -> dict[str, Any]:
    """Margin and scale of an influence loss: as the recipe says, otherwise as the given head has them."""
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


def _known(value: T | None) -> T:
    assert value is not None
    return value


def _check_classes(method: Method, class_map: Tensor) -> None:
    shared = int((class_map >= 0).sum())
    if method == "lwf" and shared == len(class_map):
        raise InputError("compatibility.method=lwf distils new classes only, and the old classifier knows them all")
    if method == "bct" and shared == 0:
        raise InputError(
            f"none of the {len(class_map)} training classes is known to the old classifier, so "
            "compatibility.method=bct would do nothing; choose bct-synth, bct-kd or a unibct method"
        )


def _check_dims(recipe: Recipe, old: int) -> None:
    new, prefix = recipe.model.embedding_dim, recipe.compatibility.prefix
    if prefix and new <= old:
        raise InputError(
            f"compatibility.prefix needs a new model wider than the old one, got {new} and {old} dimensions"
        )
    if not prefix and new != old:
        hint = "; compatibility.prefix=true ties the leading dimensions" if new > old else ""
        raise InputError(f"model.embedding_dim={new} but the old model has {old} dimensions{hint}")


def _embed_once(embedder: Embedder, source: ImageSource, out: Path, group: Processes, quiet: bool) -> VectorSet:
    folder = out.parent / "old-vectors" / f"{embedder.space.id}-{source.fingerprint()[:12]}"
    if group.first and not folder.exists():
        if quiet:
            embed_to(embedder, source, folder, advance=silent)
        else:
            with bar(f"old vectors by {embedder.name or 'the old model'}", len(source)) as advance:
                embed_to(embedder, source, folder, advance=advance)
    group.wait()
    return VectorSet.load(folder)
