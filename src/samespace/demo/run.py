"""The main job on made-up characters: an old model, its two successors, the proof, and a live gallery upgraded."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from samespace.data import ImageSource, allocate, holdout, open_source, part
from samespace.data.lookup import image_lookup
from samespace.demo.gallery import upgrade_gallery
from samespace.demo.upgrade import GalleryUpgrade
from samespace.evaluate import Certificate
from samespace.files import write_text
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.names import as_argument
from samespace.progress import clock
from samespace.project.work import check_pair
from samespace.report import write_comparison, write_report
from samespace.train import load_recipe, run
from samespace.vectors import VectorSet

METRICS = ("rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1")


@dataclass(frozen=True)
class DemoSettings:
    """How much the demo does: with how many characters, images of each, epochs and bootstrap resamples.

    `held_out` is the share of the characters kept for the check: no model is trained on them.
    """

    classes: int = 1000
    images: int = 16
    held_out: float = 0.3
    difficulty: float = 0.5
    backbone: str = "convnet16"
    embedding_dim: int = 64
    epochs: int = 12
    replicates: int = 2000
    seed: int = 0

    @property
    def source(self) -> str:
        """The characters, as `open_source` knows them."""
        return f"glyphs:classes={self.classes},images={self.images},seed={self.seed},difficulty={self.difficulty}"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found: certificates of both successors against the old model, their pages, a gallery's upgrade.

    `report` is the page of the compatible successor, `comparison` the one with both.
    """

    certificates: dict[str, Certificate]
    report: Path
    comparison: Path
    upgrade: GalleryUpgrade
    seconds: float
    peak_bytes: int


def run_demo(
    out: str | Path, settings: DemoSettings | None = None, *, say: Callable[[str], None] = print, quiet: bool = False
) -> DemoResult:
    """Train three models on glyphs, check both successors against the old one, upgrade a live gallery.

    Everything lands in `out`: the recipes, the allocation, the models, the vectors, the certificates, the gallery. A
    second call with the same settings carries on, or only repeats the checks and makes the gallery anew.
    """
    settings = settings or DemoSettings()
    out = Path(out)
    began = time.monotonic()
    source = open_source(settings.source)
    kept = holdout(source, fraction=settings.held_out, seed=settings.seed, open_set=0.2)
    allocation = allocate(source, "extended-class", seed=settings.seed, holdout=kept)
    allocation.save(out / "allocation.json", source)
    say(
        f"{len(source):,} images of {settings.classes} made-up characters, "
        f"{settings.held_out:.0%} of them held out for the check"
    )

    write_recipes(out, settings)
    models = {}
    for step, (name, what) in enumerate(_MODELS.items(), start=1):
        say(f"{step}/5 {what}")
        recipe = load_recipe(out / "recipes" / f"{name}.yaml")
        models[name] = Embedder.load(run(recipe, out / name, quiet=quiet).model)

    say("4/5 checking both successors on the held-out characters")
    probes, gallery = part(source, allocation, "queries"), part(source, allocation, "gallery")
    vectors = {name: _embed(model, name, probes, gallery, out) for name, model in models.items()}
    certificates = {
        "independent": _check("independent", vectors, settings),
        "compatible (matched)": _check("compatible", vectors, settings),
    }
    for name, certificate in zip(("independent", "compatible"), certificates.values(), strict=True):
        certificate.save(out / "certificates" / f"{name}.json")
    report = write_report(
        certificates["compatible (matched)"],
        out / "report",
        images=image_lookup(source),
        title="samespace demo: the compatible successor",
    )
    comparison = write_comparison(certificates, out / "comparison", title="samespace demo: both successors")
    say("5/5 a live gallery: queries switch to the compatible successor, its items are re-embedded step by step")
    upgrade = upgrade_gallery(
        out, settings.source, source, vectors, replicates=settings.replicates, seed=settings.seed, say=say
    )
    return DemoResult(certificates, report, comparison, upgrade, time.monotonic() - began, peak_memory())


_MODELS = {
    "old": "old model, on 30 % of the characters",
    "independent": "its successor on all characters, trained without a thought for the old one",
    "compatible": "its successor on all characters, trained to match the old one (method matched)",
}


def write_recipes(out: Path, settings: DemoSettings) -> None:
    """Write the three recipes into `out/recipes`, ready for `samespace train`."""
    for name in _MODELS:
        recipe: dict[str, Any] = {
            "data": {
                "source": settings.source,
                "allocation": str(out / "allocation.json"),
                "part": "old" if name == "old" else "new",
            },
            "model": {"backbone": settings.backbone, "embedding_dim": settings.embedding_dim, "name": name},
            "head": {"margin": "arcface", "scale": 16.0, "margin_value": 0.2},
            "optim": {
                "epochs": settings.epochs,
                "batch_size": 128,
                "lr": 0.1,
                "weight_decay": 5e-4,
                "schedule": "cosine",
            },
            "augment": {"rotate": 8.0, "translate": 0.06, "scale": 0.1},
            # the same seed for all three would start them from the same weights, half way to compatible
            "seed": 10 * settings.seed + list(_MODELS).index(name),
        }
        if name == "compatible":
            recipe["compatibility"] = {"method": "matched", "old_model": str(out / "old" / "model")}
        write_text(out / "recipes" / f"{name}.yaml", yaml.safe_dump(recipe, sort_keys=False))


def _embed(
    model: Embedder, name: str, probes: ImageSource, gallery: ImageSource, out: Path
) -> tuple[VectorSet, VectorSet]:
    folder = out / "vectors" / name
    return embed_to(model, probes, folder / "queries"), embed_to(model, gallery, folder / "gallery")


def _check(name: str, vectors: dict[str, tuple[VectorSet, VectorSet]], settings: DemoSettings) -> Certificate:
    return check_pair(
        vectors["old"],
        vectors[name],
        vectors["independent"],
        METRICS,
        replicates=settings.replicates,
        seed=settings.seed,
    )


def peak_memory() -> int:
    """Most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def summary(result: DemoResult) -> str:
    """The last words of the demo: where to look and what to do next."""
    folder = as_argument(result.upgrade.folder)
    again = " --accept-uncertified" if result.upgrade.permission == "accepted" else ""
    lines = [
        "",
        f"work: {clock(result.seconds)}, peak memory {result.peak_bytes / 2**30:.2f} GiB",
        f"report:     {result.report}",
        f"comparison: {result.comparison}",
        *([f"upgrade:    {result.upgrade.page}"] if result.upgrade.page else []),
        "",
        "The gallery stays for you to try:",
        f"  samespace gallery status {folder}",
        *(
            [f"  samespace gallery rollback {folder}", f"  samespace gallery upgrade {folder}{again}"]
            if result.upgrade.permission != "refused"
            else []
        ),
        "",
        "With your own images: samespace data describe IMAGES, then docs/tutorial.md",
        "",
        "See the gallery on a page, search it by an image, roll it back, at http://127.0.0.1:8000:",
        f"  samespace serve {quote(f'demo={result.upgrade.folder}')}",
    ]
    return "\n".join(lines)
