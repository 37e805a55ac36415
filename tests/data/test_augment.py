from __future__ import annotations

import math

import pytest
import torch

from samespace.data import Augment
from samespace.errors import InputError

EVERYTHING = Augment(
    rotate=20, translate=0.1, scale=0.2, shear=10, flip=True, brightness=0.3, contrast=0.3, erase=0.5, noise=0.1
)
COLUMNS = (
    *("rotate", "right", "down", "scale", "shear", "flip", "brightness"),
    *("contrast", "erase", "area", "aspect", "top", "left", "noise"),
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 12, channels: int = 3, height: int = 10, width: int = 14) -> torch.Tensor:
    return torch.rand(count, channels, height, width, generator=generator(9))


def fixed(count: int = 1, **values: float) -> torch.Tensor:
    """Draws in the middle of every range, apart from the columns named."""
    draws = torch.full((count, len(COLUMNS)), 0.5, dtype=torch.float64)
    for name, value in values.items():
        draws[:, COLUMNS.index(name)] = value
    return draws


def test_nothing_is_changed_by_default() -> None:
    batch = images()
    assert not Augment().active
    assert torch.equal(Augment().apply(batch, Augment().draw(12, generator())), batch)


def test_slicing_the_draws_of_the_global_batch_changes_nothing() -> None:
    batch, draws = images(), EVERYTHING.draw(12, generator())
    whole = EVERYTHING.apply(batch, draws)
    parts = [EVERYTHING.apply(batch[part], draws[part]) for part in (slice(0, 4), slice(4, 8), slice(8, 12))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)
    assert not torch.allclose(whole, batch, atol=0.05)


def test_results_repeat_stay_in_range_and_leave_the_input_alone() -> None:
    batch = images()
    before = batch.clone()
    results = [EVERYTHING.apply(batch, EVERYTHING.draw(12, generator(3))) for _ in range(2)]
    assert torch.equal(*results)
    assert torch.equal(batch, before)
    assert results[0].min() >= 0
    assert results[0].max() <= 1
    assert results[0].shape == batch.shape


def test_the_generator_moves_on_equally_whatever_is_on() -> None:
    one, two = generator(), generator()
    Augment().draw(5, one)
    EVERYTHING.draw(5, two)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=two))


def test_flip_mirrors_half_of_the_images() -> None:
    batch, augment = images(400, 1, 4, 6), Augment(flip=True)
    out = augment.apply(batch, augment.draw(400, generator()))
    mirrored = (out - batch.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    kept = (out - batch).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


def test_translation_by_whole_pixels() -> None:
    batch, augment = images(1, 1, 10, 20), Augment(translate=0.1, padding="zeros")
    out = augment.apply(batch, fixed(right=1.0, down=0.0))
    assert torch.allclose(out[..., :-1, 2:], batch[..., 1:, :-2], atol=1e-5)
    assert out[..., :, :2].abs().max() < 1e-5
    border = Augment(translate=0.1).apply(batch, fixed(right=1.0))
    assert torch.allclose(border[..., 0], batch[..., 0], atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(9, 9), (9, 15)])
def test_rotation_by_a_right_angle_keeps_pixels_square(height: int, width: int) -> None:
    batch = images(1, 1, height, width)
    out = Augment(rotate=90, padding="zeros").apply(batch, fixed(rotate=1.0))
    middle = slice((width - height) // 2, (width + height) // 2)
    square = batch[..., middle]
    assert torch.allclose(out[..., middle], square.rot90(-1, (2, 3)), atol=1e-4)


def test_affine_against_a_slow_definition() -> None:
    batch, augment = images(1, 1, 11, 17), Augment(rotate=30, scale=0.2, shear=20, translate=0.1, flip=True)
    draws = fixed(rotate=0.9, scale=0.8, shear=0.2, right=0.7, down=0.1, flip=0.2)
    angle, size = math.radians(30) * 0.8, 1 + 0.2 * 0.6
    slant = math.tan(math.radians(20) * -0.6)
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    forward = size * rotation @ torch.tensor([[1, slant], [0, 1.0]]) @ torch.tensor([[-1.0, 0], [0, 1]])
    out = augment.apply(batch, draws)
    for row in range(2, 9):
        for column in range(3, 14):
            place = torch.tensor([column + 0.5 - 8.5 - 0.1 * 0.4 * 17, row + 0.5 - 5.5 + 0.1 * 0.8 * 11])
            x, y = (torch.linalg.inv(forward) @ place + torch.tensor([8.5, 5.5]) - 0.5).tolist()
            x, y = min(max(x, 0.0), 16.0), min(max(y, 0.0), 10.0)
            left, top = min(int(x), 15), min(int(y), 9)
            patch = batch[0, 0, top : top + 2, left : left + 2]
            weights = torch.outer(torch.tensor([1 - (y - top), y - top]), torch.tensor([1 - (x - left), x - left]))
            assert float((patch * weights).sum()) == pytest.approx(float(out[0, 0, row, column]), abs=1e-4)


def test_brightness_and_contrast_by_hand() -> None:
    batch = torch.tensor([0.2, 0.4]).reshape(1, 1, 1, 2)
    assert torch.allclose(
        Augment(brightness=0.5).apply(batch, fixed(brightness=1.0)).flatten(), torch.tensor([0.3, 0.6])
    )
    assert torch.allclose(Augment(contrast=0.5).apply(batch, fixed(contrast=0.0)).flatten(), torch.tensor([0.25, 0.35]))


def test_erasing_replaces_one_rectangle_by_the_mean() -> None:
    batch = images(200, 2, 20, 30)
    augment = Augment(erase=0.5)
    out = augment.apply(batch, augment.draw(200, generator()))
    changed = (out != batch).all(dim=1)
    erased = changed.flatten(1).any(dim=1)
    assert 70 < erased.sum() < 130
    for row in erased.nonzero()[:20, 0]:
        hole = changed[row]
        tall, wide = hole.any(1).sum(), hole.any(0).sum()
        assert hole.sum() == tall * wide
        assert 0.01 < hole.sum() / hole.numel() < 0.25
        assert torch.allclose(out[row][:, hole], batch[row].mean(dim=(1, 2))[:, None])


def test_noise_has_the_given_spread_and_is_unlike_between_images_and_channels() -> None:
    grey = torch.full((40, 2, 16, 16), 0.5)
    augment = Augment(noise=0.1)
    noise = augment.apply(grey, augment.draw(40, generator())) - 0.5
    assert abs(float(noise.std()) - 0.1) < 0.002
    assert abs(float(noise.mean())) < 0.002
    flat = noise.reshape(80, -1)
    assert (torch.corrcoef(flat) - torch.eye(80)).abs().max() < 0.35


def test_half_precision_stays_half() -> None:
    batch = images().to(torch.bfloat16)
    assert EVERYTHING.apply(batch, EVERYTHING.draw(12, generator())).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "options",
    [{"rotate": -1}, {"erase": 1.5}, {"noise": float("nan")}, {"flip": 1}, {"padding": "mirror"}, {"scale": "big"}],
)
def test_values_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=f"augment: {next(iter(options))}"):
        Augment(**options)  # type: ignore[arg-type]


def test_wrong_batches_are_refused() -> None:
    draws = EVERYTHING.draw(2, generator())
    with pytest.raises(InputError, match="uint8"):
        EVERYTHING.apply(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), draws)
    with pytest.raises(InputError, match=r"needs draws \(3, 14\)"):
        EVERYTHING.apply(torch.zeros(3, 1, 4, 4), draws)
