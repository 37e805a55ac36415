"""`samespace benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from samespace.cli.output import PATH, certificate_options, json_option, quiet_option, show_certificate

# as in protocols.named, which takes long to import
_NAMES = ("ijbb", "ijbc", "market1501", "msmt17", "roxford5k", "rparis6k", "gldv2", "lfw", "facepack", "vehicleid")
# how many folders before the name of an image tell it from others, whatever its suffix
_BY_STEM = {"roxford5k": 0, "rparis6k": 0, "gldv2": 0, "lfw": 1}


@click.command()
@click.argument("name", type=click.Choice(_NAMES), metavar="NAME")
@click.argument("files", type=PATH, metavar="FILES")
@click.option("--old", required=True, type=PATH, metavar="V", help="Vectors of its images by the old model.")
@click.option("--new", required=True, type=PATH, metavar="V", help="The same images by the new model.")
@click.option("--paragon", type=PATH, metavar="V", help="The same images by the paragon.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="One of the benchmark's metrics; repeat for several."
)
@click.option(
    "--weights",
    type=click.Choice(["none", "detector"]),
    default="none",
    show_default=True,
    help="Weigh images of IJB templates by the score of the face detector.",
)
@click.option(
    "--distractors",
    type=PATH,
    metavar="PATH",
    help="More gallery images that no query looks for: the folder of the 500k distractors of market1501, or "
    "revisitop1m.txt for roxford5k and rparis6k.",
)
@click.option("--prefix", is_flag=True, help="Compare the leading old dimensions of wider new vectors.")
@certificate_options
@quiet_option
@json_option
def benchmark(
    name: str,
    files: Path,
    old: Path,
    new: Path,
    paragon: Path | None,
    metrics: tuple[str, ...],
    weights: str,
    distractors: Path | None,
    prefix: bool,
    report: Path | None,
    quiet: bool,
    json_to: str | None,
    **options: Any,
) -> int:
    """May the new model's queries search the old model's gallery, on a published benchmark?

    FILES are what the publishers of benchmark NAME give, of which no image is opened:

    \b
    ijbb, ijbc           the folder of meta files: ijbc_face_tid_mid.txt,
                         ijbc_template_pair_label.txt, ijbc_1N_gallery_G1.csv, …
    market1501, msmt17   the folder of the data set
    roxford5k, rparis6k  gnd_roxford5k.pkl, gnd_rparis6k.pkl, or its folder
    gldv2                the folder of retrieval_solution_v2.1.csv and
                         index_image_to_landmark_v2.1.csv or index.csv
    lfw                  pairs.txt, or its folder
    facepack             a pack of pairs: lfw.bin, cfp_fp.bin, agedb_30.bin, calfw.bin
    vehicleid            one of its lists, such as test_list_800.txt

    Vectors are a folder made by 'samespace embed', or an .npz with 'vectors' and 'ids'; one set per model holds all
    images. They are found by id, as the benchmark names its images, or, without ids, by their place.

    Exit status: 0 the new model is compatible on every metric, 1 it is not, 2 wrong use or bad input.
    """  # noqa: D301
    from samespace.benchmarks.certify import certify
    from samespace.benchmarks.landmarks import by_stem
    from samespace.benchmarks.open import open_benchmark
    from samespace.progress import working
    from samespace.vectors import VectorSet

    with working(f"reading {name}", quiet=quiet):
        published = open_benchmark(
            name, files, weights="detector" if weights == "detector" else "none", distractors=distractors
        )

    def load(path: Path) -> VectorSet:
        found = VectorSet.load(path)
        return by_stem(found, published.ids, folders=_BY_STEM[name]) if name in _BY_STEM else found

    with working("scoring", quiet=quiet):
        certificate = certify(
            published,
            old=load(old),
            new=load(new),
            paragon=None if paragon is None else load(paragon),
            metrics=list(metrics) or None,
            prefix=prefix,
            **options,
        )
    return show_certificate(certificate, report, json_to)
