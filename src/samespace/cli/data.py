"""`samespace data`: look at a source of images, split it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from samespace.cli.output import (
    NEW_FILE,
    PATH,
    device_option,
    force_option,
    json_option,
    quiet_option,
    require_new,
    say,
    write_result,
)
from samespace.cli.sources import open_at, show_left_out
from samespace.errors import InputError, counted
from samespace.names import told_apart
from samespace.progress import working

_KINDS = ("extended-data", "open-data", "extended-class", "open-class", "identical-data")


_SCAN_PIXELS = 32


@click.group()
def data() -> None:
    """Describe a source of images, or write an allocation."""


@data.command()
@click.argument("source")
@click.option(
    "--broken",
    type=click.Choice(["refuse", "skip"]),
    default="skip",
    show_default=True,
    help="Stop at an image that cannot be read, or name and count them.",
)
@click.option("--deep", is_flag=True, help="Also look for copies of images; with --model, for doubtful labels too.")
@click.option("--model", type=PATH, help="With --deep: a model folder, whose vectors tell which labels to doubt.")
@device_option
@quiet_option
@json_option
def describe(
    source: str, broken: str, deep: bool, model: Path | None, device: str, quiet: bool, json_to: str | None
) -> None:
    """Count the images and classes of SOURCE, name what cannot be read and count what is passed over or changed.

    SOURCE is an image folder (root/class/image), an .npz with images and labels, glyphs:classes=300,images=40, or
    a data set in its own format: rec:DIR, list:FILE, market1501:DIR, msmt17:DIR, gldv2:DIR, hf:NAME.

    --deep reads every image: which hold the same pixels as another one, of their own class or of another, and which
    are nearly the same picture as one of another class. With --model it also names images all of whose nearest
    neighbours belong to one other class, and outliers of their class.
    """
    from samespace.cli.deep import look_deep
    from samespace.data import describe as run_describe
    from samespace.data import holds_encoded
    from samespace.data.describe import left_out_of

    if model is not None and not deep:
        raise click.UsageError("--model goes with --deep.")
    with working("looking at images", quiet=quiet):
        images = open_at(source, _SCAN_PIXELS, broken)
        found = run_describe(images)
    second, told = look_deep(source, images, model, broken, device, quiet) if deep else (None, "")
    write_result(found.to_dict() | ({} if second is None else {"deep": second}), json_to)
    if json_to == "-":
        return
    say(f"{found.name}: {counted(found.images, 'image')} of {counted(found.classes, 'class', 'classes')}")
    say(
        f"images of a class: {found.smallest_class:,} to {found.largest_class:,}, median {found.median_class:g}; "
        f"classes of a single image: {found.one_image_classes:,}"
    )
    if not holds_encoded(source):
        say(f"channels, height, width: {', '.join(map(str, found.image_shape))}")
    if found.sizes is not None:
        few, many = found.sizes.smallest, found.sizes.largest
        span = "" if few == many else f" to {many[1]}x{many[0]}"
        say(f"width x height: {few[1]}x{few[0]}{span} pixels, {found.sizes.different:,} different")
    show_left_out(left_out_of(images))
    if found.look_alikes:
        alike = told_apart(*found.look_alikes[0])
        say(f"classes whose names look alike and are kept apart: {len(found.look_alikes):,}, such as {alike}")
    if told:
        say(told)
    for note in found.notes:
        say(note)
    say(f"fingerprint: {found.fingerprint[:12]}")


@data.command()
@click.argument("source")
@click.option("--kind", required=True, type=click.Choice(_KINDS), help="How old and new training sets share images.")
@click.option("--out", required=True, type=NEW_FILE, help="The allocation file to write (JSON).")
@click.option("--fraction", type=float, default=0.3, show_default=True, help="Share that the old model gets.")
@click.option(
    "--held-out", type=float, default=0.2, show_default=True, help="Share of classes kept for the check; 0 for none."
)
@click.option(
    "--open-set",
    type=float,
    default=0.0,
    show_default=True,
    help="Share of the held-out classes that are queries only, for TPIR.",
)
@click.option("--seed", type=click.IntRange(0), default=666, show_default=True)
@click.option("--broken", type=click.Choice(["refuse", "skip"]), default="refuse", show_default=True)
@force_option
@quiet_option
@json_option
def allocate(
    source: str,
    kind: str,
    out: Path,
    fraction: float,
    held_out: float,
    open_set: float,
    seed: int,
    broken: str,
    force: bool,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Split SOURCE into old and new training sets and a check on classes that neither sees.

    \b
    extended-data    old: 30 % of the images     new: all images
    open-data        old: 30 % of the images     new: the other 70 %
    extended-class   old: 30 % of the classes    new: all classes
    open-class       old: 30 % of the classes    new: the other 70 %
    identical-data   old: 30 % of the images     new: the same ones
    """  # noqa: D301
    from samespace.data import allocate as run_allocate
    from samespace.data import holdout
    from samespace.data.describe import left_out_of

    with working("looking at images", quiet=quiet):
        images = open_at(source, _SCAN_PIXELS, broken)
    kept = holdout(images, fraction=held_out, seed=seed, open_set=open_set) if held_out != 0 else None
    if kept is not None and not len(kept.query_rows):
        raise InputError(f"the held-out classes of {images.name} have one image each, which leaves no queries to check")
    allocation = run_allocate(images, kind, fraction=fraction, seed=seed, holdout=kept)  # type: ignore[arg-type]
    if not (out.is_file() and _held(out) == allocation.to_dict(images)):
        require_new(out, "there", force=force)
    allocation.save(out, images)
    counts = {name: len(allocation.rows(name)) for name in ("old", "new", "queries", "gallery")}
    classes = {"old": len(allocation.old_classes), "new": len(allocation.new_classes)}
    left_out = left_out_of(images)
    told = {"skipped": left_out.to_dict()["skipped"], "passed_over": left_out.to_dict()["passed_over"]}
    write_result({"allocation": str(out), "kind": kind, "images": counts, "classes": classes, **told}, json_to)
    if json_to != "-":
        say(f"{out}: {kind}")
        for name in ("old", "new"):
            say(f"  {name:<8} {counts[name]:>9,} images of {classes[name]:,} classes")
        for name in ("queries", "gallery"):
            say(f"  {name:<8} {counts[name]:>9,} images of held-out classes")
        show_left_out(replace(left_out, changes={}))


def _held(place: Path) -> Any:
    """The JSON of a file; None where it is none."""
    try:
        return json.loads(place.read_bytes())
    except ValueError:
        return None
