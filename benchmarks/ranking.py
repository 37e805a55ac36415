"""Mean average precision and CMC at the shape of Market-1501, against torchmetrics and open-metric-learning.

All sides get the same unit features and give mAP and rank@1, 5, 10 in one process, in turn. Junk images are taken out
of the gallery beforehand; images of the same person by the same camera are ignored in the way each side offers:

- torchmetrics, by query: one product for the scores, then `retrieval_average_precision` and `retrieval_hit_rate` for
  each query on the items that are kept;
- torchmetrics, modules: the same product, then `RetrievalMAP` and `RetrievalHitRate` with `indexes` and
  `ignore_index`;
- open-metric-learning: `batched_knn_qg` over the whole gallery with sequence ids, then `calc_retrieval_metrics`.

torchmetrics drops relevant items whose score is not positive, so it gets (1 + cosine) / 2.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prototypes import peak_above_start
from samespace.benchmarks.reid import RANKS, Reid
from samespace.scoring.mates import Pairs
from samespace.scoring.ranking import MEMORY, rank
from samespace.scoring.units import unit_rows

AGREEMENT = 1e-6
QUERIES, GALLERY, PEOPLE, CAMERAS, DISTRACTORS = 3_368, 15_913, 750, 6, 2_798
INSTALL = "pip install torchmetrics open-metric-learning (outside the project's environment)"

Values = dict[str, float]


@dataclass(frozen=True)
class World:
    """Features and who is in them."""

    queries: np.ndarray
    gallery: np.ndarray
    identity: tuple[np.ndarray, np.ndarray]
    camera: tuple[np.ndarray, np.ndarray]


def make_world(dim: int, noise: float, seed: int = 0) -> World:
    """Unit features around the centres of people; the last gallery images are distractors, each alone."""
    generator = np.random.default_rng(seed)
    people = np.sort(generator.integers(1, PEOPLE + 1, QUERIES)), np.zeros(GALLERY, dtype=np.int64)
    people[1][: GALLERY - DISTRACTORS] = generator.integers(1, PEOPLE + 1, GALLERY - DISTRACTORS)
    centres = generator.standard_normal((PEOPLE + 1, dim))

    def seen(identity: np.ndarray) -> np.ndarray:
        vectors = noise * generator.standard_normal((len(identity), dim))
        return unit_rows(vectors + np.where(identity > 0, 1.0, 0.0)[:, None] * centres[identity])

    cameras = tuple(generator.integers(1, CAMERAS + 1, len(part)) for part in people)
    return World(seen(people[0]), seen(people[1]), people, cameras)


def ours(world: World) -> Values:
    benchmark = Reid.of(name="Market-1501", identity=world.identity, camera=world.camera)
    found = rank(world.queries, world.gallery, benchmark.relevant, benchmark.ignored)
    values = {"mAP": float(np.nanmean(found.average_precision()))}
    return values | {f"rank@{k}": float(np.nanmean(found.rank_at(k))) for k in RANKS}


def masks(world: World, rows: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
    """Which pairs are of one person, and which of these also of one camera."""
    identity, camera = ([torch.from_numpy(part) for part in column] for column in (world.identity, world.camera))
    same = identity[0][rows, None] == identity[1]
    return same, same & (camera[0][rows, None] == camera[1])


def torchmetrics_by_query(world: World) -> Values:
    from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_hit_rate

    scores = (1 + torch.from_numpy(world.queries) @ torch.from_numpy(world.gallery).T) / 2
    same, ignored = masks(world)
    rows: dict[str, list[float]] = {"mAP": [], **{f"rank@{k}": [] for k in RANKS}}
    for line, target, out in zip(scores, same, ignored, strict=True):
        line, target = line[~out], target[~out]
        if not target.any():
            continue
        rows["mAP"].append(float(retrieval_average_precision(line, target)))
        for k in RANKS:
            rows[f"rank@{k}"].append(float(retrieval_hit_rate(line, target, top_k=k)))
    return {name: statistics.fmean(values) for name, values in rows.items()}


def torchmetrics_modules(world: World) -> Values:
    from torchmetrics import MetricCollection
    from torchmetrics.retrieval import RetrievalHitRate, RetrievalMAP

    options = {"empty_target_action": "skip", "ignore_index": -1}
    metrics = MetricCollection(
        {"mAP": RetrievalMAP(**options), **{f"rank@{k}": RetrievalHitRate(top_k=k, **options) for k in RANKS}},
        compute_groups=[["mAP", *(f"rank@{k}" for k in RANKS)]],
    )
    scores = (1 + torch.from_numpy(world.queries) @ torch.from_numpy(world.gallery).T) / 2
    same, ignored = masks(world)
    target = same.long().masked_fill_(ignored, -1)
    indexes = torch.arange(QUERIES)[:, None].expand_as(target)
    metrics.update(scores, target, indexes=indexes)
    return {name: float(value) for name, value in metrics.compute().items()}


def open_metric_learning(world: World) -> Values:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from oml.functional.knn import batched_knn_qg
        from oml.functional.metrics import calc_retrieval_metrics

    labels = [torch.from_numpy(part) for part in world.identity]
    places = [torch.from_numpy(a * (CAMERAS + 1) + b) for a, b in zip(world.identity, world.camera, strict=True)]
    _, retrieved, truth = batched_knn_qg(
        embeddings_query=torch.from_numpy(world.queries),
        embeddings_gallery=torch.from_numpy(world.gallery),
        top_n=GALLERY,
        labels_query=labels[0],
        labels_gallery=labels[1],
        sequence_ids_query=places[0],
        sequence_ids_gallery=places[1],
        bs=512,
    )
    answerable = [row for row, relevant in enumerate(truth) if len(relevant)]
    found = calc_retrieval_metrics(
        retrieved_ids=[retrieved[row] for row in answerable],
        gt_ids=[truth[row] for row in answerable],
        cmc_top_k=RANKS,
        precision_top_k=(),
        map_top_k=(GALLERY,),
        verbose=False,
    )
    return {"mAP": float(found["map"][GALLERY]), **{f"rank@{k}": float(found["cmc"][k]) for k in RANKS}}


SIDES: dict[str, Callable[[World], Values]] = {
    "samespace": ours,
    "torchmetrics, by query": torchmetrics_by_query,
    "torchmetrics, modules": torchmetrics_modules,
    "open-metric-learning": open_metric_learning,
}


def compare(world: World, repeats: int, without: list[str]) -> bool:
    """Run the sides in turn, print medians, ratios and differences; true where all agree."""
    sides = {name: side for name, side in SIDES.items() if name not in without}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    memory = dict.fromkeys(sides, 0)
    values: dict[str, Values] = {}
    for _ in range(repeats):
        for name, side in sides.items():
            with peak_above_start() as rise:
                start = time.perf_counter()
                values[name] = side(world)
                seconds[name].append(time.perf_counter() - start)
            memory[name] = max(memory[name], rise[0])
    mine = statistics.median(seconds["samespace"])
    print("  " + ", ".join(f"{name} {value:.6f}" for name, value in values["samespace"].items()))
    worst = 0.0
    for name in sides:
        median = statistics.median(seconds[name])
        differ = max(abs(values[name][metric] - value) for metric, value in values["samespace"].items())
        worst = max(worst, differ)
        runs = ", ".join(f"{value:.2f}" for value in seconds[name])
        print(
            f"  {name:<24} {median:7.2f} s median ({runs})  {memory[name] / 2**20:6.0f} MiB above the features   "
            f"{median / mine:5.1f}x   largest difference {differ:.1e}"
        )
    return worst <= AGREEMENT


def large(queries: int, items: int, dim: int) -> None:
    """One ranking of many queries in a gallery on disk, with its memory."""
    generator = np.random.default_rng(0)
    people = items // 20
    with tempfile.TemporaryDirectory() as folder:
        gallery = np.lib.format.open_memmap(Path(folder) / "gallery.npy", "w+", np.float32, (items, dim))
        identity = np.arange(items) % people
        centres = generator.standard_normal((queries, dim), dtype=np.float32)
        for start in range(0, items, 50_000):
            rows = identity[start : start + 50_000]
            vectors = generator.standard_normal((len(rows), dim), dtype=np.float32)
            vectors[rows < queries] = 0.8 * vectors[rows < queries] + centres[rows[rows < queries]]
            gallery[start : start + 50_000] = unit_rows(vectors)
        gallery.flush()
        gallery = np.load(Path(folder) / "gallery.npy", mmap_mode="r")
        asked = unit_rows(centres + 0.8 * generator.standard_normal((queries, dim), dtype=np.float32))
        with peak_above_start() as rise:
            start_time = time.perf_counter()
            found = rank(asked, gallery, Pairs.of_equal(np.arange(queries), identity))
            taken = time.perf_counter() - start_time
    print(
        f"\n{queries} x {items} x {dim}: mAP {np.nanmean(found.average_precision()):.6f} in {taken:.0f} s, "
        f"{rise[0] / 2**20:.0f} MiB above the queries (allowed {MEMORY / 2**20:.0f}; "
        "pages of the gallery file count too)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--noise", type=float, default=2.4, help="of an image around its person")
    parser.add_argument("--without", action="append", default=[], choices=list(SIDES)[1:], help="leave out a peer")
    parser.add_argument("--large", action="store_true", help="10,000 queries in a million items on disk instead")
    options = parser.parse_args()
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    if options.large:
        large(10_000, 1_000_000, options.dim)
        return
    try:
        import oml
        import torchmetrics
    except ImportError as error:
        raise SystemExit(f"{error.name} is not installed: {INSTALL}") from None
    print(f"torchmetrics {torchmetrics.__version__}, open-metric-learning {oml.__version__}")
    print(f"\n{QUERIES} queries x {GALLERY} items x {options.dim} dimensions")
    if not compare(make_world(options.dim, options.noise), options.repeats, options.without):
        raise SystemExit(f"the sides differ by more than {AGREEMENT}")


if __name__ == "__main__":
    main()
