"""A state that was made from what changed holds what one made anew does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.gallery.index import served
from samespace.gallery.index.local import compaction
from samespace.gallery.index.local.placing import located, place_anew
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.served import RowNumbers, ServedRows

from .made import half_way, made_vectors

STEPS = ["maintain", "backfill", "add", "remove", "change", "other", "back", "forth", "seal", "reopen"]
Rows = dict[int, set[int]]


def counted(placed: dict[int, list[object]]) -> tuple[Rows, Rows]:
    """Row numbers that are current and that serve, by generation."""
    current: Rows = {generation: set() for generation in placed}
    serving: Rows = {generation: set() for generation in placed}
    for generation, some in placed.items():
        for one in some:
            found = one.segment.numbers[one.current].tolist()
            assert not current[generation] & set(found)
            current[generation] |= set(found)
            serving[generation] |= set(one.segment.numbers[one.part.alive()].tolist())
    return current, serving


def check(source: LocalSource) -> None:
    with source.ledger.read() as reader:
        state = source.state()
        fresh = ServedRows.read(reader, reader.state(), {})
    assert state.gallery.revision == fresh.revision
    for generation, rows in fresh.rows.items():
        assert state.served.rows[generation].all().tolist() == rows.all().tolist()
    assert state.served.serving.tolist() == fresh.serving.tolist()
    anew = {one: place_anew(vectors.all(), fresh, one) for one, vectors in state.vectors.items()}
    assert all(not len(missing) for _, missing in anew.values())
    assert counted(dict(state.placed)) == counted({one: placed for one, (placed, _) in anew.items()})


@settings(max_examples=15)
@given(steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=12), seed=st.integers(0, 99))
def test_states_follow_one_another(tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int) -> None:
    folder, generator = tmp_path_factory.mktemp("made"), np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "FLUSH", 40)
        patch.setattr(compaction, "_SMALL", 16)
        patch.setattr(served, "_APART", 25)
        made = half_way(folder, count=80, share=0.3)
        source, other = LocalSource(made.ledger, folder / "index"), LocalSource(made.ledger, folder / "index")
        for number, step in enumerate(steps):
            live = sorted(set().union(*made.vectors.values()))
            lacking = [name for name in live if name not in made.vectors[2]]
            some = sorted(generator.choice(live, 8, replace=False).tolist())
            if step in ("maintain", "other"):
                (source if step == "maintain" else other).maintain()
            elif step == "backfill" and lacking:
                chosen = lacking[:: int(generator.integers(1, 4))]
                made.backfill(2, chosen, made_vectors(len(chosen), 32, seed=number))
            elif step == "add":
                made.add([f"new-{number}-{place}" for place in range(15)], made_vectors(15, 16, seed=number))
            elif step == "remove":
                made.remove(some)
            elif step == "change":
                made.change(some, made_vectors(len(some), 16, seed=number + 50))
            elif step in ("back", "forth"):
                made.switch(1 if step == "back" else 2)
            elif step == "reopen":
                source = LocalSource(made.ledger, folder / "index")
            elif step == "seal":
                # as one in part does
                with made.ledger.write() as writer:
                    writer.drop_superseded(1, 2, 1000)
                    writer.note_rows_deleted()
            check(source)
        made.ledger.close()


@given(
    base=st.lists(st.integers(0, 2**33), max_size=20),
    changes=st.lists(st.dictionaries(st.integers(0, 30), st.integers(0, 2**33), max_size=9), max_size=5),
)
def test_row_numbers_after_changes(base: list[int], changes: list[dict[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served, "_APART", 6)
        rows, known = RowNumbers.whole(np.array(base, dtype=np.int64)), dict(enumerate(base))
        for change in changes:
            before, expected = rows, [known.get(item, 0) for item in range(rows.count)]
            count = max([rows.count, *(item + 1 for item in change)])
            items = np.array(sorted(change), dtype=np.int64)
            numbers = np.array([change[item] for item in sorted(change)], dtype=np.int64)
            rows = rows.after(items, numbers, count)
            known |= change
            assert rows.all().tolist() == [known.get(item, 0) for item in range(count)]
            asked = np.arange(40)[::-1].copy()
            assert rows.of(asked).tolist() == [known.get(item, 0) for item in asked.tolist()]
            assert before.all().tolist() == expected


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_located(numbers: set[int], wanted: set[int]) -> None:
    among, asked = np.array(sorted(numbers), dtype=np.int32), np.array(sorted(wanted), dtype=np.int64)
    which, places = located(among, asked)
    assert asked[which].tolist() == among[places].tolist() == sorted(numbers & wanted)
