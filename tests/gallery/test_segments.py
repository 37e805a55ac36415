"""Segments, their files, and the exact scan over them."""

from __future__ import annotations

import errno
import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace.errors import GalleryError
from samespace.gallery.index import exact, segments
from samespace.gallery.index.exact import Part, nearest
from samespace.gallery.index.local import compaction
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.segments import Segment, SegmentFolder, joined, unit
from samespace.gallery.search.search import search
from samespace.space import Score

from .made import half_way, made_space, made_vectors

DIM = 24


def segment_of(values: np.ndarray, first: int = 1, score: Score = "cosine") -> Segment:
    numbers = np.arange(first, first + len(values), dtype=np.int64)
    checksums = np.array([segments.checksum(row) for row in values], dtype=np.int64)
    return Segment(numbers, numbers + 1000, checksums, values, score=score)


def slow(
    values: np.ndarray, items: np.ndarray, query: np.ndarray, k: int, score: Score = "cosine"
) -> list[tuple[float, int]]:
    """The k best with ties, in float64."""
    wide, asked = values.astype(np.float64), query.astype(np.float64)
    raw = [-((row - asked) ** 2).sum() if score == "l2" else (row * asked).sum() for row in wide]
    pairs = sorted((-float(one), item) for one, item in zip(raw, items, strict=True))
    if len(pairs) <= k:
        return pairs
    return [pair for pair in pairs if pair[0] <= pairs[k - 1][0]]


@given(
    cuts=st.lists(st.integers(0, 200), max_size=4),
    dead=st.sampled_from([0.0, 0.05, 0.4, 0.8, 0.97, 1.0]),
    k=st.integers(1, 250),
    near=st.booleans(),
    block=st.sampled_from([7, 64, 16_384]),
    score=st.sampled_from(get_args(Score)),
    power=st.sampled_from([0, 1, 12]),
)
def test_scan_equals_a_slow_one_to_the_bit(
    cuts: list[int], dead: float, k: int, near: bool, block: int, score: Score, power: int
) -> None:
    generator = np.random.default_rng(k)
    values = made_vectors(200, DIM, seed=k, clusters=5)
    if near:
        # float32 products cannot tell such vectors apart
        step = 1e-7 * generator.standard_normal((200, DIM)).astype(np.float32)
        values = values[generator.integers(0, 3, 200)] + step * generator.integers(0, 2, (200, 1)).astype(np.float32)
    queries = made_vectors(9, DIM, seed=1)
    if score != "cosine":
        # lengths of many magnitudes, zero and the vectors of queries among them
        values = (values * 10 ** (power * generator.uniform(-1, 1, (200, 1)))).astype(np.float32)
        queries = (queries * 10 ** (power * generator.uniform(-1, 1, (9, 1)))).astype(np.float32)
        values[5], values[6], queries[3] = 0, queries[0], 0
    alive = generator.random(200) >= dead
    ends = [0, *sorted(cuts), 200]
    whole = segment_of(values, score=score)
    parts = [Part.of(whole.take(slice(a, b)), alive[a:b]) for a, b in pairwise(ends) if b > a]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_BLOCK", block)
        patch.setattr(exact, "_SEED", max(2, block // 8))
        patch.setattr(exact, "_GATHERED", block)
        found = nearest(parts, queries, k)
        alone = [nearest(parts, query[None], k)[0] for query in queries]
    for query, one, other in zip(queries, found, alone, strict=True):
        assert list(zip((-one.raw).tolist(), one.items.tolist(), strict=True)) == slow(
            values[alive], whole.items[alive], query, k, score
        )
        assert (one.items.tolist(), one.raw.tolist()) == (other.items.tolist(), other.raw.tolist())


def test_rows_of_a_space_without_unit_norm_are_divided_by_their_length() -> None:
    rows = 7 * made_vectors(20, DIM, seed=1)
    made = unit(rows, made_space("a", DIM, normalized=False))
    assert np.abs(np.linalg.norm(made.astype(np.float64), axis=1) - 1).max() < 1e-7
    assert (unit(rows[3:4], made_space("a", DIM, normalized=False)) == made[3]).all()
    assert unit(rows, made_space("a", DIM)) is rows


def test_a_segment_survives_the_disk(tmp_path: Path) -> None:
    segment_folder = SegmentFolder(tmp_path / "a", "gallery", made_space("a", DIM))
    one, two = segment_of(made_vectors(30, DIM, seed=1)), segment_of(made_vectors(10, DIM, seed=2), first=31)
    with segment_folder.locked():
        saved, entry = segment_folder.save(joined([two, one]))
        segment_folder.write([entry], None)
    assert isinstance(saved.values.base, np.memmap)
    manifest = segment_folder.read()
    assert (manifest.upto, manifest.stamp) == (40, segment_folder.stamp())
    loaded = segment_folder.load(manifest.segments[0])
    assert loaded is not None
    for found in (saved, loaded):
        assert (found.numbers == np.arange(1, 41)).all()
        assert (found.items == np.arange(1001, 1041)).all()
        assert (found.values == np.concatenate([one.values, two.values])).all()
    assert SegmentFolder(tmp_path / "a", "another", made_space("a", DIM)).read().segments == ()


def test_files_that_no_manifest_lists_are_swept(tmp_path: Path) -> None:
    segment_folder = SegmentFolder(tmp_path / "a", "gallery", made_space("a", DIM))
    with segment_folder.locked():
        _, first = segment_folder.save(segment_of(made_vectors(30, DIM, seed=1)))
        segment_folder.save(segment_of(made_vectors(30, DIM, seed=2)))
        (tmp_path / "a" / ".x.npy.0123abcd.tmp").write_bytes(b"")
        segment_folder.write([first], None)
    names = {file.name for file in (tmp_path / "a").iterdir()}
    assert names == {"manifest.json", f"{first['name']}.rows.npy", f"{first['name']}.vectors.npy"}


def test_large_files_are_checked_by_sample_and_by_compaction_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FLUSH", 40)
    made = half_way(tmp_path)
    queries = made_vectors(3, 32, seed=9)
    before = search(LocalSource(made.ledger, tmp_path / "index"), queries, made.spaces[2])
    LocalSource(made.ledger, tmp_path / "index").maintain()
    for file in (tmp_path / "index").glob("*/*.vectors.npy"):
        data = bytearray(file.read_bytes())
        # the second row of a file, which a sample of 64 rows passes by
        data[128 + (len(data) - 128) // 150 + 3] ^= 0x7F
        file.write_bytes(data)
    source = LocalSource(made.ledger, tmp_path / "index")
    assert len(source.state().vectors[2].segments) == 1
    source.maintain()
    assert search(source, queries, made.spaces[2]).hits == before.hits
    again = LocalSource(made.ledger, tmp_path / "index").state()
    for generation in (1, 2):
        for segment in again.vectors[generation].all():
            stored = [made.vectors[generation][name] for name in sorted(made.vectors[generation])]
            assert {row.tobytes() for row in segment.values} <= {row.tobytes() for row in stored}


def test_a_full_disk_is_said_in_one_line_and_searches_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FLUSH", 40)
    made = half_way(tmp_path)
    source = LocalSource(made.ledger, tmp_path / "index")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segments.SegmentFolder, "save", full)
    with pytest.raises(GalleryError, match=r"No space left on device.*make room"):
        source.maintain()
    queries = made_vectors(3, 32, seed=9)
    hits = search(source, queries, made.spaces[2]).hits
    assert [[hit.item for hit in one] for one in hits] == [[row[0] for row in one] for one in made.slow(queries, 10)]


@pytest.mark.parametrize(
    "graph",
    [
        {"name": "graph-1", "rows": 9},
        {"name": "graph-1", "rows": 9, "crc": [1, float("inf")]},
        {"name": "graph-1", "rows": 9, "crc": [1, 2], "vectors": {"bytes": 7, "head": 1e999, "head_crc": 3, "crc": 4}},
        {"name": "graph-1", "rows": 2**70, "crc": [1, 2]},
        {"name": "graph-1", "rows": 9, "crc": [1, 2], "served": {"rows": True}},
        {"name": "graph-1", "rows": 9, "crc": [1, 2], "vectors": {"bytes": 7, "head": 1, "head_crc": 3}},
        {"name": "graph-1", "rows": 9, "crc": [1, 2], "vectors": None},
        [],
    ],
)
def test_a_manifest_that_no_gallery_wrote_lists_nothing(tmp_path: Path, graph: object) -> None:
    folder = SegmentFolder(tmp_path, "gallery", made_space("a", DIM))
    with folder.locked():
        folder.write([], {"name": "graph-1", "rows": 9, "crc": [1, 2]})
    assert folder.read().graph is not None
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "graph": graph}))
    assert folder.read().graph is None
