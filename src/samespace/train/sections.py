"""The sections of a recipe, each with the range of its values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from samespace.data.decoding.fit import CropMode, Fit, Interpolation, ResizeMode
from samespace.data.decoding.pixels import ImageSize
from samespace.errors import InputError, suggest
from samespace.losses import MARGINS, Margin
from samespace.losses.kernels import KERNELS, KernelChoice
from samespace.models import Preprocessing
from samespace.scoring.metric_names import parse_all


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
        at_least("data.workers", self.workers, 1)


@dataclass(frozen=True)
class ModelSection:
    """The new model.

    Attributes:
        backbone: convnetN, with N channels in its first layer, such as convnet16, 32 or 64; iresnet18|34|50|100|152;
            timm:NAME; package.module:callable.
        embedding_dim: dimensions of the vectors.
        batch_norm: a batch norm after the projection.
        relu: a ReLU after the projection.
        image_size: side of the images in pixels, or [height, width]; others are resized when read; null takes theirs.
        mean: subtracted from pixels in [0, 1]; one number, or a list of one for each channel.
        std: divides pixels in [0, 1]; likewise.
        resize_mode: exact whatever the proportions; shorter keeps them and covers the size (with crop_mode centre);
            letterbox keeps them and pads the rest.
        crop_mode: centre cuts the size out of the middle after resizing.
        crop_share: with centre, the share of the resized side that is kept, 0.875 for 224 out of 256.
        interpolation: of resizing, bilinear, bicubic or nearest.
        antialias: average over all pixels when making an image smaller.
        fill: grey value in [0, 1] that letterbox pads with.
        init: file of weights to start from: .safetensors, a torch or timm state dict, or a model folder; layers that do
            not fit are named and start anew. null starts from the seed.
        name: what people call the model; null takes the output folder's name.
        freeze: modules and weights that stay as they are, by name or pattern, such as [backbone] or
            ["backbone.layer1.*"]; batch norms among them keep their statistics.
    """

    backbone: str = "convnet32"
    embedding_dim: int = 128
    batch_norm: bool = False
    relu: bool = False
    image_size: int | tuple[int, int] | None = None
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    resize_mode: ResizeMode = "exact"
    crop_mode: CropMode = "none"
    crop_share: float = 1.0
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    fill: float = 0.0
    init: str | None = None
    name: str | None = None
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.image_size, int):
            at_least("model.image_size", self.image_size, 1)
        elif self.image_size is not None and (len(self.image_size) != 2 or min(self.image_size) < 1):
            raise InputError(f"model.image_size should be a side or [height, width], got {list(self.image_size)}")
        self.fit(8, 8)

    def fit(self, height: int, width: int) -> Fit:
        """How images are brought to a size; `image_size` goes before the size given."""
        if self.image_size is not None:
            pair = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,) * 2
            height, width = pair
        try:
            return Fit(
                height, width, self.resize_mode, self.crop_mode, self.crop_share, self.interpolation, self.antialias,
                self.fill,
            )  # fmt: skip
        except InputError as error:
            raise InputError(f"model.{error}") from None

    @property
    def sees(self) -> ImageSize | None:
        """The size that a source of images is opened with."""
        fit = self.fit(0, 0)
        if self.image_size is None:
            if not fit.plain:
                raise InputError("model.resize_mode and what goes with it need model.image_size: say the size")
            return None
        return fit

    def preprocessing(self, image_shape: tuple[int, int, int]) -> Preprocessing:
        """What happens to images of (channels, height, width) before the network sees them."""
        channels, height, width = image_shape
        fit = self.fit(height, width)
        rest = asdict(fit)
        size = (rest.pop("height"), rest.pop("width"))
        return Preprocessing(size, channels, self.mean, self.std, **rest)


@dataclass(frozen=True)
class HeadSection:
    """The new model's own classification loss.

    Attributes:
        margin: which margin softmax.
        scale: of the cosines; unused by plain softmax.
        margin_value: radians for arcface, cosine for cosface; null takes the margin's default.
        sample: share of the classes that a step compares with, such as 0.1: those of the batch and others drawn anew
            (PartialFC); null takes all. It pays from hundreds of thousands of classes on.
        class_parallel: under torchrun, each process holds its part of the classes in place of all of them.
        kernel: how it, and an influence loss, are computed where classes are many. float32; bf16 has products in bf16,
            summed in float32; triton so too with kernels of its own, and needs `samespace[gpu]`. auto is bf16 on a GPU
            that trains in bf16 and float32 otherwise, as on every CPU.
    """

    margin: Margin = "arcface"
    scale: float = 64.0
    margin_value: float | None = None
    sample: float | None = None
    class_parallel: bool = False
    kernel: KernelChoice = "auto"

    def __post_init__(self) -> None:
        one_of("head.margin", self.margin, MARGINS)
        one_of("head.kernel", self.kernel, KERNELS)
        if self.sample is not None and not 0 < self.sample <= 1:
            raise InputError(f"head.sample is a share of the classes above 0 and at most 1, got {self.sample}")
        if MARGINS[self.margin].lower is None and self.margin_value is not None:
            raise InputError(f"head.margin={self.margin} has no margin: remove head.margin_value")
        above_zero("head.scale", self.scale)


@dataclass(frozen=True)
class EarlierSection:
    """An earlier old model whose gallery still serves.

    Attributes:
        old_model: its folder, or another encoder of images by its name.
        old_vectors: its vectors of the training images, where the model itself is not at hand.
        old_views: its vectors of fixed views, beside old_vectors; of the same views as all others that are given.
        weight: how much it counts beside the old model of compatibility, which counts 1.
    """

    old_model: str | None = None
    old_vectors: str | None = None
    old_views: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        above_zero("weight", self.weight)


@dataclass(frozen=True)
class CompatibilitySection:
    """How the new model is kept comparable with the old one.

    Attributes:
        method: which compatibility term, a name in `train.compatibility.METHODS`; none trains an independent model;
            auto takes matched where the old model or its vectors are given, bct where only its classifier is, and none
            where nothing is.
        old_model: the old model's folder, or another encoder of images by its name; its vectors of the training images
            are made once and kept.
        old_vectors: the old model's vectors of the training images, where the model itself is not at hand.
        old_views: old vectors of fixed views, made by `samespace embed --views`, beside old_vectors.
        old_classifier: the old classifier, where it is not in `old_model`.
        earlier: earlier old models whose galleries still serve, to which the new one is tied as well (matched).
        views: what matching compares with: `live` runs the old model on each augmented image; a number K makes its
            vectors of K fixed views of every image first; `stored` takes its vectors of the plain images. null means
            live with old_model, the given views with old_views, and stored with old_vectors.
        weight: of the compatibility term (λ of BCT Eq. 8, η of UniBCT Eq. 2).
        warmup_epochs: first epochs without the term; null takes none for matched and its terms, otherwise
            UniBCT's 10 of 35 in proportion.
        refresh_epochs: epochs at whose start refined prototypes are built (unibct-refined); null takes UniBCT's 10 and
            20 of 35, in proportion.
        margin: of the influence loss; null takes the head's (for the bct methods, the old classifier's).
        scale: likewise.
        margin_value: likewise.
        temperature: of contrastive, matched and memory-contrast (0.05 by default), bct-kd and lwf (32 by default).
        beta: share of the class centre in the target of matching (0.2 by default).
        far: false accept rate that the tail aims at (1e-3 by default).
        mixed: share of a batch that is also matched mixed with its neighbour (none by default; live views only).
        memory: stored old vectors drawn for each step (4,096 by default).
        matching_weight: of matching within matched; null takes 10 at a head of scale 32, and in proportion.
        contrast_weight: of the contrast within matched (0.5 by default).
        tail_weight: of the tail within matched (10 by default).
        drop: share of samples that unibct-trimmed leaves out.
        damping: λ of UniBCT Eq. 8 (unibct-refined).
        refine_temperature: τ of UniBCT Eq. 6 (unibct-refined).
        similarity_cap: largest cosine that counts in refinement, against near duplicates (unibct-refined).
        prefix: compare the leading old dimensions of a wider new embedding.
    """

    method: str = "auto"
    old_model: str | None = None
    old_vectors: str | None = None
    old_views: str | None = None
    old_classifier: str | None = None
    earlier: tuple[EarlierSection, ...] = ()
    views: int | Literal["live", "stored"] | None = None
    weight: float = 1.0
    warmup_epochs: int | None = None
    refresh_epochs: tuple[int, ...] | None = None
    margin: Margin | None = None
    scale: float | None = None
    margin_value: float | None = None
    temperature: float | None = None
    beta: float | None = None
    far: float | None = None
    mixed: float | None = None
    memory: int | None = None
    matching_weight: float | None = None
    contrast_weight: float | None = None
    tail_weight: float | None = None
    drop: float = 0.1
    damping: float = 0.9
    refine_temperature: float = 0.05
    similarity_cap: float | None = None
    prefix: bool = False

    def __post_init__(self) -> None:
        if self.margin is not None:
            one_of("compatibility.margin", self.margin, MARGINS)
        if self.method == "none":
            return
        at_least("compatibility.warmup_epochs", self.warmup_epochs or 0, 0)
        above_zero("compatibility.weight", self.weight)
        above_zero("compatibility.refine_temperature", self.refine_temperature)
        for name in ("temperature", "scale"):
            if (value := getattr(self, name)) is not None:
                above_zero(f"compatibility.{name}", value)
        for name in ("damping", "drop", "beta"):
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise InputError(f"compatibility.{name} should be in [0, 1), got {getattr(self, name)}")
        if self.far is not None and not 0 < self.far < 1:
            raise InputError(f"compatibility.far is a false accept rate between 0 and 1, such as 1e-3, got {self.far}")
        if self.mixed is not None and not 0 <= self.mixed <= 1:
            raise InputError(f"compatibility.mixed is a share in [0, 1], got {self.mixed}")
        for name in ("matching_weight", "contrast_weight", "tail_weight"):
            if (value := getattr(self, name)) is not None and not value >= 0:
                raise InputError(f"compatibility.{name} should be at least 0, got {value}")
        at_least("compatibility.memory", 1 if self.memory is None else self.memory, 1)
        if isinstance(self.views, int):
            at_least("compatibility.views", self.views, 1)
        if self.similarity_cap is not None and not -1 < self.similarity_cap <= 1:
            raise InputError(f"compatibility.similarity_cap is a cosine in (-1, 1], got {self.similarity_cap}")


@dataclass(frozen=True)
class ValidationSection:
    """Classes kept out of the training, on which the model is compared with the old one while it trains.

    Attributes:
        classes: share of the classes to keep apart, such as 0.1, or how many; null keeps none.
        every: steps between two measurements; `epoch` measures after each epoch.
        metrics: names as `samespace check` takes them; the first decides for keep_best.
        keep_best: whether the model that was best on these classes is the result, in place of the last one.
        images: at most how many images are measured; the others of these classes are left out.
        seed: of the draw, the same for all trainings that are to share the classes.
        old_model: the old model's folder to compare with, where compatibility names none (a paragon).
        old_vectors: the old model's vectors of these images, likewise.
    """

    classes: float | None = None
    every: int | Literal["epoch"] = "epoch"
    metrics: tuple[str, ...] = ("rank@1", "TAR@FAR=1e-2")
    keep_best: bool = False
    images: int = 2000
    seed: int = 666
    old_model: str | None = None
    old_vectors: str | None = None

    def __post_init__(self) -> None:
        if self.classes is None:
            if self.keep_best or self.old_model or self.old_vectors:
                raise InputError("validation does nothing without validation.classes, such as 0.1: set it")
            return
        if not (0 < self.classes < 1 or (self.classes >= 2 and self.classes == int(self.classes))):
            raise InputError(f"validation.classes is a share below 1 or a whole number from 2, got {self.classes:g}")
        if isinstance(self.every, int):
            at_least("validation.every", self.every, 1)
        at_least("validation.images", self.images, 4)
        at_least("validation.seed", self.seed, 0)
        parse_all(self.metrics)
        if self.old_model and self.old_vectors:
            raise InputError("validation.old_model and validation.old_vectors exclude each other: give one")


@dataclass(frozen=True)
class RunSection:
    """How to run; nothing here changes what is learnt, but for the precision and, by its rounding, `compile`.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        precision: auto is bf16 autocast on a GPU and fp32 on a CPU.
        compile: whether `torch.compile` makes kernels of the network first: none, default, or reduce-overhead, which
            also replays them as CUDA graphs.
        checkpoint_minutes: time between checkpoints inside an epoch; one is always written at its end.
        loggers: where metrics go besides `metrics.jsonl`.
    """

    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["none", "default", "reduce-overhead"] = "none"
    checkpoint_minutes: float = 5.0
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()


def one_of(name: str, value: str, legal: Iterable[str], *, meant: str | None = None) -> None:
    """Refuse a value that is not legal, with the one that was perhaps meant: `meant` where that is known."""
    legal = list(legal)
    if value not in legal:
        raise InputError(f"{name} is {value!r}; {suggest(value, legal, meant=meant)}")


def at_least(name: str, value: int, least: int) -> None:
    """Refuse a value below `least`."""
    if value < least:
        raise InputError(f"{name} should be at least {least}, got {value}")


def above_zero(name: str, value: float) -> None:
    """Refuse a value that is not above zero."""
    if not value > 0:
        raise InputError(f"{name} should be above 0, got {value}")
