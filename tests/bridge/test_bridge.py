"""A bridge as a whole: learnt, chosen, applied, saved, loaded, refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from samespace.bridge import METHODS, Bridge, fit
from samespace.bridge.fit import simplest
from samespace.bridge.support import METRICS
from samespace.errors import InputError, SpaceError
from samespace.vectors import VectorSet

QUICK = {"steps": 20, "replicates": 100, "quiet": True}


@pytest.mark.parametrize("direction", ["gallery", "query"])
def test_a_rotation_is_found_and_the_simplest_map_that_does_it_is_taken(making, direction):
    old, new = making()
    turned = np.asarray(old.vectors) @ np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    new = VectorSet.from_arrays(turned, ids=new.ids, labels=new.labels, space=new.space)
    made = fit(old, new, direction=direction, **QUICK)
    assert made.method == "procrustes"
    assert (made.source, made.target) == ((old.space, new.space) if direction == "gallery" else (new.space, old.space))
    ends = (old, new) if direction == "gallery" else (new, old)
    assert np.allclose(made.apply(ends[0]).vectors, ends[1].vectors, atol=1e-4)


def test_held_out_classes_say_how_each_method_did(pair):
    made = fit(*pair, **QUICK)
    assert made.support is not None
    assert list(made.support.values) == ["old", "new", "unmapped", *METHODS]
    assert made.support.classes == 6
    assert made.support.queries == made.support.gallery == 24
    values = {name: row["mAP"] for name, row in made.support.values.items()}
    assert values["unmapped"] < values["old"] < values["procrustes"] <= values["new"]


def searches(**shares: float) -> dict:
    """Searches that are right in such a share of 200 queries, nested: what one finds, a better one finds too."""
    return {
        name.replace("_", "-"): dict.fromkeys(METRICS, (np.arange(200) < 200 * share).astype(float))
        for name, share in shares.items()
    }


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"mean_shift": 0.5, "procrustes": 0.5, "affine": 0.5, "residual": 0.5}, "mean-shift"),
        ({"mean_shift": 0.1, "procrustes": 0.8, "affine": 0.8, "residual": 0.805}, "procrustes"),
        ({"mean_shift": 0.1, "procrustes": 0.3, "affine": 0.5, "residual": 0.9}, "residual"),
        ({"mean_shift": 0.1, "procrustes": 0.3, "affine": 0.9, "residual": 0.5}, "affine"),
    ],
)
def test_the_simplest_within_the_interval_of_the_best_is_taken(shares, expected):
    classes = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 5))
    assert simplest(searches(**shares), list(METHODS), classes, replicates=500) == expected


def test_the_same_seed_gives_the_same_space(pair):
    spaces = [fit(*pair, method="residual", seed=seed, **QUICK).space for seed in (0, 0, 1)]
    assert spaces[0] == spaces[1] != spaces[2]
    assert spaces[0].name == "old bridged to new"


def test_the_order_of_the_items_plays_no_part(pair):
    old, new = pair
    turn = np.random.default_rng(0).permutation(len(old))
    one, other = fit(old, new, method="affine", **QUICK), fit(old.subset(turn), new, method="affine", **QUICK)
    assert one.space == other.space


def test_old_items_that_the_new_model_has_not_seen_are_left_out(pair):
    old, new = pair
    some = np.arange(0, len(new), 2)
    assert (
        fit(old, new.subset(some), method="affine", **QUICK).space
        == fit(old.subset(some), new.subset(some), method="affine", **QUICK).space
    )


def test_mapped_vectors_keep_their_items_and_have_a_space_of_their_own(pair):
    made = fit(*pair, method="affine", **QUICK)
    found = made.apply(pair[0])
    assert found.space == made.space
    assert found.space not in (pair[0].space, pair[1].space)
    assert found.ids.tolist() == pair[0].ids.tolist()
    assert found.labels.tolist() == pair[0].labels.tolist()
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_set_is_mapped_into_a_folder_block_by_block(pair, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr("samespace.bridge.bridge._ROWS", 37)
    old = VectorSet.from_arrays(np.asarray(pair[0].vectors, dtype), ids=pair[0].ids, space=pair[0].space)
    old.save(tmp_path / "old")
    made, done = fit(*pair, method="residual", **QUICK), []
    found = made.apply_to(VectorSet.load(tmp_path / "old"), tmp_path / "mapped", advance=done.append)
    assert sum(done) == len(old)
    assert found.vectors.dtype == dtype
    assert found.space == made.space
    assert np.array_equal(found.vectors, made.apply(old).vectors)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_bridges_between_unlike_dimensions(making):
    old, new = making(old_dim=8, new_dim=12)
    made = fit(old, new, **QUICK)
    assert made.method != "mean-shift"
    assert "unmapped" not in made.support.values
    assert (made.dims, made.apply(old).dim) == ((8, 12), 12)
    assert fit(old, new, direction="query", method="procrustes", **QUICK).apply(new).dim == 8


@pytest.mark.parametrize("method", METHODS)
def test_a_bridge_loads_as_it_was_saved(pair, tmp_path, method):
    made = fit(*pair, method=method, **QUICK)
    made.save(tmp_path / "bridge")
    made.save(tmp_path / "bridge")
    assert sorted(path.name for path in (tmp_path / "bridge").iterdir()) == ["config.json", "model.safetensors"]
    found = Bridge.load(tmp_path / "bridge")
    assert (found.space, found.source, found.target) == (made.space, made.source, made.target)
    assert (found.method, found.direction) == (method, "gallery")
    assert found.support == made.support
    assert np.array_equal(found.apply(pair[0]).vectors, made.apply(pair[0]).vectors)


def test_vectors_without_labels_need_a_named_method(pair):
    bare = [replace(one, labels=None) for one in pair]
    with pytest.raises(InputError, match="have no labels; name a method"):
        fit(*bare, **QUICK)
    assert fit(*bare, method="procrustes", **QUICK).support is None


def test_vectors_without_a_declared_space(pair, tmp_path):
    bare = [replace(one, space=None) for one in pair]
    made = fit(*bare, method="procrustes", **QUICK)
    made.save(tmp_path / "bridge")
    found = Bridge.load(tmp_path / "bridge")
    assert found.apply(bare[0]).space == made.space
    with pytest.raises(SpaceError, match="takes vectors of no declared space"):
        found.apply(pair[0])


def test_a_sample_of_many_pairs_is_enough(pair):
    one, other = (fit(*pair, method="procrustes", max_pairs=100, seed=seed, **QUICK) for seed in (0, 1))
    assert one.space != other.space
    assert torch.allclose(one.map.weight, other.map.weight, atol=0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda old, new: (old.subset(np.arange(9)), new), "lacks 231 of the 240 items of new, such as 'item-9'"),
        (lambda old, new: (replace(old, has_ids=False), new), "should hold the same items"),
        (lambda old, new: (replace(old, has_ids=False).subset(np.arange(5)), replace(new, has_ids=False)), "same numb"),
        (
            lambda old, new: (old, replace(new, labels=new.labels[::-1])),
            "item 'item-0' is of class '0' in old and '29'",
        ),
        (lambda old, new: (replace(old, vectors=np.zeros_like(old.vectors)), new), "old: the vector of row 0 is zero"),
        (lambda old, new: (old.subset(np.arange(1)), new.subset(np.arange(1))), "at least 2 pairs"),
    ],
)
def test_pairs_that_do_not_fit(pair, change, message):
    with pytest.raises(InputError, match=message):
        fit(*change(*pair), **QUICK)


@pytest.mark.parametrize(("option", "legal"), [({"method": "procrust"}, "did you mean 'procrustes'"),
                                               ({"direction": "galery"}, "did you mean 'gallery'")])  # fmt: skip
def test_options_that_do_not_exist(pair, option, legal):
    with pytest.raises(InputError, match=legal):
        fit(*pair, **option, **QUICK)


def test_vectors_of_another_space_or_dimension_are_not_mapped(pair, making):
    made = fit(*pair, method="procrustes", **QUICK)
    with pytest.raises(SpaceError, match=r"takes vectors of space .* \(old, 12-d\), but new has space"):
        made.apply(pair[1])
    narrow = replace(making(old_dim=8)[0], space=None)
    with pytest.raises(InputError, match="takes 12 dimensions, but old has 8"):
        replace(made, source=None).apply(narrow)


def test_places_that_hold_something_else_are_refused(pair, tmp_path):
    made = fit(*pair, method="procrustes", **QUICK)
    (tmp_path / "file").mkdir()
    with pytest.raises(InputError, match="is not a bridge"):
        made.save(tmp_path / "file")
    with pytest.raises(InputError, match="is not a vector set"):
        made.apply_to(pair[0], tmp_path / "file")
    pair[0].save(tmp_path / "old")
    with pytest.raises(InputError, match="which a rollback needs"):
        made.apply_to(VectorSet.load(tmp_path / "old"), tmp_path / "old")


def test_a_bridge_that_is_not_whole(pair, tmp_path):
    made, place = fit(*pair, method="procrustes", **QUICK), tmp_path / "bridge"
    made.save(place)
    config = json.loads((place / "config.json").read_text())

    def refused(message: str, **changes: object) -> None:
        (place / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(InputError, match=message):
            Bridge.load(place)

    refused("expected 'samespace.bridge/1'", format="samespace.embedder/1")
    refused("is not a whole bridge", dims=[3, 4])
    refused("is not a whole bridge", dims="wide")
    refused("is not a whole bridge", hidden=9)
    refused("is not a whole bridge", method="magic")
    refused("is not a whole bridge", support={"classes": 3})
    refused("not those the configuration was written for", target=None)
    (place / "config.json").write_text(json.dumps(config))
    assert Bridge.load(place).space == made.space
    (place / "model.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="damaged"):
        Bridge.load(place)
    shutil.rmtree(place)
    with pytest.raises(InputError, match="is not a bridge"):
        Bridge.load(place)
