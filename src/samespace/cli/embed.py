"""`samespace embed`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from samespace.cli.output import NEW_FOLDER, PATH, device_option, json_option, quiet_option, say, write_result
from samespace.cli.sources import show_left_out
from samespace.errors import InputError, counted

if TYPE_CHECKING:
    from samespace.encoders import Encoder


@click.command()
@click.argument("model", type=PATH)
@click.argument("source")
@click.option("--out", required=True, type=NEW_FOLDER, help="Folder of the vector set to write.")
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
    help="What to do with images that cannot be read, or texts that are empty.",
)
@click.option("--views", type=click.IntRange(1), help="Embed this many fixed random changes of each image instead.")
@click.option(
    "--recipe",
    type=PATH,
    help="With --views: the recipe of the training to come, whose augment section says which changes.",
)
@click.option(
    "--shard",
    metavar="I/N",
    help="Embed only the I-th of N parts of the images, beside other processes or machines; the last one joins all.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "auto"]),
    default="fp32",
    show_default=True,
    help="Arithmetic: bf16 is several times as fast where the device has it, for vectors that agree with fp32 to a "
    "cosine of 0.999; auto takes it there.",
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
    shard: str | None,
    precision: Literal["fp32", "bf16", "auto"],
    batch_size: int,
    device: str,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Turn the images or texts of SOURCE into vectors of MODEL's space.

    MODEL is a folder made by 'samespace train', an .onnx file of 'samespace export', timm:NAME, open_clip:NAME,
    sentence-transformers:PATH, transformers:PATH, or package.module:function, a function of yours that returns an
    encoder.

    For an encoder of images SOURCE is an image folder (root/class/image), an .npz with images and
    labels, glyphs:classes=300,images=40, or a data set in its own format: rec:DIR, list:FILE, market1501:DIR,
    msmt17:DIR, gldv2:DIR, hf:NAME. Images are taken as they are: nothing random happens here. After a kill, the same
    command carries on.

    For an encoder of texts SOURCE is a file of JSON lines, CSV, TSV or Parquet with a text a row: columns id, text and
    label, or as named after the path: items.parquet,text=body,id=sku. A title stands before its text.

    With --shard I/N each of N such commands does its part, at any time and on any machine that sees the folder of OUT,
    which appears once all are done.

    With --views K, OUT receives vectors of K augmented views of each image, for a training that has no old model at
    hand (compatibility.old_views).
    """
    from samespace.data import Allocation, FixedViews, open_for_model, part
    from samespace.data.describe import left_out_of
    from samespace.encoders import as_image_model, open_encoder
    from samespace.models import resolve_model
    from samespace.models.extract import embed_to, first_images
    from samespace.models.extract import left_out as left_out_of_vectors
    from samespace.models.precision import COMPARED, in_precision
    from samespace.models.provenance import save_provenance
    from samespace.models.sharding import Shard, embed_shard
    from samespace.progress import bar, silent_bar, working
    from samespace.train import embed_views, load_recipe

    if (allocation is None) != (part_name is None):
        raise click.UsageError("--allocation and --part go together.")
    if (views is None) != (recipe is None):
        raise click.UsageError("--views and --recipe go together.")
    if shard is not None and views is not None:
        raise click.UsageError("--shard is for plain images, not for --views.")
    if views is not None and precision != "fp32":
        raise click.UsageError("--precision is for plain images, not for --views.")
    if shard is not None and precision == "auto":
        raise click.UsageError("The shards of one set are made in one precision: give --precision fp32 or bf16.")
    part_of_all = None if shard is None else Shard.parse(shard)
    fixed = None
    if views is not None and recipe is not None:
        parsed = load_recipe(recipe)
        fixed = FixedViews(parsed.augment, views, parsed.seed)
    encoder = open_encoder(model, device=device)
    if encoder.modality == "text":
        if allocation is not None or views is not None or shard is not None or precision == "bf16":
            raise click.UsageError(
                "--allocation, --views, --shard and --precision are for images; this encoder takes texts."
            )
        _embed_texts(encoder, source, out, broken == "skip", batch_size, quiet, json_to)
        return
    embedder = as_image_model(encoder, str(model))
    prepared = embedder.preprocessing
    with working(f"opening {source}", quiet=quiet):
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
    embedder, reason = in_precision(embedder, precision, lambda: first_images(images, COMPARED))
    progress = silent_bar if quiet else bar
    if fixed is not None:
        embed_views(embedder, images, fixed, out, batch_size=batch_size, progress=progress)
    elif part_of_all is not None:
        mine, there = part_of_all.rows(len(images)), out.exists()
        with (silent_bar if there else progress)(f"embedding shard {shard} of {images.name}", len(mine)) as advance:
            missing = embed_shard(embedder, images, out, part_of_all, batch_size=batch_size, advance=advance)
        if missing:
            if write_result({"shard": shard, "count": len(mine), "missing": list(missing)}, json_to):
                todo = (
                    f"{len(missing):,} of {part_of_all.count:,} are to come, the next {missing[0]}/{part_of_all.count}"
                )
                say(f"{part_of_all.folder(out)}: shard {shard} is done; {todo}")
            return
        save_provenance(resolve_model(model), out)
    else:
        with progress(f"embedding {images.name}", len(images)) as advance:
            embed_to(embedder, images, out, batch_size=batch_size, advance=advance)
        save_provenance(resolve_model(model), out)
    late = left_out_of_vectors(out if fixed is None else out / "0")
    left_out = replace(left_out, skipped=(*left_out.skipped, *late))
    count = (len(images) - len(late)) * (views or 1)
    space = embedder.space
    write_result({"vectors": str(out), "count": count, "space": space.to_dict(), **left_out.to_dict()}, json_to)
    if json_to != "-":
        made = "" if precision == "fp32" else f", made in {space.precision}"
        if part_of_all is not None and there:
            say(f"{out} was whole already: shard {shard} had nothing to do")
        say(f"{out}: {counted(count, 'vector')} of space {space}{made}{f' ({reason})' if reason else ''}")
        show_left_out(left_out, size=size)


def _embed_texts(
    encoder: Encoder, source: str, out: Path, skip_empty: bool, batch_size: int, quiet: bool, json_to: str | None
) -> None:
    from samespace.data.texts import ENDINGS, are_texts, place_in, read_texts
    from samespace.encoders.texts import embed_texts
    from samespace.progress import bar, silent_bar

    if not are_texts(source):
        raise InputError(
            f"{encoder.space.name} takes items of modality 'text'; an encoder of images is needed here, or a file "
            f"of texts ({', '.join(ENDINGS)}) in the place of {source}"
        )
    texts = read_texts(source, skip_empty=skip_empty)
    with (silent_bar if quiet else bar)(f"embedding {texts.name}", len(texts)) as advance:
        embed_texts(encoder, texts, out, batch_size=batch_size, advance=advance)
    about = {"vectors": str(out), "count": len(texts), "space": encoder.space.to_dict(), "columns": texts.origin}
    if write_result({**about, "left_out": len(texts.left_out)}, json_to):
        say(f"{out}: {counted(len(texts), 'vector')} of space {encoder.space}")
        say(f"{texts.name}: {texts.origin}.")
        if texts.left_out:
            rows = counted(len(texts.left_out), "row without a text is", "rows without a text are")
            say(f"{rows} left out, the first in {place_in(texts.unit, texts.left_out[0])}.")
