"""The gallery upgrade at the end of the demo, on two related models that nobody trained."""

from __future__ import annotations

import pytest
import torch

from samespace.data import holdout, open_source, subset
from samespace.demo.gallery import SHARES, upgrade_gallery
from samespace.demo.upgrade import GalleryUpgrade
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed

SOURCE = "glyphs:classes=12,images=6,size=16,seed=1,difficulty=0.2"


def model(noise: float) -> Embedder:
    torch.manual_seed(1)
    found = Embedder(EmbedderConfig("convnet16", 16, Preprocessing(size=16, channels=1)), name=f"noise{noise}")
    with torch.no_grad():
        for weights in found.parameters():
            weights.add_(noise * weights.std(unbiased=False) * torch.randn_like(weights))
    return found


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory) -> tuple[GalleryUpgrade, list[str]]:
    out, said = tmp_path_factory.mktemp("demo"), []
    source = open_source(SOURCE)
    kept = holdout(source, fraction=0.9, seed=0)
    vectors = {}
    for name, noise in {"old": 0.0, "compatible": 0.1}.items():
        embedder = model(noise)
        embedder.save(out / name)
        vectors[name] = tuple(embed(embedder, subset(source, rows)) for rows in (kept.query_rows, kept.gallery_rows))
    return upgrade_gallery(out, SOURCE, source, vectors, replicates=100, say=said.append), said


def test_every_stage_is_measured_and_ends_agree_raw_and_calibrated(upgraded):
    upgrade, _ = upgraded
    assert tuple(stage.share for stage in upgrade.stages) == SHARES
    for stage in (upgrade.stages[0], upgrade.stages[-1]):
        assert stage.raw == stage.calibrated
    assert set(upgrade.before) == {"rank@1", "mAP@20"}
    assert all(0 < value <= 1 for stage in upgrade.stages for value in stage.calibrated.values())


def test_the_rollback_half_way_changes_no_bit_and_the_doctor_agrees(upgraded):
    upgrade, said = upgraded
    assert upgrade.same_back
    assert upgrade.same_forth
    assert upgrade.healthy
    assert "  rolled back: the same answers, to the bit, as before the upgrade" in said


def test_a_certificate_that_says_no_is_gone_against_aloud(upgraded):
    """Untrained models are not compatible by the check, though related."""
    upgrade, said = upgraded
    assert upgrade.permission == "accepted"
    assert any(line.startswith("  refused: the certificate says no") for line in said)
    assert "against its certificate" in upgrade.page.read_text()


def test_the_page_stands_alone_and_shows_every_stage(upgraded):
    upgrade, _ = upgraded
    text = upgrade.page.read_text()
    assert "<svg" in text
    assert "src=" not in text.replace('rel="icon"', "")
    for share in SHARES:
        assert f"{100 * share:.0f} %" in text
    assert upgrade.page.with_suffix(".png").exists()
