"""The recipe: everything that decides what a training gives, as one strict YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from samespace.data import Augment
from samespace.errors import InputError
from samespace.train.compatibility import METHODS, check_section, check_validation, chosen
from samespace.train.optim import OptimSection
from samespace.train.sections import (
    CompatibilitySection,
    DataSection,
    HeadSection,
    ModelSection,
    RunSection,
    ValidationSection,
    at_least,
)


@dataclass(frozen=True)
class Recipe:
    """A whole training.

    Attributes:
        data: which images.
        model: the network.
        head: its classification loss.
        optim: the optimiser and its schedule.
        augment: random changes to training images, in the units of `samespace.data.Augment`.
        compatibility: how the new model is kept comparable with the old one.
        validation: classes kept out, to measure on while training.
        run: device, precision, logging.
        seed: of weights, order and augmentation.
    """

    data: DataSection
    model: ModelSection = field(default_factory=ModelSection)
    head: HeadSection = field(default_factory=HeadSection)
    optim: OptimSection = field(default_factory=OptimSection)
    augment: Augment = field(default_factory=Augment)
    compatibility: CompatibilitySection = field(default_factory=CompatibilitySection)
    validation: ValidationSection = field(default_factory=ValidationSection)
    run: RunSection = field(default_factory=RunSection)
    seed: int = 0

    def __post_init__(self) -> None:
        section, epochs = chosen(self.compatibility), self.optim.epochs
        check_section(section)
        at_least("seed", self.seed, 0)
        if isinstance(section.views, int) and not self.augment.active:
            raise InputError(
                f"compatibility.views={section.views} needs random changes of the images, and augment has none: "
                "set some, or views: stored"
            )
        check_validation(self.validation, section)
        if self.head.class_parallel and (self.validation.keep_best or self.optim.clip_norm is not None):
            which = "validation.keep_best" if self.validation.keep_best else "optim.clip_norm"
            raise InputError(f"{which} is not offered with head.class_parallel: leave one of them out")
        if section.method == "none":
            return
        if section.warmup_epochs is not None and section.warmup_epochs >= epochs:
            raise InputError(
                f"compatibility.warmup_epochs={section.warmup_epochs} leaves nothing of optim.epochs={epochs}: "
                "the compatibility term would never act"
            )
        if not METHODS[section.method].refreshes or section.refresh_epochs is None:
            return
        warmup = self.resolved_warmup
        outside = [epoch for epoch in section.refresh_epochs if not warmup <= epoch < epochs]
        if outside or not section.refresh_epochs:
            given = outside[0] if outside else "none"
            raise InputError(
                f"compatibility.refresh_epochs should lie from the end of the warm-up, {warmup}, to the last epoch, "
                f"{epochs - 1}, got {given}"
            )

    @property
    def resolved_warmup(self) -> int:
        """Epochs without the compatibility term."""
        given = self.compatibility.warmup_epochs
        share = METHODS[chosen(self.compatibility).method].warmup
        return round(share * self.optim.epochs) if given is None else given

    def resolved(self) -> Recipe:
        """The recipe with every value that follows from another one written out."""
        epochs = self.optim.epochs
        milestones = self.optim.milestones
        if milestones is None:
            shares = (20, 26, 32) if self.optim.schedule == "step" else ()
            milestones = tuple(round(share / 35 * epochs) for share in shares)
        section = chosen(self.compatibility)
        refresh = section.refresh_epochs
        if refresh is None:
            last = min(max(self.resolved_warmup, round(20 / 35 * epochs)), epochs - 1)
            refreshes = METHODS[section.method].refreshes
            refresh = tuple(sorted({self.resolved_warmup, last})) if refreshes else ()
        return replace(
            self,
            optim=replace(self.optim, milestones=milestones),
            compatibility=replace(section, warmup_epochs=self.resolved_warmup, refresh_epochs=refresh),
        )
