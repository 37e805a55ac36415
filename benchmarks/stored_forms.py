"""What a store's form of vectors costs an upgrade: float16, int8, signs and truncation, on Omniglot.

SAMESPACE_DATA=PATH python benchmarks/stored_forms.py --write docs/results/stored-forms.md

Trains an old model and its successor by method matched for each seed, unless `--out` holds their vectors already.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import get_args

import numpy as np

from gallery_accuracy import Vectors, train
from samespace.evaluate import check
from samespace.evaluate.certificate import Certificate
from samespace.files import write_text
from samespace.report.figures.drawing import LIGHT, Drawing, canvas, legend, name_axes, save_png, settings
from samespace.scoring.stored import StoredForm, bytes_per_vector
from samespace.vectors import VectorSet

FORMS: tuple[StoredForm, ...] = get_args(StoredForm)
DIMS = (64, 48, 32, 16)
METRICS = ("rank@1", "mAP", "TAR@FAR=1e-3")
SEARCHED, ASKED, TURNS = 200_000, 64, 15
MARKERS = {"float32": "o", "float16": "s", "int8": "^", "binary": "D"}


@dataclass(frozen=True)
class Row:
    """One form of the store at one number of dimensions, by the certificates of all seeds.

    `time`: of a search of every item, relative to that of whole float32 vectors.
    """

    form: StoredForm
    dim: int
    certificates: tuple[Certificate, ...]
    time: float

    def mean(self, metric: str, test: str) -> float:
        """A value over the seeds, in percent."""
        return 100 * float(np.mean([getattr(one[metric], test) for one in self.certificates]))

    @property
    def size(self) -> int:
        """Bytes of a vector."""
        return bytes_per_vector(self.dim, self.form)


def measure(studies: Sequence[Vectors], dims: Sequence[int], replicates: int) -> list[Row]:
    """A check of each seed in every form at every number of dimensions."""
    gallery = studies[0]["old"][1]
    times = search_times(gallery.take(np.arange(len(gallery))), dims)
    return [
        Row(
            form=form,
            dim=dim,
            certificates=tuple(judged(vectors, form, dim, replicates) for vectors in studies),
            time=times[form, dim] / times["float32", max(dims)],
        )
        for dim in dims
        for form in FORMS
    ]


def judged(vectors: Vectors, form: StoredForm, dim: int, replicates: int) -> Certificate:
    """The check in one form; the self test stands in the paragon's place."""
    (baseline, gallery), (queries, renewed) = vectors["old"], vectors["new"]
    return check(
        queries=queries,
        gallery=gallery,
        baseline=baseline,
        # a new gallery would add the sweep over backfill shares, which is not asked for here
        paragon=(queries, renewed),
        metrics=METRICS,
        stored_as=form,
        truncate=dim,
        replicates=replicates,
        examples=0,
    )


def search_times(items: np.ndarray, dims: Sequence[int]) -> dict[tuple[StoredForm, int], float]:
    """Processor time of a search of all items by FAISS on one thread, the best of many turns.

    Items are repeated to `SEARCHED`.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    kinds = {"float16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}
    searches = {}
    for dim in dims:
        rows = np.ascontiguousarray(np.resize(items[:, :dim], (SEARCHED, dim)), dtype=np.float32)
        bits = np.packbits(rows > 0, axis=1)
        for form in FORMS:
            if form == "binary":
                index, asked = faiss.IndexBinaryFlat(8 * bits.shape[1]), bits[:ASKED]
                index.add(bits)
            else:
                index = (
                    faiss.IndexFlatIP(dim)
                    if form == "float32"
                    else faiss.IndexScalarQuantizer(dim, kinds[form], faiss.METRIC_INNER_PRODUCT)
                )
                asked = rows[:ASKED]
                index.train(rows)
                index.add(rows)
            searches[form, dim] = index, asked
    best = dict.fromkeys(searches, float("inf"))
    for _ in range(TURNS):
        for key, (index, asked) in searches.items():
            began = time.process_time()
            index.search(asked, 10)
            best[key] = min(best[key], time.process_time() - began)
    return best


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as Markdown: values in percent, the gain with its interval."""
    heads = [f"{metric}: old" if test == "old" else test for metric in METRICS for test in ("old", "cross", "self")]
    lines = [
        f"| form | D | bytes | {' | '.join(heads)} | holds | time |",
        f"|---|{'---:|' * (len(heads) + 2)}---|---:|",
    ]
    for row in rows:
        values = [f"{row.mean(metric, test):.1f}" for metric in METRICS for test in ("old", "cross", "paragon")]
        held = [
            f"{metric} {sum(one[metric].compatible for one in row.certificates)}"
            for metric in METRICS
            if not all(one[metric].compatible for one in row.certificates)
        ]
        verdict = ", ".join(held) or "all"
        lines.append(f"| {row.form} | {row.dim} | {row.size} | {' | '.join(values)} | {verdict} | {row.time:.2f} |")
    return lines


def lost(rows: Sequence[Row]) -> list[str]:
    """What each form changes at whole dimension, in points, and the gain of the upgrade in it."""
    whole = rows[0]
    lines = ["| form | " + " | ".join(f"{metric}: old | cross | gain" for metric in METRICS) + " |"]
    lines.append(f"|---|{'---:|' * (3 * len(METRICS))}")
    for row in rows[: len(FORMS)]:
        cells = []
        for metric in METRICS:
            changes = [row.mean(metric, test) - whole.mean(metric, test) for test in ("old", "cross")]
            gains = [100 * one[metric].absolute_gain for one in row.certificates]
            cells += [f"{change:+.2f}" for change in changes]
            cells.append(f"{np.mean(gains):+.1f} ({min(gains):+.1f} … {max(gains):+.1f})")
        lines.append(f"| {row.form} | {' | '.join(cells)} |")
    return lines


def figure(rows: Sequence[Row]) -> Drawing:
    """Cross and old value over the bytes of a vector, one panel for rank@1 and one for TAR."""
    drawn, panels = canvas(560, LIGHT, panels=2, top=60, gap=50)
    sizes = [2**power for power in range(1, 9)]
    for axes, metric in zip(panels, (METRICS[0], METRICS[2]), strict=True):
        for form in FORMS:
            some = sorted((row for row in rows if row.form == form), key=lambda row: row.size)
            for test, color in (("old", LIGHT.old), ("cross", LIGHT.cross)):
                values = [row.mean(metric, test) for row in some]
                style = "-" if test == "cross" else (0, (4, 2))
                drawn_as = {"linestyle": style, "color": color, "marker": MARKERS[form], "markersize": 5}
                named = test if form == "float32" else form if test == "cross" else "_"
                axes.plot([row.size for row in some], values, label=named, **drawn_as)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_title(metric, loc="left", fontsize=9, color=LIGHT.ink)
        name_axes(axes, LIGHT, x="bytes of a stored vector", y="%")
    legend(panels[0], LIGHT, above=28)
    return Drawing("stored-forms", "Stored forms", "Quality over the bytes of a vector.", drawn)


def page(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """All of the results as Markdown."""
    data = rows[0].certificates[0].data
    lines = [
        "## Each form",
        "",
        f"Seeds {', '.join(map(str, seeds))}: {data['queries']:,} queries on {data['gallery']:,} items of "
        f"{data['identities']} characters of alphabets that no model was trained on; vectors of length one, by cosine. "
        "Values in percent, mean over the seeds. *old*: old queries on the old gallery; *cross*: new queries on it; "
        "*self*: new queries on a new gallery; all three in that form. *holds*: metrics whose interval of cross − old "
        f"is not above zero for every seed, with the number of seeds (of {len(seeds)}) for which it is. *time*: a "
        f"search of all of {SEARCHED:,} items by FAISS on one thread (flat, scalar quantizer, binary flat), against "
        "whole float32.",
        "",
        *table(rows),
        "",
        "![quality over bytes](stored-forms.png)",
        "",
        "## What a form costs",
        "",
        "At whole dimension: points that the form itself costs the old system and the cross test, against float32; and "
        "the gain of the upgrade within the form, cross − old: mean, lowest and highest of the seeds.",
        "",
        *lost(rows),
        "",
        f"Python {platform.python_version()}, FAISS {metadata.version('faiss-cpu')}.",
    ]
    return "\n".join(lines)


def study(folder: Path, seed: int) -> Vectors:
    """The vectors of a seed, of an earlier training where there was one."""
    held, sides = folder / "vectors", ("queries", "gallery")
    if not (held / "new" / "gallery").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = Path(os.environ["SAMESPACE_DATA"]) / "omniglot.npz"
        return train(data, folder, seed, {"method": "matched"})
    return {
        name: (VectorSet.load(held / name / sides[0]), VectorSet.load(held / name / sides[1]))
        for name in ("old", "new")
    }


def main() -> None:
    """Train unless it was done, check in every form, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("stored-forms"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--write", type=Path, help="the page to write; what stands above its first table is kept")
    options = parser.parse_args()
    studies = [study(options.out / f"seed-{seed}", seed) for seed in options.seeds]
    rows = measure(studies, DIMS, options.replicates)
    text = page(rows, options.seeds)
    print(text)
    if options.write is not None:
        marker = "## Each form"
        path: Path = options.write
        head = path.read_text(encoding="utf-8").split(marker)[0] if path.exists() else "# Stored forms\n\n"
        write_text(path, head + text + "\n")
        with settings():
            save_png(figure(rows), path.with_name("stored-forms.png"))


if __name__ == "__main__":
    main()
