"""Graphs by cosine, inner product and L2 distance: recall at 10 against the exact scan, and their cost beside cosines.

Vectors lie around 2,000 centres, at lengths that spread log-normally. One process, one core: processor seconds.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import get_args

import numpy as np

from samespace.gallery.index.exact import Part, nearest
from samespace.gallery.index.local.hnsw import grown
from samespace.gallery.index.local.together import SpaceSearch, nearest_of_all
from samespace.gallery.index.local.walk import Places, Walk
from samespace.gallery.index.segments import Segment
from samespace.space import Score

CENTRES, QUERIES, K = 2_000, 200, 10
SPREADS = (0.05, 0.3, 0.7)


def drawn(rows: int, dim: int, spread: float, score: Score, seed: int) -> np.ndarray:
    """Vectors around the centres, (rows, dim) float32; of unit length for cosines."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((CENTRES, dim))
    values = centres[generator.integers(0, CENTRES, rows)] + 0.5 * generator.standard_normal((rows, dim))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    lengths = 1.0 if score == "cosine" else 8 * np.exp(spread * generator.standard_normal((rows, 1)))
    return (values * lengths).astype(np.float32)


def measured(rows: int, dim: int, spread: float, score: Score) -> tuple[float, float, float, float]:
    """Recall at 10 over all rows and over a random half of them, seconds to build, seconds a query."""
    numbers = np.arange(1, rows + 1)
    segment = Segment(numbers, numbers, numbers, drawn(rows, dim, spread, score, 1), score=score)
    queries = drawn(QUERIES, dim, spread, score, 2)
    start = time.process_time()
    graph = grown(None, [(segment, np.ones(rows, dtype=np.bool_))], dim)
    built, recalls, asked = time.process_time() - start, [], 0.0
    for mask in (np.ones(rows, dtype=np.bool_), np.random.default_rng(3).random(rows) < 0.5):
        parts = [Part.of(segment, mask)]
        start = time.process_time()
        walk = Walk.of(Places.of(graph, (segment,)), mask, parts)
        space = SpaceSearch(1, queries, tuple(parts), walk)
        found = nearest_of_all([space], K, lambda _, raw: raw, exact=False)
        asked = asked or (time.process_time() - start) / QUERIES
        truth = nearest(parts, queries, K)
        shares = [
            len(np.intersect1d(found.items[found.query == query][:K], one.items[:K])) / K
            for query, one in enumerate(truth)
        ]
        recalls.append(float(np.mean(shares)))
    return recalls[0], recalls[1], built, asked


def main() -> None:
    """Print a line for each spread and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=64)
    options = parser.parse_args()
    print("| lengths spread by | score | recall@10 | over a random half | build / cosine's | query / cosine's |")
    print("|---|---|---|---|---|---|")
    for spread in SPREADS:
        base = measured(options.rows, options.dim, spread, "cosine")
        for score in get_args(Score):
            whole, half, built, asked = (
                base if score == "cosine" else measured(options.rows, options.dim, spread, score)
            )
            print(
                f"| {spread:.0%} | {score} | {whole:.3f} | {half:.3f} | {built / base[2]:.1f} | {asked / base[3]:.1f} |"
            )
    print(f"\n{options.rows} x {options.dim}, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
