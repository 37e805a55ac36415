from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch

from samespace.data import ArraySource, Batch, batches, rank_slice, sequential, steps_per_epoch
from samespace.errors import InputError


class Numbered(ArraySource):
    """Image `i` has the value `i`; counts what is read and may fail at one row."""

    def __init__(self, count: int, *, fails_at: int = -1) -> None:
        super().__init__(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1), np.arange(count) % 3)
        self.fails_at = fails_at
        self.reads = 0

    def load(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        self.reads += 1
        if self.fails_at in rows:
            raise InputError(f"row {self.fails_at} is broken")
        return super().load(rows)


def loader_threads() -> int:
    return sum(thread.name.startswith("samespace-loader") for thread in threading.enumerate())


def rows_of(found: Sequence[Batch]) -> list[list[int]]:
    return [batch.rows.tolist() for batch in found]


def test_an_epoch_sees_each_row_at_most_once_with_its_label_and_image() -> None:
    source = Numbered(23)
    found = list(batches(source, batch_size=5, seed=1, epoch=0))
    assert [batch.step for batch in found] == [0, 1, 2, 3]
    rows = [row for batch in found for row in batch.rows.tolist()]
    assert len(set(rows)) == len(rows) == 20
    for batch in found:
        assert batch.images.flatten().tolist() == batch.rows.tolist()
        assert batch.labels.tolist() == (batch.rows % 3).tolist()
        assert batch.labels.dtype == torch.int64


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, **options: int) -> list[list[int]]:
        return rows_of(list(batches(Numbered(30), batch_size=6, seed=seed, epoch=epoch, **options)))

    assert order(1, 2) == order(1, 2, prefetch=0, workers=1) == order(1, 2, prefetch=9, workers=4)
    assert len({str(order(*pair)) for pair in ((1, 2), (2, 1), (1, 3), (0, 2))}) == 4


@pytest.mark.parametrize("start_step", [0, 1, 3, 4, 9])
def test_a_resumed_epoch_yields_the_remaining_batches(start_step: int) -> None:
    whole = list(batches(Numbered(22), batch_size=5, seed=3, epoch=1))
    rest = list(batches(Numbered(22), batch_size=5, seed=3, epoch=1, start_step=start_step))
    assert [batch.step for batch in rest] == list(range(start_step, 4))
    assert rows_of(rest) == rows_of(whole[start_step:])


def test_ranks_share_each_global_batch_in_order() -> None:
    whole = list(batches(Numbered(26), batch_size=8, seed=5, epoch=0))
    shares = [list(batches(Numbered(26), batch_size=8, seed=5, epoch=0, rank=rank, world_size=4)) for rank in range(4)]
    for step, batch in enumerate(whole):
        assert np.array_equal(np.concatenate([share[step].rows for share in shares]), batch.rows)
        assert shares[2][step].rows.tolist() == batch.rows[rank_slice(8, 2, 4)].tolist()


def test_fewer_images_than_a_batch_make_one_batch() -> None:
    found = list(batches(Numbered(3), batch_size=8, seed=0, epoch=0))
    assert [sorted(rows) for rows in rows_of(found)] == [[0, 1, 2]]
    assert [steps_per_epoch(count, 8) for count in (3, 8, 15, 16)] == [1, 1, 1, 2]


def test_stopping_early_ends_the_threads() -> None:
    source = Numbered(200)
    iterator = batches(source, batch_size=2, seed=0, epoch=0, prefetch=3)
    next(iterator)
    assert loader_threads() > 0
    iterator.close()  # type: ignore[attr-defined]
    assert loader_threads() == 0
    assert source.reads <= 5


def test_an_error_in_the_consumer_ends_the_threads() -> None:
    def consume() -> None:
        for batch in batches(Numbered(200), batch_size=2, seed=0, epoch=0):
            raise ZeroDivisionError(batch.step)

    with pytest.raises(ZeroDivisionError):
        consume()
    assert loader_threads() == 0


def test_an_error_while_reading_reaches_the_consumer_in_its_turn() -> None:
    iterator = sequential(Numbered(40, fails_at=17), 4)
    assert [next(iterator).step for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="row 17 is broken"):
        next(iterator)
    assert loader_threads() == 0


def test_reading_ahead_is_bounded() -> None:
    source = Numbered(200)
    iterator = sequential(source, 1, prefetch=4, workers=2)
    for _ in range(10):
        next(iterator)
    assert source.reads <= 10 + 4
    iterator.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [(0, None, [[0, 1, 2], [3, 4, 5], [6]]), (2, 6, [[2, 3, 4], [5]]), (4, 4, []), (7, None, [])],
)
def test_sequential_reads_every_row_in_order(start: int, stop: int | None, expected: list[list[int]]) -> None:
    found = list(sequential(Numbered(7), 3, start=start, stop=stop))
    assert rows_of(found) == expected
    assert [batch.step for batch in found] == list(range(len(expected)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"workers": 0}, "workers"),
        ({"prefetch": -1}, "prefetch"),
        ({"seed": -1}, "seed"),
        ({"start_step": -1}, "start_step"),
        ({"rank": 2, "world_size": 2}, "rank must lie in 0 to 1"),
        ({"world_size": 3}, "shared equally by 3"),
        ({"batch_size": 64, "world_size": 4}, "batch of 10 cannot be shared equally by 4"),
    ],
)
def test_wrong_values_are_refused_at_once(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        batches(Numbered(10), **{"batch_size": 4, "seed": 0, "epoch": 0, **options})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="do not lie within"):
        sequential(Numbered(10), 4, stop=11)
