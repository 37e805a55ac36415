from __future__ import annotations

import numpy as np
import pytest

from samespace.data.deep import doubt_labels
from samespace.errors import InputError


def made(classes: int = 12, images: int = 8, noise: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, 32))
    labels = np.repeat(np.arange(classes), images)
    return (centres[labels] + noise * random.normal(size=(len(labels), 32))).astype(np.float32), labels


def test_swapped_labels_are_misplaced_and_name_the_class_they_lie_in():
    vectors, labels = made()
    right = labels.copy()
    labels[3], labels[50] = 9, 2
    found = doubt_labels(vectors, labels)
    assert [(one.row, one.label) for one in found.misplaced] == [(3, right[3]), (50, right[50])]
    assert all(labels[one.nearest] == one.label for one in found.misplaced)
    assert {one.row for one in found.outliers} >= {3, 50}


def test_a_picture_of_something_else_is_an_outlier_and_clean_labels_have_none():
    vectors, labels = made()
    assert doubt_labels(vectors, labels).misplaced == ()
    assert doubt_labels(vectors, labels).outliers == ()
    vectors[20] = np.random.default_rng(5).normal(size=32)
    found = doubt_labels(vectors, labels).outliers
    assert [one.row for one in found] == [20]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    others = unit[(labels == labels[20]) & (np.arange(len(labels)) != 20)].sum(axis=0)
    assert found[0].distance == pytest.approx(1 - unit[20] @ others / np.linalg.norm(others), abs=1e-5)


@pytest.mark.parametrize(("images", "asked"), [(1, 2), (3, 2), (4, 3), (9, 5)])
def test_small_classes_are_asked_for_fewer_neighbours(images, asked):
    vectors, labels = made(images=images)
    assert doubt_labels(vectors, labels).neighbours == asked


def test_copies_of_one_vector_are_no_outliers():
    vectors, labels = np.ones((6, 4), dtype=np.float32), np.array([0, 0, 0, 1, 1, 1])
    assert doubt_labels(vectors, labels).outliers == ()


def test_a_vector_without_direction_is_refused():
    with pytest.raises(InputError):
        doubt_labels(np.zeros((3, 2), dtype=np.float32), np.array([0, 0, 1]))
