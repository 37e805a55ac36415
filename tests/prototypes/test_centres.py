from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from samespace import prototypes
from samespace.errors import InputError
from samespace.losses import InfluenceLoss
from samespace.prototypes import rows


def sample(count: int = 60, classes: int = 5, dim: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of any length, and labels in which class `classes - 1` is empty."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes - 1, (count,), generator=generator)
    return torch.randn(count, dim, generator=generator) * 3, labels


def slow_unit_rows(features: Tensor, labels: Tensor, label: int) -> list[list[float]]:
    members = [features[i].double().tolist() for i in range(len(labels)) if int(labels[i]) == label]
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in members]


def slow_mean(unit: list[list[float]]) -> list[float]:
    return [sum(column) / len(unit) for column in zip(*unit, strict=True)]


def slow_trimmed(unit: list[list[float]], dropped: int) -> list[float]:
    centre = slow_mean(unit)
    length = math.sqrt(sum(x * x for x in centre))
    cosines = [sum(a * b for a, b in zip(row, centre, strict=True)) / length for row in unit]
    order = sorted(range(len(unit)), key=lambda i: -cosines[i])
    return slow_mean([unit[i] for i in order[: len(unit) - dropped]])


def test_mean_is_the_mean_of_unit_features() -> None:
    features, labels = sample()
    result = prototypes.mean(features, labels, 5)
    assert result.dtype == torch.float32
    for label in range(4):
        expected = torch.tensor(slow_mean(slow_unit_rows(features, labels, label)), dtype=torch.float64)
        torch.testing.assert_close(result[label].double(), expected, rtol=0, atol=1e-6)
    assert result[4].isnan().all()
    assert (result[:4].norm(dim=1) < 0.99).all(), "the mean must not be re-normalised"


@pytest.mark.parametrize(
    ("drop", "size", "dropped"), [(0.1, 9, 0), (0.1, 10, 1), (0.29, 100, 29), (0.99, 3, 2), (0.0, 4, 0)]
)
def test_trimmed_leaves_out_the_farthest(drop: float, size: int, dropped: int) -> None:
    features, _ = sample(size)
    labels = torch.zeros(size, dtype=torch.int64)
    expected = slow_trimmed(slow_unit_rows(features, labels, 0), dropped)
    result = prototypes.trimmed(features, labels, 1, drop=drop)[0]
    torch.testing.assert_close(result.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


def test_trimmed_trims_each_class_by_its_own_mean() -> None:
    features, labels = sample(200)
    result = prototypes.trimmed(features, labels, 5, drop=0.2)
    for label in range(4):
        unit = slow_unit_rows(features, labels, label)
        expected = torch.tensor(slow_trimmed(unit, math.floor(0.2 * len(unit))), dtype=torch.float64)
        torch.testing.assert_close(result[label].double(), expected, rtol=0, atol=1e-6)
    assert result[4].isnan().all()


@pytest.mark.parametrize("drop", [0.1, 0.9, 1 - 1e-12])
def test_trimmed_never_drops_a_whole_class(drop: float) -> None:
    features, _ = sample(3)
    result = prototypes.trimmed(features, torch.tensor([0, 1, 2]), 3, drop=drop)
    torch.testing.assert_close(result, features / features.norm(dim=1, keepdim=True))


@pytest.mark.parametrize("drop", [-0.1, 1.0, math.nan])
def test_trimmed_refuses_an_impossible_share(drop: float) -> None:
    with pytest.raises(InputError, match="drop is"):
        prototypes.trimmed(*sample(), 5, drop=drop)


@pytest.mark.parametrize("method", [prototypes.mean, prototypes.trimmed])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_samples_does_not_matter(method, seed: int) -> None:
    features, labels = sample(40, seed=seed)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        method(features, labels, 5), method(features[order], labels[order], 5), rtol=0, atol=1e-6, equal_nan=True
    )


@pytest.mark.parametrize("method", [prototypes.mean, prototypes.trimmed])
def test_block_size_changes_nothing(method, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = sample(60)
    whole = method(features, labels, 5)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 200)
    torch.testing.assert_close(method(features, labels, 5), whole, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_memory_maps_of_any_float_type_are_read(tmp_path: Path, dtype: type) -> None:
    features, labels = sample()
    path = tmp_path / "vectors.npy"
    np.save(path, features.numpy().astype(dtype))
    mapped = np.load(path, mmap_mode="r")
    expected = prototypes.mean(torch.from_numpy(np.array(mapped)), labels, 5)
    result = prototypes.mean(mapped, labels.numpy().astype(np.int32), 5)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6, equal_nan=True)
    torch.testing.assert_close(result, prototypes.mean(features, labels, 5), rtol=0, atol=1e-3, equal_nan=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 5, 1]), "label 5 in row 2 is outside 0..4"),
        (torch.tensor([0, -1, 2, 1]), "label -1 in row 1 is outside"),
        (torch.tensor([0, 1, 2]), "3 labels for 4 samples"),
        (torch.tensor([0.0, 1.0, 2.0, 3.0]), "whole numbers"),
        (torch.tensor([[0, 1, 2, 3]]), "one dimension"),
    ],
)
def test_unusable_labels_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prototypes.mean(torch.ones(4, 2), labels, 5)


@pytest.mark.parametrize(("value", "message"), [(math.nan, "NaN"), (math.inf, "infinity"), (0.0, "all zero")])
def test_a_row_without_direction_is_named(value: float, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 100)
    features, labels = sample()
    features[37] = value
    with pytest.raises(InputError, match=f"row 37 of features .*{message}"):
        prototypes.mean(features, labels, 5)


@pytest.mark.parametrize(
    "features", [torch.ones(4), torch.ones(4, 2, dtype=torch.int64), [[1.0, 2.0]], torch.ones(4, 0)]
)
def test_what_is_no_matrix_of_floats_is_refused(features) -> None:
    with pytest.raises(InputError, match="features"):
        prototypes.mean(features, torch.zeros(4, dtype=torch.int64), 1)


@pytest.mark.parametrize("num_classes", [0, -1, 2.0, True])
def test_an_impossible_number_of_classes_is_refused(num_classes) -> None:
    with pytest.raises(InputError, match="num_classes"):
        prototypes.mean(torch.ones(1, 2), torch.tensor([0]), num_classes)


def test_extended_classifier_keeps_old_rows_and_synthesises_new_ones() -> None:
    old = torch.tensor([[0.0, 4.0], [2.0, 0.0], [0.0, -6.0]])
    features = torch.tensor([[3.0, 0.0], [0.0, 0.5], [1.0, 1.0]])
    weight, rows = prototypes.extend_classifier(old, torch.tensor([2, -1, 0, -1]), features, torch.tensor([1, 1, 2]))
    assert weight.shape == (5, 2)
    torch.testing.assert_close(weight[:3], old)
    torch.testing.assert_close(weight[3], torch.tensor([1.0, 1.0]) / math.sqrt(2) * 4)
    assert weight[4].isnan().all()
    assert rows.dtype == torch.int64
    assert rows.tolist() == [2, 3, 0, 4]


def test_an_old_class_absent_from_the_new_data_stays_a_negative() -> None:
    old = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[-1.0, 0.0]])
    weight, rows = prototypes.extend_classifier(old, torch.tensor([0, -1]), features, torch.tensor([1]))
    loss = InfluenceLoss(weight, class_map=rows, margin="norm-softmax", scale=1.0)
    vectors, labels = torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([0, 1])
    torch.testing.assert_close(float(loss(vectors, labels)), math.log(2 + math.e), rtol=1e-6, atol=0.0)


@pytest.mark.parametrize(
    ("class_map", "message"),
    [([0, 3], "expected 0..2"), ([0, -2], "class 1 to -2"), ([1, 1], "same old row")],
)
def test_a_class_map_that_points_nowhere_or_twice_is_refused(class_map: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prototypes.extend_classifier(torch.eye(3), torch.tensor(class_map), torch.eye(3)[:2], torch.tensor([0, 1]))


def test_extending_with_features_of_another_space_is_refused() -> None:
    with pytest.raises(InputError, match="3 columns and features have 4"):
        prototypes.extend_classifier(torch.eye(3), torch.tensor([0, -1]), torch.ones(1, 4), torch.tensor([1]))


def test_only_a_whole_number_of_classes_from_one_on_is_told_to_be_legal() -> None:
    with pytest.raises(InputError, match="num_classes is 0; expected a whole number of at least 1"):
        prototypes.mean(torch.ones(1, 2), torch.tensor([0]), 0)


def test_labels_of_truth_values_are_refused() -> None:
    with pytest.raises(InputError, match="whole numbers"):
        prototypes.mean(torch.ones(2, 2), torch.tensor([True, False]), 2)


@pytest.mark.parametrize("features", [torch.ones(2), torch.ones(2, 3, dtype=torch.int64)])
def test_extending_with_what_is_no_matrix_of_floats_is_refused(features: Tensor) -> None:
    with pytest.raises(InputError, match="features has"):
        prototypes.extend_classifier(torch.eye(3), torch.tensor([0, -1]), features, torch.tensor([1, 1]))


def test_of_equally_far_samples_the_later_rows_go_first() -> None:
    features = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    result = prototypes.trimmed(features, torch.tensor([0, 0]), 1, drop=0.5)
    torch.testing.assert_close(result[0], features[0] / math.sqrt(2))


def test_no_centre_carries_a_graph() -> None:
    features, old = torch.randn(4, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    labels = torch.tensor([0, 0, 1, 1])
    extended, _ = prototypes.extend_classifier(old, torch.tensor([0, -1]), features, labels)
    for result in (prototypes.mean(features, labels, 2), prototypes.trimmed(features, labels, 2), extended):
        assert not result.requires_grad


def test_one_column_is_enough_and_none_is_refused() -> None:
    labels = torch.tensor([0, 0, 1])
    result = prototypes.mean(torch.tensor([[2.0], [-3.0], [5.0]]), labels, 2)
    torch.testing.assert_close(result, torch.tensor([[0.0], [1.0]]))
    with pytest.raises(InputError, match=r"features has shape \(3, 0\)"):
        prototypes.mean(torch.ones(3, 0), labels, 2)
