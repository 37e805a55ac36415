from __future__ import annotations

import numpy as np
import pytest
import torch

from samespace.data import GlyphSource, subset
from samespace.data.sources.glyphs import draw
from samespace.data.sources.strokes import key, normal, skeletons, uniform
from samespace.errors import InputError


def splitmix64(state: int) -> int:
    """Reference finaliser on Python integers."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_draws_are_splitmix64_of_a_counter() -> None:
    keys = key(3, "x", np.array([5, 6]))
    step = 0x9E3779B97F4A7C15
    expected = [(splitmix64((int(keys[1]) + step * n) % 2**64) >> 11) / 2**53 for n in (1, 2, 3)]
    assert uniform(keys, 3)[1].tolist() == expected


def test_normal_draws_have_mean_zero_and_variance_one() -> None:
    drawn = normal(key(0, "n", np.arange(100)), 2_000)
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01
    assert abs(np.corrcoef(drawn[0], drawn[1])[0, 1]) < 0.1


def test_images_do_not_depend_on_how_many_are_asked_for() -> None:
    small = GlyphSource(classes=8, images=3, size=20, seed=5)
    large = GlyphSource(classes=30, images=7, size=20, seed=5)
    rows = [7 * 7 + 2, 3 * 7 + 1]
    assert torch.equal(small.load([7 * 3 + 2, 3 * 3 + 1]), large.load(rows))
    assert large.ids[rows].tolist() == small.ids[[7 * 3 + 2, 3 * 3 + 1]].tolist()
    assert large.classes[7] == small.classes[7]


def test_drawing_one_equals_drawing_many() -> None:
    classes, images = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    together = draw(classes, images, size=32, seed=1, difficulty=0.5)
    for row in (0, 13, 29):
        alone = draw(classes[row : row + 1], images[row : row + 1], size=32, seed=1, difficulty=0.5)
        assert np.array_equal(alone[0], together[row])


def test_on_demand_equals_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = GlyphSource(classes=6, images=5, size=16).load([29, 0, 7])
    monkeypatch.setattr("samespace.data.sources.glyphs.BUDGET", 0)
    assert torch.equal(GlyphSource(classes=6, images=5, size=16).load([29, 0, 7]), kept)


def test_seed_and_difficulty_change_the_images() -> None:
    def image(**options: float) -> bytes:
        return GlyphSource(classes=3, images=2, size=24, **options).load([4]).numpy().tobytes()  # type: ignore[arg-type]

    images = {image(), image(seed=1), image(difficulty=0.6), image(difficulty=0.0)}
    assert len(images) == 4
    assert image() in images


def test_images_have_ink_inside_and_dark_corners() -> None:
    source = GlyphSource(classes=60, images=4, size=32, difficulty=0.0)
    images = source.load(np.arange(len(source))).float() / 255
    assert images.shape == (240, 1, 32, 32)
    share = (images > 0.5).float().mean(dim=(1, 2, 3))
    assert share.min() > 0.02
    assert share.max() < 0.5
    assert images[:, :, :2, :2].mean() < 0.05


def nearest_mean_accuracy(difficulty: float) -> float:
    source = GlyphSource(classes=40, images=12, size=24, difficulty=difficulty)
    images = source.load(np.arange(len(source))).float().reshape(40, 12, -1)
    centres = images[:, :6].mean(dim=1)
    distance = torch.cdist(images[:, 6:].reshape(240, -1), centres)
    return float((distance.argmin(dim=1) == torch.arange(40).repeat_interleave(6)).float().mean())


def test_difficulty_is_a_dial() -> None:
    easy, medium, hard = (nearest_mean_accuracy(value) for value in (0.0, 0.5, 1.0))
    assert easy > 0.95
    assert easy > medium + 0.1
    assert medium > hard + 0.1
    assert hard > 3 / 40


def shared_strokes(difficulty: float) -> tuple[float, float]:
    """Share of strokes that run in the same direction in two classes of one family, and of two families."""
    controls, used = skeletons(0, np.arange(80), difficulty)
    chord = controls[:, :, 3] - controls[:, :, 0]
    chord /= np.linalg.norm(chord, axis=-1, keepdims=True)
    same = np.abs(np.abs(np.einsum("isc,jsc->ijs", chord, chord)) - 1) < 1e-9
    both = used[:, None] & used[None] & ~np.eye(80, dtype=np.bool_)[:, :, None]
    family = (np.arange(80)[:, None] // 4 == np.arange(80) // 4)[:, :, None]
    return float(same[both & family].mean()), float(same[both & ~family].mean())


def test_families_share_strokes_only_where_difficult() -> None:
    assert shared_strokes(0.0) == (0.0, 0.0)
    (medium, across), (hard, _) = shared_strokes(0.5), shared_strokes(1.0)
    assert across == 0.0
    assert 0.1 < medium < hard - 0.1


def test_channels_labels_and_fingerprint() -> None:
    source = GlyphSource(classes=3, images=2, size=16, channels=3)
    images = source.load([5])
    assert torch.equal(images[:, 0], images[:, 2])
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    grey = GlyphSource(classes=3, images=2, size=16)
    assert grey.fingerprint() == GlyphSource(classes=3, images=2, size=16).fingerprint() != source.fingerprint()
    assert subset(source, [2, 5]).classes == ("glyph-0-00001", "glyph-0-00002")


def test_the_drawing_itself_has_not_changed() -> None:
    """A change of these numbers changes every result made with glyphs: raise the version in the fingerprint."""
    images = GlyphSource(classes=5, images=4, size=32).load(np.arange(20)).double()
    assert float(images.mean()) == pytest.approx(33.206, abs=0.01)
    assert float(images[13, 0, 16].mean()) == pytest.approx(50.75, abs=0.1)


@pytest.mark.parametrize("option", [{"images": 0}, {"size": 600}, {"seed": -1}, {"difficulty": -0.1}, {"channels": 2}])
def test_wrong_options_are_refused(option: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(option))):
        GlyphSource(**option)  # type: ignore[arg-type]
