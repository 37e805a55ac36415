from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from samespace.errors import InputError
from samespace.evaluate import templates as module
from samespace.evaluate.templates import pool


def slow_pool(vectors, templates, media, images, weights, normalize=True):
    """One template, one medium, one image at a time, in float64; None where there is no direction."""
    found = {}
    for template in sorted(set(templates)):
        means = {}
        for entry in range(len(templates)):
            vector = vectors[images[entry]].astype(np.float64)
            if templates[entry] != template or not np.isfinite(vector).all() or not vector.any():
                continue
            scale = np.linalg.norm(vector) if normalize else 1.0
            means.setdefault(media[entry], []).append(weights[entry] * vector / scale)
        total = sum((np.mean(parts, axis=0) for parts in means.values()), np.zeros(vectors.shape[1]))
        length = np.linalg.norm(total)
        found[template] = total / length if length > 1e-5 else None
    return found


entries = st.integers(1, 25).flatmap(
    lambda count: st.tuples(
        *(st.lists(st.integers(0, top), min_size=count, max_size=count) for top in (4, 3, 9)),
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=count, max_size=count),
    )
)
vectors = arrays.arrays(np.float32, (10, 3), elements=st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, np.nan]))


@given(vectors, entries, st.booleans())
def test_a_template_is_the_mean_of_its_media_and_a_medium_the_mean_of_its_images(vectors, entries, normalize):
    templates, media, images, weights = entries
    pooled = pool(vectors, templates, media, images=np.array(images), weights=weights, normalize=normalize)
    expected = slow_pool(vectors, templates, media, images, weights, normalize)
    assert pooled.templates.tolist() == list(expected)
    assert pooled.vectors.dtype == np.float32
    for row, empty, vector in zip(pooled.vectors, pooled.empty, expected.values(), strict=True):
        assert empty == (vector is None)
        np.testing.assert_allclose(row, np.zeros(3) if vector is None else vector, atol=2e-6)


def test_frames_of_one_video_count_as_one_image():
    frames = np.array([[1, 0]] * 9 + [[0, 1]], dtype=np.float32)
    even = pool(frames, ["t"] * 10, [1] * 9 + [2])
    np.testing.assert_allclose(even.vectors, [[np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)


def test_the_length_of_an_image_vector_weighs_only_where_asked():
    long = np.array([[4, 0], [0, 1]], dtype=np.float32)
    assert pool(long, [1, 1], [1, 2]).vectors[0, 0] == pytest.approx(np.sqrt(0.5))
    assert pool(long, [1, 1], [1, 2], normalize=False).vectors[0, 0] == pytest.approx(4 / np.sqrt(17))


def test_what_has_no_direction_is_reported_and_never_nan():
    images = np.array([[0, 0], [1, 0], [-1, 0], [np.inf, 1], [0, 1]], dtype=np.float32)
    pooled = pool(images, ["zero", "cancels", "cancels", "good", "good"], [1, 1, 2, 3, 3])
    assert pooled.templates.tolist() == ["cancels", "good", "zero"]
    assert pooled.empty.tolist() == [True, False, True]
    assert pooled.unusable.tolist() == [0, 3]
    assert pooled.vectors.tolist() == [[0, 0], [0, 1], [0, 0]]


def test_an_unusable_frame_leaves_its_video_to_the_others():
    images = np.array([[1, 0], [np.nan, 0], [0, 1]], dtype=np.float32)
    pooled = pool(images, [1, 1, 1], [1, 1, 2])
    np.testing.assert_allclose(pooled.vectors, [[np.sqrt(0.5), np.sqrt(0.5)]], rtol=1e-6)


def test_a_memory_map_in_any_order_gives_the_same_as_an_array(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    images = generator.normal(size=(60, 8)).astype(np.float32)
    template, medium = generator.integers(12, size=60), generator.integers(5, size=60)
    whole = pool(images, template, medium)
    order = generator.permutation(60)
    np.save(tmp_path / "images.npy", images[order])
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    monkeypatch.setattr(module, "_READ_ROWS", 7)
    again = pool(mapped, template, medium, images=np.argsort(order))
    np.testing.assert_allclose(again.vectors, whole.vectors, atol=1e-6)
    half = pool(images.astype(np.float16), template, medium)
    np.testing.assert_allclose(half.vectors, whole.vectors, atol=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"templates": [1, 1]}, "one per vector"),
        ({"media": [1, 1]}, "media should be one per entry"),
        ({"weights": [1, 1, -1]}, "at least 0"),
        ({"weights": [1, 1, np.nan]}, "finite and at least 0, got nan"),
        ({"weights": [1, np.inf, 1]}, "finite and at least 0, got inf"),
        ({"images": np.array([0, 1, 3])}, "rows of 3 vectors"),
    ],
)
def test_counts_and_values_that_do_not_fit_are_refused(arguments, message):
    given = {"templates": [1, 1, 2], "media": [1, 2, 3]} | arguments
    with pytest.raises(InputError, match=message):
        pool(np.eye(3, dtype=np.float32), **given)
