"""`samespace check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

from samespace.cli.output import PATH, certificate_options, json_option, require_folder, show_certificate
from samespace.cli.sources import open_at

_SHOWN_PIXELS = 128


def _share(context: click.Context, parameter: click.Parameter, text: str | None) -> float | Literal["auto"] | None:
    if text is None or text == "auto":
        return "auto" if text else None
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"a share from 0 to 1, or auto, got '{text}'") from None


@click.command()
@click.option("--queries", required=True, type=PATH, metavar="NEW_Q", help="Query items by the new model.")
@click.option("--gallery", required=True, type=PATH, metavar="OLD_G", help="Gallery items by the old model.")
@click.option("--baseline", required=True, type=PATH, metavar="OLD_Q", help="The same queries by the old model.")
@click.option("--new-gallery", type=PATH, metavar="NEW_G", help="The same gallery by the new model.")
@click.option("--paragon-queries", type=PATH, metavar="P_Q", help="The same queries by the paragon.")
@click.option("--paragon-gallery", type=PATH, metavar="P_G", help="The same gallery by the paragon.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="rank@K, mAP, MAP@R, R-precision, TAR@FAR=1e-4, TPIR@FPIR=1e-2, TPIR-merged@FPIR=1e-2; repeat for several.",
)
@click.option("--prefix", is_flag=True, help="Compare the leading old dimensions of wider new vectors.")
@click.option(
    "--fuse",
    metavar="ALPHA|auto",
    callback=_share,
    help="Test normalised (1 - ALPHA) old + ALPHA new queries; auto chooses ALPHA on classes that are not judged.",
)
@click.option("--support-queries", type=PATH, metavar="NEW_Q", help="For --fuse auto: other classes, new model.")
@click.option("--support-gallery", type=PATH, metavar="OLD_G", help="The gallery of these classes, old model.")
@click.option("--support-baseline", type=PATH, metavar="OLD_Q", help="The queries of these classes, old model.")
@certificate_options
@click.option("--images", metavar="SOURCE", help="Image source with the items' ids, to show queries in the report.")
@json_option
def check(
    queries: Path,
    gallery: Path,
    baseline: Path,
    new_gallery: Path | None,
    paragon_queries: Path | None,
    paragon_gallery: Path | None,
    metrics: tuple[str, ...],
    prefix: bool,
    fuse: float | Literal["auto"] | None,
    support_queries: Path | None,
    support_gallery: Path | None,
    support_baseline: Path | None,
    report: Path | None,
    images: str | None,
    json_to: str | None,
    **options: Any,
) -> int:
    """May the new model's queries search the old model's gallery?

    Works from vectors alone: each file is a folder made by 'samespace embed', or an .npz with 'vectors', 'labels' and
    optionally 'ids' and 'templates'; templates are pooled into one vector each. Use classes that neither model was
    trained on.

    With --fuse the cross test is of fused queries, which need both models for every query. The --support sets choose
    the share; without them one half of the classes does, and only the other half is judged.

    The paragon is the best that a full re-embedding could give: the same new model trained without a compatibility
    term. Without it there is no update gain.

    Exit status: 0 the new model is compatible on every metric, 1 it is not, 2 wrong use or bad input.
    """
    from samespace.evaluate import check as run_check
    from samespace.evaluate.provenance import provenance_notes
    from samespace.vectors import VectorSet

    if (paragon_queries is None) != (paragon_gallery is None):
        raise click.UsageError("--paragon-queries and --paragon-gallery go together.")
    support_paths = support_queries, support_gallery, support_baseline
    given = [path for path in support_paths if path is not None]
    if given and (fuse != "auto" or len(given) < len(support_paths)):
        raise click.UsageError(
            "--support-queries, --support-gallery and --support-baseline go together, with --fuse auto."
        )
    if images is not None and report is None:
        raise click.UsageError("--images are shown in the report: add --report DIR.")
    require_folder(report)
    lookup = None
    if images is not None:
        from samespace.data.lookup import image_lookup

        lookup = image_lookup(open_at(images, _SHOWN_PIXELS, "skip"))
    paragon = None
    if paragon_queries is not None and paragon_gallery is not None:
        paragon = (VectorSet.load(paragon_queries), VectorSet.load(paragon_gallery))
    asking, stored = VectorSet.load(queries), VectorSet.load(gallery)
    certificate = run_check(
        queries=asking,
        gallery=stored,
        baseline=VectorSet.load(baseline),
        new_gallery=None if new_gallery is None else VectorSet.load(new_gallery),
        paragon=paragon,
        metrics=list(metrics) or None,
        prefix=prefix,
        fuse=fuse,
        support=(VectorSet.load(given[0]), VectorSet.load(given[1]), VectorSet.load(given[2])) if given else None,
        **options,
    )
    notes = provenance_notes([("the new model", queries, asking), ("the old model", gallery, stored)])
    certificate = replace(certificate, notes=(*certificate.notes, *notes))
    return show_certificate(certificate, report, json_to, lookup)
