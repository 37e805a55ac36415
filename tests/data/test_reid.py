from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samespace.benchmarks.reid import Reid
from samespace.data import open_source, read_reid
from samespace.errors import InputError

MARKET = {
    "bounding_box_train": [
        "0002_c1s1_000451_03.jpg",
        "0002_c2s1_000001_01.jpg",
        "0010_c6s4_000001_01.jpg",
        "-1_c1s1_000401_03.jpg",
        "0000_c3s1_000401_03.jpg",
    ],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c5s1_001051_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c2s1_000151_01.jpg",
        "0001_c1s1_001051_03.jpg",
        "0001_c3s1_000551_00.jpg",
        "0003_c6s1_000551_00.jpg",
    ],
}
MSMT = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_15_0303noon_0008_0_ex.jpg 1"],
    "list_val.txt": ["0000/0000_001_05_0303morning_0016_1.jpg 0"],
    "list_query.txt": ["0000/0000_000_07_0303morning_0008_0.jpg 0"],
    "list_gallery.txt": [
        "0000/0000_003_09_0303morning_0008_0.jpg 0",
        "0002/0002_003_09_0303morning_0008_0.jpg 2",
    ],
}


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 4, 3), value, np.uint8)).save(path, "PNG")


@pytest.fixture
def market(tmp_path) -> Path:
    for folder, names in MARKET.items():
        for value, name in enumerate(names):
            picture(tmp_path / "market" / folder / name, value)
    (tmp_path / "market" / "bounding_box_test" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "market" / "gt_bbox").mkdir()
    return tmp_path / "market"


def write_msmt(root: Path, train: str = "train", test: str = "test") -> Path:
    for name, lines in MSMT.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n")
        for line in lines:
            picture(root / (train if name in ("list_train.txt", "list_val.txt") else test) / line.split()[0])
    return root


def test_market_names_give_person_camera_and_part(market):
    found = read_reid(market)
    by_id = {str(name): row for row, name in enumerate(found.ids)}
    assert len(by_id) == 12
    assert found.part.tolist() == ["train"] * 5 + ["query"] * 2 + ["gallery"] * 5
    row = by_id["bounding_box_test/-1_c1s1_000401_03.jpg"]
    assert (found.identity[row], found.camera[row], found.part[row]) == (-1, 1, "gallery")
    row = by_id["bounding_box_test/0000_c2s1_000151_01.jpg"]
    assert (found.identity[row], found.camera[row]) == (0, 2)
    row = by_id["query/0003_c5s1_001051_00.jpg"]
    assert (found.identity[row], found.camera[row]) == (3, 5)
    assert found.identity.dtype == found.camera.dtype == np.int64


def test_duke_names_are_read_the_same_way(tmp_path):
    picture(tmp_path / "bounding_box_test" / "0005_c2_f0046985.jpg")
    picture(tmp_path / "query" / "0005_c7_f0046985.jpg")
    found = read_reid(tmp_path)
    assert found.identity.tolist() == [5, 5]
    assert found.camera.tolist() == [7, 2]


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt_lists_give_person_camera_and_part_without_mixing_train_and_test(tmp_path, folders):
    found = read_reid(write_msmt(tmp_path, *folders))
    assert found.part.tolist() == ["train"] * 3 + ["query"] + ["gallery"] * 2
    assert found.camera.tolist() == [1, 15, 5, 7, 9, 9]
    assert found.identity.tolist() == [10000, 10001, 10000, 20000, 20000, 20002]
    assert found.ids[3] == f"{folders[1]}/0000/0000_000_07_0303morning_0008_0.jpg"
    assert (tmp_path / str(found.ids[2])).is_file()


def test_training_images_leave_out_junk_and_distractors(market):
    source = open_source(f"market1501:{market}")
    assert source.classes == ("2", "10")
    assert source.labels.tolist() == [0, 0, 1]
    assert source.image_shape == (3, 8, 4)
    assert source.load([2])[0, 0, 0, 0] == 4 - 2  # the third file written there


def test_test_images_are_query_and_gallery_whole(market):
    source = open_source(f"market1501:{market},part=test")
    found = read_reid(market)
    rows = np.isin(found.part, ("query", "gallery"))
    assert source.ids.tolist() == found.ids[rows].tolist()
    assert source.classes == ("-1", "0", "1", "3")
    assert [source.classes[label] for label in source.labels] == [str(person) for person in found.identity[rows]]
    assert len(open_source(f"market1501:{market},part=query")) == 2
    assert len(open_source(f"market1501:{market},part=gallery")) == 5


def test_msmt_images_by_part(tmp_path):
    root = write_msmt(tmp_path)
    assert open_source(f"msmt17:{root}").classes == ("10000", "10001")
    assert open_source(f"msmt17:{root},part=test").classes == ("20000", "20002")
    (root / "test" / "0002" / "0002_003_09_0303morning_0008_0.jpg").unlink()
    with pytest.raises(InputError, match=r"0002_003_09_0303morning_0008_0\.jpg: no such file"):
        open_source(f"msmt17:{root},part=gallery")
    assert len(open_source(f"msmt17:{root},part=gallery", broken="skip")) == 1


def test_parts_that_are_absent_are_left_out_until_asked_for(market):
    import shutil

    shutil.rmtree(market / "query")
    assert set(read_reid(market).part.tolist()) == {"train", "gallery"}
    with pytest.raises(InputError, match=r"lacks images for part 'test'; it holds gallery, train"):
        open_source(f"market1501:{market},part=test")
    with pytest.raises(InputError, match=r"no part 'galery'; did you mean 'gallery'"):
        open_source(f"market1501:{market},part=galery")


def test_another_layout_is_refused_with_a_hint(market, tmp_path):
    with pytest.raises(InputError, match=r"does not hold folders bounding_box_train, .*; did you mean .*market\?"):
        open_source(f"market1501:{tmp_path}")
    with pytest.raises(InputError, match=r"does not hold lists list_train\.txt, .*; it looks like market1501"):
        open_source(f"msmt17:{market}")
    with pytest.raises(InputError, match=r"is not a folder; expected one with folders .* or lists"):
        read_reid(tmp_path / "absent")
    (tmp_path / "bare" / "bounding_box_test").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no images of market1501"):
        read_reid(tmp_path / "bare")


def test_names_and_lines_of_another_form_are_refused(market, tmp_path):
    picture(market / "query" / "someone.jpg")
    with pytest.raises(InputError, match=r"someone\.jpg is not named as PERSON_cCAMERA"):
        read_reid(market)
    root = write_msmt(tmp_path / "msmt")
    for line in ("0000/0000_000_07.jpg 0", "0000/0000_000_x_a_0.jpg 0", "0000/0000_000_07_a_0.jpg", "a_b_07_c.jpg -1"):
        (root / "list_query.txt").write_text(f"\n{line}\n")
        with pytest.raises(InputError, match=r"list_query\.txt line 2 is .*expected PERSON/") as caught:
            read_reid(root)
        assert "\n" not in str(caught.value)


def test_msmt_lists_without_their_images_or_with_one_twice_are_refused(tmp_path):
    root = write_msmt(tmp_path)
    (root / "list_val.txt").write_text(MSMT["list_train.txt"][0])
    with pytest.raises(InputError, match=r"names 'train/0000/.*' 2 times"):
        read_reid(root)
    (root / "test").rename(root / "tests")
    with pytest.raises(InputError, match="has no folder test or mask_test_v2"):
        read_reid(root)


def test_the_true_shapes_of_market_1501_come_through(tmp_path, real_data):
    shapes = np.load(real_data("protocolmeta.npz"))
    folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
    for part, folder in folders.items():
        (tmp_path / folder).mkdir()
        people, cameras = shapes[f"market1501_{part}_id"][:400], shapes[f"market1501_{part}_cam"][:400]
        for number, (person, camera) in enumerate(zip(people, cameras, strict=True)):
            name = f"{person:04d}" if person >= 0 else str(person)
            (tmp_path / folder / f"{name}_c{camera}s1_{number:06d}_00.jpg").touch()
    found = read_reid(tmp_path)
    for part in folders:
        pairs = np.stack([found.identity[found.part == part], found.camera[found.part == part]])
        true = np.stack([shapes[f"market1501_{part}_id"][:400], shapes[f"market1501_{part}_cam"][:400]])
        assert sorted(pairs.T.tolist()) == sorted(true.T.tolist())


def test_person_zero_is_a_person_where_the_queries_have_it(tmp_path: Path) -> None:
    names = {
        "bounding_box_train": ["0000_c1_1.jpg", "0001_c1_1.jpg", "-1_c1_1.jpg"],
        "query": ["0000_c1_2.jpg", "0001_c1_2.jpg"],
        "bounding_box_test": ["0000_c2_3.jpg", "0001_c2_3.jpg", "notes.txt", ".hidden.jpg"],
    }
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for name in files:
            Image.new("RGB", (4, 8)).save(tmp_path / folder / name, "JPEG")
    listing = read_reid(tmp_path)
    assert listing.counts_from_zero
    train = open_source(f"market1501:{tmp_path}")
    assert train.classes == ("0", "1")
    told = dict(train.passed_over)
    assert told["bounding_box_train/-1_c1_1.jpg"] == "junk images (person -1)"
    assert told["bounding_box_test/notes.txt"] == ".txt files"
    benchmark = Reid.read(tmp_path, name="Market-1501")
    assert benchmark.data["distractors"] == 0
    assert any("People are counted from 0" in note for note in benchmark.notes)
    assert any(".txt files: 1" in note for note in benchmark.notes)
    (tmp_path / "query" / "0000_c1_2.jpg").unlink()
    assert open_source(f"market1501:{tmp_path}").classes == ("1",)
    assert Reid.read(tmp_path, name="Market-1501").data["distractors"] == 1
    (tmp_path / "bounding_box_test" / "0000_c2_3.jpg").unlink()
    assert open_source(f"market1501:{tmp_path}").classes == ("0", "1")
