"""`samespace data describe --deep`: copies of images, and labels that a model doubts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samespace.progress import Bar, bar, silent_bar

if TYPE_CHECKING:
    from samespace.data import ImageSource
    from samespace.data.deep import Copies, Doubts

Shown = Callable[[str, int], AbstractContextManager[Bar]]

_NAMED = 5


def look_deep(
    source: str, images: ImageSource, model: Path | None, broken: str, device: str, quiet: bool
) -> tuple[dict[str, Any], str]:
    """What `--deep` adds to the description of a source, opened as `images`: as JSON values, and as text."""
    from samespace.data.deep import find_copies, look

    show: Shown = silent_bar if quiet else bar
    with show(f"reading {images.name}", len(images)) as advance:
        looked = look(images, advance=advance)
    with show("comparing pictures", len(images)) as advance:
        copies = find_copies(looked, images.labels, advance=advance)
    values, lines = _copies(copies, images)
    if model is None:
        return values, "\n".join([*lines, "labels: not looked at; --model MODEL does"])
    labelled, doubts = _doubts(source, model, broken, device, show)
    more, told = _labels(doubts, labelled, str(model))
    return values | more, "\n".join([*lines, *told])


def _doubts(source: str, model: Path, broken: str, device: str, show: Shown) -> tuple[ImageSource, Doubts]:
    from samespace.data import open_for_model
    from samespace.data.deep import doubt_labels
    from samespace.encoders import open_image_model
    from samespace.models.extract import embed_rows

    embedder = open_image_model(model, device=device)
    prepared = embedder.preprocessing
    images = open_for_model(
        source,
        prepared.image_size if prepared else None,
        channels=prepared.channels if prepared else None,
        broken="skip" if broken == "skip" else "refuse",
    )
    with show(f"embedding {images.name}", len(images)) as advance:
        vectors = embed_rows(embedder, images, advance=advance)
    with show("comparing vectors", len(images)) as advance:
        return images, doubt_labels(vectors, images.labels, advance=advance)


def _copies(copies: Copies, images: ImageSource) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    lines: list[str] = []
    kinds = {
        "copies_across_classes": (copies.across, "the same pixels as an image of another class"),
        "near_copies_across_classes": (copies.near, "nearly the same picture as one of another class"),
        "copies_within_classes": (copies.within, "the same pixels as an earlier image of their class"),
    }
    for key, (pairs, words) in kinds.items():
        values[key] = [
            {"id": str(images.ids[row]), "of": str(images.ids[other]), "likeness": round(likeness, 4)}
            for row, other, likeness in pairs
        ]
        lines += _told(
            words,
            pairs,
            (
                f"{images.ids[row]} = {images.ids[other]}" + (f" ({likeness:.3f})" if likeness < 1 else "")
                for row, other, likeness in pairs
            ),
        )
    return values, lines


def _labels(doubts: Doubts, images: ImageSource, model: str) -> tuple[dict[str, Any], list[str]]:
    classes, ids = images.classes, images.ids
    misplaced = [
        {
            "id": str(ids[one.row]),
            "class": classes[images.labels[one.row]],
            "among": classes[one.label],
            "nearest": str(ids[one.nearest]),
        }
        for one in doubts.misplaced
    ]
    outliers = [
        {
            "id": str(ids[one.row]),
            "class": classes[images.labels[one.row]],
            "distance": round(one.distance, 4),
            "usual": round(one.usual, 4),
        }
        for one in doubts.outliers
    ]
    asked = f"all {doubts.neighbours} nearest by {model} are of one other class"
    lines = [
        *_told(asked, misplaced, (f"{one['id']} ({one['class']}) among {one['among']}" for one in misplaced)),
        *_told(
            f"outliers of their class by {model}",
            outliers,
            (f"{one['id']} ({one['class']}): {one['distance']:.2f}, usually {one['usual']:.2f}" for one in outliers),
        ),
    ]
    return {"model": model, "neighbours": doubts.neighbours, "misplaced": misplaced, "outliers": outliers}, lines


def _told(words: str, found: Sequence[Any], named: Iterable[str]) -> list[str]:
    """How many images there are of a kind, and the first few by name."""
    lines = [f"{words}: {len(found):,}"]
    lines += [f"  {text}" for text, _ in zip(named, range(_NAMED), strict=False)]
    if len(found) > _NAMED:
        lines.append(f"  and {len(found) - _NAMED:,} more; --json - names all")
    return lines
