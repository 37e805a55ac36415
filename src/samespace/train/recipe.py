"""The recipe: everything that decides what a training gives, as one strict YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from samespace.data import Augment
from samespace.errors import InputError
from samespace.losses import Margin

Method = Literal[
    "none",
    "l2",
    "contrastive",
    "bct",
    "bct-synth",
    "bct-kd",
    "lwf",
    "unibct-mean",
    "unibct-trimmed",
    "unibct-refined",
]

NEEDS_CLASSIFIER = frozenset({"bct", "bct-synth", "bct-kd", "lwf"})
NEEDS_VECTORS = frozenset(
    {"l2", "contrastive", "bct-synth", "bct-kd", "lwf", "unibct-mean", "unibct-trimmed", "unibct-refined"}
)
USES_PROTOTYPES = frozenset({"bct", "bct-synth", "bct-kd", "unibct-mean", "unibct-trimmed", "unibct-refined"})


@dataclass(frozen=True)
class DataSection:
    """Which images to train on.

    Attributes:
        source: an image folder, an `.npz` file, `glyphs:classes=300,images=40`, or one of the formats of
            `samespace.data.open_source`, such as `rec:ms1mv3`.
        channels: 1 or 3 for folders; null means 3.
        broken: what to do with an image that cannot be read.
        allocation: a file written by `samespace data allocate`; null takes the whole source.
        part: the part of the allocation to train on.
        workers: threads that read images.
    """

    source: str
    channels: int | None = None
    broken: Literal["refuse", "skip"] = "refuse"
    allocation: str | None = None
    part: Literal["old", "new", "all"] = "all"
    workers: int = 2

    def __post_init__(self) -> None:
        if (self.allocation is None) != (self.part == "all"):
            raise InputError(
                f"data.part={self.part} and data.allocation={self.allocation} exclude each other: "
                "give an allocation and the part old or new, or neither"
            )
        _at_least("data.workers", self.workers, 1)


@dataclass(frozen=True)
class ModelSection:
    """The new model.

    Attributes:
        backbone: convnet16|32|64, iresnet18|34|50|100|152, timm:NAME or package.module:callable.
        embedding_dim: dimensions of the vectors.
        batch_norm: a batch norm after the projection.
        relu: a ReLU after the projection.
        image_size: side of the images in pixels; others are resized when read; null takes theirs.
        mean: subtracted from pixels in [0, 1].
        std: divides pixels in [0, 1].
        name: what people call the model; null takes the output folder's name.
    """

    backbone: str = "convnet32"
    embedding_dim: int = 128
    batch_norm: bool = False
    relu: bool = False
    image_size: int | None = None
    mean: float = 0.5
    std: float = 0.5
    name: str | None = None


@dataclass(frozen=True)
class HeadSection:
    """The new model's own classification loss.

    Attributes:
        margin: which margin softmax.
        scale: of the cosines; unused by plain softmax.
        margin_value: radians for arcface, cosine for cosface; null takes the margin's default.
    """

    margin: Margin = "arcface"
    scale: float = 64.0
    margin_value: float | None = None

    def __post_init__(self) -> None:
        if self.margin in ("softmax", "norm-softmax") and self.margin_value is not None:
            raise InputError(f"head.margin={self.margin} has no margin: remove head.margin_value")
        _above_zero("head.scale", self.scale)


@dataclass(frozen=True)
class OptimSection:
    """Stochastic gradient descent; the defaults are UniBCT's.

    Attributes:
        epochs: passes over the data.
        batch_size: images per step, over all processes together.
        lr: learning rate at the start.
        momentum: of SGD.
        weight_decay: on all weights.
        schedule: `step` divides at the milestones, `cosine` falls to zero.
        milestones: epochs at which `step` multiplies the rate by gamma; null takes UniBCT's 20, 26 and 32 of 35, in
            proportion to `epochs`.
        gamma: factor at a milestone.
        warmup_steps: steps over which the rate rises from zero.
        clip_norm: largest norm of the gradient; null does not clip.
    """

    epochs: int = 35
    batch_size: int = 256
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["step", "cosine"] = "step"
    milestones: tuple[int, ...] | None = None
    gamma: float = 0.1
    warmup_steps: int = 0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        _at_least("optim.epochs", self.epochs, 1)
        _at_least("optim.batch_size", self.batch_size, 2)
        _above_zero("optim.lr", self.lr)
        _above_zero("optim.gamma", self.gamma)
        _at_least("optim.warmup_steps", self.warmup_steps, 0)
        if self.clip_norm is not None:
            _above_zero("optim.clip_norm", self.clip_norm)
        if not self.weight_decay >= 0:
            raise InputError(f"optim.weight_decay should be at least 0, got {self.weight_decay}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"optim.momentum should be in [0, 1), got {self.momentum}")
        if self.schedule == "cosine" and self.milestones:
            raise InputError("optim.schedule=cosine and optim.milestones exclude each other: remove the milestones")


@dataclass(frozen=True)
class CompatibilitySection:
    """How the new model is tied to the old one.

    Attributes:
        method: which compatibility term; none trains an independent model.
        old_model: the old model's folder; its vectors of the training images are made once and kept.
        old_vectors: the old model's vectors of the training images, where the model itself is not at hand.
        old_classifier: the old classifier, where it is not in `old_model`.
        weight: of the compatibility term (λ of BCT Eq. 8, η of UniBCT Eq. 2).
        warmup_epochs: first epochs without the term; null takes UniBCT's 10 of 35, in proportion.
        refresh_epochs: epochs at whose start refined prototypes are built (unibct-refined); null takes UniBCT's 10 and
            20 of 35, in proportion.
        margin: of the influence loss; null takes the head's (for the bct methods, the old classifier's).
        scale: likewise.
        margin_value: likewise.
        temperature: of contrastive (0.05 by default), bct-kd and lwf (32 by default).
        drop: share of samples that unibct-trimmed leaves out.
        damping: λ of UniBCT Eq. 8 (unibct-refined).
        refine_temperature: τ of UniBCT Eq. 6 (unibct-refined).
        similarity_cap: largest cosine that counts in refinement, against near duplicates (unibct-refined).
        prefix: tie the leading old dimensions of a wider new embedding.
    """

    method: Method = "none"
    old_model: str | None = None
    old_vectors: str | None = None
    old_classifier: str | None = None
    weight: float = 1.0
    warmup_epochs: int | None = None
    refresh_epochs: tuple[int, ...] | None = None
    margin: Margin | None = None
    scale: float | None = None
    margin_value: float | None = None
    temperature: float | None = None
    drop: float = 0.1
    damping: float = 0.9
    refine_temperature: float = 0.05
    similarity_cap: float | None = None
    prefix: bool = False

    def __post_init__(self) -> None:
        old = {"old_model": self.old_model, "old_vectors": self.old_vectors, "old_classifier": self.old_classifier}
        given = [f"compatibility.{key}" for key, value in old.items() if value is not None]
        if self.method == "none":
            if given:
                raise InputError(f"compatibility.method=none uses no old model: remove {given[0]} or choose a method")
            return
        if self.old_model and self.old_vectors:
            raise InputError("compatibility.old_model and compatibility.old_vectors exclude each other: give one")
        if self.method in NEEDS_VECTORS and not (self.old_model or self.old_vectors):
            raise InputError(f"compatibility.method={self.method} needs compatibility.old_model or .old_vectors")
        if self.method in NEEDS_CLASSIFIER and not (self.old_model or self.old_classifier):
            raise InputError(f"compatibility.method={self.method} needs compatibility.old_model or .old_classifier")
        if self.similarity_cap is not None and self.method != "unibct-refined":
            raise InputError(f"compatibility.similarity_cap belongs to unibct-refined, not to method={self.method}")
        if self.temperature is not None and self.method not in ("contrastive", "bct-kd", "lwf"):
            raise InputError(
                f"compatibility.temperature belongs to contrastive, bct-kd and lwf, not to method={self.method}; "
                "unibct-refined has refine_temperature"
            )
        for name in ("margin", "scale", "margin_value"):
            if getattr(self, name) is not None and self.method not in USES_PROTOTYPES:
                raise InputError(f"compatibility.{name} does nothing for method={self.method}: remove it")
        _at_least("compatibility.warmup_epochs", self.warmup_epochs or 0, 0)
        _above_zero("compatibility.weight", self.weight)
        _above_zero("compatibility.refine_temperature", self.refine_temperature)
        for name in ("temperature", "scale"):
            if (value := getattr(self, name)) is not None:
                _above_zero(f"compatibility.{name}", value)
        for name in ("damping", "drop"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"compatibility.{name} should be in [0, 1), got {getattr(self, name)}")
        if self.similarity_cap is not None and not -1 < self.similarity_cap <= 1:
            raise InputError(f"compatibility.similarity_cap is a cosine in (-1, 1], got {self.similarity_cap}")


@dataclass(frozen=True)
class RunSection:
    """How to run; nothing here changes what is learnt, but for the precision.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        precision: auto is bf16 autocast on a GPU and fp32 on a CPU.
        checkpoint_minutes: time between checkpoints inside an epoch; one is always written at its end.
        loggers: where metrics go besides `metrics.jsonl`.
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpoint_minutes: float = 5.0
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A whole training.

    Attributes:
        data: which images.
        model: the network.
        head: its classification loss.
        optim: the optimiser and its schedule.
        augment: random changes to training images, in the units of `samespace.data.Augment`.
        compatibility: the tie to the old model.
        run: device, precision, logging.
        seed: of weights, order and augmentation.
    """

    data: DataSection
    model: ModelSection = field(default_factory=ModelSection)
    head: HeadSection = field(default_factory=HeadSection)
    optim: OptimSection = field(default_factory=OptimSection)
    augment: Augment = field(default_factory=Augment)
    compatibility: CompatibilitySection = field(default_factory=CompatibilitySection)
    run: RunSection = field(default_factory=RunSection)
    seed: int = 0

    def __post_init__(self) -> None:
        tie, epochs = self.compatibility, self.optim.epochs
        _at_least("seed", self.seed, 0)
        if tie.method == "none":
            return
        if tie.warmup_epochs is not None and tie.warmup_epochs >= epochs:
            raise InputError(
                f"compatibility.warmup_epochs={tie.warmup_epochs} leaves nothing of optim.epochs={epochs}: "
                "the compatibility term would never act"
            )
        if tie.refresh_epochs is None or (tie.method != "unibct-refined" and not tie.refresh_epochs):
            return
        if tie.method != "unibct-refined":
            raise InputError(f"compatibility.refresh_epochs belongs to unibct-refined, not to method={tie.method}")
        warmup = self.resolved_warmup
        outside = [epoch for epoch in tie.refresh_epochs if not warmup <= epoch < epochs]
        if outside or not tie.refresh_epochs:
            given = outside[0] if outside else "none"
            raise InputError(
                f"compatibility.refresh_epochs should lie from the end of the warm-up, {warmup}, to the last epoch, "
                f"{epochs - 1}, got {given}"
            )

    @property
    def resolved_warmup(self) -> int:
        """Epochs without the compatibility term."""
        given = self.compatibility.warmup_epochs
        return round(10 / 35 * self.optim.epochs) if given is None else given

    def resolved(self) -> Recipe:
        """The recipe with every value that follows from another one written out."""
        epochs = self.optim.epochs
        milestones = self.optim.milestones
        if milestones is None:
            shares = (20, 26, 32) if self.optim.schedule == "step" else ()
            milestones = tuple(round(share / 35 * epochs) for share in shares)
        refresh = self.compatibility.refresh_epochs
        if refresh is None:
            last = min(max(self.resolved_warmup, round(20 / 35 * epochs)), epochs - 1)
            refined = self.compatibility.method == "unibct-refined"
            refresh = tuple(sorted({self.resolved_warmup, last})) if refined else ()
        return replace(
            self,
            optim=replace(self.optim, milestones=milestones),
            compatibility=replace(self.compatibility, warmup_epochs=self.resolved_warmup, refresh_epochs=refresh),
        )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise InputError(f"{name} should be at least {least}, got {value}")


def _above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} should be above 0, got {value}")
