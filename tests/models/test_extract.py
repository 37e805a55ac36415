from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from samespace.data import ArraySource, open_source, subset
from samespace.errors import InputError
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed, embed_to, pick_device

SOURCE = "glyphs:classes=10,images=20,size=16"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Embedder(EmbedderConfig("convnet16", 8, Preprocessing(size=16, channels=1)), name="v1").eval()


def test_vectors_carry_ids_class_names_and_the_models_space(model):
    source = open_source(SOURCE)
    vectors = embed(model, source)
    assert vectors.space == model.space
    assert vectors.ids.tolist() == source.ids.tolist()
    assert vectors.labels[25] == source.classes[1]
    np.testing.assert_allclose(np.linalg.norm(vectors.vectors, axis=1), 1, rtol=1e-5)


def test_an_interrupted_extraction_carries_on_where_it_was(model, tmp_path, monkeypatch):
    source = open_source(SOURCE)
    seen = []
    real = Embedder.embed

    def stop_after(self, images):
        seen.append(len(images))
        if len(seen) == 20:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(Embedder, "embed", stop_after)
    with pytest.raises(KeyboardInterrupt):
        embed_to(model, source, tmp_path / "v", batch_size=8)
    assert not (tmp_path / "v").exists()
    monkeypatch.setattr(Embedder, "embed", real)

    advanced = []
    whole = embed_to(model, source, tmp_path / "v", batch_size=8, advance=advanced.append)
    assert advanced[0] == 16 * 8, "the rows marked as done are not embedded again"
    assert sum(advanced) == len(source)
    np.testing.assert_allclose(whole.vectors, embed(model, source).vectors, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_a_cut_off_extraction_of_another_model_is_not_taken_over(model, tmp_path):
    source = open_source(SOURCE)
    partial = tmp_path / "v.partial"
    partial.mkdir()
    (partial / "progress.json").write_text('{"space": "someone else", "source": "x", "count": 200, "done": 128}')
    np.testing.assert_allclose(embed_to(model, source, tmp_path / "v").vectors, embed(model, source).vectors, atol=1e-6)


def test_the_same_job_again_does_nothing_and_another_is_refused(model, tmp_path, monkeypatch):
    embed_to(model, open_source(SOURCE), tmp_path / "v")
    with pytest.raises(InputError, match="holds something else"):
        embed_to(model, open_source("glyphs:classes=3,images=2,size=16"), tmp_path / "v")
    monkeypatch.setattr(Embedder, "embed", lambda self, images: pytest.fail("embedded again"))
    assert len(embed_to(model, open_source(SOURCE), tmp_path / "v")) == 200


def test_a_device_that_is_not_there_is_one_clear_line():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="'warp' cannot be used"):
        pick_device("warp")


def test_the_mark_of_a_job_never_vouches_for_vectors_another_job_made_anew(model, tmp_path, monkeypatch):
    real, limit = Embedder.embed, [20]

    def stop(self, images):
        limit[0] -= 1
        if not limit[0]:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(Embedder, "embed", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_to(model, open_source(SOURCE), tmp_path / "v", batch_size=8)
    limit[0] = 2
    with pytest.raises(KeyboardInterrupt):
        embed_to(model, open_source("glyphs:classes=10,images=20,size=16,seed=5"), tmp_path / "v", batch_size=8)
    monkeypatch.setattr(Embedder, "embed", real)
    again = embed_to(model, open_source(SOURCE), tmp_path / "v", batch_size=8)
    np.testing.assert_allclose(again.vectors, embed(model, open_source(SOURCE)).vectors, atol=1e-6)


def test_two_at_once_embed_into_one_folder_once(model, tmp_path):
    source, rows = open_source(SOURCE), []
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(embed_to, model, source, tmp_path / "v", batch_size=8, advance=rows.append) for _ in range(2)
        ]
        sets = [job.result() for job in jobs]
    assert sum(rows) == len(source)
    for found in sets:
        np.testing.assert_allclose(found.vectors, embed(model, source).vectors, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


@pytest.mark.parametrize("named", [True, False])
def test_row_numbers_of_unnamed_images_are_no_ids_across_sources(model, named):
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16), dtype=np.uint8)
    source = ArraySource(images, [0, 0, 1, 1], ids=["a", "b", "c", "d"] if named else None)
    part = subset(source, [2, 1])
    assert embed(model, source).has_ids is embed(model, part).has_ids is named
    assert embed(model, part).ids.tolist() == (["c", "b"] if named else ["2", "1"])
