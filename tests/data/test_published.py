"""Published sets from small files in their layouts: what is read, what part an image is of, and what is refused."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samespace.cli.main import run
from samespace.data import open_source
from samespace.data.published.facepack import read_face_pack
from samespace.errors import InputError


def image(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path, "PNG")


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def read(spec: str) -> dict[str, str]:
    source = open_source(spec)
    return {
        name: source.classes[label] for name, label in zip(source.ids.tolist(), source.labels.tolist(), strict=True)
    }


def test_stanford_online_products(tmp_path):
    for row, name in enumerate(["bicycle_final/1_0.JPG", "bicycle_final/1_1.JPG", "sofa_final/2_0.JPG"]):
        image(tmp_path / name, row)
    head = "image_id class_id super_class_id path\n"
    (tmp_path / "Ebay_train.txt").write_text(f"{head}1 1 1 bicycle_final/1_0.JPG\n2 1 1 bicycle_final/1_1.JPG\n")
    (tmp_path / "Ebay_test.txt").write_text(f"{head}3 11319 12 sofa_final/2_0.JPG\n")
    assert read(f"sop:{tmp_path}") == {"bicycle_final/1_0.JPG": "1", "bicycle_final/1_1.JPG": "1"}
    assert read(f"sop:{tmp_path},part=test") == {"sofa_final/2_0.JPG": "11319"}
    with pytest.raises(InputError, match="sop has no part 'query'"):
        read(f"sop:{tmp_path},part=query")


@pytest.mark.parametrize("nested", [True, False])
def test_inshop(tmp_path, nested):
    rows = {"img/WOMEN/a.jpg": "train", "img/WOMEN/b.jpg": "query", "img/MEN/c.jpg": "gallery"}
    for row, name in enumerate(rows):
        image(tmp_path / ("Img" if nested else ".") / name, row)
    lines = [f"{name}    id_0000000{row}    {status}" for row, (name, status) in enumerate(rows.items())]
    place = tmp_path / "Eval" if nested else tmp_path
    place.mkdir(exist_ok=True)
    (place / "list_eval_partition.txt").write_text(
        "\n".join(["3", "image_name item_id evaluation_status", *lines]) + "\n"
    )
    assert read(f"inshop:{tmp_path}") == {"img/WOMEN/a.jpg": "id_00000000"}
    assert read(f"inshop:{tmp_path},part=query") == {"img/WOMEN/b.jpg": "id_00000001"}
    assert list(read(f"inshop:{tmp_path},part=test")) == ["img/WOMEN/b.jpg", "img/MEN/c.jpg"]
    (place / "list_eval_partition.txt").write_text("4\nimage_name item_id evaluation_status\n" + lines[0])
    with pytest.raises(InputError, match="announces 4 images in its first line and names 1"):
        read(f"inshop:{tmp_path}")


def cub(folder: Path) -> None:
    paths = {1: "001.A/a.jpg", 2: "001.A/b.jpg", 3: "101.B/c.jpg"}
    for number, name in paths.items():
        image(folder / "images" / name, number)
    (folder / "images.txt").write_text("".join(f"{number} {name}\n" for number, name in paths.items()))
    (folder / "image_class_labels.txt").write_text("1 1\n2 1\n3 101\n")
    (folder / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")


def test_cub(tmp_path):
    cub(tmp_path)
    assert read(f"cub:{tmp_path}") == {"images/001.A/a.jpg": "1", "images/001.A/b.jpg": "1"}
    assert read(f"cub:{tmp_path},part=test-classes") == {"images/101.B/c.jpg": "101"}
    assert list(read(f"cub:{tmp_path},part=train")) == ["images/001.A/a.jpg", "images/101.B/c.jpg"]
    assert list(read(f"cub:{tmp_path},part=test")) == ["images/001.A/b.jpg"]
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 one\n3 101\n")
    with pytest.raises(InputError, match="gives image 2 'one'; expected a whole number"):
        read(f"cub:{tmp_path}")
    (tmp_path / "image_class_labels.txt").write_text("1 1\n2 1\n")
    with pytest.raises(InputError, match="image 3 is in one of them alone"):
        read(f"cub:{tmp_path}")


def test_vehicles(tmp_path):
    for row in (1, 2, 3):
        image(tmp_path / "image" / f"000000{row}.jpg", row)
    lists = tmp_path / "train_test_split"
    lists.mkdir()
    (lists / "train_list.txt").write_text("0000001 7\n0000002 7\n")
    (lists / "test_list_800.txt").write_text("0000003 8\n")
    assert read(f"vehicleid:{tmp_path}") == {"image/0000001.jpg": "7", "image/0000002.jpg": "7"}
    assert read(f"vehicleid:{tmp_path},part=800") == {"image/0000003.jpg": "8"}
    with pytest.raises(InputError, match=r"no list of part '1600'; legal: train, 800"):
        read(f"vehicleid:{tmp_path},part=1600")
    (lists / "train_list.txt").write_text("0000001 7\n0000002\n")
    with pytest.raises(InputError, match="line 2 is '0000002'"):
        read(f"vehicleid:{tmp_path}")


def as_array(image: bytes) -> np.ndarray:
    return np.frombuffer(image, np.uint8).copy()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", [bytes, as_array, lambda image: image.decode("latin1")], ids=["bytes", "array", "py2"])
def test_a_face_pack_gives_images_pairs_and_people(tmp_path, protocol, form):
    pictures = [encoded(value) for value in (1, 2, 3, 4, 2, 5)]
    (tmp_path / "p.bin").write_bytes(
        pickle.dumps(([form(picture) for picture in pictures], [True, np.bool_(False), 1]), protocol=protocol)
    )
    pack = read_face_pack(tmp_path / "p.bin")
    assert pack.images == pictures
    assert pack.same.tolist() == [True, False, True]
    # 1 with 2, 2 again with 5: one person; 3 and 4 two more
    assert pack.person.tolist() == [0, 0, 1, 2, 0, 0]
    source = open_source(f"facepack:{tmp_path / 'p.bin'}")
    assert source.ids.tolist() == ["0", "1", "2", "3", "4", "5"]
    assert source.load(np.arange(6))[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 2, 5]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (([b"a", b"b"], [True, False]), "holds 2 images and 2 pairs"),
        (([b"a", 7], [True]), "image 1 is int"),
        (([b"a", b"b"], ["yes"]), "pair 0 is 'yes'"),
        ({"a": 1}, "does not hold a list of images"),
        (([b"a", b"b"], [print]), "refused, for this pickle asks for"),
    ],
)
def test_a_face_pack_of_anything_else_is_refused(tmp_path, value, message):
    (tmp_path / "p.bin").write_bytes(pickle.dumps(value))
    with pytest.raises(InputError, match=message):
        read_face_pack(tmp_path / "p.bin")


def vectors(path: Path, ids: list[str], labels: list[int], noise: float, seed: int) -> str:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(max(labels) + 1, 16))
    values = centres[labels] + noise * generator.normal(size=(len(ids), 16))
    np.savez(path, vectors=values.astype(np.float32), ids=ids)
    return str(path)


def test_a_face_pack_is_a_benchmark(tmp_path, capsys):
    people = [row // 2 for row in range(80)]
    order = [
        row for pair in range(40) for row in ((2 * pair, 2 * pair + 1) if pair % 2 else (2 * pair, (2 * pair + 3) % 80))
    ]
    same = [people[order[2 * pair]] == people[order[2 * pair + 1]] for pair in range(40)]
    (tmp_path / "cfp_fp.bin").write_bytes(pickle.dumps(([b"face %d" % row for row in order], same)))
    ids, labels = [str(row) for row in range(80)], [people[row] for row in order]
    old, new = (vectors(tmp_path / f"{n}.npz", ids, labels, s, r) for n, s, r in (("old", 2.0, 1), ("new", 0.5, 2)))
    code = run(
        ["benchmark", "facepack", str(tmp_path / "cfp_fp.bin"), "--old", old, "--new", new, "--replicates", "100"]
    )
    told = capsys.readouterr()
    assert code in (0, 1), told.err
    assert "CFP-FP" in told.out + told.err


def test_vehicles_are_a_benchmark_of_ten_draws(tmp_path):
    from samespace.benchmarks.certify import certify
    from samespace.benchmarks.open import open_benchmark
    from samespace.vectors import VectorSet

    labels = [row // 3 for row in range(30)] + [10]
    (tmp_path / "test_list_800.txt").write_text("".join(f"{row:07} {label}\n" for row, label in enumerate(labels)))
    found = open_benchmark("vehicleid", tmp_path / "test_list_800.txt")
    assert (found.data["queries"], found.data["gallery"], found.identities) == (20, 11, 10)
    assert found.ids[0] == "image/0000000.jpg"
    assert "1 vehicles of one image" in found.notes[0]
    for asking, asked, _ in found.draws:
        assert sorted(np.array(labels)[asked].tolist()) == list(range(11))
        assert sorted([*asking.tolist(), *asked.tolist()]) == list(range(31))
    ids = found.ids.tolist()
    old, new = (VectorSet.load(vectors(tmp_path / f"{n}.npz", ids, labels, s, 3)) for n, s in (("o", 2.0), ("n", 0.1)))
    certificate = certify(found, old=old, new=new, replicates=20)
    unit = new.vectors / np.linalg.norm(new.vectors, axis=1, keepdims=True)
    ranks = []
    for asking, asked, _ in found.draws:
        best = np.array(labels)[asked][(unit[asking] @ unit[asked].T).argmax(axis=1)]
        ranks.append((best == np.array(labels)[asking]).mean())
    assert certificate["rank@1"].new == pytest.approx(np.mean(ranks))


def test_distractors_of_market_stand_in_the_gallery_and_are_nobody(tmp_path):
    from samespace.benchmarks.open import open_benchmark

    for name in (
        "query/0002_c1s1_000151_00.jpg",
        "bounding_box_test/0002_c2s1_000151_00.jpg",
        "images/1.jpg",
        "images/-1.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    plain = open_benchmark("market1501", tmp_path)
    more = open_benchmark("market1501", tmp_path, distractors=tmp_path / "images")
    assert plain.data["gallery"] == 1
    assert (more.data["gallery"], more.data["distractors"], more.data["junk_dropped"]) == (3, 2, 0)
    assert more.name == "Market-1501 with 2 distractors"
    assert more.ids.tolist()[2:] == ["images/-1.jpg", "images/1.jpg"]
    with pytest.raises(InputError, match="distractors go with market1501"):
        open_benchmark("lfw", tmp_path, distractors=tmp_path)


def test_distractors_of_oxford_stand_behind_the_index(tmp_path):
    from samespace.benchmarks.open import open_benchmark

    entry = {"easy": [0], "hard": [1], "junk": [], "bbx": [0, 0, 1, 1]}
    truth = {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [entry]}
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth))
    (tmp_path / "revisitop1m.txt").write_text("jpg/0/x.jpg\njpg/1/y.jpg\n")
    found = open_benchmark("roxford5k", tmp_path, distractors=tmp_path / "revisitop1m.txt")
    assert found.ids.tolist() == ["q", "a", "b", "x", "y"]
    assert (found.data["gallery"], found.name) == (4, "ROxford5k with 2 distractors")
