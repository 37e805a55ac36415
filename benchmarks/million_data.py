"""Vectors for `gallery_million.py`: two models that see the same made-up things."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samespace.progress import bar
from samespace.space import Space
from samespace.vectors import VectorSet

CLUSTERS, LATENT, BLOCK, QUERIES = 4_000, 64, 50_000, 500


def make_data(folder: Path, rows: int, dim: int) -> None:
    """Write vector sets `old`, `new`, `old-queries`, `new-queries` with the clusters as labels.

    Unit vectors of things in clusters in 64 latent dimensions, each model with noise of its own, block by block.
    """
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
    projection = draw.standard_normal((LATENT, dim), dtype=np.float32) / LATENT**0.5
    for start, count, prefix, suffix in ((0, rows, "item", ""), (rows, QUERIES, "query", "-queries")):
        labels = np.random.default_rng(1 + start).integers(0, CLUSTERS, count)
        for name, noise in (("old", 0.15), ("new", 0.1)):
            place = folder / f"{name}{suffix}"
            place.mkdir(parents=True, exist_ok=True)
            stored = np.lib.format.open_memmap(place / "vectors.npy", "w+", np.float32, (count, dim))
            with bar(f"data: {name}{suffix}", count, "rows", summary=False) as advance:
                for row in range(0, count, BLOCK):
                    chosen = labels[row : row + BLOCK]
                    # the same place of an item for both models
                    spread = np.random.default_rng((2, start, row)).standard_normal((len(chosen), LATENT), np.float32)
                    fresh = np.random.default_rng((3, len(name), start, row, int(1000 * noise)))
                    values = (centres[chosen] + 0.5 * spread) @ projection
                    values += noise * fresh.standard_normal(values.shape, np.float32)
                    stored[row : row + BLOCK] = values / np.linalg.norm(values, axis=1, keepdims=True)
                    advance(len(chosen))
            stored.flush()
            space = Space(weights=name, preprocessing="none", dim=dim, normalized=True, name=name)
            ids = np.char.add(f"{prefix}-", np.char.zfill(np.arange(count).astype(str), 7))
            VectorSet(stored, ids, labels.astype(np.int64), space=space).save_items(place)
