"""Near copies left out: against a slow reading, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samespace import VectorSet
from samespace.errors import InputError
from samespace.evaluate import near_copies


def world(seed: int) -> dict[str, tuple[VectorSet, VectorSet]]:
    """Two models' vectors of 60 queries and 50 items; some items nearly copies, some queries without a mate."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 12, 60), draw.integers(0, 10, 50)
    models = {}
    for name, noise in (("old", 0.5), ("new", 0.7)):
        centres = draw.standard_normal((12, 6))
        sides = [centres[label] + noise * draw.standard_normal((len(label), 6)) for label in labels]
        for row in range(0, 50, 5):
            twin = np.flatnonzero(labels[0] == labels[1][row])[0]
            sides[1][row] = sides[0][twin] + 0.05 * draw.standard_normal(6)
        models[name] = tuple(
            VectorSet.from_arrays(
                values.astype(np.float32), labels=label, ids=[f"{side}{row}" for row in range(len(label))]
            )
            for side, values, label in zip("qg", sides, labels, strict=True)
        )
    return models


def cosines(sides: Any) -> np.ndarray:
    left, right = (one.vectors / np.linalg.norm(one.vectors, axis=1, keepdims=True) for one in sides)
    return np.asarray(left.astype(float) @ right.T.astype(float))


def written_out(models: Any, name: str, limit: float) -> tuple[float, float, int]:
    seen, scores = cosines(models["new"]), cosines(models[name])
    queries, items = (side.labels for side in models[name])
    right, precisions = [], []
    for row, label in enumerate(queries):
        left_out = (items == label) & (seen[row] >= limit)
        order = [place for place in np.argsort(-scores[row]) if not left_out[place]]
        hits = [items[place] == label for place in order]
        if any(hits):
            right.append(hits[0])
            precisions.append(np.mean([sum(hits[: at + 1]) / (at + 1) for at, hit in enumerate(hits) if hit]))
    return float(np.mean(right)), float(np.mean(precisions)), len(right)


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_a_slow_reading(seed):
    models = world(seed)
    found = near_copies(models, witness="new", cosines=[0.99, 0.9, 0.5])
    assert [one.cosine for one in found] == [None, 0.99, 0.9, 0.5]
    mates = models["old"][0].labels[:, None] == models["old"][1].labels[None]
    for one in found:
        limit = np.inf if one.cosine is None else one.cosine
        near = ((cosines(models["new"]) >= limit) & mates).any(axis=1)
        assert one.share == pytest.approx(near.sum() / mates.any(axis=1).sum())
        for name in models:
            rank, precision, left = written_out(models, name, limit)
            assert one.values[name] == pytest.approx({"rank@1": rank, "mAP": precision})
            assert one.queries == left
    assert 0 < found[1].share < found[2].share < found[3].share


def test_other_orders_are_matched_by_id_and_the_cross_test_is_a_model_like_another():
    models = world(0)
    (asked, stored), turn = models["old"], np.random.default_rng(5).permutation(50)
    mixed = {"new": models["new"], "cross": (models["new"][0], stored.subset(turn))}
    straight = {"new": models["new"], "cross": (models["new"][0], stored)}
    assert near_copies(mixed, witness="new") == near_copies(straight, witness="new")
    assert near_copies({"old": (asked, stored)}, witness="old", cosines=[-1.0])[1].values == {}


def test_an_item_is_no_mate_of_itself():
    items = world(0)["old"][1]
    whole, without = near_copies({"old": (items, items)}, witness="old", cosines=[0.99])
    assert without.share < 0.5
    scores = cosines((items, items))
    np.fill_diagonal(scores, -np.inf)
    mates = items.labels[:, None] == items.labels[None]
    np.fill_diagonal(mates, False)
    right = mates[np.arange(len(items)), scores.argmax(axis=1)]
    assert whole.values["old"]["rank@1"] == pytest.approx(right[mates.any(axis=1)].mean())


def test_what_is_refused():
    models = world(0)
    with pytest.raises(InputError, match="the witness is one of the models, old, new; got 'paragon'"):
        near_copies(models, witness="paragon")
    bare = VectorSet.from_arrays(models["old"][0].vectors, name="bare")
    with pytest.raises(InputError, match="bare has no labels"):
        near_copies({"old": (bare, models["old"][1])}, witness="old")
    with pytest.raises(InputError, match="50 expected, got 20"):
        near_copies(models | {"new": (models["new"][0], models["new"][1].subset(np.arange(20)))}, witness="old")
    asked, stored = models["old"]
    longer = VectorSet.from_arrays(np.hstack([stored.vectors, stored.vectors]), labels=stored.labels, ids=stored.ids)
    with pytest.raises(InputError, match="queries of mixed have 6 dimensions and its gallery 12"):
        near_copies(models | {"mixed": (asked, longer)}, witness="old")
