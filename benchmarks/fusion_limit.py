"""What bounds fused queries: which side of a search the paragon's lead lies in, and what a better share would bring.

    python benchmarks/fusion_limit.py runs/beyond-omniglot-strong

Reads the vectors of a finished `samespace reproduce beyond` (table 1, row live) for every seed that is there, trains
nothing, and writes a table as Markdown: for each allocation the update gain, (value - old) / (paragon - old), at rank@1
and mAP, means over the seeds, and the median over all of them. Rows marked oracle use the very items that are judged:
they explain, and no one can have them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.evaluate.fusion import ALPHAS
from samespace.fusion import fuse, share_to_take
from samespace.metrics.bootstrap import interval, resamples
from samespace.studies.unibct import SCENARIOS, pair_in
from samespace.vectors import VectorSet

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

REPLICATES = 200
BLOCK = 512
ROWS = {
    "new": "new query, old gallery",
    "half": "fused half and half, old gallery",
    "chosen": "fused by a share that other classes choose, old gallery",
    "best": "fused by the best share of each cell, old gallery (oracle)",
    "old on new": "old query, gallery by the new model",
    "new on new": "new query, gallery by the new model",
    "mapped": "new query, gallery mapped by least squares on itself (oracle)",
    "mapped, fused": "the same, query fused with the mapped old one two to one (oracle)",
    "paragon mapped": "paragon's query, gallery mapped by least squares on itself (oracle)",
    "paragon to old": "paragon's query mapped by least squares on itself, old gallery (oracle)",
    "ideal": "old query that is the mean of its class's, old gallery (oracle)",
}


class Search:
    """Who is whom in a check, and the two metrics of every query with a mate."""

    def __init__(self, query_labels: Ints, gallery_labels: Ints) -> None:
        mates = [np.flatnonzero(gallery_labels == label) for label in query_labels]
        self.asked = np.flatnonzero([len(places) for places in mates])
        self.labels = query_labels[self.asked]
        self.classes, self.codes = np.unique(self.labels, return_inverse=True)
        width = max(map(len, mates))
        self.mates = np.array(
            [np.pad(mates[row], (0, width - len(mates[row])), constant_values=-1) for row in self.asked]
        )

    def __call__(self, queries: Floats, gallery: Floats) -> Doubles:
        """(queries with a mate, 2): right at rank 1, average precision."""
        found = []
        for start in range(0, len(self.asked), BLOCK):
            mates = self.mates[start : start + BLOCK]
            scores = queries[self.asked[start : start + BLOCK]] @ gallery.T
            theirs = np.where(mates < 0, -np.inf, np.take_along_axis(scores, mates.clip(0), axis=1))
            theirs = -np.sort(-theirs, axis=1)
            # items above each mate, the better mates among them; a missing mate stands below everything
            above = np.stack([(scores > column[:, None]).sum(axis=1) for column in theirs.T], axis=1)
            known = np.isfinite(theirs)
            precision = np.where(known, np.arange(1, theirs.shape[1] + 1) / (above + 1), 0.0)
            found.append(np.stack([above[:, 0] == 0, precision.sum(axis=1) / known.sum(axis=1)], axis=1))
        return np.concatenate(found)


def measured(study: Path, seed: int, allocation: str) -> dict[str, Doubles]:
    """[rank@1, mAP] by key of `ROWS`, and of `old` and `paragon`."""
    pair = pair_in("matched", allocation)
    folder = study / f"seed{seed}" / "vectors"
    asked, stored = (VectorSet.load(folder / pair.old / side) for side in ("queries", "gallery"))
    search = Search(np.asarray(asked.labels), np.asarray(stored.labels))
    old, new, paragon = (
        [unit(VectorSet.load(folder / model / side).vectors) for side in ("queries", "gallery")]
        for model in (pair.old, pair.new, pair.paragon)
    )
    shares = {alpha: search(fuse(old[0], new[0], alpha), old[1]) for alpha in ALPHAS}
    mapped = least_squares(old[1], new[1])
    searches = {
        "old": shares[0.0],
        "paragon": search(*paragon),
        "new": shares[1.0],
        "half": shares[0.5],
        "chosen": chosen(search, shares),
        "old on new": search(old[0], new[1]),
        "new on new": search(*new),
        "mapped": search(new[0], mapped(old[1])),
        "mapped, fused": search(fuse(mapped(old[0]), new[0], 2 / 3), mapped(old[1])),
        "paragon mapped": search(paragon[0], least_squares(old[1], paragon[1])(old[1])),
        "paragon to old": search(least_squares(paragon[0], old[0])(paragon[0]), old[1]),
        "ideal": search(class_means(old[0], np.asarray(asked.labels)), old[1]),
    }
    values = {row: of_queries.mean(axis=0) for row, of_queries in searches.items()}
    return values | {"best": np.max([of_queries.mean(axis=0) for of_queries in shares.values()], axis=0)}


def chosen(search: Search, shares: Mapping[float, Doubles]) -> Doubles:
    """Each half of the classes searched with the share that the other half chooses."""
    half = np.random.default_rng(0).permutation(len(search.classes))[: len(search.classes) // 2]
    inside = np.isin(search.codes, half)
    found = np.empty_like(shares[0.0])
    for judged in (inside, ~inside):
        alpha = share_to_take(tried(search.codes[~judged], {name: each[~judged] for name, each in shares.items()}))
        found[judged] = shares[alpha][judged]
    return found


def tried(codes: Ints, shares: Mapping[float, Doubles]) -> dict[float, list[tuple[float, float]]]:
    """By share and metric the value and the lower end of the interval of the difference to the old query."""
    _, places = np.unique(codes, return_inverse=True)
    counts = np.concatenate(list(resamples(places.max() + 1, replicates=REPLICATES)))[:, places]
    means = {alpha: counts @ each / counts.sum(axis=1, keepdims=True) for alpha, each in shares.items()}
    return {
        alpha: [(each[:, one].mean(), interval((means[alpha] - means[0.0])[:, one])[0]) for one in (0, 1)]
        for alpha, each in shares.items()
    }


def class_means(vectors: Floats, labels: Ints) -> Floats:
    """For each query the direction of the mean over the queries of its class."""
    _, codes = np.unique(labels, return_inverse=True)
    sums = np.zeros((codes.max() + 1, vectors.shape[1]))
    np.add.at(sums, codes, vectors)
    return unit(sums[codes])


def least_squares(source: Floats, target: Floats) -> Callable[[Floats], Floats]:
    """The affine map of `source` with the least squared error to `target`, its values at length one."""
    matrix, *_ = np.linalg.lstsq(_padded(source), target, rcond=None)
    return lambda vectors: unit(_padded(vectors) @ matrix)


def _padded(vectors: Floats) -> Floats:
    return np.hstack([vectors, np.ones((len(vectors), 1), dtype=np.float32)])


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of a finished `samespace reproduce beyond`")
    study = parser.parse_args().study
    seeds = sorted(int(folder.name.removeprefix("seed")) for folder in study.glob("seed*"))
    gains: dict[str, list[Doubles]] = {row: [] for row in ROWS}
    for allocation in SCENARIOS:
        found = [measured(study, seed, allocation) for seed in seeds]
        for row, of_allocations in gains.items():
            shares = [(one[row] - one["old"]) / (one["paragon"] - one["old"]) for one in found]
            of_allocations.append(np.mean(shares, axis=0))
    print(f"| Update gain at rank@1, mAP in % | {' | '.join(SCENARIOS)} | median |")
    print("|---|" + "---:|" * (len(SCENARIOS) + 1))
    for row, words in ROWS.items():
        cells = [f"{100 * rank:.0f}, {100 * precision:.0f}" for rank, precision in gains[row]]
        print(f"| {words} | {' | '.join(cells)} | {100 * np.median(gains[row]):.0f} |")


if __name__ == "__main__":
    main()
