"""What a build costs on this machine, from a few real steps of its trainings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samespace.data import ImageSource, steps_per_epoch, subset
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed_rows
from samespace.project.old import OldModel
from samespace.train import parse_recipe, run

_STEPS = 16
_LONG_SECONDS = 4.0
_ROWS = 512
# the rough cost of a pair of query and item in a check, its bootstrap included, and of a check of nothing
_PAIR_SECONDS, _CHECK_SECONDS = 4e-7, 3.0


@dataclass(frozen=True)
class Pace:
    """How fast this machine is at a project.

    Attributes:
        plain: seconds for a training step without an old model.
        compatible: for one beside an old model.
        embed: seconds for an image to be embedded.
        model_bytes: of the network's weights.
    """

    plain: float
    compatible: float
    embed: float
    model_bytes: int

    def training(self, images: int, epochs: int, batch_size: int, *, compatible: bool = False) -> float:
        """Seconds of a training."""
        return steps_per_epoch(images, batch_size) * epochs * (self.compatible if compatible else self.plain)

    def check(self, queries: int, gallery: int) -> float:
        """Seconds of a check with new and paragon vectors."""
        return _CHECK_SECONDS + queries * gallery * _PAIR_SECONDS


def measure(made: Mapping[str, Any], source: ImageSource, old: OldModel | None, *, live: bool) -> Pace:
    """Time real steps of a training without compatibility, and of one with it, on some of the images.

    Args:
        made: the recipe of the paragon.
        source: its training images.
        old: the old model, or None for one like the new, without training.
        live: whether the compatible training runs the old model in each step.

    Raises:
        InputError: the recipe cannot be carried out, for instance because the network cannot take the images.
    """
    batch = min(int(made["optim"]["batch_size"]), len(source))
    with tempfile.TemporaryDirectory(prefix="samespace-") as place:
        folder = Path(place)
        plain = _seconds_per_step(made, source, batch, folder / "plain", 1)
        steps = _STEPS if plain * _STEPS < _LONG_SECONDS else 2
        if steps > 1:
            plain = _seconds_per_step(made, source, batch, folder / "plain", steps)
        embedder = Embedder.load(folder / f"plain-{steps}" / "model")
        began = time.monotonic()
        embed_rows(embedder, source, stop=min(len(source), _ROWS))
        embed = (time.monotonic() - began) / min(len(source), _ROWS)
        size = sum(tensor.numel() * tensor.element_size() for tensor in embedder.state_dict().values())
        if not live:
            return Pace(plain, plain * 1.1, embed, size)
        new_dim = int(made["model"]["embedding_dim"])
        if old is None:
            _untrained(made, source).save(folder / "old")
        dim, beside = (new_dim, folder / "old") if old is None else (old.dim, old.place)
        # the term acts from the first step of so short a training
        term = {"method": "auto", "old_model": str(beside), "prefix": new_dim > dim}
        both = {**made, "compatibility": {**term, "warmup_epochs": 0}}
        return Pace(plain, _seconds_per_step(both, source, batch, folder / "both", steps), embed, size)


def _seconds_per_step(made: Mapping[str, Any], source: ImageSource, batch: int, out: Path, steps: int) -> float:
    rows = _rows(source, steps * batch)
    short = {**made, "optim": {**made["optim"], "epochs": 1, "batch_size": batch}}
    trained = run(parse_recipe(short), out.with_name(f"{out.name}-{steps}"), source=subset(source, rows), quiet=True)
    return trained.seconds / steps_per_epoch(len(rows), batch)


def _rows(source: ImageSource, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Some rows, in order, of two classes at least."""
    random = np.random.default_rng(0)
    rows = np.sort(random.permutation(len(source))[:count])
    if len(np.unique(source.labels[rows])) < 2:
        rows = np.sort(np.unique(source.labels, return_index=True)[1][: max(count, 2)])
    return rows.astype(np.int64)


def _untrained(made: Mapping[str, Any], source: ImageSource) -> Embedder:
    model = made["model"]
    channels, *own = source.image_shape
    return Embedder(
        EmbedderConfig(
            str(model["backbone"]), int(model["embedding_dim"]),
            Preprocessing(model.get("image_size") or tuple(own), channels), batch_norm=True,
        ),
        name="old",
    )  # fmt: skip
