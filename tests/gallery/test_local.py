"""Search on local indexes: equal to a slow search whatever became of the gallery and of its index files."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.gallery.index import segments
from samespace.gallery.index.local import compaction, loading
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.search.search import search
from samespace.space import Score

from .made import Made, as_rows, half_way, made_calibration, made_space, made_vectors, prefix, stretched

QUERIES = made_vectors(5, 32, seed=9)
COUNT = 300


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of a few dozen rows, so that small galleries have several."""
    monkeypatch.setattr(segments, "_SEGMENT_ROWS", 64)
    monkeypatch.setattr(segments, "_SEGMENT_BYTES", 1)
    monkeypatch.setattr(loading, "most_rows", lambda dim: 64)
    monkeypatch.setattr(compaction, "most_rows", lambda dim: 64)
    monkeypatch.setattr(loading, "_SPILL", 100)
    monkeypatch.setattr(segments, "_FEW", 10)
    monkeypatch.setattr(segments, "_PAGE", 32)
    monkeypatch.setattr(compaction, "FLUSH", 40)
    monkeypatch.setattr(compaction, "_SMALL", 16)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `shrink`."""
    shrink(monkeypatch)


def check(source: LocalSource, made: Made, k: int = 10) -> None:
    """The source finds what a slow search finds, one query at a time as well."""
    queries = QUERIES if made.query > 1 else prefix(QUERIES, made.spaces[1].dim)
    if made.score != "cosine":
        queries = stretched(queries, seed=3)
    found = as_rows(search(source, queries, made.spaces[made.query], k=k))
    assert found == made.slow(queries, k)
    assert [as_rows(search(source, query[None], made.spaces[made.query], k=k))[0] for query in queries] == found


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("k", [1, 10, 1000])
@pytest.mark.parametrize("folder", [True, False])
def test_mixed_search_equals_brute_force(tmp_path: Path, small: None, share: float, k: int, folder: bool) -> None:
    made = half_way(tmp_path, share=share)
    source = LocalSource(made.ledger, tmp_path / "index" if folder else None)
    check(source, made, k)
    source.maintain()
    check(source, made, k)


def test_mixed_search_equals_brute_force_with_64_of_128_dims_and_filters(tmp_path: Path) -> None:
    made = half_way(tmp_path, dims=(64, 128))
    source = LocalSource(made.ledger, None)
    queries = made_vectors(3, 128, seed=5)
    found = search(source, queries, made.spaces[2], k=7, where=["shop=berlin", "year>=40"])
    keep = made.slow(queries, 7, keep=lambda about: about["shop"] == "berlin" and about["year"] >= 40)
    assert as_rows(found) == keep
    assert search(source, queries, made.spaces[2], where=["shop=rome"]).hits == ((), (), ())


def test_three_spaces_deep_and_one_without_unit_norm(tmp_path: Path) -> None:
    made = Made(
        tmp_path, [made_space("a", 16, normalized=False), made_space("b", 32), made_space("c", 32, normalized=False)]
    )
    ids = [f"item-{number}" for number in range(90)]
    vectors = made_vectors(90, 32, seed=1)
    made.add(ids, 3 * vectors[:, :16])
    made.backfill(2, ids[20:70], vectors[20:70])
    made.backfill(3, ids[50:90], 5 * vectors[50:90])
    source = LocalSource(made.ledger, tmp_path / "index")
    for generation in (3, 2, 1, 3):
        made.switch(generation)
        check(source, made)
        assert source.state().live(1) == {1: 90, 2: 40, 3: 20}[generation]


def test_ties_go_by_id_across_spaces(tmp_path: Path) -> None:
    made = Made(tmp_path, [made_space("a", 16), made_space("b", 16)])
    with made.ledger.write() as writer:
        for gallery in (1, 2):
            writer.put_calibration(2, gallery, made_calibration(10.0, 0.0), "test")
    ids = [f"item-{number:02d}" for number in np.random.default_rng(0).permutation(40)]
    same = np.repeat(made_vectors(2, 16, seed=3), 20, axis=0)
    made.add(ids, same)
    made.backfill(2, ids[::2], same[::2])
    made.switch(2)
    source = LocalSource(made.ledger, None)
    for k in (1, 5, 20, 33):
        names = [hit.item for hit in search(source, same[:1], made.spaces[2], k=k).hits[0]]
        assert names == (sorted(ids[:20]) + sorted(ids[20:]))[:k]


def test_changed_and_removed_items(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path)
    source = LocalSource(made.ledger, tmp_path / "index")
    source.maintain()
    ids = sorted(made.metadata)
    best = search(source, QUERIES, made.spaces[2], k=1).hits[0][0].item
    made.remove([best, *ids[10:40]])
    check(source, made)
    made.change([ids[0], ids[1], ids[50]], made_vectors(3, 32, seed=6), generation=2)
    check(source, made)
    made.change([best], made_vectors(1, 16, seed=7))
    check(source, made)
    source.maintain()
    check(source, made)
    check(LocalSource(made.ledger, tmp_path / "index"), made)


STEPS = ["maintain", "backfill", "add", "remove", "change", "reopen", "lose", "back", "forth"]


@settings(max_examples=18)
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=10),
    seed=st.integers(0, 99),
    score=st.sampled_from(get_args(Score)),
)
def test_answers_do_not_depend_on_how_rows_are_cut(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int, score: Score
) -> None:
    folder = tmp_path_factory.mktemp("made")
    generator = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        made = half_way(folder, count=120, share=0.3, score=score)
        source = LocalSource(made.ledger, folder / "index")
        for number, step in enumerate(steps):
            live = sorted(set().union(*made.vectors.values()))
            lacking = [name for name in live if name not in made.vectors[2]]
            some = sorted(generator.choice(live, 12, replace=False).tolist())
            if step == "maintain":
                source.maintain()
            elif step == "backfill" and lacking:
                chosen = lacking[:: int(generator.integers(1, 4))]
                made.backfill(2, chosen, made_vectors(len(chosen), 32, seed=number))
            elif step == "add":
                made.add([f"new-{number}-{place}" for place in range(30)], made_vectors(30, 16, seed=number))
            elif step == "remove":
                made.remove(some)
            elif step == "change":
                made.change(some, made_vectors(len(some), 16, seed=number + 50))
            elif step == "reopen":
                source = LocalSource(made.ledger, folder / "index")
            elif step == "lose":
                shutil.rmtree(folder / "index", ignore_errors=True)
            elif step in ("back", "forth"):
                made.switch(1 if step == "back" else 2)
            check(source, made)
        made.ledger.close()


def test_rollback_in_mid_backfill_gives_the_same_bits(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path, share=0.0)
    made.switch(1)
    source = LocalSource(made.ledger, tmp_path / "index")
    queries = prefix(QUERIES, 16)
    before = as_rows(search(source, queries, made.spaces[1], k=50))
    source.maintain()
    made.switch(2)
    ids = sorted(made.metadata)
    for start in range(0, 150, 30):
        made.backfill(2, ids[start : start + 30], made_vectors(30, 32, seed=start))
        source.maintain()
        check(source, made)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "index" / made.spaces[1].id).iterdir()}
    made.switch(1)
    assert as_rows(search(source, queries, made.spaces[1], k=50)) == before
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "index" / made.spaces[1].id).iterdir()} == files


def test_compaction_sets_dead_rows_apart(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path, share=0.5)
    source = LocalSource(made.ledger, tmp_path / "index")
    source.maintain()
    shares = [part.live / len(part.segment) for part in source.state().parts[1]]
    assert {0.0, 1.0} == set(shares)
    assert all(part.mask is None for parts in source.state().parts.values() for part in parts)
    assert source.coverage() == {generation: {"indexed": count, "lag": 0, "kind": "exact"} for generation, count in
                                 {1: COUNT, 2: COUNT // 2}.items()}  # fmt: skip


def test_two_sources_on_one_folder_see_each_others_writes(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path, share=0.2)
    other = Ledger.open(made.ledger.location)
    one, two = LocalSource(made.ledger, tmp_path / "index"), LocalSource(other, tmp_path / "index")
    check(one, made)
    check(two, made)
    lacking = sorted(set(made.vectors[1]) - set(made.vectors[2]))
    for start in range(0, 200, 50):
        made.backfill(2, lacking[start : start + 50], made_vectors(50, 32, seed=start))
        (one if start % 100 else two).maintain()
        check(one, made)
        check(two, made)
    made.add(["last"], QUERIES[:1, :16] / np.linalg.norm(QUERIES[0, :16]))
    assert "last" in [hit.item for hit in search(two, QUERIES, made.spaces[2], k=COUNT + 1).hits[0]]
    listed = json.loads((tmp_path / "index" / made.spaces[2].id / "manifest.json").read_text())["segments"]
    assert {segment.name for segment in two.state().vectors[2].segments} == {entry["name"] for entry in listed}
    other.close()


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) * 2 // 3] ^= 0x41
    file.unlink()
    file.write_bytes(data)


def _empty(file: Path) -> None:
    file.unlink()
    file.write_bytes(b"")


@pytest.mark.parametrize("harm", [_cut, _flip, _empty, Path.unlink])
@pytest.mark.parametrize("pattern", ["*.vectors.npy", "*.rows.npy", "manifest.json"])
def test_damaged_files_are_ignored_and_written_anew(
    tmp_path: Path, small: None, harm: Callable[[Path], None], pattern: str
) -> None:
    made = half_way(tmp_path)
    LocalSource(made.ledger, tmp_path / "index").maintain()
    for file in list((tmp_path / "index").glob(f"*/{pattern}"))[:2]:
        harm(file)
    source = LocalSource(made.ledger, tmp_path / "index")
    check(source, made)
    source.maintain()
    check(source, made)
    again = LocalSource(made.ledger, tmp_path / "index")
    check(again, made)
    assert all(sum(map(len, vectors.fresh)) < compaction.FLUSH for vectors in again.state().vectors.values())


def test_index_of_another_gallery_or_of_a_later_ledger_is_not_believed(tmp_path: Path, small: None) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    made, foreign = half_way(tmp_path / "one"), half_way(tmp_path / "two", share=0.7)
    LocalSource(foreign.ledger, tmp_path / "index").maintain()
    source = LocalSource(made.ledger, tmp_path / "index")
    check(source, made)
    source.maintain()
    check(LocalSource(made.ledger, tmp_path / "index"), made)


@pytest.mark.parametrize("more", [10, 200])
def test_ledger_restored_from_a_backup(tmp_path: Path, small: None, more: int) -> None:
    made = half_way(tmp_path)
    made.ledger.close()
    database = Path(made.ledger.location) / "gallery.db"
    shutil.copy(database, tmp_path / "backup.db")
    made.ledger = Ledger.open(made.ledger.location)
    vectors = {generation: dict(kept) for generation, kept in made.vectors.items()}
    made.add([f"lost-{number}" for number in range(100)], made_vectors(100, 16, seed=11))
    LocalSource(made.ledger, tmp_path / "index").maintain()
    made.ledger.close()
    shutil.copy(tmp_path / "backup.db", database)
    made.ledger, made.vectors = Ledger.open(made.ledger.location), vectors
    made.add([f"other-{number}" for number in range(more)], made_vectors(more, 16, seed=12))
    check(LocalSource(made.ledger, tmp_path / "index"), made, k=COUNT)


def test_files_deleted_while_running_do_no_harm(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path)
    source = LocalSource(made.ledger, tmp_path / "index")
    source.maintain()
    check(source, made)
    shutil.rmtree(tmp_path / "index")
    check(source, made)
    made.remove(sorted(made.metadata)[:5])
    check(source, made)
    source.maintain()
    check(source, made)
    assert list((tmp_path / "index").glob("*/*.vectors.npy"))


def test_folder_that_cannot_be_written_does_no_harm(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = half_way(tmp_path)
    LocalSource(made.ledger, tmp_path / "index").maintain()
    made.add([f"new-{number}" for number in range(120)], made_vectors(120, 16, seed=11))

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # the tests may run as root, whom permissions do not stop
    monkeypatch.setattr(segments.SegmentFolder, "locked", refused)
    source = LocalSource(made.ledger, tmp_path / "index")
    check(source, made)
    source.maintain()
    check(source, made)


def test_readers_during_writes_see_each_item_once(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path, share=0.0)
    source = LocalSource(made.ledger, tmp_path / "index")
    ids, vectors = sorted(made.metadata), made_vectors(COUNT, 32, seed=4)
    stop, problems, rounds = threading.Event(), list[str](), [0, 0]

    def read(reader: int) -> None:
        try:
            while not stop.is_set():
                answer = search(source, QUERIES[:1], made.spaces[2], k=2 * COUNT)
                names = [hit.item for hit in answer.hits[0]]
                if sorted(names) != ids:
                    problems.append(f"{len(names)} items, {len(set(names))} distinct")
                new = sum(hit.space == made.spaces[2].id for hit in answer.hits[0])
                # each write adds ten, so another number would be half a write
                if new % 10:
                    problems.append(f"{new} items in the new space")
                filtered = search(source, QUERIES[:1], made.spaces[2], k=COUNT, where=["year<50"])
                if len(filtered.hits[0]) != 50:
                    problems.append(f"{len(filtered.hits[0])} of 50 items passed the filter")
                rounds[reader] += 1
        except Exception as error:
            problems.append(repr(error))

    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for reader in readers:
        reader.start()
    for start in range(0, COUNT, 10):
        made.backfill(2, ids[start : start + 10], vectors[start : start + 10])
        if start % 50 == 0:
            source.maintain()
    stop.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert min(rounds) > 3
    check(source, made)


def test_files_of_a_retired_space_go(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path, share=1.0)
    source = LocalSource(made.ledger, tmp_path / "index")
    source.maintain()
    assert (tmp_path / "index" / made.spaces[1].id).is_dir()
    with made.ledger.write() as writer:
        writer.retire(1)
    source.maintain()
    assert not (tmp_path / "index" / made.spaces[1].id).exists()
    check(source, made)


def test_a_read_only_gallery_writes_no_index_files(tmp_path: Path, small: None) -> None:
    made = half_way(tmp_path)
    made.ledger.close()
    made.ledger = Ledger.open(made.ledger.location, read_only=True)
    source = LocalSource(made.ledger, tmp_path / "index")
    check(source, made)
    source.maintain()
    check(source, made)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("mixed", [False, True])
def test_parts_are_written_as_one_segment(tmp_path: Path, mixed: bool) -> None:
    values = made_vectors(50, 16, seed=1)
    numbers = np.arange(1, 51)
    places = [np.arange(0, 50, 2), np.arange(1, 50, 2)] if mixed else [np.arange(30), np.arange(30, 50)]
    sums = segments.checksums(values)
    parts = [segments.Segment(numbers[some], 2 * numbers[some], sums[some], values[some]) for some in places]
    segment_folder = segments.SegmentFolder(tmp_path, "gallery", made_space("a", 16))
    with segment_folder.locked():
        saved, entry = segment_folder.save(*parts)
        segment_folder.write([entry], None)
    fresh = segments.SegmentFolder(tmp_path, "gallery", made_space("a", 16))
    loaded = fresh.load(fresh.read().segments[0])
    assert loaded is not None
    for one in (saved, loaded):
        assert one.numbers.tolist() == numbers.tolist()
        assert one.items.tolist() == (2 * numbers).tolist()
        assert one.checksums.tolist() == sums.tolist()
        np.testing.assert_array_equal(one.values, values)
    assert saved.name in segment_folder.sound


def test_each_index_file_is_looked_at_once(tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    whole = segments.SegmentFolder.whole

    def watched(segment_folder: segments.SegmentFolder, segment: segments.Segment, entry: dict[str, object]) -> bool:
        looked.append(segment.name)
        return whole(segment_folder, segment, entry)

    monkeypatch.setattr(segments.SegmentFolder, "whole", watched)
    made = half_way(tmp_path)
    source = LocalSource(made.ledger, tmp_path / "index")
    source.maintain()
    source.maintain()
    # what it wrote itself
    assert looked == []
    again = LocalSource(made.ledger, tmp_path / "index")
    again.maintain()
    again.maintain()
    names = [segment.name for vectors in source.state().vectors.values() for segment in vectors.segments]
    assert sorted(looked) == sorted(names) != []
