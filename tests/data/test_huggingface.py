from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from samespace.data import Allocation, allocate, open_source
from samespace.errors import InputError


class Image:
    """Stands in for `datasets.Image`."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassLabel:
    """Stands in for `datasets.ClassLabel`."""

    def __init__(self, names: list[str]) -> None:
        self.names = names


class Dataset:
    """Stands in for `datasets.Dataset`: columns, features, encoded images on request."""

    def __init__(self, columns: dict, features: dict, split: str | None = None, fingerprint: str = "f0") -> None:
        self.columns, self.features, self.split, self._fingerprint = columns, features, split, fingerprint

    def cast_column(self, column: str, feature: Image) -> Dataset:
        return Dataset(self.columns, {**self.features, column: feature}, self.split, "other")

    def __getitem__(self, key: str | int):
        if isinstance(key, str):
            return list(self.columns[key])
        row = {name: values[key] for name, values in self.columns.items()}
        for name, feature in self.features.items():
            if isinstance(feature, Image) and feature.decode:
                raise AssertionError(f"{name} would be decoded by the library")
        return row


@pytest.fixture
def library(monkeypatch, tmp_path, picture):
    """A small `datasets` in sys.modules, which notes what it was asked."""
    module = types.ModuleType("datasets")
    (tmp_path / "one.png").write_bytes(picture(1))
    module.data = Dataset(
        {
            "image": [{"bytes": picture(0), "path": None}, {"bytes": None, "path": str(tmp_path / "one.png")}] * 2,
            "label": [1, 0, 1, 1],
            "name": ["x", "y", "x", "x"],
            "half": [0.5, 1.0, 2.0, 3.0],
        },
        {"image": Image(), "label": ClassLabel(["pen", "cup"]), "name": "string", "half": "float"},
    )
    module.asked = []

    def load_from_disk(folder: str):
        module.asked.append(("disk", folder))
        return module.saved

    def load_dataset(name: str, *, split: str, **options: object):
        module.asked.append(("hub", name, split, options))
        if name == "owner/lost":
            raise FileNotFoundError("Dataset 'owner/lost' doesn't exist on the Hub\nor cannot be accessed")
        return module.data

    module.Image, module.ClassLabel = Image, ClassLabel
    module.load_from_disk, module.load_dataset, module.__version__ = load_from_disk, load_dataset, "4.1.0"
    module.saved = {"train": module.data, "test": module.data}
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module


@pytest.fixture
def saved(tmp_path) -> Path:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text("{}")
    return tmp_path / "saved"


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'samespace\[huggingface\]'"):
        open_source("hf:cifar100")


def test_a_saved_folder_is_read_without_the_hub(library, saved, picture, decoded):
    source = open_source(f"hf:{saved}")
    assert library.asked == [("disk", str(saved))]
    assert source.ids.tolist() == ["0", "1", "2", "3"]
    assert source.named is False
    assert [source.classes[label] for label in source.labels] == ["cup", "pen", "cup", "cup"]
    np.testing.assert_array_equal(source.load([1])[0].numpy(), decoded(picture(1)))
    np.testing.assert_array_equal(source.load([2])[0].numpy(), decoded(picture(0)))


def test_a_name_is_asked_of_the_hub_and_its_code_never_trusted(library):
    assert len(open_source("hf:owner/things,split=test")) == 4
    library.__version__ = "2.18.0"
    open_source("hf:things")
    assert library.asked == [
        ("hub", "owner/things", "test", {}),
        ("hub", "things", "train", {"trust_remote_code": False}),
    ]
    with pytest.raises(InputError, match=r"cannot be opened \(Dataset 'owner/lost' doesn't exist on the Hub\)"):
        open_source("hf:owner/lost")


@pytest.mark.parametrize("place", ["./lost", "/lost/data", "a/b/c", "~/x"])
def test_a_path_that_is_not_there_is_never_looked_for_on_the_hub(library, place):
    with pytest.raises(InputError, match="does not exist"):
        open_source(f"hf:{place}")
    assert library.asked == []


def test_other_folders_splits_and_columns_are_refused(library, saved, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="not a data set that save_to_disk wrote"):
        open_source(f"hf:{tmp_path / 'other'}")
    for option, message in {
        "split=tset": "has no split 'tset'; did you mean 'test'",
        "image=img": "no column 'img'; name it with image=",
        "image=name": "column 'name' .* holds no images",
        "label=fine": "no column 'fine'; name it with label=; legal: image, label, name, half",
        "label=half": r"holds 0\.5 in row 0; expected whole numbers or strings",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            open_source(f"hf:{saved},{option}")
        assert "\n" not in str(caught.value)
    library.saved = Dataset(library.data.columns, library.data.features, split="validation")
    with pytest.raises(InputError, match="say split=validation"):
        open_source(f"hf:{saved}")
    assert len(open_source(f"hf:{saved},split=validation")) == 4


def test_string_labels_and_rows_without_a_label_or_an_image(library, saved, picture):
    assert open_source(f"hf:{saved},label=name").classes == ("x", "y")
    library.data.columns["label"] = [1, 0, -1, 1]
    with pytest.raises(InputError, match=r"row 2 of hf:.* has no label"):
        open_source(f"hf:{saved}")
    library.data.columns["label"] = [1, 0, 0, 1]
    library.data.columns["image"] = [{"bytes": picture(0), "path": None}, None, {"bytes": b"x", "path": "a.png"}] * 2
    library.data.columns["label"] = [1, 0, 0, 1, 1, 0]
    library.data.columns |= {"name": list("xyxyxy"), "half": [0.5] * 6}
    with pytest.raises(InputError, match=r"holds 4 .* row 1: no image; row 2: not an image of a known kind; row 4: no"):
        open_source(f"hf:{saved}")
    assert open_source(f"hf:{saved}", broken="skip").ids.tolist() == ["0", "3"]


def test_an_allocation_by_row_fits_only_the_same_contents(library, saved, tmp_path):
    small = open_source(f"hf:{saved}", image_size=4)
    allocate(small, "open-data", fraction=0.5).save(tmp_path / "split.json", small)
    Allocation.load(tmp_path / "split.json", open_source(f"hf:{saved}", image_size=8))
    library.saved = {"train": Dataset(library.data.columns, library.data.features, fingerprint="f1")}
    with pytest.raises(InputError, match="made for other contents"):
        Allocation.load(tmp_path / "split.json", open_source(f"hf:{saved}", image_size=8))
