"""`samespace check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from samespace.cli.output import (
    PATH,
    certificate_options,
    json_option,
    quiet_option,
    show_certificate,
)
from samespace.cli.sources import open_at
from samespace.errors import InputError

if TYPE_CHECKING:
    from samespace.scoring.stored import StoredForm
    from samespace.space import Score
    from samespace.vectors import VectorSet

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
@click.option(
    "--baseline-gallery",
    type=PATH,
    metavar="OLD_G",
    help="What the baseline searches where that is not --gallery: the old vectors, if --gallery holds them mapped.",
)
@click.option("--paragon-queries", type=PATH, metavar="P_Q", help="The same queries by the paragon.")
@click.option("--paragon-gallery", type=PATH, metavar="P_G", help="The same gallery by the paragon.")
@click.option(
    "--allocation",
    type=PATH,
    metavar="FILE",
    help="Of sets that hold more, take the queries and gallery of an allocation made by 'samespace data allocate'.",
)
@click.option(
    "--qrels",
    type=PATH,
    metavar="FILE",
    help="Judge by relevance judgements (TREC's or BEIR's form) in the place of labels, as for texts.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="rank@K, mAP, MAP@R, R-precision, TAR@FAR=1e-4, TPIR@FPIR=1e-2, TPIR-merged@FPIR=1e-2; with --qrels nDCG@K, "
    "Recall@K, MRR@K; repeat for several.",
)
@click.option("--prefix", is_flag=True, help="Compare the leading old dimensions of wider new vectors.")
@click.option(
    "--score",
    type=click.Choice(["cosine", "ip", "l2"]),
    default="cosine",
    show_default=True,
    help="What the search ranks by: ip is the inner product of the vectors as they are, l2 minus their squared "
    "Euclidean distance.",
)
@click.option(
    "--stored-as",
    type=click.Choice(["float32", "float16", "int8", "binary"]),
    default="float32",
    show_default=True,
    help="What the store keeps of every gallery's vectors: halves, eight bits a dimension (FAISS SQ8), or signs, which "
    "queries are then, too.",
)
@click.option(
    "--truncate",
    type=click.IntRange(1),
    metavar="D",
    help="Compare the leading D values of every vector, as models trained for it allow (Matryoshka).",
)
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
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where a large search makes its products: cpu, cuda, cuda:N, or auto.",
)
@click.option("--images", metavar="SOURCE", help="Image source with the items' ids, to show queries in the report.")
@click.option("--note", "remarks", multiple=True, metavar="TEXT", help="Kept in the certificate's notes; repeat.")
@quiet_option
@json_option
def check(
    queries: Path,
    gallery: Path,
    baseline: Path,
    new_gallery: Path | None,
    baseline_gallery: Path | None,
    paragon_queries: Path | None,
    paragon_gallery: Path | None,
    allocation: Path | None,
    qrels: Path | None,
    metrics: tuple[str, ...],
    prefix: bool,
    score: Score,
    stored_as: StoredForm,
    truncate: int | None,
    fuse: float | Literal["auto"] | None,
    support_queries: Path | None,
    support_gallery: Path | None,
    support_baseline: Path | None,
    report: Path | None,
    images: str | None,
    remarks: tuple[str, ...],
    quiet: bool,
    json_to: str | None,
    **options: Any,
) -> int:
    """May the new model's queries search the old model's gallery?

    Works from vectors alone: each file is a folder made by 'samespace embed', an .npz with 'vectors', 'labels' and
    optionally 'ids' and 'templates', or .parquet, .arrow, .feather, .csv or .npy (see docs/files.md); templates are
    pooled into one vector each. Use classes that neither model was trained on.

    With --qrels labels play no part: a file says which gallery items are relevant to which queries, as
    'query 0 document grade' (TREC) or with tabs 'query-id corpus-id score' (BEIR). Every interval is then over queries.

    Items are matched by id. Sets may hold more items than NEW_Q and OLD_G, which are left out and counted; with
    --allocation these two may as well hold the whole source.

    --score, --stored-as and --truncate say how the deployed search compares, so that the verdict is of it. Thresholds
    and calibrations are in units of the score.

    With --fuse the cross test is of fused queries, which need both models for every query. The --support sets choose
    the share; without them one half of the classes does, and only the other half is judged.

    The paragon is the best that a full re-embedding could give: the same new model trained without a compatibility
    term. Without it there is no update gain.

    Exit status: 0 the new model is compatible on every metric, 1 it is not, 2 wrong use or bad input.
    """
    from samespace.evaluate import check as run_check
    from samespace.evaluate.provenance import provenance_notes
    from samespace.evaluate.relevance import Judgements
    from samespace.progress import Pace, working
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
    if qrels is not None and (fuse is not None or images is not None):
        raise click.UsageError(f"--qrels goes without {'--fuse' if fuse is not None else '--images'}.")
    judgements = None if qrels is None else Judgements.read(qrels)
    asking = {"queries": queries, "baseline": baseline, "paragon queries": paragon_queries}
    stored = {"gallery": gallery, "new gallery": new_gallery, "paragon gallery": paragon_gallery}
    stored["baseline gallery"] = baseline_gallery
    with working("opening vectors", quiet=quiet):
        chosen, notes = _opened(asking, stored, allocation)
        held = tuple(map(VectorSet.load, given))
    lookup = None
    if images is not None:
        from samespace.data.lookup import image_lookup

        with working("opening images", quiet=quiet):
            lookup = image_lookup(open_at(images, _SHOWN_PIXELS, "skip"))
    paragon = None
    if paragon_queries is not None:
        paragon = chosen["paragon queries"], chosen["paragon gallery"]
    pace = Pace("queries")
    with working("checking", quiet=quiet) as tell:
        certificate = run_check(
            queries=chosen["queries"],
            gallery=chosen["gallery"],
            baseline=chosen["baseline"],
            new_gallery=chosen.get("new gallery"),
            baseline_gallery=chosen.get("baseline gallery"),
            paragon=paragon,
            qrels=judgements,
            metrics=list(metrics) or None,
            prefix=prefix,
            score=score,
            stored_as=stored_as,
            truncate=truncate,
            fuse=fuse,
            support=(held[0], held[1], held[2]) if given else None,
            progress=lambda done, total: tell(
                pace(done, total) if done < total else f"resampling {'queries' if judgements else 'identities'}"
            ),
            **options,
        )
    models = [("the new model", queries, chosen["queries"]), ("the old model", gallery, chosen["gallery"])]
    certificate = replace(certificate, notes=(*notes, *certificate.notes, *provenance_notes(models), *remarks))
    return show_certificate(certificate, report, json_to, lookup)


def _opened(
    asking: dict[str, Path | None], stored: dict[str, Path | None], allocation: Path | None
) -> tuple[dict[str, VectorSet], tuple[str, ...]]:
    """The sets by their roles, of an allocation's queries and gallery alone where one is given, and notes."""
    from samespace.evaluate.selection import select
    from samespace.vectors import VectorSet

    given = {role: path for role, path in (asking | stored).items() if path is not None}
    opened = {path: VectorSet.load(path) for path in given.values()}
    if allocation is None:
        return {role: opened[path] for role, path in given.items()}, ()
    from samespace.data.allocations import read_allocation

    parts = read_allocation(allocation)
    chosen, notes = {}, dict[str, None]()
    for role, path in given.items():
        part: Literal["queries", "gallery"] = "queries" if role in asking else "gallery"
        if not parts.ids[part]:
            raise InputError(f"{allocation} has no {part}; make it with a held-out share")
        what = f"{part} of {allocation}"
        chosen[role] = select(opened[path], parts.ids[part], what, parts.images)
        rest = len(opened[path]) - len(chosen[role])
        if rest:
            notes[f"{path}: {len(chosen[role]):,} items are {what}; the other {rest:,} are left out."] = None
    return chosen, tuple(notes)
