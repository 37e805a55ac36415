"""The last act of the demo on two kindred models that nobody trained."""

from __future__ import annotations

import pytest
import torch

from samespace.data import holdout, open_source, subset
from samespace.demo.act import Act
from samespace.demo.gallery import SHARES, last_act
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
def played(tmp_path_factory) -> tuple[Act, list[str]]:
    out, said = tmp_path_factory.mktemp("demo"), []
    source = open_source(SOURCE)
    kept = holdout(source, fraction=0.9, seed=0)
    vectors = {}
    for name, noise in {"old": 0.0, "compatible": 0.1}.items():
        embedder = model(noise)
        embedder.save(out / name)
        vectors[name] = tuple(embed(embedder, subset(source, rows)) for rows in (kept.query_rows, kept.gallery_rows))
    return last_act(out, SOURCE, source, vectors, replicates=100, say=said.append), said


def test_every_stage_is_measured_and_ends_agree_raw_and_calibrated(played):
    act, _ = played
    assert tuple(stage.share for stage in act.stages) == SHARES
    for stage in (act.stages[0], act.stages[-1]):
        assert stage.raw == stage.calibrated
    assert set(act.before) == {"rank@1", "mAP@20"}
    assert all(0 < value <= 1 for stage in act.stages for value in stage.calibrated.values())


def test_the_rollback_half_way_changes_no_bit_and_the_doctor_agrees(played):
    act, said = played
    assert act.same_back
    assert act.same_forth
    assert act.healthy
    assert "  rolled back: the same answers, to the bit, as before the upgrade" in said


def test_a_certificate_that_says_no_is_gone_against_aloud(played):
    """Untrained models are not compatible by the check, though kindred."""
    act, said = played
    assert act.permission == "accepted"
    assert any(line.startswith("  refused: the certificate says no") for line in said)
    assert "against its certificate" in act.page.read_text()


def test_the_page_stands_alone_and_shows_every_stage(played):
    act, _ = played
    text = act.page.read_text()
    assert "<svg" in text
    assert "src=" not in text.replace('rel="icon"', "")
    for share in SHARES:
        assert f"{100 * share:.0f} %" in text
    assert act.page.with_suffix(".png").exists()
