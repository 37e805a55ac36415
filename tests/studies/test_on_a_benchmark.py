"""A study checked on a published benchmark: trained on its training part, certified on its own protocol."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.studies import Plan, bct, load_settings, reproduce
from samespace.studies.study import Pair

SIZE = 16


def market(root: Path) -> Path:
    """A set in Market-1501's layout: 12 persons to train on, 6 to search, junk and distractors."""
    draw = np.random.default_rng(0)
    looks = draw.integers(0, 256, (30, SIZE, SIZE, 3))

    def write(part: str, person: int, camera: int, number: int) -> None:
        pixels = looks[person % 30] + draw.normal(0, 30, (SIZE, SIZE, 3))
        folder = root / part
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{person:04}_c{camera}s1_{number:06}_00.jpg" if person >= 0 else f"-1_c{camera}s1_{number:06}_00.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)

    for person in range(1, 13):
        for number in range(6):
            write("bounding_box_train", person, 1 + number % 3, number)
    for person in range(13, 19):
        write("query", person, 1, 90)
        for number in range(4):
            write("bounding_box_test", person, 1 + number % 3, number)
    for number in range(3):
        write("bounding_box_test", 0, 2, 50 + number)
        write("bounding_box_test", -1, 2, 60 + number)
    return root


def plan(root: Path, out: Path) -> Plan:
    overrides = [
        "model.backbone=convnet16",
        "model.embedding_dim=16",
        f"model.image_size={SIZE}",
        "optim.epochs=2",
        "optim.batch_size=24",
        "optim.milestones=[1]",
        "check.replicates=100",
        f"check.files={root}",
        f"check.images=market1501:{root},part=test",
    ]
    source = f"market1501:{root},part=train"
    return Plan(bct(), load_settings("market1501", overrides), source, out, (0,), ("5",))


def test_table_5_on_a_set_in_market_1501s_own_files(tmp_path):
    made = plan(market(tmp_path / "market"), tmp_path / "out")
    found = reproduce(made, workers=1, say=lambda line: None, quiet=True).results
    certificate = Certificate.load(made.certificate(Pair("beta", "old", "paragon"), 0))
    assert "Market-1501" in str(certificate.to_dict())
    assert "mAP" in certificate.metrics
    (table,) = found["tables"]
    means = [row["cells"][0]["mean"] for row in table["rows"]]
    metric = certificate["mAP"]
    assert means[0] == metric.old
    assert means[2] == metric.cross
    assert means[3] == metric.new
    assert means[4] == metric.paragon
    # every training image plays a part: a benchmark holds out no classes
    models = {model["name"]: model for model in found["models"]}
    assert models["paragon"]["images"] == [72]
    assert models["old"]["classes"] == [6]


@pytest.mark.parametrize(
    ("part", "message"),
    [("query", "lacks images for part 'query'|query"), ("bounding_box_test", "gallery|bounding_box_test")],
)
def test_a_benchmark_without_its_files_is_refused_before_any_training(tmp_path, part, message):
    root = market(tmp_path / "market")
    shutil.rmtree(root / part)
    with pytest.raises(InputError, match=message):
        reproduce(plan(root, tmp_path / "out"), workers=1, say=lambda line: None, quiet=True)
    assert not (tmp_path / "out" / "seed0").exists()


def test_images_that_the_benchmark_wants_and_the_source_lacks_are_named(tmp_path):
    root = market(tmp_path / "market")
    made = plan(root, tmp_path / "out")
    only = with_images(made, f"market1501:{root},part=gallery")
    with pytest.raises(InputError, match=r"lacks 6 of the 3[0-9] images of market1501, such as 'query/"):
        reproduce(only, workers=1, say=lambda line: None, quiet=True)
    assert not (tmp_path / "out" / "seed0").exists()


def with_images(made: Plan, images: str) -> Plan:
    check = replace(made.settings.check, images=images)
    return replace(made, settings=replace(made.settings, check=check))
