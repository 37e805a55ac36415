"""Vectors that are loaded without being held in memory: the same as others, and checked as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.vectors import VectorSet
from samespace.vectors.declared import Declared

VALUES = np.random.default_rng(0).standard_normal((3000, 24)).astype(np.float32)
IDS = np.array([f"größe-{place}" for place in range(3000)])


def npz(path: Path, values: np.ndarray = VALUES) -> Path:
    np.savez(path / "v.npz", labels=np.arange(3000), vectors=values, ids=IDS)
    return path / "v.npz"


def compressed(path: Path) -> Path:
    np.savez_compressed(path / "v.npz", vectors=VALUES, ids=IDS, labels=np.arange(3000))
    return path / "v.npz"


def column_by_column(path: Path) -> Path:
    return npz(path, np.asfortranarray(VALUES))


def parquet(path: Path) -> Path:
    import pyarrow
    import pyarrow.parquet

    table = {"id": IDS, "vector": list(VALUES), "label": np.arange(3000)}
    pyarrow.parquet.write_table(pyarrow.table(table), path / "v.parquet")
    return path / "v.parquet"


@pytest.mark.parametrize(
    ("form", "outside"), [(npz, True), (compressed, False), (column_by_column, False), (parquet, True)]
)
def test_mapped_vectors_are_the_same(tmp_path: Path, form: Callable[[Path], Path], outside: bool) -> None:
    path, said = form(tmp_path), Declared("clip", "v1")
    plain, mapped = VectorSet.load(path, said), VectorSet.load(path, said, mapped=True)
    assert mapped.space == plain.space
    np.testing.assert_array_equal(mapped.vectors, VALUES)
    np.testing.assert_array_equal(mapped.vectors, plain.vectors)
    assert mapped.ids.tolist() == IDS.tolist()
    assert mapped.labels is not None
    assert mapped.labels.tolist() == list(range(3000))
    base = mapped.vectors
    while isinstance(base.base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap) is outside
    # what lay in a temporary file is seen by nobody else
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9, 0.999])
def test_a_damaged_byte_is_found(tmp_path: Path, place: float) -> None:
    path = npz(tmp_path)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        VectorSet.load(path, mapped=True)


def test_no_room_for_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    np.testing.assert_array_equal(VectorSet.load(parquet(tmp_path), mapped=True).vectors, VALUES)
