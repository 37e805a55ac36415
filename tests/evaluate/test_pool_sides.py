"""Sets with templates are judged by template: pooled first, each template one item."""

from __future__ import annotations

import numpy as np
import pytest

from samespace import VectorSet
from samespace.errors import InputError
from samespace.evaluate import Certificate, check
from samespace.evaluate.templates import pooled


def frames(side: str, seed: int, noise: float) -> dict[str, np.ndarray]:
    """Three frames of each of two templates of each of 12 people, shuffled alike for every model."""
    person = np.repeat(np.arange(12), 6)
    centres = np.random.default_rng(0).normal(size=(12, 8))
    vectors = centres[person] + noise * np.random.default_rng(seed).normal(size=(len(person), 8))
    order = np.random.default_rng(9).permutation(len(person))
    names = np.array([f"{side}{who}-{number // 3 % 2}" for number, who in enumerate(person)])
    return {
        "vectors": vectors[order].astype(np.float32),
        "labels": person[order],
        "templates": names[order],
        "ids": np.array([f"{side}{number}" for number in range(len(person))])[order],
    }


def three_sets() -> dict[str, dict[str, np.ndarray]]:
    return {"queries": frames("q", 1, 0.6), "baseline": frames("q", 2, 1.2), "gallery": frames("g", 3, 1.2)}


def load(given: dict[str, dict[str, np.ndarray]]) -> dict[str, VectorSet]:
    return {role: VectorSet.from_arrays(**values, name=role) for role, values in given.items()}


def by_hand(values: dict[str, np.ndarray]) -> VectorSet:
    unit = values["vectors"].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    names = sorted(set(values["templates"].tolist()))
    means = [unit[values["templates"] == name].mean(axis=0) for name in names]
    labels = [values["labels"][values["templates"] == name][0] for name in names]
    return VectorSet.from_arrays(np.array(means, dtype=np.float32), labels=labels, ids=names)


def judge(given: dict[str, VectorSet]) -> Certificate:
    return check(metrics=["rank@1", "mAP", "TAR@FAR=1e-1"], replicates=100, **given)


def test_a_check_of_templates_equals_a_check_of_vectors_pooled_by_hand():
    given = three_sets()
    judged = judge(load(given))
    expected = judge({role: by_hand(values) for role, values in given.items()})
    for name, result in expected.metrics.items():
        assert judged[name].old == result.old
        assert judged[name].cross == result.cross
        assert judged[name].difference == result.difference
    assert judged.data["queries"] == 24
    assert any("72 vectors were pooled into 24 templates" in note for note in judged.notes)


def test_only_one_side_may_have_templates():
    given = three_sets()
    del given["gallery"]["templates"]
    judged = judge(load(given))
    assert (judged.data["queries"], judged.data["gallery"]) == (24, 72)


def test_templates_in_some_sets_of_a_side_only_are_refused():
    given = three_sets()
    del given["baseline"]["templates"]
    with pytest.raises(InputError, match=r"queries \(queries\) has templates and baseline \(baseline\) has none"):
        judge(load(given))


def test_a_template_of_two_people_is_refused():
    values = frames("q", 1, 0.6)
    values["templates"][:] = np.where(np.isin(values["labels"], (3, 4)), "both", values["templates"])
    with pytest.raises(InputError, match="template 'both' holds items of two labels"):
        pooled(VectorSet.from_arrays(**values))


def test_a_template_whose_vectors_cancel_is_refused():
    source = VectorSet.from_arrays(
        np.array([[1, 0], [-1, 0], [0, 1]], np.float32), labels=[0, 0, 1], templates=[5, 5, 6], name="v"
    )
    with pytest.raises(InputError, match="v: template '5' has no direction"):
        pooled(source)
