"""VehicleID: one image of each vehicle is the gallery, all others search it, over ten draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.benchmarks.reid import Reid, ReidScores
from samespace.data.published.vehicles import read_vehicles
from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints

_DRAWS = 10


@dataclass(frozen=True, eq=False)
class VehicleID:
    """One of the test lists of VehicleID (Liu et al., CVPR 2016, section 5).

    One image of each vehicle, drawn at random, is the gallery, and all others are queries; every metric is the mean of
    ten draws. A vehicle of a single image has no queries, but stays in the gallery. The bootstrap is over vehicles.

    Attributes:
        name: such as `VehicleID (800)`.
        ids: (N,) the images, as `image/0000001.jpg`.
        draws: for each draw the rows of its queries, the rows of its gallery and its protocol.
        identities: how many vehicles have queries.
        data: counts.
        notes: what was left out.
    """

    name: str
    ids: npt.NDArray[np.str_]
    draws: tuple[tuple[Ints, Ints, Reid], ...]
    identities: int
    data: Mapping[str, int]
    notes: tuple[str, ...]
    metrics: tuple[str, ...] = ("mAP", "rank@1", "rank@5", "rank@10")

    @classmethod
    def read(cls, path: str | Path, *, seed: int = 0) -> VehicleID:
        """Read a list such as `train_test_split/test_list_800.txt`, and draw ten galleries.

        Raises:
            InputError: no such file, a line of another form, or no vehicle of two images.
        """
        file = Path(path)
        if file.is_dir():
            raise InputError(f"{file} is a folder; name one of its lists, such as train_test_split/test_list_800.txt")
        names, vehicles = read_vehicles(file)
        generator = np.random.default_rng(seed)
        draws = [_draw(vehicles, generator, file) for _ in range(_DRAWS)]
        counts = np.unique(vehicles, return_counts=True)[1]
        single = int((counts == 1).sum())
        data = {
            "queries": len(draws[0][0]),
            "gallery": len(draws[0][1]),
            "identities": draws[0][2].identities,
            "draws": _DRAWS,
        }
        return cls(
            name=f"VehicleID ({len(counts)})",
            ids=np.char.add(np.char.add("image/", names), ".jpg"),
            draws=tuple(draws),
            identities=draws[0][2].identities,
            data=data,
            notes=(f"{single} vehicles of one image have no queries and stay in the gallery.",) if single else (),
        )

    def prepare(self, vectors: npt.NDArray[Any], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """One model's vectors of the images, scaled to length one, (N, D); one without a direction is an InputError."""
        from samespace.scoring.units import unit_rows

        return unit_rows(vectors, rows, self.ids)

    def run(self, queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> VehicleScores:
        """Search the gallery images of one model with the query images of another, (N, D) each, in every draw."""
        scores = []
        for asking, asked, protocol in self.draws:
            rows = np.concatenate([asking, asked])
            scores.append(protocol.run(queries[rows], gallery[rows]))
        return VehicleScores(tuple(scores))


@dataclass(frozen=True, eq=False)
class VehicleScores:
    """The rankings of every draw by one pair of models."""

    draws: tuple[ReidScores, ...]

    def values(self, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The named metrics, means over the draws, under each row of weights of the vehicles."""
        found = [scores.values(counts, names) for scores in self.draws]
        return {name: np.mean([values[name] for values in found], axis=0) for name in names}

    def genuine(self) -> Floats:
        """Scores of the images to be found, of all draws."""
        return np.concatenate([scores.genuine() for scores in self.draws])


def _draw(vehicles: Ints, generator: np.random.Generator, file: Path) -> tuple[Ints, Ints, Reid]:
    """Rows of queries and of the gallery, one of each vehicle, and the protocol on them."""
    shuffled = generator.permutation(len(vehicles))
    asked = np.sort(shuffled[np.unique(vehicles[shuffled], return_index=True)[1]])
    asking = np.setdiff1d(np.arange(len(vehicles)), asked)
    if not len(asking):
        raise InputError(f"{file}: no vehicle has two images, so that nothing can be searched")
    sides = vehicles[asking], vehicles[asked]
    # queries and gallery count as seen by two cameras, so that no pair is left out
    cameras = np.zeros(len(asking), dtype=np.int64), np.ones(len(asked), dtype=np.int64)
    return asking, asked, Reid.of(name="VehicleID", identity=sides, camera=cameras)
