from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from samespace import prototypes
from samespace.errors import InputError
from samespace.prototypes import buckets, propagation, refinement, rows


def sample(sizes: list[int], dim: int = 16, seed: int = 0, shuffled: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Old features, guide and labels of classes with outliers (every ninth row) and near duplicates (every eighth)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    both = []
    for spread in (1.0, 0.6):
        centres = torch.randn(len(sizes), dim, generator=generator)
        features = centres[labels] + spread * torch.randn(len(labels), dim, generator=generator)
        features[::9] = torch.randn(len(features[::9]), dim, generator=generator)
        both.append(features)
    for row in range(8, len(labels), 8):
        both[1][row] = both[1][row - 1] * 2 + 1e-3 * torch.randn(dim, generator=generator)
    order = torch.randperm(len(labels), generator=generator) if shuffled else torch.arange(len(labels))
    return both[0][order], both[1][order], labels[order]


def slow_edges(guide: Tensor, temperature: float, cap: float | None, axis: int) -> Tensor:
    """Eq. 6 entry by entry, shifted by the largest term; axis 1 = rows as in the text, 0 = the printed pseudo-code."""
    unit = guide.double() / guide.double().norm(dim=1, keepdim=True)
    size, all_cosines = len(unit), (unit @ unit.T).tolist()
    edges = torch.zeros(size, size, dtype=torch.float64)
    for i in range(size):
        cosines = {j: all_cosines[i][j] for j in range(size) if j != i}
        if cap is not None:
            cosines = {j: min(cosine, cap) for j, cosine in cosines.items()}
        top = max(cosines.values())
        terms = {j: math.exp((cosine - top) / temperature) for j, cosine in cosines.items()}
        total = sum(terms.values())
        edges[i] = torch.tensor([terms.get(j, 0.0) / total for j in range(size)], dtype=torch.float64)
    return edges if axis == 1 else edges.T


def slow_refined(
    features: Tensor,
    guide: Tensor,
    *,
    damping: float = 0.9,
    temperature: float = 0.05,
    cap: float | None = None,
    axis: int = 1,
) -> Tensor:
    """Eq. 9 by an explicit inverse and Eq. 10, in float64, for the samples of one class."""
    unit = features.double() / features.double().norm(dim=1, keepdim=True)
    if len(unit) == 1:
        return unit[0]
    edges = slow_edges(guide, temperature, cap, axis)
    propagated = (1 - damping) * torch.inverse(torch.eye(len(unit), dtype=torch.float64) - damping * edges) @ unit
    return propagated.mean(dim=0)


def assert_matches_the_inverse(
    features: Tensor, guide: Tensor, labels: Tensor, classes: int, tolerance: float = 1e-5, **options
) -> None:
    cap = options.pop("similarity_cap", None)
    result = prototypes.refined(features, labels, classes, guide=guide, similarity_cap=cap, **options)
    for label in range(classes):
        here = labels == label
        expected = slow_refined(features[here], guide[here], cap=cap, **options)
        assert float((result[label].double() - expected).abs().max()) < tolerance, label


@pytest.mark.parametrize("cap", [None, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.01, 1e-4])
@pytest.mark.parametrize("damping", [0.0, 0.5, 0.9, 0.99])
def test_refined_equals_the_explicit_inverse(damping: float, temperature: float, cap: float | None) -> None:
    features, guide, labels = sample([1, 2, 3, 13, 13, 26])
    assert_matches_the_inverse(features, guide, labels, 6, damping=damping, temperature=temperature, similarity_cap=cap)


def test_default_refinement_differs_from_the_mean() -> None:
    features, guide, labels = sample([13, 26])
    plain = prototypes.mean(features, labels, 2)
    assert float((prototypes.refined(features, labels, 2, guide=guide) - plain).abs().amax(dim=1).min()) > 1e-3


def test_zero_damping_is_the_mean() -> None:
    features, guide, labels = sample([5, 9])
    torch.testing.assert_close(
        prototypes.refined(features, labels, 2, guide=guide, damping=0.0), prototypes.mean(features, labels, 2)
    )


def test_normalising_columns_as_printed_gives_the_plain_mean_and_rows_do_not() -> None:
    features, guide, labels = sample([30])
    plain = prototypes.mean(features, labels, 1)[0].double()
    printed = slow_refined(features, guide, axis=0)
    rowwise = prototypes.refined(features, labels, 1, guide=guide)[0].double()
    assert float((printed - plain).abs().max()) < 1e-6
    assert float((rowwise - plain).abs().max()) > 1e-3


def test_one_sample_is_its_own_prototype_and_two_give_their_mean() -> None:
    features, guide, _ = sample([3])
    result = prototypes.refined(features, torch.tensor([0, 1, 1]), 3, guide=guide)
    unit = features / features.norm(dim=1, keepdim=True)
    torch.testing.assert_close(result[0], unit[0])
    torch.testing.assert_close(result[1], unit[1:].mean(dim=0))
    assert result[2].isnan().all()


@pytest.mark.parametrize("temperature", [1e-6, 1e-200, 1e200])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    _, guide, labels = sample([12, 20])
    guide[0] = -guide[1]
    weights = prototypes.refined_weights(labels, 2, guide=guide, temperature=temperature)
    assert weights.isfinite().all()
    assert (weights > 0).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    damping=st.floats(0, 0.98),
    temperature=st.floats(0.005, 2),
)
def test_weights_are_positive_and_sum_to_one(seed: int, sizes: list[int], damping: float, temperature: float) -> None:
    _, guide, labels = sample(sizes, seed=seed)
    weights = prototypes.refined_weights(labels, len(sizes), guide=guide, damping=damping, temperature=temperature)
    sums = torch.zeros(len(sizes)).index_add_(0, labels, weights)
    assert (weights > 0).all()
    torch.testing.assert_close(sums, torch.ones(len(sizes)), rtol=0, atol=2e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_samples_does_not_matter(seed: int) -> None:
    features, guide, labels = sample([4, 9, 9, 17], seed=seed)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    one = prototypes.refined(features, labels, 4, guide=guide)
    other = prototypes.refined(features[order], labels[order], 4, guide=guide[order])
    torch.testing.assert_close(one, other, rtol=0, atol=2e-6)


def test_sorted_labels_and_small_work_space_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    features, guide, labels = sample([9, 9, 4, 9, 1], shuffled=False)
    whole = prototypes.refined(features, labels, 5, guide=guide)
    monkeypatch.setattr(buckets, "CACHE_BYTES", 1000)
    torch.testing.assert_close(prototypes.refined(features, labels, 5, guide=guide), whole, rtol=0, atol=1e-6)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))
    shuffled = prototypes.refined(features[order], labels[order], 5, guide=guide[order])
    torch.testing.assert_close(shuffled, whole, rtol=0, atol=1e-6)


def test_classes_that_do_not_settle_are_eliminated(monkeypatch: pytest.MonkeyPatch) -> None:
    features, guide, labels = sample([40, 40])
    guide[labels == 0] = guide[labels == 0][torch.arange(40) // 2]
    calls = []
    original = propagation._eliminate

    def counted(transitions: Tensor, settings: propagation.Settings) -> Tensor:
        calls.append(len(transitions))
        return original(transitions, settings)

    monkeypatch.setattr(propagation, "_eliminate", counted)
    assert_matches_the_inverse(features, guide, labels, 2)
    assert calls, "twenty pairs of copies should not mix in a few steps"


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
def test_huge_classes_match_the_direct_solve(stored: bool, shuffled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, guide, labels = sample([5, 60, 60], shuffled=shuffled)
    direct = prototypes.refined_weights(labels, 3, guide=guide)
    monkeypatch.setattr(buckets, "DIRECT_LIMIT", 50)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 6000)
    monkeypatch.setattr(propagation, "STORE_BYTES", 2**30 if stored else 0)
    iterated = prototypes.refined_weights(labels, 3, guide=guide)
    torch.testing.assert_close(iterated, direct, rtol=0, atol=1e-6)
    assert_matches_the_inverse(features, guide, labels, 3)


def test_float32_is_kept_under_autocast() -> None:
    features, guide, labels = sample([20, 7])
    expected = prototypes.refined(features, labels, 2, guide=guide)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(prototypes.refined(features, labels, 2, guide=guide), expected, rtol=0, atol=0)


def test_memory_maps_and_half_precision_are_read(tmp_path: Path) -> None:
    features, guide, labels = sample([8, 3, 20])
    for name, values in (("old", features), ("new", guide)):
        np.save(tmp_path / f"{name}.npy", values.numpy().astype(np.float16))
    old, new = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("old", "new"))
    result = prototypes.refined(old, labels.numpy(), 3, guide=new)
    expected = prototypes.refined(torch.from_numpy(np.array(old)), labels, 3, guide=torch.from_numpy(np.array(new)))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(result, prototypes.refined(features, labels, 3, guide=guide), rtol=0, atol=0.02)


def cluster_with_a_pair() -> tuple[Tensor, Tensor]:
    """Forty samples with cosines about one half, but the last two are near copies; labels are all zero."""
    generator = torch.Generator().manual_seed(0)
    guide = torch.randn(256, generator=generator) + torch.randn(40, 256, generator=generator)
    guide[39] = guide[38] + 0.02 * torch.randn(256, generator=generator)
    return guide, torch.zeros(40, dtype=torch.int64)


def test_a_near_duplicate_pair_captures_the_prototype_unless_capped() -> None:
    guide, labels = cluster_with_a_pair()
    free = prototypes.refined_weights(labels, 1, guide=guide)
    capped = prototypes.refined_weights(labels, 1, guide=guide, similarity_cap=0.6)
    assert float(free[38:].sum()) > 0.4
    assert float(capped[38:].sum()) < 0.1
    free_size = float(prototypes.effective_sample_size(free, labels, 1)[0])
    capped_size = float(prototypes.effective_sample_size(capped, labels, 1)[0])
    assert free_size < 10 < 35 < capped_size


def test_a_cap_far_above_the_other_cosines_is_no_cure() -> None:
    guide, labels = cluster_with_a_pair()
    capped = prototypes.refined_weights(labels, 1, guide=guide, similarity_cap=0.9)
    assert float(capped[38:].sum()) > 0.4


def test_outliers_weigh_less() -> None:
    generator = torch.Generator().manual_seed(0)
    guide = torch.randn(64, generator=generator) + torch.randn(40, 64, generator=generator)
    guide[:8] = torch.randn(8, 64, generator=generator)
    weights = prototypes.refined_weights(torch.zeros(40, dtype=torch.int64), 1, guide=guide)
    assert float(weights[:8].sum()) < 0.05


def test_effective_sample_size_by_hand() -> None:
    weights = torch.tensor([0.5, 0.25, 0.25, 1.0])
    result = prototypes.effective_sample_size(weights, torch.tensor([0, 0, 0, 2]), 3)
    torch.testing.assert_close(result, torch.tensor([1 / 0.375, 0.0, 1.0]))
    with pytest.raises(InputError, match="weights have shape"):
        prototypes.effective_sample_size(weights[:, None], torch.tensor([0, 0, 0, 2]), 3)


@pytest.mark.parametrize(
    "options",
    [
        {"damping": 1.0},
        {"damping": -0.1},
        {"damping": math.nan},
        {"temperature": 0.0},
        {"temperature": math.inf},
        {"similarity_cap": -1.0},
        {"similarity_cap": 1.1},
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, float]) -> None:
    features, guide, labels = sample([4])
    with pytest.raises(InputError, match=next(iter(options))):
        prototypes.refined(features, labels, 1, guide=guide, **options)


@pytest.mark.parametrize("limit", [2048, 5])
@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_guide_row_without_direction_is_named(value: float, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "DIRECT_LIMIT", limit)
    features, guide, labels = sample([4, 9])
    guide[6] = value
    with pytest.raises(InputError, match="row 6 of guide"):
        prototypes.refined(features, labels, 2, guide=guide)


def test_a_guide_of_other_samples_is_refused() -> None:
    features, guide, labels = sample([4])
    with pytest.raises(InputError, match="4 features and 3 guide rows"):
        prototypes.refined(features, labels, 1, guide=guide[:3])


def test_guide_may_have_another_dimension() -> None:
    features, guide, labels = sample([6, 3])
    assert prototypes.refined(features, labels, 2, guide=guide[:, :5]).shape == (2, features.shape[1])


def test_refinement_in_two_steps_is_refinement() -> None:
    features, guide, labels = sample([6, 3, 9])
    weights = prototypes.refined_weights(labels, 4, guide=guide)
    two_steps = prototypes.weighted(features, labels, 4, weights=weights)
    expected = prototypes.refined(features, labels, 4, guide=guide)
    torch.testing.assert_close(two_steps, expected, rtol=0, atol=0, equal_nan=True)
    assert two_steps[3].isnan().all()


def test_weights_that_are_not_one_per_sample_are_refused() -> None:
    features, _, labels = sample([4])
    for weights in (torch.ones(3), torch.ones(4, 1)):
        with pytest.raises(InputError, match="expected one for each of 4 features"):
            prototypes.weighted(features, labels, 1, weights=weights)
    with pytest.raises(InputError, match="features has shape"):
        prototypes.weighted(features[:, 0], labels, 1, weights=torch.ones(4))


def test_features_that_are_no_matrix_of_floats_are_refused() -> None:
    features, guide, labels = sample([4])
    for wrong in (features[:, 0], features.long()):
        with pytest.raises(InputError, match="features has"):
            prototypes.refined(wrong, labels, 1, guide=guide)


def test_a_negative_cap_is_legal_and_makes_all_neighbours_alike() -> None:
    _, guide, labels = sample([6])
    capped = prototypes.refined_weights(labels, 1, guide=guide.abs(), similarity_cap=-0.5)
    torch.testing.assert_close(capped, torch.full((6,), 1 / 6))


def test_no_weight_or_centre_carries_a_graph() -> None:
    features, guide, labels = sample([4, 5])
    guide.requires_grad_()
    features.requires_grad_()
    weights = prototypes.refined_weights(labels, 2, guide=guide)
    leaf = weights.clone().requires_grad_()
    results = [weights, prototypes.weighted(features, labels, 2, weights=leaf)]
    results += [prototypes.refined(features, labels, 2, guide=guide)]
    results += [prototypes.effective_sample_size(leaf, labels, 2)]
    assert [result.requires_grad for result in results] == [False] * 4


@pytest.mark.parametrize("shuffled", [True, False])
def test_threads_change_nothing(shuffled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, guide, labels = sample([9, 9, 4, 9, 1, 30, 60, 60], shuffled=shuffled)
    monkeypatch.setattr(buckets, "DIRECT_LIMIT", 50)
    monkeypatch.setattr(buckets, "CACHE_BYTES", 2000)
    results, seen = [], set()
    original, before = propagation.sample_weights, torch.get_num_threads()

    def noted(guide: Tensor, settings: propagation.Settings) -> tuple[Tensor, Tensor]:
        seen.add((guide.shape[1] > 50, threading.current_thread() is threading.main_thread(), torch.get_num_threads()))
        return original(guide, settings)

    monkeypatch.setattr(refinement, "sample_weights", noted)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(prototypes.refined(features, labels, 8, guide=guide))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)
    # small classes by threads of their own, each with one; large ones after them by all threads together
    assert seen == {(False, True, 1), (True, True, 1), (False, False, 1), (True, True, 2)}


def test_threads_work_in_inference_mode_as_well() -> None:
    features, guide, labels = sample([9, 4, 30])
    expected, before = prototypes.refined(features, labels, 3, guide=guide), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            weights = prototypes.refined_weights(labels, 3, guide=guide)
            found = prototypes.weighted(features, labels, 3, weights=weights)
            assert torch.equal(prototypes.refined(features, labels, 3, guide=guide), expected)
            assert torch.equal(found, expected)
    finally:
        torch.set_num_threads(before)


def test_a_fault_in_a_thread_is_raised_and_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def work(bucket: buckets.Bucket) -> None:
        raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            buckets.each_bucket(work, torch.tensor([0, 1, 1]), 2, 4)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_one_elimination_for_each_size_is_what_the_iteration_gives() -> None:
    """What a GPU does, here on the CPU; nothing of a size is asked of the device: meta tensors have no answers."""
    torch.manual_seed(0)
    labels = torch.randint(0, 30, (200,))
    features, guide = torch.randn(200, 6), torch.randn(200, 8)
    capped = propagation.Settings(0.9, 0.05, 0.8)
    expected = prototypes.refined_weights(labels, 30, guide=guide, similarity_cap=0.8)
    centres, unknown = refinement._Centres(features, 30), refinement._Centres(features.to("meta"), 30)
    for bucket in buckets.buckets(labels, 30, 8):
        block = bucket.take(guide)
        weights, lengths = propagation.sample_weights(block, capped)
        if bucket.size > 1:
            transitions = propagation._of_gram(block @ block.mT, lengths, capped)
            weights = propagation._eliminate(transitions, capped).float()
        torch.testing.assert_close(weights.flatten(), expected[bucket.rows], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(lengths, torch.linalg.vector_norm(block, dim=-1))
        centres.add(bucket, weights)
        with MetaOnly():
            found, _ = propagation.sample_weights(block.to("meta"), capped)
            unknown.add(bucket, found)
    torch.testing.assert_close(
        centres.result(), prototypes.refined(features, labels, 30, guide=guide, similarity_cap=0.8), equal_nan=True
    )


class MetaOnly(TorchDispatchMode):
    """Refuses what would make the host wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "item", "is_nonzero"), func
        return func(*args, **(kwargs or {}))
