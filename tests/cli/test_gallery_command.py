"""The gallery's commands: what each does, what it says as JSON, and what a user can get wrong."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samespace import Embedder, VectorSet
from samespace.cli.gallery.options import ORDERS
from samespace.cli.main import run
from samespace.data import open_source
from samespace.evaluate import Certificate, check
from samespace.gallery import Gallery
from samespace.gallery.backfill import order
from samespace.gallery.ledger.state import WorkerStatus
from samespace.models import EmbedderConfig, Preprocessing
from samespace.models.extract import embed
from samespace.space import Space

UPGRADE = "gallery upgrade g --model m2 --certificate yes.json"


def model(seed: int, dim: int = 16, noise: float = 0.0) -> Embedder:
    torch.manual_seed(seed)
    found = Embedder(EmbedderConfig("convnet16", dim, Preprocessing(size=16, channels=1)), name=f"m{seed}")
    torch.manual_seed(99)
    with torch.no_grad():
        for weights in found.parameters():
            weights.add_(noise * weights.std(unbiased=False) * torch.randn_like(weights))
    return found


def pictures(folder: Path) -> None:
    """Eight characters: two images of each are items, the other two queries."""
    source = open_source("glyphs:classes=8,images=4,size=16,seed=1,difficulty=0.2")
    for row, pixels in enumerate(source.load(np.arange(len(source)))):
        place = folder / ("items" if row % 4 < 2 else "queries") / f"c{row // 4}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(place / f"{row % 4}.png")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """Images, an old model, a related new one, a foreign one, their vectors, a certificate that says yes and one no."""
    here = tmp_path_factory.mktemp("gallery")
    pictures(here)
    made = {"m1": model(1), "m2": model(1, noise=0.1), "m3": model(3), "m4": model(4, dim=8)}
    for name, embedder in made.items():
        embedder.save(here / name)
        for part, short in (("items", "i"), ("queries", "q")):
            source = open_source(here / part, image_size=16, channels=1)
            embed(embedder, source).save(here / f"{short}{name[1]}")
    found = check(
        queries=VectorSet.load(here / "q2"), gallery=VectorSet.load(here / "i1"), baseline=VectorSet.load(here / "q1"),
        new_gallery=VectorSet.load(here / "i2"), metrics=["rank@1", "mAP"], replicates=100,
    )  # fmt: skip
    assert set(found.calibrations) == {"old", "cross", "new"}
    for name, verdict in {"yes": True, "no": False}.items():
        metrics = {key: dataclasses.replace(metric, compatible=verdict) for key, metric in found.metrics.items()}
        dataclasses.replace(found, compatible=verdict, metrics=metrics).save(here / f"{name}.json")
    asked = {"mAP": dataclasses.replace(found.metrics["mAP"], compatible=True)}
    dataclasses.replace(found, compatible=True, metrics=asked).save(here / "map.json")
    return here


@pytest.fixture
def here(original, tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "work"
    shutil.copytree(original, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def shared(original, tmp_path_factory) -> Path:
    """A gallery, and files of every wrong kind, for commands that must change nothing."""
    folder = tmp_path_factory.mktemp("shared") / "work"
    shutil.copytree(original, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["gallery", "create", "g", "--model", "m1", "--images", "items"]) == 0
        assert run(["gallery", "add", "g", "i1", "--quiet"]) == 0
        items = VectorSet.load("i1")
        values = np.asarray(items.vectors)
        np.savez("bare.npz", vectors=values, ids=items.ids)
        VectorSet.from_arrays(values[::-1].copy(), ids=items.ids, space=items.space).save("other")
        VectorSet.from_arrays(values, ids=items.ids, space=items.space).save("unlabelled")
        fresh = [f"n{name}" for name in items.ids]
        VectorSet.from_arrays(2 * values, ids=fresh, space=items.space).save("long")
        VectorSet.from_arrays(values, space=items.space).save("nameless")
        Path("twice.csv").write_text("id,year\na,1\na,2\n")
        Path("odd.jsonl").write_text('{"id": "c0/0.png", "list": [1]}\n')
        Path("foreign.jsonl").write_text('{"id": "nobody"}\n')
        Path("order.csv").write_text("c0/1.png,1\nc0/0.png,high\n")
    return folder


@pytest.fixture
def told(capsys):
    """Runs commands that must succeed; gives what the last one wrote to standard output."""

    def runner(*commands: str, exit: int = 0) -> str:
        out = ""
        for number, command in enumerate(commands, start=1):
            capsys.readouterr()
            status = run(command.split())
            out, err = capsys.readouterr()
            assert status == (exit if number == len(commands) else 0), f"{command}: {err}"
        return out

    return runner


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail with one line and leave every item, vector and setting of the gallery."""

    def runner(command: str) -> str:
        before = standing()
        capsys.readouterr()
        assert run(command.split()) == 2
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("samespace: error: ")]
        assert len(lines) == 1
        assert "Traceback" not in err + out
        assert standing() == before
        return lines[0]

    return runner


def standing() -> object:
    """What a gallery holds, as far as a user can tell."""
    try:
        with Gallery.open("g") as gallery:
            found = gallery.status()
    except Exception as error:
        return str(error)
    upgrade = found.upgrade and (found.upgrade.state, found.upgrade.paused)
    return found.items, [(one.space.id, one.role, one.vectors, one.served) for one in found.spaces], upgrade


@pytest.fixture
def filled(here, told) -> Path:
    """A gallery of the items by the old model."""
    told("gallery create g --model m1 --images items", "gallery add g i1 --quiet")
    return here


@pytest.fixture
def upgraded(filled, told) -> Path:
    told(UPGRADE)
    return filled


def test_a_folder_with_blanks_is_quoted_where_a_command_is_proposed(here, capsys):
    assert run(["gallery", "create", "my shop", "--model", "m1"]) == 0
    assert run(["gallery", "add", "my shop", "i1", "--quiet"]) == 0
    assert run(["gallery", "upgrade", "my shop", "--model", "m2", "--certificate", "yes.json"]) == 0
    assert "next: samespace gallery backfill 'my shop'" in capsys.readouterr().out


def test_orders_are_those_of_the_library():
    assert ORDERS == order.ORDERS


def test_create_and_add_say_what_was_made(here, told):
    made = json.loads(told("gallery create g --space i1 --json -"))
    assert made["space"]["id"] == VectorSet.load("i1").space.id
    found = json.loads(told("gallery add g i1 --json - --quiet"))
    assert (found["added"], found["present"], found["items"]) == (16, 0, 16)
    assert "0 added, 0 replaced, 16 there before; 16 items in all" in told("gallery add g i1 --quiet")


def test_a_gallery_is_made_of_a_bare_file_and_takes_more_of_the_same_model(filled, told, refused):
    items = VectorSet.load("i1")
    values = np.asarray(items.vectors)
    np.savez("bare.npz", vectors=values, ids=items.ids)
    np.savez("double.npz", vectors=2 * values, ids=items.ids)
    model = "--space-name clip --revision v1"
    made = json.loads(told(f"gallery create b bare.npz {model} --dim 16 --quiet --json -"))
    declared = Space.declared("clip", 16, "v1", normalized=True)
    assert (made["items"], made["space"]["id"]) == (16, declared.id)
    assert "16 there before" in told("gallery add b bare.npz,space=clip,revision=v1 --quiet")
    for asked in (f"bare.npz {model}", "bare.npz,space=clip,revision=v1"):
        answer = json.loads(told(f"gallery search b {asked} -k 1 --json -"))
        assert len(answer["queries"]) == 16
    assert "the two differ only in whether all vectors have unit length" in refused(f"gallery add b double.npz {model}")
    assert "the two differ only" in refused(f"gallery search b double.npz {model}")
    made = told("gallery create c i1 --quiet")
    assert made.startswith("c: a gallery of 16 items with vectors of space ")


def test_images_are_added_by_the_remembered_model_and_broken_ones_named(here, told):
    (here / "items" / "c0" / "9.png").write_bytes(b"no image")
    told("gallery create g --model m1 --images items")
    assert json.loads(told("gallery add g --json - --quiet"))["items"] == 16
    answer = json.loads(told("gallery search g --images items -k 1 --json - --quiet"))
    assert [one["query"] for one in answer["queries"]] == [one["hits"][0]["item"] for one in answer["queries"]]


def test_an_image_is_a_query(filled, told, monkeypatch):
    place = filled / "items" / "c3" / "1.png"
    for name in ("items/c3/1.png", str(place), place.as_uri(), f"file://localhost{place}"):
        answer = json.loads(told(f"gallery search g --image {name} -k 1 --json - --quiet"))
        (only,) = answer["queries"]
        assert only["query"] == (name if name.startswith("items") else str(place))
        assert only["hits"][0]["item"] == "c3/1.png"
    with place.open("rb") as sent:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(sent))
        answer = json.loads(told("gallery search g --image - -k 1 --json - --quiet"))
    assert [(one["query"], one["hits"][0]["item"]) for one in answer["queries"]] == [("-", "c3/1.png")]


def test_images_of_a_folder_are_queries_each_with_its_own_result(filled, told):
    deep = filled / "mine" / "a" / "b"
    deep.mkdir(parents=True)
    for number in range(7):
        shutil.copy(filled / "items" / f"c{number}" / "0.png", deep / f"{number}.PNG")
    (deep / "note.txt").write_text("x")
    (deep / ".hidden.png").write_bytes(b"x")
    (deep / "broken.png").write_bytes(b"no image")
    shown = told("gallery search g --image mine --image items/c7/0.png --image mine/a -k 1 --quiet")
    rows = [line.split() for line in shown.splitlines() if "/" in line and "note:" not in line]
    assert [row[2] for row in rows if row[1:2] == ["1"]] == [f"c{number}/0.png" for number in range(8)]
    assert "8 images were named more than once; each is taken once" in shown
    assert "2 files in the folders are no images of a known kind and were passed over" in shown
    assert "1 image cannot be read and was not searched, such as mine/a/b/broken.png: not an image" in " ".join(
        shown.split()
    )


@pytest.mark.parametrize("command", [["status", ""], ["create", "", "--model", "m1"]], ids=["status", "create"])
def test_an_empty_name_is_no_gallery(here, capsys, command):
    assert run(["gallery", *command]) == 2
    assert "a gallery is a folder or postgresql://…, got an empty name" in capsys.readouterr().err
    assert not Path("gallery.db").exists()


def test_images_are_embedded_by_the_model_that_is_named(here, told):
    told("gallery create g --model m1 --images items", "gallery add g --quiet")
    shutil.move("m1", "moved")
    answer = json.loads(told("gallery search g --image items/c3/1.png --model moved -k 1 --json - --quiet"))
    assert answer["queries"][0]["hits"][0]["item"] == "c3/1.png"
    answer = json.loads(told("gallery search g --images queries --model moved -k 1 --json - --quiet"))
    assert len(answer["queries"]) == 16


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_id_is_broken_at_any_width(filled, told, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    long = f"{'very-' * 20}long.png"
    shutil.copy(filled / "items" / "c3" / "1.png", long)
    for command in (f"gallery search g --image {long} --quiet -k 3", "gallery status g"):
        shown = told(command)
        assert max(map(len, shown.splitlines())) <= max(width, 60)
        assert "c3/1.png" in shown or "status" in command
        assert VectorSet.load("i1").space.id in shown


def test_metadata_filters_searches(filled, told):
    rows = [{"id": name, "year": 2000 + place} for place, name in enumerate(VectorSet.load("i1").ids.tolist())]
    (filled / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told("gallery add g i1 --metadata m.jsonl --update --quiet")
    answer = json.loads(told("gallery search g q1 -k 99 --where year>=2010 --where year<2012 --json -"))
    assert {len(one["hits"]) for one in answer["queries"]} == {2}


def test_remove_takes_ids_from_the_line_and_from_a_file(filled, told):
    (filled / "ids.txt").write_text("c1/0.png\nc1/1.png\n")
    assert json.loads(told("gallery remove g c0/0.png --ids ids.txt --json -"))["items"] == 13


def test_search_shows_the_first_queries_and_counts_the_rest(filled, told):
    shown = told("gallery search g q1 -k 2")
    assert "q" in shown
    assert "11 more queries; --json FILE has all" in shown


def test_plan_says_what_is_missing_by_its_exit_status(filled, told):
    found = json.loads(told("gallery plan g --model m2 --json -", exit=1))
    assert "no certificate allows queries" in found["missing"][0]
    shown = told("gallery plan g --model m2 --certificate yes.json")
    assert "16 of 16 items" in shown
    assert "100 % re-embedded" in shown
    assert "nothing is missing" in shown
    assert "queries use" in told("gallery upgrade g")


def test_the_expected_curve_is_of_the_metric_that_was_asked_for(filled, told):
    assert "expected mAP in %" in told("gallery plan g --model m2 --certificate map.json")
    assert "expected rank@1 in %" in told("gallery plan g --model m2 --certificate yes.json")


def test_status_counts_no_worker_whose_process_is_gone(upgraded, told):
    with Gallery.open("g") as gallery, gallery.ledger.claiming() as writer:
        for pid in (os.getpid(), 2**22 + 1):
            writer.heartbeat(
                WorkerStatus(f"{socket.gethostname()}-{pid}-abc", 2, time.time() - 10, time.time(), done=20)
            )
    status = json.loads(told("gallery status g --json -"))
    assert [one["owner"].split("-")[-2] for one in status["workers"]] == [str(os.getpid())]
    assert 1 < status["rate"] <= 2


def test_one_command_upgrades_with_calibrations_from_vectors(filled, told):
    pairs = "--calibrate q2 i1 --calibrate q2 i2 --calibrate q1 i1"
    shown = told(f"gallery upgrade g --model m2 --accept-uncertified {pairs}")
    assert "ACCEPTED WITHOUT A CERTIFICATE" in shown
    status = json.loads(told("gallery status g --json -"))
    assert [one["calibrated"] for one in status["spaces"]] == [True, True]
    assert status["spaces"][0]["allowed"] == "accepted without certificate"
    assert status["spaces"][1]["model"] == str(filled / "m2")


def test_calibrate_makes_thresholds_possible(filled, told):
    found = json.loads(told("gallery calibrate g q1 i1 --json -"))
    assert found["calibration"]["genuine"] == 32
    answer = json.loads(told("gallery search g q1 --max-fmr 0.5 --json -"))
    assert all(hit["score"] is not None for one in answer["queries"] for hit in one["hits"])


def test_a_whole_upgrade_there_and_back(upgraded, told):
    assert json.loads(told("gallery backfill g --limit 5 --json - --quiet"))["stored"] == 5
    mixed = json.loads(told("gallery search g q2 -k 16 --json -"))
    assert {hit["space"] for one in mixed["queries"] for hit in one["hits"]} == {
        VectorSet.load(name).space.id for name in ("i1", "i2")
    }
    assert json.loads(told("gallery pause g --json -"))["paused"] is True
    assert "paused, 31.2 % of the items" in told("gallery status g")
    assert json.loads(told("gallery resume g --json -"))["paused"] is False
    told("gallery rollback g --json -", "gallery search g q1", "gallery upgrade g")
    assert json.loads(told("gallery backfill g --order distance --json - --quiet"))["left"] == 0
    assert "complete, 100 %" in told("gallery status g")
    assert json.loads(told("gallery doctor g --models --quiet --json -"))["healthy"] is True
    sealed = json.loads(told("gallery seal g --yes --quiet --json -"))
    assert (sealed["deleted"], sealed["kept"]) == (16, 0)
    assert json.loads(told("gallery status g --json -"))["phase"] == "sealed"


def test_backfill_takes_vectors_and_the_users_order(upgraded, told):
    ids = VectorSet.load("i1").ids.tolist()
    (upgraded / "order.csv").write_text("".join(f"{name},{place}\n" for place, name in enumerate(ids)))
    told("gallery backfill g --vectors i2 --order order.csv --limit 3 --batch-size 1 --quiet")
    answer = json.loads(told("gallery search g q2 -k 16 --json -"))
    new = VectorSet.load("i2").space.id
    assert {hit["item"] for hit in answer["queries"][0]["hits"] if hit["space"] == new} == set(ids[-3:])


def test_rerank_embeds_and_keeps_what_it_met(upgraded, told):
    answer = json.loads(told("gallery search g q2 -k 2 --rerank 4 --json -"))
    assert {hit["space"] for one in answer["queries"] for hit in one["hits"]} == {VectorSet.load("i2").space.id}
    assert json.loads(told("gallery status g --json -"))["spaces"][1]["vectors"] > 0


def test_fused_queries_come_as_vectors_or_are_embedded_by_both_models(upgraded, told, capsys):
    command = "gallery search g q2 --fuse 0.5 --old-queries q1 -k 3 --json -"
    assert run(command.split()) == 2
    error = capsys.readouterr().err
    assert "'samespace gallery calibrate g QUERIES ITEMS --fuse 0.5 --old-queries OLD_QUERIES'" in error
    assert "Traceback" not in error
    assert "fused with share 0.5" in told("gallery calibrate g q2 i1 --fuse 0.5 --old-queries q1")
    plain = json.loads(told("gallery search g q2 -k 3 --json -"))
    fused = json.loads(told(command))
    by_images = json.loads(told("gallery search g --images queries --fuse 0.5 -k 3 --quiet --json -"))
    found = [[hit["item"] for hit in one["hits"]] for one in fused["queries"]]
    assert found == [[hit["item"] for hit in one["hits"]] for one in by_images["queries"]]
    assert fused["queries"] != plain["queries"]
    assert plain.keys() == fused.keys()
    told("gallery backfill g --vectors i2 --quiet", "gallery seal g --yes --quiet")
    shutil.rmtree("m1")
    sealed = "gallery search g --images queries --fuse 0.5 -k 3 --quiet --json -"
    assert "the older model is not needed" in json.loads(told(sealed))["notes"][0]


def test_a_fused_certificate_opens_an_upgrade_whose_searches_fuse_until_the_seal(filled, told, refused):
    command = "check --queries q2 --gallery i1 --baseline q1 --new-gallery i2 --metric mAP --fuse 0.5 --json fused.json"
    assert run(command.split()) in (0, 1)
    found = Certificate.load("fused.json")
    metrics = {key: dataclasses.replace(metric, compatible=True) for key, metric in found.metrics.items()}
    dataclasses.replace(found, compatible=True, metrics=metrics).save("fused.json")
    assert "share 0.5" in told("gallery upgrade g --model m2 --certificate fused.json")
    search = "gallery search g --images queries -k 3 --quiet --json -"
    assert "search with --fuse 0.5" in refused("gallery search g q2 --json -")
    asked = json.loads(told(f"{search} --fuse 0.5"))
    assert "fused with share 0.5" in asked["notes"][0]
    # the certificate's share is taken by itself
    for by_itself in (search, "gallery search g q2 --old-queries q1 -k 3 --json -"):
        assert json.loads(told(by_itself)) == asked
    assert json.loads(told(f"{search} --rerank 4"))["notes"] == asked["notes"]
    shutil.move("m1", "moved")
    missing = refused(search)
    assert "queries are embedded by its model as well and fused; that cannot be used: " in missing
    assert "name its folder with --old-model, or give" in missing
    assert json.loads(told(f"{search} --old-model moved"))["notes"] == asked["notes"]
    told("gallery backfill g --vectors i2 --quiet", "gallery seal g --yes --quiet")
    assert json.loads(told(search))["notes"] == []


def test_an_image_gone_at_backfill_time_is_named_and_mended(upgraded, told):
    gone, broken = (upgraded / "items" / "c2" / name for name in ("1.png", "0.png"))
    kept = gone.read_bytes()
    gone.unlink()
    broken.write_bytes(broken.read_bytes()[:50])
    shown = told("gallery backfill g --quiet")
    assert "14 items embedded" in shown
    assert "c2/1.png: no image of this id" in shown
    assert "c2/0.png: the image cannot be read" in shown
    assert "could not be embedded" in told("gallery doctor g --quiet")
    gone.write_bytes(kept)
    assert json.loads(told("gallery backfill g --retry --json - --quiet"))["stored"] == 1


def test_doctor_says_no_where_vectors_are_not_what_was_written(filled, told):
    import sqlite3

    with sqlite3.connect("g/gallery.db") as connection:
        connection.execute("UPDATE vector_1 SET value = zeroblob(64) WHERE no = (SELECT min(no) FROM vector_1)")
    connection.close()
    shown = told("gallery doctor g --quiet", exit=1)
    assert "ERROR" in shown
    assert "1 of 16 vectors are not what was written" in shown


def test_index_files_may_be_deleted(filled, told):
    before = told("gallery search g q1 --json -")
    shutil.rmtree(filled / "g" / "index", ignore_errors=True)
    assert json.loads(told("gallery search g q1 --json -"))["queries"] == json.loads(before)["queries"]


def test_an_interrupted_add_keeps_what_is_in_and_carries_on(here, told, capsys, monkeypatch):
    from samespace.gallery.ingest import add, store

    monkeypatch.setattr(add.add_vectors, "__kwdefaults__", {**add.add_vectors.__kwdefaults__, "batch_size": 4})
    store_batch, calls = store._store_batch, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return store_batch(*given)

    told("gallery create g --space i1")
    monkeypatch.setattr(store, "_store_batch", interrupted)
    assert run(["gallery", "add", "g", "i1", "--quiet"]) == 130
    assert "run the same command to carry on" in capsys.readouterr().err
    assert standing()[0] == 8
    assert "8 added, 0 replaced, 8 there before; 16 items in all" in told("gallery add g i1 --quiet")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "gallery status nowhere",
            "nowhere holds no gallery; make one with 'samespace gallery create nowhere --model DIR'",
        ),
        ("gallery create g --model m1", "g holds a gallery already"),
        ("gallery create items --model m1", "items exists and is not empty"),
        ("gallery create x", "Name the model with --model"),
        ("gallery create x --model m1 --space i1", "exclude each other"),
        ("gallery create x --model nowhere", "nowhere is not a model folder"),
        ("gallery create x --space bare.npz", "bare.npz declares no space"),
        ("gallery create x bare.npz", "say after the path which model made them: ',space=NAME,revision=R'"),
        ("gallery create x --space-name clip", "says which model made VECTORS"),
        ("gallery create x bare.npz --revision v1", "--revision and --dim go with --space-name"),
        ("gallery create x bare.npz --space-name clip --dim 9", "have 16 dimensions, and --dim says 9"),
        ("gallery create x i1 --space-name clip", "leave the name of another out"),
        ("gallery create x nameless", "has no ids"),
        ("gallery create x i2 --space i1", "not of"),
        ("gallery add g bare.npz --space-name clip", "which the gallery does not know"),
        ("gallery search g bare.npz,revision=v1", "is of which model? add ',space=NAME'"),
        ("gallery add g i1 --images items", "not both"),
        ("gallery add g bare.npz", "declares no space"),
        ("gallery add g i4", "which the gallery does not know"),
        ("gallery add g i3", "which the gallery does not know"),
        ("gallery add g other", "holds 'c0/0.png' already, with another content"),
        ("gallery add g long", "is of unit vectors"),
        ("gallery add g nameless", "has no ids"),
        ("gallery add g nowhere", "nowhere does not exist"),
        ("gallery add g i1 --also i1", "are of the same space"),
        ("gallery add g i1 --metadata twice.csv", "the id 'a' comes twice"),
        ("gallery add g i1 --metadata odd.jsonl", "should be a string, a finite number, true or false"),
        ("gallery add g i1 --metadata foreign.jsonl", "metadata names the item 'nobody'"),
        ("gallery remove g c0/0.png nobody", "no item 'nobody'; nothing was removed"),
        ("gallery remove g", "Name items to remove"),
        ("gallery search g", "Give QUERIES, or --image FILE"),
        ("gallery search g q1 --image items/c0/0.png", "one of the three"),
        ("gallery search g q1 --model m1", "--model embeds images"),
        ("gallery search g --image nowhere.png", "nowhere.png: there is no such file or folder"),
        ("gallery search g --image https://a.b/c.jpg", "opens no network: download https://a.b/c.jpg first"),
        ("gallery search g --image file://host/c.jpg", "names a file of 'host'"),
        ("gallery search g --image m1", "there is no image in m1"),
        ("gallery search g --image order.csv --quiet", "order.csv cannot be read as an image"),
        ("gallery search g --image items --image order.csv --quiet", "order.csv cannot be read as an image"),
        ("gallery search g --image items/c0/0.png --model m3 --quiet", "m3 holds a model of space"),
        ("gallery search g q2", "which it does not know"),
        ("gallery search g q3", "which it does not know"),
        ("gallery search g q4", "which it does not know"),
        ("gallery search g q1 --max-fmr 2", "max_fmr is a false-match rate"),
        ("gallery search g q1 --min-score nan", "min_score is a finite number"),
        ("gallery search g q1 --max-fmr 0.1", "have no calibration"),
        ("gallery search g q1 --where shop", "is not understood"),
        ("gallery search g q1 --rerank 5 --exact", "--exact does not go with --rerank"),
        ("gallery search g q1 --rerank 5 --fuse 0.5", "--fuse does not go with --rerank"),
        ("gallery search g q1 --fuse 2", "--fuse"),
        ("gallery search g q1 --old-queries q1", "--old-queries is for --fuse"),
        ("gallery calibrate g q1 i1 --fuse 0.5", "--fuse and --old-queries go together"),
        ("gallery search g q1 -k 0", "'-k'"),
        ("gallery rollback g --expect x", "'--expect': 'x' is not a whole number"),
        ("gallery search g q1 --fuse x", "'--fuse': 'x' is not a number"),
        ("gallery calibrate g q2 i1", "does not know the space"),
        ("gallery calibrate g unlabelled i1", "calibration needs labels"),
        ("gallery plan g", "Name the new model"),
        ("gallery plan g --model m1", "there is nothing to upgrade"),
        ("gallery plan g --model m2 --certificate nowhere.json", "nowhere.json does not exist"),
        ("gallery plan g --model m2 --certificate m2/config.json", "m2/config.json"),
        ("gallery upgrade g", "no upgrade is planned"),
        ("gallery upgrade g --model m2", "no certificate allows queries"),
        ("gallery upgrade g --model m2 --certificate no.json", "the certificate says no"),
        ("gallery upgrade g --model m3 --certificate yes.json", "no certificate allows queries"),
        ("gallery upgrade g --space i3 --certificate yes.json", "no certificate allows queries"),
        ("gallery upgrade g --space i4 --accept-uncertified", "their dimensions differ"),
        ("gallery upgrade g --model m3 --accept-uncertified", "do not go with the stored ones"),
        ("gallery upgrade g --calibrate q2 i1", "--calibrate goes with --model"),
        ("gallery backfill g --order sideways", "there is no order and no file 'sideways'"),
        ("gallery backfill g --order order.csv", "should be a finite number"),
        ("gallery backfill g --rate 0", "rate should be above 0"),
        ("gallery backfill g --vectors i2 --model m2", "take the place of"),
        ("gallery pause g", "nothing to pause"),
        ("gallery resume g", "nothing to pause or resume"),
        ("gallery rollback g", "nothing to roll back"),
        ("gallery seal g", "nothing to seal"),
        ("gallery status g --watch 1 --json -", "does not go with --json"),
    ],
)
def test_what_is_refused(shared, refused, monkeypatch, command, message):
    monkeypatch.chdir(shared)
    assert message in refused(command)


def test_an_upgrade_under_way_refuses_what_would_lose_something(upgraded, refused):
    assert "a seal deletes" in refused("gallery seal g")
    assert "of 16 items have no vector" in refused("gallery seal g --yes --quiet")
    assert "the gallery is queried by" in refused("gallery search g q1")
    assert "queries use" in refused("gallery upgrade g --model m2")


def test_a_sealed_upgrade_cannot_be_rolled_back(upgraded, told, refused):
    told("gallery backfill g --quiet", "gallery seal g --yes --quiet")
    assert "is sealed: the old vectors are deleted" in refused("gallery rollback g")


def test_another_model_in_the_remembered_folder_is_noticed(upgraded, refused):
    shutil.rmtree("m2")
    shutil.copytree("m3", "m2")
    assert "expected the model of space" in refused("gallery backfill g --quiet")


@pytest.mark.parametrize("command", ["status g", "search g q1", "add g i1 --quiet", "doctor g --quiet"])
def test_a_damaged_database_is_said_in_one_line(filled, capsys, command):
    path = filled / "g" / "gallery.db"
    path.write_bytes(b"not a database at all, " * 300)
    before = path.read_bytes()
    capsys.readouterr()
    assert run(["gallery", *command.split()]) == 2
    err = capsys.readouterr().err
    assert err.startswith("samespace: error: ")
    assert len(err.splitlines()) == 1
    assert path.read_bytes() == before


def test_a_read_only_folder_is_searched_and_not_changed(filled, told, capsys):
    if os.geteuid() == 0:
        pytest.skip("the superuser writes where nobody may")
    before = told("gallery search g q1 --json -")
    for path in [*(filled / "g").rglob("*"), filled / "g"]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    assert json.loads(told("gallery search g q1 --json -"))["queries"] == json.loads(before)["queries"]
    assert run(["gallery", "remove", "g", "c0/0.png"]) == 2
    assert "cannot be written; nothing was changed" in capsys.readouterr().err
    for path in [filled / "g", *(filled / "g").rglob("*")]:
        path.chmod(0o700)


def test_certificates_load_as_they_were_saved(here):
    assert Certificate.load("yes.json").compatible
    assert not Certificate.load("no.json").compatible
