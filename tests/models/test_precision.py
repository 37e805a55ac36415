from __future__ import annotations

import numpy as np
import pytest
import torch

from samespace.cli.main import run
from samespace.data import open_source
from samespace.errors import InputError, SpaceError
from samespace.gallery import Gallery
from samespace.models import Embedder, EmbedderConfig, Preprocessing, extract, precision
from samespace.models.extract import embed, embed_to
from samespace.models.precision import InBfloat16, Parity, in_precision
from samespace.space import Space
from samespace.vectors import VectorSet

SOURCE = "glyphs:classes=10,images=10,size=16"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Embedder(EmbedderConfig("convnet16", 8, Preprocessing(size=16, channels=1)), name="v1").eval()


@pytest.fixture(scope="module")
def images():
    return open_source(SOURCE)


def sample(images):
    return lambda: images.load(np.arange(20))


def test_bf16_is_of_the_models_space_and_its_record_says_so(model, images):
    fast = InBfloat16(model)
    exact, vectors = embed(model, images), embed(fast, images)
    assert vectors.space == model.space
    assert (exact.space.precision, vectors.space.precision) == ("fp32", "bf16")
    assert Space.from_dict(vectors.space.to_dict()).precision == "bf16"
    assert "precision" not in exact.space.to_dict()
    np.testing.assert_allclose((exact.vectors * vectors.vectors).sum(1), 1, atol=1e-3)
    assert not np.array_equal(exact.vectors, vectors.vectors)


def test_auto_takes_bf16_where_the_device_has_it_and_the_vectors_agree(model, images, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: False)
    assert in_precision(model, "auto", sample(images)) == (model, "the device has no fast products of bf16")
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: True)
    chosen, reason = in_precision(model, "auto", sample(images))
    assert (chosen.space.precision, reason) == ("bf16", "")
    monkeypatch.setattr(precision, "LEAST_COSINE", 1.0)
    chosen, reason = in_precision(model, "auto", sample(images))
    assert chosen is model
    assert "does not agree: lowest cosine" in reason


def test_a_model_that_bf16_spoils_is_refused_at_its_first_images(images):
    torch.manual_seed(0)
    spoilt = Embedder(EmbedderConfig("convnet16", 8, Preprocessing(size=16, channels=1)), name="v1").eval()
    with torch.no_grad():
        # what tells images apart is far smaller than what they have in common
        spoilt.projection[0].bias.fill_(1e4)
    spoilt.projection.append(torch.nn.BatchNorm1d(8))
    spoilt.projection[1].running_mean.fill_(1e4)
    spoilt.eval()
    fast = InBfloat16(spoilt)
    fast._fast = spoilt  # folding would take the common part away
    for _ in range(2):
        with pytest.raises(SpaceError, match="not the same in bf16: lowest cosine"):
            embed(fast, images)


def test_what_was_cut_off_in_one_precision_is_not_carried_on_in_another(model, images, tmp_path, monkeypatch):
    class Ended(Exception):
        pass

    def end_after_some(count):
        ended.append(count)
        if len(ended) > 2:
            raise Ended

    monkeypatch.setattr(extract, "_BATCHES_BETWEEN_MARKS", 1)
    ended, made = [], []
    with pytest.raises(Ended):
        embed_to(InBfloat16(model), images, tmp_path / "v", batch_size=20, advance=end_after_some)
    assert (tmp_path / "v.partial" / "progress.json").is_file()
    vectors = embed_to(model, images, tmp_path / "v", batch_size=20, advance=made.append)
    assert made[0] == 0
    assert np.array_equal(vectors.vectors, embed(model, images).vectors)


def test_parity_sees_a_nearest_image_that_changes():
    exact = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0], [1, 0.30, 0], [1, -0.29, 0], [0, 0, 1]]), dim=1)
    assert Parity.of(exact, exact) == Parity(pytest.approx(1.0), 0.0)
    other = torch.nn.functional.normalize(torch.tensor([[1.0, 0.02, 0], [1, 0.30, 0], [1, -0.29, 0], [0, 0, 1]]), dim=1)
    found = Parity.of(exact, other)
    best, second = float(exact[0] @ exact[2]), float(exact[0] @ exact[1])
    assert found.lost == pytest.approx(best - second)
    assert found.cosine == pytest.approx(float(exact[0] @ other[0]))
    assert Parity.of(exact[:1], other[:1]).lost == 0


def test_a_model_of_another_library_keeps_its_arithmetic(images):
    other = type("Other", (), {"name": "theirs", "device": torch.device("cpu")})()
    assert in_precision(other, "auto", sample(images))[0] is other
    with pytest.raises(InputError, match="theirs is none"):
        in_precision(other, "bf16", sample(images))


def test_a_gallery_takes_vectors_of_one_precision(model, images, tmp_path):
    fast = InBfloat16(model)
    exact, other = embed_to(model, images, tmp_path / "exact"), embed_to(fast, images, tmp_path / "bf16")
    model.save(tmp_path / "model")
    gallery = Gallery.create(tmp_path / "g", other.space, model=tmp_path / "model", images=SOURCE)
    gallery.add(other.subset(np.arange(50)))
    with pytest.raises(
        SpaceError, match=r"made in fp32, those of space .* in bf16; embed them with 'samespace embed --precision bf16'"
    ):
        gallery.add(exact)
    gallery.add_images()
    assert gallery.status().items == 100
    stored = Gallery.open(tmp_path / "g").search(VectorSet.load(tmp_path / "exact").subset([60]), k=1)
    assert stored.hits[0][0].item == images.ids[60]


def test_embed_says_how_the_vectors_were_made_and_does_not_mix(model, tmp_path, capsys):
    model.save(tmp_path / "v1")

    def embedded(*options):
        try:
            code = run(["embed", str(tmp_path / "v1"), SOURCE, "--quiet", *options])
        except SystemExit as exit:
            code = exit.code
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    out, parts = str(tmp_path / "v"), str(tmp_path / "parts")
    code, printed = embedded("--out", out, "--precision", "bf16")
    assert (code or 0) == 0
    assert "made in bf16" in printed
    assert VectorSet.load(out).space.precision == "bf16"
    assert "holds these vectors made in bf16; say --precision bf16" in embedded("--out", out)[1]
    assert "one precision" in embedded("--out", out, "--shard", "1/2", "--precision", "auto")[1]
    assert "shard 1/2 is done" in embedded("--out", parts, "--shard", "1/2")[1]
    assert (
        "was made in fp32, this shard in bf16" in embedded("--out", parts, "--shard", "2/2", "--precision", "bf16")[1]
    )
