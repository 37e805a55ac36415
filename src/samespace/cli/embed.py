"""`samespace embed`."""

from __future__ import annotations

from pathlib import Path

import click

from samespace.cli.output import PATH, device_option, json_option, quiet_option, say, write_result
from samespace.cli.sources import show_left_out


@click.command()
@click.argument("model", type=PATH)
@click.argument("source")
@click.option("--out", required=True, type=PATH, help="Folder of the vector set to write.")
@click.option("--allocation", type=PATH, help="A file made by 'samespace data allocate'.")
@click.option(
    "--part",
    "part_name",
    type=click.Choice(["old", "new", "queries", "gallery"]),
    help="The part of the allocation to embed.",
)
@click.option(
    "--broken",
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="What to do with images that cannot be read.",
)
@click.option("--views", type=click.IntRange(1), help="Embed this many fixed random changes of each image instead.")
@click.option(
    "--recipe",
    type=PATH,
    help="With --views: the recipe of the training to come, whose augment section says which changes.",
)
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True)
@device_option
@quiet_option
@json_option
def embed(
    model: Path,
    source: str,
    out: Path,
    allocation: Path | None,
    part_name: str | None,
    broken: str,
    views: int | None,
    recipe: Path | None,
    batch_size: int,
    device: str,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Turn the images of SOURCE into vectors of MODEL's space.

    MODEL is a folder made by 'samespace train', an .onnx file of 'samespace export', timm:NAME, open_clip:NAME, or
    package.module:function, a function of yours that returns an encoder of images.

    SOURCE is an image folder (root/class/image), an .npz with images and
    labels, glyphs:classes=300,images=40, or a data set in its own format: rec:DIR, list:FILE, market1501:DIR,
    msmt17:DIR, gldv2:DIR, hf:NAME. Images are taken as they are: nothing random happens here. After a kill, the same
    command carries on.

    With --views K, OUT receives vectors of K augmented views of each image, for a training that has no old model at
    hand (compatibility.old_views).
    """
    from samespace.data import Allocation, FixedViews, open_for_model, part
    from samespace.data.describe import left_out_of
    from samespace.encoders import open_image_model
    from samespace.models import resolve_model
    from samespace.models.extract import embed_to
    from samespace.models.provenance import save_provenance
    from samespace.progress import bar, silent_bar
    from samespace.train import embed_views, load_recipe

    if (allocation is None) != (part_name is None):
        raise click.UsageError("--allocation and --part go together.")
    if (views is None) != (recipe is None):
        raise click.UsageError("--views and --recipe go together.")
    fixed = None
    if views is not None and recipe is not None:
        parsed = load_recipe(recipe)
        fixed = FixedViews(parsed.augment, views, parsed.seed)
    embedder = open_image_model(model, device=device)
    prepared = embedder.preprocessing
    images = open_for_model(
        source,
        prepared.image_size if prepared else None,
        channels=prepared.channels if prepared else None,
        broken="skip" if broken == "skip" else "refuse",
    )
    left_out = left_out_of(images)
    if allocation is not None and part_name is not None:
        images = part(images, Allocation.load(allocation, images), part_name)  # type: ignore[arg-type]
    size = images.image_shape[1:]
    progress = silent_bar if quiet else bar
    if fixed is not None:
        embed_views(embedder, images, fixed, out, batch_size=batch_size, progress=progress)
    else:
        with progress(f"embedding {images.name}", len(images)) as advance:
            embed_to(embedder, images, out, batch_size=batch_size, advance=advance)
        save_provenance(resolve_model(model), out)
    count = len(images) * (views or 1)
    space = embedder.space
    write_result({"vectors": str(out), "count": count, "space": space.to_dict(), **left_out.to_dict()}, json_to)
    if json_to != "-":
        say(f"{out}: {count:,} vectors of space {space}")
        show_left_out(left_out, size=size)
