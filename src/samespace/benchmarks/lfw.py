"""Labeled Faces in the Wild: 6,000 pairs in ten folds, and any list of pairs in its format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.metrics.bootstrap import ratio
from samespace.scoring.grid import Doubles, exact_scores
from samespace.scoring.metric_names import parse
from samespace.scoring.thresholds import query_thresholds
from samespace.scoring.units import unit_rows
from samespace.scoring.weighted import share_above

RATES = ("1e-3", "1e-2", "1e-1")

_CHUNK = 1 << 21
_VIEW_1: dict[str, Any] = {
    "metrics": tuple(f"TAR@FAR={rate}" for rate in RATES),
    "notes": ("The list is one set of pairs, as in view 1 of LFW: accuracy, which needs folds, is not measured.",),
}


@dataclass(frozen=True, eq=False)
class LFW:
    """Are two photographs of one person? Accuracy over folds, and TAR at bounds on FAR over all pairs.

    `accuracy`: the threshold with the most right answers on the other folds, the lowest of several, is applied to each
    fold in turn, and the shares of right answers are averaged; a pair is accepted strictly above the threshold.
    `TAR@FAR=f` as everywhere. The bootstrap is over people: a pair of one person counts as often as the person, a pair
    of two as often as the product says.

    Attributes:
        ids: (N,) the images in the list, as `Name/Name_0001.jpg`.
        first: (P,) row of the first image of each pair.
        second: (P,) row of the second.
        same: (P,) bool, whether it is one person.
        fold: (P,) from 0.
        people: (P, 2) numbers of the persons.
        identities: how many people there are.
        name: as published.
    """

    ids: npt.NDArray[np.str_]
    first: Ints
    second: Ints
    same: Mask
    fold: Ints
    people: Ints
    identities: int
    name: str = "LFW"
    metrics: tuple[str, ...] = ("accuracy", *(f"TAR@FAR={rate}" for rate in RATES))
    notes: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path, *, suffix: str = ".jpg") -> LFW:
        """Read `pairs.txt`: a line `folds pairs`, then per fold so many pairs of one person and as many of two.

        A pair of one person is `name number number`, a pair of two `name number name number`, parted by tabs, as
        published, or spaces; only tabs leave names with spaces beyond doubt. A first line of one number is that of
        view 1 (`pairsDevTrain.txt`, `pairsDevTest.txt`): one set of pairs, which has no accuracy over folds. Source:
        Huang et al., Labeled Faces in the Wild, Technical Report 07-49, and the README of its views.

        `path` is the file, or the folder that has it, and `suffix` that of the image files.

        Raises:
            InputError: no such file, or a line that does not fit, by its number.
        """
        path = Path(path) / "pairs.txt" if Path(path).is_dir() else Path(path)
        lines = list(text.lines(path, "the list of pairs of LFW, pairs.txt"))
        folds, each = _header(lines[0][1] if lines else "", path)
        if len(lines) != 1 + 2 * folds * each:
            announced = f"{folds} folds of {each}" if folds > 1 else f"{each}"
            raise InputError(
                f"{path}: the first line announces {announced} pairs of one person and {each} of two, "
                f"{2 * folds * each} lines; got {len(lines) - 1}{'' if folds > 1 else '; for folds it has two numbers'}"
            )
        place = np.arange(2 * folds * each)
        same = place // each % 2 == 0
        sides = [_pair(line, bool(one), f"{path}:{row}") for (row, line), one in zip(lines[1:], same, strict=True)]
        people, persons = np.unique(np.array([[a, b] for (a, _), (b, _) in sides]), return_inverse=True)
        images = np.array([[f"{name}/{name}_{number:04}{suffix}" for name, number in pair] for pair in sides])
        ids, rows = np.unique(images, return_inverse=True)
        rows = rows.reshape(-1, 2)
        return cls(
            ids=ids,
            first=rows[:, 0],
            second=rows[:, 1],
            same=same,
            fold=place // (2 * each),
            people=persons.reshape(-1, 2),
            identities=len(people),
            **({} if folds > 1 else _VIEW_1),
        )

    @property
    def data(self) -> Mapping[str, int]:
        """Counts."""
        return {
            "images": len(self.ids),
            "identities": self.identities,
            "folds": int(self.fold.max()) + 1,
            "genuine_pairs": int(self.same.sum()),
            "impostor_pairs": int((~self.same).sum()),
        }

    def prepare(self, vectors: npt.NDArray[Any], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """One model's vectors of the images, scaled to length one, (N, D); one without a direction is an InputError."""
        return unit_rows(vectors, rows, self.ids)

    def run(self, queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> LFWScores:
        """Compare the first image of each pair by one model with the second by another."""
        return LFWScores(self, exact_scores(queries, gallery, self.first, self.second))


@dataclass(frozen=True, eq=False)
class LFWScores:
    """The scores, (P,) cosines, of the pairs of the benchmark by one pair of models."""

    pairs: LFW
    scores: Doubles

    def values(self, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The named metrics under each row of weights of the people."""
        result: dict[str, list[Floats]] = {name: [] for name in names}
        step = max(1, _CHUNK // len(self.scores))
        for start in range(0, len(counts), step):
            one, other = (counts[start : start + step, side] for side in self.pairs.people.T)
            weights = np.where(self.pairs.same, one, one * other)
            for name in names:
                value = (
                    accuracy(self.scores, self.pairs.same, self.pairs.fold, weights)
                    if name == "accuracy"
                    else self._tar(name, weights)
                )
                result[name].append(value)
        return {name: np.concatenate(parts) for name, parts in result.items()}

    def genuine(self) -> Floats:
        """Scores of the pairs of one person."""
        return self.scores[self.pairs.same]

    def _tar(self, name: str, weights: Ints) -> Floats:
        same, rows = self.pairs.same, np.arange(len(self.scores))
        thresholds = query_thresholds(parse(name).argument, self.scores[~same], rows[~same], weights)
        usable = weights[:, ~same].any(axis=1)
        return np.where(usable, share_above(self.scores[same], rows[same], thresholds, weights), np.nan)


def accuracy(scores: Floats, same: Mask, fold: Ints, weights: Ints) -> Floats:
    """Mean over folds of the share of right answers at the best threshold of the other folds.

    Accepted means strictly above the threshold; it is −∞ or one of the scores, and of several with equally many right
    answers on the other folds the lowest.

    All but `weights`, (r, P), are (P,), folds numbered from 0. The result is (r,) float64; folds without weight are
    left out of the mean, NaN where all are.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, folds = scores[order], fold[order]
    weights = weights[:, order]
    signed = np.where(same[order], weights, -weights)
    # accepting the first c is possible only where that parts no equal scores
    cuts = np.flatnonzero(np.append(True, np.append(ordered[1:] < ordered[:-1], True)))[::-1]
    shares = []
    for number in range(int(fold.max()) + 1):
        mine = folds == number
        gained = np.cumsum(np.where(mine, 0, signed), axis=1)
        gained = np.concatenate([np.zeros((len(weights), 1), gained.dtype), gained], axis=1)[:, cuts]
        accepted = np.arange(len(ordered))[mine] < cuts[gained.argmax(axis=1)][:, None]
        right = (weights[:, mine] * (accepted == same[order][mine])).sum(axis=1)
        shares.append(ratio(right, weights[:, mine].sum(axis=1)))
    table = np.array(shares)
    defined = ~np.isnan(table)
    return ratio(np.where(defined, table, 0.0).sum(axis=0), defined.sum(axis=0))


def _header(line: str, path: Path) -> tuple[int, int]:
    """Folds, and pairs of each kind in one; view 1 is one fold."""
    words = line.split()
    if not 1 <= len(words) <= 2 or not all(word.isdecimal() and word.isascii() and len(word) < 10 for word in words):
        raise InputError(
            f"{path}: the first line should be two numbers, folds and pairs, such as '10 300', or one, as in view 1"
        )
    *folds, each = map(int, words)
    if each < 1 or (folds and folds[0] < 2):
        raise InputError(f"{path}: a threshold is chosen on other folds, so there must be two or more, got {line!r}")
    return (folds[0] if folds else 1), each


def _pair(line: str, one: bool, where: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """Person and number of both images."""
    words = [word.strip() for word in line.split("\t")] if "\t" in line.strip() else line.split()
    found = _names(words, one)
    if found is None:
        wanted = "'name number number', a pair of one person" if one else "'name number name number', a pair of two"
        raise InputError(f"{where}: expected {wanted}, got '{' '.join(words)[:80]}'")
    return found


def _names(words: list[str], one: bool) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """A pair from its words, where they can be read in one way only; spaces may also stand within a name."""
    numbers = [place for place, word in enumerate(words) if word.isdecimal() and word.isascii() and len(word) < 10]
    last = len(words) - 1
    if one and len(words) >= 3 and numbers[-2:] == [last - 1, last] and (name := " ".join(words[: last - 1])):
        return (name, int(words[-2])), (name, int(words[-1]))
    between = [place for place in numbers if 0 < place < last - 1]
    if one or len(between) != 1 or last not in numbers:
        return None
    cut = between[0]
    return (" ".join(words[:cut]), int(words[cut])), (" ".join(words[cut + 1 : last]), int(words[last]))
