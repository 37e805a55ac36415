"""`probe`: its figures by slow definitions, the way it advises on made-up upgrades, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import samespace
from samespace import InputError, SpaceError, VectorSet, metrics
from samespace.bridge.linear import procrustes
from samespace.evaluate import probe
from samespace.evaluate.probe import METRICS, NEAR_DUPLICATE
from samespace.evaluate.probe.split import rotation, split_classes
from samespace.space import Space

CLASSES, EACH, DIM = 60, 8, 12
QUICK = {"replicates": 200}


def centres(seed: int, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((CLASSES, dim))


def vectors(look: np.ndarray, noise: float, seed: int, **more) -> VectorSet:
    """Vectors of every class: what the class looks like to a model, and noise."""
    labels = np.repeat(np.arange(CLASSES), EACH)
    values = look[labels] + noise * np.random.default_rng(seed).standard_normal((len(labels), look.shape[1]))
    return VectorSet.from_arrays(values, labels=labels, ids=[f"i{row}" for row in range(len(labels))], **more)


def turn(dim: int = DIM) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(9).standard_normal((dim, dim)))[0]


STRONG = vectors(centres(1), 0.6, 2, name="strong.npz")
WEAK = vectors(centres(1), 1.4, 2, name="weak.npz")
UNRELATED = vectors(centres(5), 0.3, 6)
TURNED = vectors(centres(1) @ turn(), 0.05, 7)


def unit(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def wider() -> VectorSet:
    return vectors(np.concatenate([centres(1) @ turn(), centres(4)[:, :3]], axis=1), 0.7, 8)


def test_every_figure_is_that_of_the_public_functions_on_a_plain_matrix(wider):
    copies = WEAK.vectors.copy()
    copies[1::7] = copies[::7][: len(copies[1::7])]
    old = replace(WEAK, vectors=copies)
    found = probe(old, wider, seed=3, **QUICK)
    split = split_classes(old.labels, 0.5, 3)
    labels = old.labels[split.queries], old.labels[split.gallery]
    one, other = unit(old.vectors), unit(wider.vectors)
    matrix, shift = procrustes(one[split.learn].astype(np.float32), other[split.learn].astype(np.float32))
    tables = {
        "old": one[split.queries] @ one[split.gallery].T,
        "new": other[split.queries] @ other[split.gallery].T,
        "mapped": other[split.queries] @ unit(one[split.gallery] @ matrix + shift).T,
    }
    mates = labels[0][:, None] == labels[1][None]
    values = {
        test: {
            "rank@1": metrics.rank_k(scores, *labels, 1),
            "mAP": metrics.mean_average_precision(scores, *labels),
            "TAR@FAR=1e-3": metrics.tar_at_far(scores[mates], scores[~mates], 1e-3),
            "TPIR@FPIR=1e-1": metrics.tpir_at_fpir(scores, *labels, 0.1),
        }
        for test, scores in tables.items()
    }
    for name in METRICS:
        assert found.old.metrics[name].value == pytest.approx(values["old"][name], abs=1e-12)
        assert found.new.metrics[name].value == pytest.approx(values["new"][name], abs=1e-12)
        assert found.lead[name].value == pytest.approx(values["new"][name] - values["old"][name], abs=1e-12)
        assert found.mapped[name].value == pytest.approx(values["mapped"][name] - values["old"][name], abs=1e-9)
    for strength, scores in ((found.old, tables["old"]), (found.new, tables["new"])):
        for part, some in ((strength.genuine, scores[mates]), (strength.impostor, scores[~mates])):
            assert (part.mean, part.std) == pytest.approx((some.mean(), some.std()), abs=1e-7)
        assert strength.near_duplicates == pytest.approx((scores.max(axis=1) >= NEAR_DUPLICATE).mean())
    assert found.old.near_duplicates > 0.02


def test_intervals_are_those_of_the_paired_bootstrap_over_classes():
    found = probe(STRONG, UNRELATED, metrics=["rank@1"], confidence=0.9, seed=1, **QUICK)
    split = split_classes(STRONG.labels, 0.5, 1)
    right = {}
    for name, source in (("old", STRONG), ("new", UNRELATED)):
        scores = unit(source.vectors[split.queries]) @ unit(source.vectors[split.gallery]).T
        matches = metrics.matches(scores, STRONG.labels[split.queries], STRONG.labels[split.gallery])
        right[name] = np.where(matches.mated, matches.rank == 1, np.nan)
    draws = metrics.paired_bootstrap(right, STRONG.labels[split.queries], replicates=200, seed=1)
    assert found.old.metrics["rank@1"].interval == pytest.approx(metrics.interval(draws["old"], 0.9))
    assert found.lead["rank@1"].interval == pytest.approx(metrics.interval(draws["new"] - draws["old"], 0.9))


def test_the_split_holds_out_classes_and_halves_their_items():
    codes = np.concatenate([np.repeat(np.arange(20), 5), np.arange(20, 30)])
    split = split_classes(codes, 0.5, 0)
    assert (split.classes, split.unmated) == (15, 3)
    held = np.unique(codes[split.queries])
    assert len(held) == 15
    assert held.max() < 20, "classes of one item cannot be searched for"
    assert set(codes[split.learn]) == set(range(30)) - set(held)
    assert np.bincount(codes[split.queries]).max() == 2
    assert set(np.bincount(codes[split.gallery])) <= {0, 3}
    assert len(set(codes[split.gallery])) == 12
    assert not set(split.queries) & set(split.gallery)
    assert (np.diff(codes[split.gallery]) >= 0).all()


def test_the_seed_decides_everything():
    one = probe(STRONG, UNRELATED, seed=4, **QUICK).to_dict()
    assert probe(STRONG, UNRELATED, seed=4, **QUICK).to_dict() == one
    assert probe(STRONG, UNRELATED, seed=5, **QUICK).to_dict()["old"] != one["old"]


@pytest.mark.parametrize(
    ("old", "new", "way", "method"),
    [
        (STRONG, None, "compatible training", "matched"),
        (WEAK, None, "compatible training", "matched"),
        (vectors(centres(1), 0.05, 2), None, "stay", None),
        (STRONG, UNRELATED, "compatible training", "matched"),
        (WEAK, UNRELATED, "re-embed", None),
        (STRONG, TURNED, "bridge", None),
        (STRONG, vectors(centres(5), 0.6, 6), "stay", None),
        (STRONG, WEAK, "stay", None),
    ],
)
def test_the_way_that_fits_comes_first(old, new, way, method):
    found = probe(old, new, metrics=["mAP"], **QUICK)
    assert (found.ways[0].way, found.ways[0].method) == (way, method), found
    assert (found.new is None) == (found.lead is None) == (found.mapped is None) == (new is None)


def test_items_are_matched_by_id_and_templates_are_pooled():
    order = np.random.default_rng(0).permutation(len(UNRELATED))
    assert probe(STRONG, UNRELATED.subset(order), **QUICK).lead == probe(STRONG, UNRELATED, **QUICK).lead
    templates = np.arange(len(STRONG)) // 2
    found = probe(replace(STRONG, templates=templates), **QUICK)
    assert found.data.items == len(STRONG) // 2
    assert "pooled into 240 templates" in found.notes[0]


def test_the_rotation_is_the_bridges():
    one, other = unit(WEAK.vectors), unit(UNRELATED.vectors)[:, :5]
    for found, wanted in zip(rotation(one, other), procrustes(one.astype(np.float32), other), strict=True):
        assert found == pytest.approx(wanted, abs=1e-6)


def test_what_the_data_does_not_support_is_left_out_with_a_note():
    few = STRONG.subset(np.flatnonzero(STRONG.labels < 4))
    found = probe(few, UNRELATED.subset(np.flatnonzero(STRONG.labels < 4)), held_out=1, **QUICK)
    assert list(found.old.metrics) == ["rank@1", "mAP", "TAR@FAR=1e-3"]
    assert found.mapped is None
    notes = " ".join(found.notes)
    assert "Not measured: TPIR@FPIR=1e-1 cannot be measured" in notes
    assert "No rotation was learnt: the other classes have 0 items, 12 are needed" in notes
    assert "Only 4 held-out classes" in notes
    assert "among 4 classes than among the 527" in notes


def named(name: str) -> Space:
    return Space(weights=name, preprocessing="none", dim=DIM, normalized=True, name=name)


ZERO = replace(STRONG, vectors=STRONG.vectors * (np.arange(len(STRONG)) > 0)[:, None])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: probe(replace(STRONG, labels=None)), "strong.npz has no labels"),
        (lambda: probe(STRONG.subset(np.arange(3 * EACH))), "got 3 classes, 3 of them with 2 items"),
        (lambda: probe(STRONG.subset(np.arange(0, len(STRONG), EACH))), "got 60 classes, 0 of them with 2 items"),
        (lambda: probe(STRONG, held_out=0), "above 0 and at most 1, got 0"),
        (lambda: probe(STRONG, confidence=1), "confidence lies between 0 and 1"),
        (lambda: probe(STRONG, replicates=0), "replicates should be at least 1"),
        (lambda: probe(STRONG, metrics=["rank"]), "unknown metric 'rank'"),
        (lambda: probe(STRONG, metrics="mAP"), "metrics should be a list"),
        (lambda: probe(STRONG, UNRELATED.subset(np.arange(9))), "480 expected, got 9"),
        (lambda: probe(STRONG, replace(UNRELATED, labels=UNRELATED.labels + 1)), "differs from old vectors"),
        (lambda: probe(replace(STRONG, templates=STRONG.labels), UNRELATED), "has templates and new vectors"),
        (lambda: probe(ZERO, held_out=1), "zero or not finite"),
    ],
)
def test_what_cannot_be_probed_gets_one_line(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_two_sets_of_one_space_are_refused():
    with pytest.raises(SpaceError, match="declare one space"):
        probe(replace(STRONG, space=named("v1")), replace(UNRELATED, space=named("v1")))
    assert probe(replace(STRONG, space=named("v1")), replace(UNRELATED, space=named("v2")), **QUICK).new


def test_it_is_a_public_name():
    assert samespace.probe is probe
    assert probe(STRONG, **QUICK).to_dict()["format"] == "samespace.probe/1"
